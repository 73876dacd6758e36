"""The true quality of what a sample shows in each modality, and whether a method's weights follow it.

    read_quality(folder, samples)        # from the truth of a clinic: noise, and the share of items that show nothing
    judge(evaluation, runs, folder, samples)     # per modality Spearman's correlation of omega with the quality

A run that has `weights_of_modalities.parquet` (sample_id, part, modality, omega) is looked at on its test samples. Left out are samples in
which the modality is absent, and those in which it is alone: its weight is then 1, whatever its quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.eval.bootstrap import PatientBootstrap, interval
from omnifuse.eval.ceilings import CLINIC, open_truth
from omnifuse.eval.draws import mean_defined
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.tables import Model
from omnifuse.preprocess.schema import MODALITIES, InputError
from omnifuse.preprocess.store import Artefact

WEIGHTS = "weights_of_modalities.parquet"
UNTOLD = "the truth tells no quality of it"
FEW = 10  # samples of a fold, below which no correlation is told


def read_quality(folder: Path, samples: pl.DataFrame) -> pl.DataFrame:
    """The true quality of each sample and modality of which the truth tells it.

    Args:
        folder: the truth of a clinic.
        samples: the cohort's samples of a task, or a table of predictions.

    Returns:
        sample_id, modality; `noise` (1: as designed; it multiplies what blurs the tokens), `quality` (-noise); `spoilt`, the share of the
        sample's items of the window that show nothing (smeared, cut off, lost), null where it has none or none can be; `present`, whether
        the sample has the modality, null where `samples` does not tell.
    """
    truth = open_truth(folder)
    ids = samples.with_columns(pl.col("sample_id", "patient_id").cast(pl.String)).unique("sample_id", keep="first").sort("sample_id")
    people = truth.table("patients.parquet" if truth.kind == CLINIC else "lesions.parquet")
    people = people.with_columns(patient_id=pl.col("subject_id" if truth.kind == CLINIC else "patient_id").cast(pl.String))
    told = [name for name in MODALITIES if f"noise_{name}" in people.columns]
    spoilt = _spoilt_items(truth) if truth.kind == CLINIC else _spoilt_lesions(people, told)
    key = "stay_id" if truth.kind == CLINIC else "patient_id"
    frames = []
    for name in told:
        present = pl.col(f"{name}_length") > 0 if f"{name}_length" in ids.columns else pl.lit(None, pl.Boolean)
        stay = pl.col("stay_id" if "stay_id" in ids.columns else "sample_id").cast(pl.Int64, strict=False)
        rows = ids.select("sample_id", "patient_id", modality=pl.lit(name), present=present, stay_id=stay)
        rows = rows.join(people.select("patient_id", noise=pl.col(f"noise_{name}")), on="patient_id", how="left", maintain_order="left")
        lost = spoilt.get(name, pl.DataFrame(schema={key: rows.schema[key], "spoilt": pl.Float64}))
        frames.append(rows.join(lost, on=key, how="left", maintain_order="left"))
    return pl.concat(frames).select("sample_id", "modality", "noise", "spoilt", "present", quality=-pl.col("noise"))


def _spoilt_items(truth: Artefact) -> dict[str, pl.DataFrame]:
    """modality -> stay_id, share of the items of the window that show nothing; films: those in the archive."""
    minutes = 60 * float(truth.json("design.json")["knobs"]["stays"]["design_hours"])
    inside = pl.col("minute").is_between(0, minutes, closed="left")
    exams, signals = truth.table("exams.parquet").filter(inside), truth.table("signals.parquet").filter(inside)
    items = {"cxr": (exams.filter("archived"), "blurred"), "rep": (exams, "cut"), "sig": (signals, "lost")}
    return {name: frame.group_by("stay_id").agg(spoilt=pl.col(flag).mean()) for name, (frame, flag) in items.items()}


def _spoilt_lesions(lesions: pl.DataFrame, modalities: list[str]) -> dict[str, pl.DataFrame]:
    """modality -> patient_id, 1 where the scan or report is corrupt; of the modalities for which the truth tells it."""
    told = [name for name in modalities if {f"corrupt_{name}", f"present_{name}"} <= set(lesions.columns)]
    return {
        name: lesions.filter(f"present_{name}").select("patient_id", spoilt=pl.col(f"corrupt_{name}").cast(pl.Float64)) for name in told
    }


def judge(evaluation: Evaluation, runs: Sequence[Artefact], folder: Path, samples: pl.DataFrame) -> None:
    """Adds `omega_quality` to the results of each model whose runs tell their weights.

    It is a list, one entry a modality: `rho`, mean over the test folds of Spearman's correlation of the weight with the quality (> 0: the
    better it is, the more it weighs), with an interval by the patient draws of the evaluation; or null with a reason.

    Args:
        folder, samples: as of `read_quality`, which is asked only where a run tells its weights.

    Raises:
        InputError: a table of weights lacks a column.
    """
    if not any(run.has(WEIGHTS) for run in runs):
        return
    quality = read_quality(folder, samples)
    entries = {(entry["method"], entry["modalities"]): entry for entry in evaluation.results["models"]}
    for model, sets in evaluation.tests.items():
        mine = [run for run in runs if run.has(WEIGHTS) and _is_of(run, model)]
        if not mine:
            continue
        owner = dict(zip(np.concatenate([test.sample for test in sets]), np.concatenate([test.patient for test in sets])))
        weights = pl.concat([_read(run) for run in mine]).filter(pl.col("sample_id").is_in(list(owner)))
        joined = weights.join(quality, on=["sample_id", "modality"], how="left")
        entries[model.method, model.modalities]["omega_quality"] = [
            {"modality": name, **_correlate(joined.filter(pl.col("modality") == name), owner, evaluation)} for name in model.inputs
        ]


def _is_of(run: Artefact, model: Model) -> bool:
    given = run.meta.get("modalities") or ()
    given = given.replace(",", "+").split("+") if isinstance(given, str) else given
    return run.meta.get("method") == model.method and tuple(given) == model.inputs


def _read(run: Artefact) -> pl.DataFrame:
    """Weights of the test samples, each with the number of modalities that have one there."""
    frame = run.table(WEIGHTS)
    missing = [name for name in ("sample_id", "part", "modality", "omega") if name not in frame.columns]
    if missing:
        raise InputError(f"lacks the column {', '.join(missing)}", where=run.folder / WEIGHTS)
    frame = frame.filter(pl.col("part") == "test").select(
        pl.col("sample_id").cast(pl.String), "modality", pl.col("omega").cast(pl.Float64),
        seed=pl.lit(run.meta.get("seed") or 0), fold=pl.lit(run.meta.get("fold") or 0),
    )  # fmt: skip
    frame = frame.filter(pl.col("omega").is_finite() & (pl.col("omega") > 0))  # an absent modality weighs 0, or has no row
    return frame.with_columns(together=pl.len().over("sample_id"))


def _correlate(rows: pl.DataFrame, owner: dict[str, str], evaluation: Evaluation) -> dict[str, Any]:
    known = rows.filter(pl.col("quality").is_not_null() & pl.col("present").fill_null(True))
    told = known.filter(pl.col("together") > 1)
    counted = {"samples": told["sample_id"].n_unique(), "alone": known["sample_id"].n_unique() - told["sample_id"].n_unique()}
    if not len(told):
        return {"rho": None, "reason": "never beside another" if len(known) else UNTOLD, **counted}
    folds: dict[int, list[np.ndarray]] = {}
    for (fold, _), group in sorted(told.group_by("fold", "seed"), key=lambda item: item[0]):
        if len(group) < FEW:
            continue
        who = np.searchsorted(evaluation.patients, np.array([owner[sample] for sample in group["sample_id"]]))
        omega, truth = group["omega"].to_numpy(), group["quality"].to_numpy()
        folds.setdefault(fold, []).append(spearman_draws(omega, truth, who, evaluation.resampler))
    if not folds:
        return {"rho": None, "reason": f"fewer than {FEW} samples in every fold", **counted}
    draws = mean_defined(np.stack([mean_defined(np.stack(seeds)) for seeds in folds.values()]))
    if not np.isfinite(draws[0]):
        return {"rho": None, "reason": "the weights, or the quality, do not vary", **counted}
    low, high = interval(draws[0], draws[1:])
    return {"rho": float(draws[0]), "low": low, "high": high, "folds": len(folds), **counted}


def spearman_draws(x: np.ndarray, y: np.ndarray, who: np.ndarray, resampler: PatientBootstrap) -> np.ndarray:
    """[1 + B] Spearman's correlation of all samples, then of every draw of patients; NaN where one of both does not vary.

    Args:
        x, y: [n]. who: [n] the patient of each, a row of the resampler's weights.
    """
    order_x, order_y = np.unique(x, return_inverse=True), np.unique(y, return_inverse=True)
    found = []
    for weights in (np.ones((len(resampler.strata), 1)), *resampler.blocks()):
        weight = weights[who]  # [n, b]
        total = weight.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ranks = [_midranks(values, place, weight) for values, place in (order_x, order_y)]
            a, b = (rank - (weight * rank).sum(0) / total for rank in ranks)
            found.append((weight * a * b).sum(0) / np.sqrt((weight * a**2).sum(0) * (weight * b**2).sum(0)))
    draws = np.concatenate(found)
    return np.where(np.isfinite(draws), draws, np.nan)


def _midranks(values: np.ndarray, place: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[n, b] rank of each sample where it stands `weight` times; equal values share the middle."""
    level = np.zeros((len(values), weight.shape[1]))
    np.add.at(level, place, weight)
    below = np.cumsum(level, axis=0) - level
    return (below + (level + 1) / 2)[place]
