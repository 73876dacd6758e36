"""The truth of a clinic: a folder beside the raw tables, which preprocessing never reads. Of the other modalities: `modality_truth.py`.

| file | holds |
|---|---|
| stays.parquet | a row an ICU stay: ids, R and D (`level`, `trend`), devices, P(death), and what each source tells of it |
| conditions/*.parquet | a row a stay and condition: its liability, and whether it is present (the codes may differ: `coding`) |
| severity/*.parquet | severity of every stay, hour by hour since its first full hour |
| design.json | seed, all knobs and their hash, the designed and the measured figures, the strength of every variable |
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.blocks import Blocks
from omnifuse.preprocess.clinic.ceiling import SOURCES
from omnifuse.preprocess.clinic.coding import present
from omnifuse.preprocess.clinic.course import Course
from omnifuse.preprocess.clinic.findings import FINDINGS
from omnifuse.preprocess.clinic.hospital import Hospital
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.modality_truth import ModalityTruth
from omnifuse.preprocess.clinic.model import SLOTS, Model
from omnifuse.preprocess.clinic.outcome import Strength, auroc_with_error, probability_in_design

EVERY, HOURS = 5000, 100  # stays a file; hours of a stay, about
MEANING = {
    "probability": "P(death | R, D, findings) by the outcome model, before any selection",
    "p_latent": "P(death | R, D, findings, the stay lasts the design's hours): the oracle of the latent state, no ceiling of observations",
    "p_measured": "P(death | everything measured in the window, before rounding and faults): an upper bound for methods on the series",
    "p_charted": "the same formula fed with the rounded values: reachable from the tables but for the gross faults",
    "p_pattern": "P(death | what is charted and when, without any value)",
    "p_values": "from the likelihood of the measured numbers alone, as if their times told nothing: shows where the information is",
    "p_ordinals": "the same for coma scale, inspired oxygen and capillary refill",
}


def stay_rows(model: Model, people: People, hospital: Hospital, strength: Strength, ceilings: np.ndarray) -> pl.DataFrame:
    """One row a stay; `ceilings` [S, SOURCES] holds NaN for stays outside the design."""
    design = people.design(model.world)
    latent = probability_in_design(model.world, people.level, people.trend, people.findings, strength.intercept, strength.slope)
    return hospital.icustays.select("subject_id", "hadm_id", "stay_id").with_columns(
        patient=people.patient[people.owner],
        design=design,
        died=people.died,
        died_in_icu=people.died_in_icu,
        level=people.level,
        trend=people.trend,
        los_hours=people.los_hours,
        arterial_line=people.arterial_line,
        ventilated_hours=people.ventilated_hours,
        probability=people.probability,
        **{f"finding_{name}": people.findings[:, i] for i, name in enumerate(FINDINGS)},
        p_latent=pl.Series(np.where(design, latent, np.nan), nan_to_null=True),
        **{f"p_{name}": pl.Series(ceilings[:, i], nan_to_null=True) for i, name in enumerate(SOURCES)},
    )


def condition_rows(model: Model, people: People, hospital: Hospital) -> pl.DataFrame:
    names, ids = list(model.world.conditions), hospital.icustays["stay_id"]
    return pl.DataFrame(
        {
            "stay_id": ids.to_numpy().repeat(len(names)),
            "condition": names * len(ids),
            "liability": people.liability.ravel().astype(np.float32),
            "present": present(model.world, people.liability).ravel(),
        }
    )


def severity_rows(hospital: Hospital, courses: list[Course]) -> pl.DataFrame:
    hourly = [course.severity[::SLOTS] for course in courses]
    return pl.DataFrame(
        {
            "stay_id": hospital.icustays["stay_id"].to_numpy().repeat([len(h) for h in hourly]),
            "hour": np.concatenate([np.arange(len(h)) for h in hourly]).astype(np.int32),
            "severity": np.concatenate(hourly).astype(np.float32),
        }
    )


@dataclass
class TruthWriter:
    """Collects the truth block by block, on disk; the long tables end in files of about `EVERY` stays."""

    model: Model
    strength: Strength
    folder: store.Builder

    @property
    def blocks(self) -> Blocks:
        return Blocks(self.folder)

    def add(self, first: int, people: People, hospital: Hospital, courses: list[Course], ceilings: np.ndarray) -> None:
        frames = {
            "stays": stay_rows(self.model, people, hospital, self.strength, ceilings),
            "conditions": condition_rows(self.model, people, hospital),
            "severity": severity_rows(hospital, courses),
        }
        self.blocks.keep(first, frames)

    def finish(self, seed: int, patients: int, more: ModalityTruth) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Writes the files, with what `more` holds of the other modalities; returns the stays and the design."""
        for name, rows in (("conditions", EVERY * len(self.model.world.conditions)), ("severity", EVERY * HOURS)):
            for number, part in enumerate(self.blocks.parts(name, rows)):
                store.write_parquet(self.folder.path(f"{name}/{number:05d}.parquet"), part)
        stays = self.blocks.whole("stays")
        store.write_parquet(self.folder.path("stays.parquet"), stays)
        design = describe(self.model, seed, patients, self.strength, stays)
        design["modalities"] = more.finish(stays.select("stay_id", "p_latent"))
        store.write_json(self.folder.path("design.json"), design)
        return stays, design


def describe(model: Model, seed: int, patients: int, strength: Strength, stays: pl.DataFrame) -> dict[str, Any]:
    """design.json."""
    known = stays.filter(pl.col("design") & pl.col("p_measured").is_not_null())
    return {
        "seed": seed,
        "patients": patients,
        "world": model.world.name,
        "knobs_sha256": model.world.fingerprint,
        "columns": MEANING,
        "designed": dataclasses.asdict(strength),
        "auroc": {name: _auroc(known, name) for name in ("p_latent", *(f"p_{source}" for source in SOURCES))},
        "variables": {name: _strength_of(model, k) for k, name in enumerate(items.MEASURED)},
        "ordinals": {name: {"signal_probit": knobs.signal} for name, knobs in model.world.ordinals.items()},
        "missing": {name: {"rate": r.missing, "severity": r.missing_severity} for name, r in model.world.rounds.items()},
        "body_missing": model.world.body,
        "knobs": model.world.icu_knobs,
    }


def _auroc(known: pl.DataFrame, column: str) -> dict[str, float | int | None]:
    """On the outcomes drawn, and expected over the coin (smaller error); both with the standard error by patient."""
    if not len(known):
        return {"stays": 0, "deaths": 0, "drawn": None, "drawn_se": None, "expected": None, "expected_se": None}
    score, died, patient = known[column].to_numpy(), known["died"].to_numpy(), known["patient"].to_numpy()
    drawn, drawn_se = auroc_with_error(score, died, patient)
    truth = known["p_latent"].to_numpy()
    expected, expected_se = auroc_with_error(score, truth, patient)
    figures = {"drawn": drawn, "drawn_se": drawn_se, "expected": expected, "expected_se": expected_se}
    return {"stays": len(known), "deaths": int(died.sum()), **{k: None if np.isnan(v) else v for k, v in figures.items()}}


def _strength_of(model: Model, k: int) -> dict[str, float]:
    """Signal in the variable's own units and in standard deviations between stays at one moment."""
    model_sd = np.sqrt((model.mixing[k] ** 2) @ (model.between**2 + model.within**2 + (model.shifts**2).sum(1)) + model.error[k] ** 2)
    knobs = model.world.variables[items.MEASURED[k]]
    return {
        "signal": float(model.total_signal[k]),
        "effect": float(model.total_signal[k] / model_sd),
        "missing": knobs.missing,
        "missing_severity": knobs.missing_severity,
    }
