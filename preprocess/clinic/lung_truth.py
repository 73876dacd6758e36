"""The truth of the subtyping setting: a folder beside the raw files, which preprocessing never reads.

| file | holds |
|---|---|
| lesions.parquet | a row a patient: grade, tokens, quality, what is there, corrupt or marked, P(grade) from every set of modalities |
| heldout.csv | `patient_id, part`: the external site as test, all others as train; a frozen list for a split |
| design.json | seed, knobs and their hash, AUROC of every set, designed and measured, information in bits |
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic.lung_ceiling import SUBSETS, column, information_bits, macro_auroc, mark_log_odds, posteriors
from omnifuse.preprocess.clinic.lung_tokens import Lesions, sample_lesions
from omnifuse.preprocess.clinic.lung_world import GRADES, MODALITIES, Lung
from omnifuse.preprocess.clinic.world import World

DESIGN = 10_000  # lesions of nobody that the designed figures are told from
EVERYTHING = column(MODALITIES)
MEANING = {
    "p_SET": "P(grade | what the modalities of SET show, that they are absent, corrupt or marked), in the order of grades: an upper bound",
    "mark_odds_M": "log odds of the invasive grades that the mark of M tells; without it a probability is what holds at the external site",
    "designed": "AUROC of p_SET, mean over grades of one against the rest, over lesions drawn anew from the world",
    "expected": "the same over the lesions of this clinic and the grades that they could have had, given all that is shown",
    "drawn": "the same over the grades that they have",
}


def name_of(patient: int) -> str:
    return f"L{patient:06d}"


def lesion_rows(lung: Lung, lesions: Lesions) -> pl.DataFrame:
    """Rows of lesions.parquet."""
    scalars = ("diameter_mm", "solid", "log_suv", "density", "spiculation", "inflamed", "inflammation_told")
    columns: dict[str, Any] = {
        "patient_id": [name_of(int(patient)) for patient in lesions.patient],
        "subtype": [GRADES[g] for g in lesions.grade],
        **{name: getattr(lesions, name) for name in scalars},
        **{f"noise_{name}": lesions.noise[:, m] for m, name in enumerate(MODALITIES)},
        **{f"present_{name}": lesions.present[:, m] for m, name in enumerate(MODALITIES)},
        **{f"corrupt_{name}": lesions.corrupt[:, m] for m, name in enumerate(MODALITIES)},
        "external": lesions.external,
        **{f"mark_{name}": lesions.marks[:, m] for m, name in enumerate(MODALITIES)},
    }
    for m, name in enumerate(MODALITIES):
        odds = mark_log_odds(lung, lesions, m)
        columns[f"mark_odds_{name}"] = np.where(lesions.present[:, m], odds[:, -1] - odds[:, 0], 0.0)
    found = posteriors(lung, lesions)
    columns |= {name: pl.Series(p.tolist(), dtype=pl.List(pl.Float64)) for name, p in found.items()}
    return pl.DataFrame(columns)


def write_truth(world: World, seed: int, folder: store.Builder, lesions: pl.DataFrame) -> dict[str, Any]:
    """Writes the files; returns what design.json holds."""
    store.write_parquet(folder.path("lesions.parquet"), lesions)
    part = pl.when("external").then(pl.lit("test")).otherwise(pl.lit("train"))
    lesions.select("patient_id", part=part).write_csv(folder.path("heldout.csv"))
    design = describe(world, seed, lesions)
    store.write_json(folder.path("design.json"), design)
    return design


def describe(world: World, seed: int, lesions: pl.DataFrame) -> dict[str, Any]:
    """design.json."""
    nobody = sample_lesions(world.lung, DESIGN)
    found = posteriors(world.lung, nobody)
    told = {column(chosen): np.array(lesions[column(chosen)].to_list()) for chosen in SUBSETS}
    grade = np.eye(len(GRADES))[[GRADES.index(name) for name in lesions["subtype"]]]
    there = lesions.select(f"present_{name}" for name in MODALITIES).to_numpy()
    out: dict[str, Any] = {
        "seed": seed,
        "patients": len(lesions),
        "world": world.name,
        "knobs_sha256": world.lung_fingerprint,
        "columns": MEANING,
        "grades": list(GRADES),
        "designed": {"auroc": {name: _told("", *macro_auroc(p, found[EVERYTHING])) for name, p in found.items()}},
        "rates": {name: float(lesions[f"present_{name}"].mean()) for name in MODALITIES},
        "auroc": {}, "auroc_present": {},
    }  # fmt: skip
    out["designed"]["lesions"] = DESIGN
    out["designed"]["rates"] = {name: float(nobody.present[:, m].mean()) for m, name in enumerate(MODALITIES)}
    out["designed"] |= information(found)
    for chosen in SUBSETS:
        name, has_all = column(chosen), there[:, [MODALITIES.index(m) for m in chosen]].all(1)
        out["auroc"][name] = _auroc(told[name], told[EVERYTHING], grade)
        out["auroc_present"][name] = _auroc(told[name][has_all], told[EVERYTHING][has_all], grade[has_all])
    return out | information(told) | {"knobs": dataclasses.asdict(world.lung)}


def information(told: dict[str, np.ndarray]) -> dict[str, Any]:
    """Bits of every set, what each modality adds to all others, and redundant minus synergistic bits of pairs."""
    bits = {name: information_bits(p) for name, p in told.items()}
    without = {m: column(tuple(other for other in MODALITIES if other != m)) for m in MODALITIES}
    pairs = [chosen for chosen in SUBSETS if len(chosen) == 2]
    return {
        "information_bits": bits,
        "unique_bits": {m: bits[EVERYTHING] - bits[without[m]] for m in MODALITIES},
        "redundant_minus_synergistic_bits": {"_".join(two): bits[f"p_{two[0]}"] + bits[f"p_{two[1]}"] - bits[column(two)] for two in pairs},
    }


def _auroc(score: np.ndarray, known: np.ndarray, grade: np.ndarray) -> dict[str, float | int | None]:
    empty = (float("nan"), float("nan"))
    expected, drawn = (macro_auroc(score, known), macro_auroc(score, grade)) if len(score) else (empty, empty)
    return {"lesions": len(score), **_told("expected", *expected), **_told("drawn", *drawn)}


def _told(name: str, auroc: float, error: float) -> dict[str, float | None]:
    keys = (name, f"{name}_se") if name else ("auroc", "se")
    return {key: None if np.isnan(value) else value for key, value in zip(keys, (auroc, error))}
