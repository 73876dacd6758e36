"""The truth of the modalities beside the tables, and the ceiling of every set of modalities.

| file | holds |
|---|---|
| patients.parquet | a row a patient: site, template family, noise and chance of corruption in each modality |
| heldout.csv | `patient_id, part`: the external site and its template family as test, all others as train; a frozen list for a split |
| ceilings.parquet | a row a stay of the design: what it shows, log odds of the spurious marks, P(death) from every set |
| exams.parquet | a row a chest exam: minute, tokens of its film, statements of its report, what is blurred, cut, copied or late |
| signals.parquet | a row an electrocardiogram: minute, tokens, whether its leads are lost |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic.blocks import Blocks
from omnifuse.preprocess.clinic.context import ITEMS, Context, mark_odds
from omnifuse.preprocess.clinic.hospital import Hospital
from omnifuse.preprocess.clinic.joint import COLUMNS, MODALITIES, SUBSETS
from omnifuse.preprocess.clinic.latent import People, outcome_weights
from omnifuse.preprocess.clinic.modalities import shown
from omnifuse.preprocess.clinic.observe import FLUID, Seen, easy_first
from omnifuse.preprocess.clinic.outcome import auroc_with_error
from omnifuse.preprocess.clinic.world import World

FAMILIES = ("first", "second", "third")
MEANING = {
    "p_SET": "P(death | what the modalities of SET show in the window, and when, and that they show nothing where they do): an upper bound",
    "p_cxr_last": "the same from the last AP film alone, which is what most methods read",
    "p_rep_stored": "the same from the reports that were stored within the window",
    "mark_odds_M": "log odds of death that the mark of M tells; without it a probability is what holds at the external site",
}


@dataclass
class ModalityTruth:
    """Collects the truth block by block."""

    world: World
    folder: store.Builder

    def add(self, first: int, people: People, context: Context, hospital: Hospital, seen: list[Seen], known: np.ndarray) -> None:
        """`known` [S, COLUMNS] holds NaN for stays without a ceiling."""
        stays = hospital.icustays["stay_id"].to_numpy()
        frames = {
            "patients": patient_rows(people, context, hospital),
            "ceilings": self._ceilings(people, hospital, seen, known),
            "exams": exam_rows(self.world, stays, seen),
            "signals": signal_rows(self.world, stays, seen),
        }
        Blocks(self.folder).keep(first, frames)

    def _ceilings(self, people: People, hospital: Hospital, seen: list[Seen], known: np.ndarray) -> pl.DataFrame:
        there = np.array([shown(self.world, one) for one in seen])
        odds = np.array([mark_odds(self.world, one.around.external, one.marks) for one in seen])
        frame = hospital.icustays.select("subject_id", "hadm_id", "stay_id").with_columns(
            patient=people.patient[people.owner],
            died=people.died,
            **{f"present_{name}": there[:, i] for i, name in enumerate(ITEMS)},
            **{f"mark_odds_{name}": odds[:, i] for i, name in enumerate(ITEMS)},
            **{name: known[:, i] for i, name in enumerate(COLUMNS)},
        )
        return frame.filter(pl.Series(np.isfinite(known[:, 0])))

    def finish(self, oracle: pl.DataFrame) -> dict[str, Any]:
        """Writes the files; returns what design.json tells of them. `oracle`: stay_id, p_latent."""
        tables = {name: Blocks(self.folder).whole(name) for name in ("patients", "ceilings", "exams", "signals")}
        for name, frame in tables.items():
            store.write_parquet(self.folder.path(f"{name}.parquet"), frame)
        part = pl.when("external").then(pl.lit("test")).otherwise(pl.lit("train"))
        tables["patients"].select(patient_id="subject_id", part=part).write_csv(self.folder.path("heldout.csv"))
        return describe(self.world, tables["ceilings"].join(oracle, on="stay_id", how="left", maintain_order="left"))


def patient_rows(people: People, context: Context, hospital: Hospital) -> pl.DataFrame:
    """Site, family and qualities of a block of patients."""
    return hospital.patients.select("subject_id").with_columns(
        patient=people.patient,
        external=context.external,
        family=pl.Series([FAMILIES[k] for k in context.family]),
        **{f"noise_{name}": context.noise[:, i] for i, name in enumerate(ITEMS)},
        **{f"corrupt_{name}": context.corrupt[:, i] for i, name in enumerate(ITEMS)},
    )


def exam_rows(world: World, stays: np.ndarray, seen: list[Seen]) -> pl.DataFrame:
    exams = [one.exams for one in seen]
    easy, hard = easy_first("film", world.film.unique_in)
    film, told = np.concatenate([e.film for e in exams]), np.concatenate([e.statements for e in exams])
    joined = {
        name: np.concatenate([getattr(e, name) for e in exams])
        for name in ("minute", "before", "upright", "blurred", "cut", "copied", "delay")
    }
    count = [len(e.minute) for e in exams]
    return pl.DataFrame(
        {
            "stay_id": stays.repeat(count),
            "number": np.concatenate([np.arange(n) for n in count]).astype(np.int32),
            **{name: values.astype(np.float64 if name in ("minute", "delay") else bool) for name, values in joined.items()},
            "archived": np.array([e.archived for e in exams]).repeat(count),
            "heart": film[:, easy],
            "texture": film[:, hard],
            "fluid": film[:, FLUID],
            **{name: told[:, k].astype(np.int8) for k, name in enumerate(("says_effusion", "says_own", "says_grade"))},
        }
    )


def signal_rows(world: World, stays: np.ndarray, seen: list[Seen]) -> pl.DataFrame:
    signals = [one.signals for one in seen]
    easy, hard = easy_first("signal", world.signal.unique_in)
    token, count = np.concatenate([s.token for s in signals]), [len(s.minute) for s in signals]
    return pl.DataFrame(
        {
            "stay_id": stays.repeat(count),
            "minute": np.concatenate([s.minute for s in signals]).astype(np.float64),
            "rate": token[:, easy],
            "st": token[:, hard],
            "lost": np.concatenate([s.lost for s in signals]).astype(bool),
        }
    )


def describe(world: World, ceilings: pl.DataFrame) -> dict[str, Any]:
    """AUROC of every set, over all stays and over those that show all of it; information in bits; designed shares."""
    out: dict[str, Any] = {"columns": MEANING, "designed_shares": {name: weight**2 for name, weight in outcome_weights(world).items()}}
    out["rates"] = {name: float(ceilings[f"present_{name}"].mean() or 0) for name in ITEMS}
    out["auroc"], out["auroc_present"], bits = {}, {}, {}
    for column in COLUMNS:
        members = [name for name in column.split("_")[1:] if name in ITEMS]
        there = ceilings.filter(pl.all_horizontal(pl.lit(True), *(f"present_{name}" for name in members)))
        out["auroc"][column] = _auroc(ceilings, column)
        out["auroc_present"][column] = _auroc(there, column)
        bits[column] = _bits(ceilings[column].to_numpy())
    out["information_bits"] = bits
    everything = "_".join(("p", *MODALITIES))
    without = {name: "_".join(("p", *(other for other in MODALITIES if other != name))) for name in MODALITIES}
    out["unique_bits"] = {name: bits[everything] - bits[without[name]] for name in MODALITIES}
    out["redundant_minus_synergistic_bits"] = {
        "_".join(pair): bits[f"p_{pair[0]}"] + bits[f"p_{pair[1]}"] - bits["_".join(("p", *pair))] for pair in SUBSETS if len(pair) == 2
    }
    return out


def _auroc(known: pl.DataFrame, column: str) -> dict[str, float | int | None]:
    """Expected over the coin of the outcome, standard error by patient."""
    oracle = known["p_latent"].to_numpy()
    auroc, error = auroc_with_error(known[column].to_numpy(), oracle, known["patient"].to_numpy()) if len(known) else (np.nan, np.nan)
    return {"stays": len(known), "expected": None if np.isnan(auroc) else auroc, "expected_se": None if np.isnan(error) else error}


def _bits(p: np.ndarray) -> float:
    """Mutual information of the outcome and what p was told by, from the spread of p."""
    if not len(p):
        return 0.0
    return _entropy(np.array([p.mean()]))[0] - float(_entropy(p).mean())


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
