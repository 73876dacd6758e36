"""Simulated predictions, runs and a cohort on disk, of known strength, for the tests of eval.

frame = simulated.predictions(task, simulated.MODELS)          # one row a run, sample and label
cohort, runs = simulated.write(tmp_path, task)                 # the same as artefacts, with audit and history
"""

from __future__ import annotations

import datetime
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import PREDICTION_COLUMNS, Task

BINARY = Task("mortality", "binary", ("mortality",), {"window_hours": 48})
MULTILABEL = Task("phenotyping", "multilabel", tuple(f"phenotype {number}" for number in range(6)))
MULTICLASS = Task("los", "multiclass", ("under 3 days", "3 to 7 days", "over 7 days"))
# method, modalities, distance of the classes in standard deviations
MODELS = (("unimodal", "ehr", 0.8), ("unimodal", "cxr", 0.4), ("concat", "ehr+cxr", 0.9), ("omnifuse", "ehr+cxr", 1.2))
FOLDS = 5


class World:
    """Patients with one to three samples each, their outcomes and test folds.

    Args:
        prevalence: of a binary task; the labels of a multi-label task run from .05 to .4.
    """

    def __init__(self, task: Task, patients: int = 250, prevalence: float = 0.2, seed: int = 0, one_each: bool = False):
        random = np.random.default_rng([seed, 7])
        self.task, self.patients, self.random = task, patients, random
        count = np.ones(patients, dtype=int) if one_each else random.choice([1, 1, 1, 2, 3], patients)
        self.owner = np.repeat(np.arange(patients), count)
        self.fold = random.permutation(np.arange(patients) % FOLDS)
        latent = random.normal(size=(patients, task.outputs))
        if task.kind == "multiclass":
            self.y = np.eye(task.outputs)[latent.argmax(1)][self.owner]
        else:
            share = np.linspace(0.05, 0.4, task.outputs) if task.kind == "multilabel" else np.array([prevalence])
            cut = np.array([np.quantile(column, 1 - q) for column, q in zip(latent.T, share)])
            self.y = (latent > cut).astype(float)[self.owner]

    def parts(self) -> pl.DataFrame:
        """fold, patient_id, part, like a cohort's."""
        part = np.random.default_rng(3).choice(["val", "calib", "probe", "train"], self.patients, p=[0.125, 0.1, 0.1, 0.675])
        frames = [
            pl.DataFrame({"fold": fold, "patient_id": np.arange(self.patients), "part": np.where(self.fold == fold, "test", part)})
            for fold in range(FOLDS)
        ]
        return pl.concat(frames).with_columns(pl.col("fold").cast(pl.Int8))

    def score(self, strength: float, key: tuple[int, ...]) -> np.ndarray:
        """[N, L] probabilities; most of the noise is shared by all models, as with real ones."""
        shared = np.random.default_rng([11]).normal(size=self.y.shape)
        own = np.random.default_rng([13, *key]).normal(size=self.y.shape)
        z = strength * self.y + 0.9 * shared + 0.45 * own
        if self.task.kind == "multiclass":
            z = np.exp(1.2 * z)
            return z / z.sum(1, keepdims=True)
        rate = self.y.mean(0).clip(0.01, 0.99)
        return 1 / (1 + np.exp(-(strength * (z - strength / 2) + np.log(rate / (1 - rate)))))


def predictions(task: Task = BINARY, models=MODELS, seeds=(0,), folds=range(FOLDS), world: World | None = None, **settings) -> pl.DataFrame:
    """Predictions of every model, seed and fold, with the column `modalities`."""
    world = world or World(task, **settings)
    parts = world.parts()
    frames = []
    for method, modalities, strength in models:
        for seed in seeds:
            for fold in folds:
                score = world.score(strength, (zlib.crc32(f"{method} {modalities}".encode()), seed, fold))
                where = dict(parts.filter(pl.col("fold") == fold).select("patient_id", "part").iter_rows())
                frames.append(_frame(world, score, [where[owner] for owner in world.owner], method, modalities, seed, fold))
    return pl.concat(frames)


def _frame(world: World, score, part, method: str, modalities: str, seed: int, fold: int) -> pl.DataFrame:
    width, count = world.task.outputs, len(world.owner)
    frame = pl.DataFrame(
        {
            "run_id": f"{method}-{modalities}-{seed}-{fold}", "method": method, "seed": seed, "fold": fold,
            "part": np.repeat(np.array(part), width), "head": "final",
            "sample_id": np.repeat([f"sample-{number:05d}" for number in range(count)], width),
            "patient_id": np.repeat([f"canary-{owner}" for owner in world.owner], width),
            "label_name": list(world.task.labels) * count, "y_true": world.y.ravel(), "y_mask": True, "y_score": score.ravel(),
            "modalities": modalities,
        }
    )  # fmt: skip
    return frame.filter(pl.col("part") != "train")


def trained(world: World) -> dict[int, int]:
    """Patients in the part train, by fold."""
    counts = world.parts().filter(pl.col("part") == "train").group_by("fold").len()
    return dict(counts.iter_rows())


def write(folder: Path, task: Task = BINARY, models=MODELS, names: str = "", **settings) -> tuple[store.Artefact, list[store.Artefact]]:
    """A cohort and its runs on disk.

    Args:
        names: text that is put into every name that comes from outside: steps, rules, variables, warnings, configuration.
    """
    world = World(task, **settings)
    cohort = _write_cohort(folder / "cohort", world, names)
    frame = predictions(task, models, world=world)
    runs = []
    for number, ((run_id,), own) in enumerate(sorted(frame.group_by("run_id"), key=lambda item: item[0])):
        method, modalities, seed, fold = own.select("method", "modalities", "seed", "fold").row(0)
        path = folder / "runs" / f"run{number}"
        meta = {
            "method": method, "task": task.name, "modalities": modalities.split("+"), "fold": fold, "seed": seed,
            "cohort": cohort.fingerprint, "parameters": 120_321, "best": {"epoch": 7 + fold, "monitor": "val/auroc", "value": 0.8},
            "seconds": 12.5, "environment": {"omnifuse": "0.1.0", "torch": "2.14.1", "device": "cpu"},
        }  # fmt: skip
        with store.create(path, "run", fingerprint=store.digest(run_id), meta=meta) as out:
            store.write_parquet(out.path("predictions/full.parquet"), own.select(PREDICTION_COLUMNS))
            store.write_parquet(out.path("history.parquet"), _history(fold))
            store.write_text(out.path("config.yaml"), f"train:\n  lr: 0.001  # default\n  note: {names}\n")
        runs.append(store.open(path, "run"))
    return cohort, runs


def _history(fold: int) -> pl.DataFrame:
    epoch = np.arange(1, 16)
    random = np.random.default_rng(fold)
    columns = {
        "train/loss": 0.65 * np.exp(-epoch / 6) + 0.1, "val/loss": 0.5 * np.exp(-epoch / 4) + 0.25 + 0.004 * epoch,
        "val/auroc": 0.85 - 0.3 * np.exp(-epoch / 3),
    }  # fmt: skip
    frames = [
        pl.DataFrame({"stage": "fusion", "epoch": epoch, "step": epoch * 10, "name": name, "value": values + random.normal(size=15) / 90})
        for name, values in columns.items()
    ]
    return pl.concat(frames)


def _write_cohort(path: Path, world: World, names: str) -> store.Artefact:
    random, count = np.random.default_rng(5), len(world.owner)
    los = random.gamma(2.0, 48.0, count) + 24
    stays = pl.DataFrame(
        {
            "stay_id": np.arange(count) + 30_000_000, "patient_id": world.owner, "hadm_id": np.arange(count) + 20_000_000,
            "intime": [datetime.datetime(2150, 1, 1)] * count, "outtime": [datetime.datetime(2150, 1, 4)] * count, "los_hours": los,
            "age": random.normal(65, 15, world.patients).clip(18, 91)[world.owner],
            "sex": random.choice(["F", "M"], world.patients)[world.owner],
            "unit": random.choice(["Medical ICU", "Surgical ICU", "Cardiac vascular ICU"], count, p=[0.5, 0.45, 0.05]),
            "anchor_year_group": ["2014 - 2016"] * count, "died_in_hospital": world.y[:, 0] > 0,
        }
    )  # fmt: skip
    y = world.y.argmax(1)[:, None].tolist() if world.task.kind == "multiclass" else world.y.tolist()
    samples = pl.DataFrame(
        {"sample_id": [f"sample-{number:05d}" for number in range(count)], "patient_id": world.owner, "stay_id": stays["stay_id"],
         "prediction_time": stays["outtime"], "y": pl.Series(y, dtype=pl.List(pl.Float32))}
    )  # fmt: skip
    meta = {
        "source": {"dataset": "simulated", "version": "1", "tables": {f"icu/chartevents{names}": {"rows": 668_862, "sha256": "ab" * 32}}},
        "compat": "none", "step_hours": 2.0, "lookback_hours": 0.0, "time": "storetime",
        "tasks": {world.task.name: {**world.task.to_json(), "samples": count}}, "modalities": {"ehr": {"kind": "series"}},
        "splits": {"kind": "hash", "seed": 0, "folds": list(range(FOLDS)), "sha256": "cd" * 32, "refused": None}, "rules": "none",
    }  # fmt: skip
    with store.create(path, "cohort", fingerprint=f"cohort-{world.task.name}-{world.patients}", meta=meta) as out:
        store.write_parquet(out.path("stays.parquet"), stays)
        store.write_parquet(out.path(f"samples/{world.task.name}.parquet"), samples)
        store.write_parquet(out.path("parts.parquet"), world.parts())
        store.write_json(out.path("audit.json"), _audit(count, names))
    return store.open(path, "cohort")


def _audit(kept: int, names: str) -> dict:
    steps = (("all ICU stays", 900), ("first and last unit equal", 700), ("one ICU stay in the admission", 320), ("adult", 316))
    attrition = [
        {"step": f"{step}{names}", "stays": kept + more, "admissions": kept + more - 40, "patients": kept + more - 90}
        for step, more in steps
    ]
    attrition.append(
        {"step": "at least 48 hours", "stays": kept, "admissions": kept, "patients": kept - 20, "note": "by the last charted event"}
    )
    variables = (("Heart rate", 12_227, 0.87), ("Glucose", 3_902, 0.31), ("pH", 811, 0.09), ("Glascow coma scale total", 2_311, 0.22))
    return {
        "attrition": attrition,
        "rows": [
            {"table": f"chartevents{names}", "in": 668_862, "used": 90_311, "dropped": {f"other item{names}": 578_000, "no value": 551}}
        ],
        "rules": [{"rule": f"gcs-none{names}", "changed": 438, "what": f"a scale of None counts as not charted{names}"}],
        "items": [],
        "variables": [
            {"variable": f"{name}{names}", "values": values, "stays": kept - 3, "clipped": 3, "nulled": 1, "bins_observed": share}
            for name, values, share in variables
        ],
        "labels": [],
        "warnings": [f"12 stays have no charted event{names}"] if names else [],
    }
