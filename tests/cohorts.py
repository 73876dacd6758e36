"""A tiny, valid cohort of generated patients with a known signal (docs/artefacts.md), for tests of what comes after preprocessing.

    cohort = cohorts.make(tmp_path / "cohort", patients=200, kind="binary")

The first column of `ehr` drifts with a hidden severity of the patient, which the outcome follows; the other columns are noise. Further
series modalities see the same severity through more noise, and are absent at random.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import schema, splits, store

COLUMNS = 76
CONTINUOUS = list(range(12))
OUTPUTS = {"binary": 1, "multilabel": 4, "multiclass": 3}
START = datetime.datetime(2150, 1, 1)


def make(
    path: Path,
    *,
    patients: int = 200,
    kind: str = "binary",
    modalities: tuple[str, ...] = ("ehr",),
    steps: tuple[int, int] = (6, 6),
    dim: int = COLUMNS,
    tails: bool = False,
    absent: float = 0.3,
    unknown: float = 0.0,
    signal: float = 2.0,
    seed: int = 0,
) -> store.Artefact:
    """Writes a cohort with one task, named after its kind, and one stay a patient.

    Args:
        steps: shortest and longest series.
        absent: share of the samples that lack a modality; the first modality is always there.
        unknown: share of the labels that are unknown.
        tails: every second sample ends with a tail row.
    """
    random = np.random.default_rng(seed)
    severity = random.normal(size=patients)
    length = random.integers(steps[0], steps[1] + 1, patients)
    samples = {
        "sample_id": [f"s{number:05d}" for number in range(patients)],
        "patient_id": np.arange(patients) + 10_000_000,
        "stay_id": np.arange(patients) + 30_000_000,
        "prediction_time": [START + datetime.timedelta(days=number) for number in range(patients)],
        "prediction_hours": length * 2.0,
    }
    outcome, y = _labels(random, kind, severity, signal, unknown)
    samples["y"] = pl.Series(y.tolist(), dtype=pl.List(pl.Float32))
    with store.create(path, "cohort", fingerprint=f"{kind}-{patients}-{seed}-{','.join(modalities)}-{absent}-{unknown}-{steps}") as out:
        for column, name in enumerate(modalities):
            there = np.ones(patients, bool) if column == 0 else random.random(patients) >= absent
            samples |= _series(random, out, name, severity, np.where(there, length, 0), dim, noise=1.0 + column, tails=tails)
        table = pl.DataFrame(samples).with_columns(pl.col(f"{name}_tail").replace(-1, None) for name in modalities)
        store.write_parquet(out.path(f"samples/{kind}.parquet"), table)
        parts = splits.make_parts(pl.DataFrame({"patient_id": samples["patient_id"], "outcome": outcome}))
        store.write_parquet(out.path("parts.parquet"), parts.table)
        store.write_parquet(out.path("stays.parquet"), _stays(samples, outcome))
        labels = [kind] if OUTPUTS[kind] == 1 else [f"{kind}-{number}" for number in range(OUTPUTS[kind])]
        out.meta |= {
            "source": {"dataset": "generated", "version": "1", "tables": {}}, "compat": "none", "step_hours": 2.0, "lookback_hours": 0.0,
            "time": "storetime", "tasks": {kind: {**schema.Task(kind, kind, tuple(labels)).to_json(), "samples": patients}},
            "modalities": {
                name: {"kind": "series", "columns": [f"c{number}" for number in range(dim)], "continuous": CONTINUOUS[:dim]}
                for name in modalities
            },
            "splits": parts.meta, "rules": "none",
        }  # fmt: skip
    return store.open(path, "cohort")


def _labels(random, kind: str, severity: np.ndarray, signal: float, unknown: float) -> tuple[np.ndarray, np.ndarray]:
    """The outcome that stratifies, and y [N, L]."""
    if kind == "multiclass":
        noisy = severity + random.normal(size=len(severity)) / signal
        outcome = np.digitize(noisy, [-0.5, 0.5])
        return outcome, outcome[:, None].astype(np.float32)
    width = OUTPUTS[kind]
    chance = 1 / (1 + np.exp(-signal * severity[:, None] + np.linspace(0.5, -0.5, width)))
    y = (random.random((len(severity), width)) < chance).astype(np.float32)
    y[random.random(y.shape) < unknown] = np.nan
    return np.nan_to_num(y[:, 0]).astype(np.int8), y


def _series(random, out: store.Builder, name: str, severity, length, dim: int, noise: float, tails: bool) -> dict:
    """Writes a modality's rows, and gives its columns of the samples table."""
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    rows = random.normal(scale=noise, size=(length.sum(), dim)).astype(np.float32)
    step = np.arange(len(rows)) - np.repeat(start, length)
    rows[:, 0] += np.repeat(severity, length) * (1 + step / 4)
    rows = rows * 3 + 5  # so that the normaliser has something to do
    store.write_npy(out.path(f"{name}.npy"), rows)
    tail = np.full(len(length), -1)
    if tails:
        tail[::2] = np.arange(len(tail[::2]))
        store.write_npy(out.path(f"{name}_tails.npy"), random.normal(size=(len(tail[::2]), dim)).astype(np.float32))
    return {f"{name}_start": start, f"{name}_length": length.astype(np.int32), f"{name}_tail": tail}


def _stays(samples: dict, outcome: np.ndarray) -> pl.DataFrame:
    size = len(outcome)
    return pl.DataFrame(
        {
            "stay_id": samples["stay_id"], "patient_id": samples["patient_id"], "hadm_id": samples["stay_id"] - 10_000_000,
            "intime": [START] * size, "outtime": [START + datetime.timedelta(days=3)] * size, "los_hours": [72.0] * size,
            "age": [60.0] * size, "sex": ["F", "M"] * (size // 2) + ["F"] * (size % 2), "unit": ["MICU"] * size,
            "anchor_year_group": ["2014 - 2016"] * size, "died_in_hospital": outcome > 0,
        }
    )  # fmt: skip


def samples(path: Path, *, fold: int = 0, use: tuple[str, ...] | None = None, **cohort):
    """A cohort below `path`, its features, and the samples of a fold: what training starts from."""
    from omnifuse.models.extraction import extract
    from omnifuse.preprocess.dataset import open_samples
    from omnifuse.preprocess.normaliser import fit_normaliser

    made = make(path / "cohort", **cohort)
    task = next(iter(made.meta["tasks"]))
    features = extract(made, task, path / "features", fit_normaliser)
    return open_samples(made, features, task, fold, use or tuple(made.meta["modalities"]))
