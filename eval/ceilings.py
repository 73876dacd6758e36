"""The ceilings of a synthetic clinic: P(label) of every sample from every set of modalities, read from the truth beside the raw files.

    ceilings = read_ceilings(folder, samples, task)
    evaluate(predictions, task=task, ceilings=ceilings)

| truth | of | key of a sample |
|---|---|---|
| clinic_truth: ceilings.parquet `p_ehr_cxr`, P(death) from what the set shows in the first hours | mortality | stay_id |
| lung_clinic_truth: lesions.parquet `p_ct_rep`, P(each of six grades) | subtyping, in three classes or six | patient_id |

A ceiling is no method: nothing here is ever chosen, compared as a model or counted in a family of tests. The truth of another clinic has
the same ids, so that every sample's outcome must be the one that the truth tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.eval.escaping import plain
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import MODALITIES, ArtefactError, ConfigError, Task

CLINIC, LUNG = "clinic_truth", "lung_clinic_truth"
KINDS = (CLINIC, LUNG)
GRADES = ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")  # the order of a list of probabilities in lesions.parquet
CLASSES = {"L1": ("AAH", "AIS"), "L2": ("MIA", "IA1"), "L3": ("IA2", "IA3")} | {grade: (grade,) for grade in GRADES}
# Of less than the set: what most methods read of it.
BESIDE = {"cxr_last": "cxr", "rep_stored": "rep"}


class NoCeiling(ConfigError):
    """The truth is of another task or window than the samples: nothing is wrong, there is only no ceiling."""


@dataclass(frozen=True)
class Ceilings:
    """P(each label) of the samples of a task, by the truth.

    sample: [N] sorted text. sets: modalities -> [N, L] P(label), NaN where the sample has none; a name of `BESIDE` is a set of its own.
    folder, fingerprint: of the truth.
    """

    task: Task
    folder: Path
    fingerprint: str
    sample: np.ndarray
    sets: dict[frozenset[str], np.ndarray]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of which the truth tells, in its order."""
        return tuple(name for chosen in self.sets if len(chosen) == 1 for name in chosen if name not in BESIDE)

    def score(self, modalities: Iterable[str], sample: np.ndarray) -> np.ndarray | None:
        """[n, L] P(label) from this set, NaN for samples without; None where the truth does not know the set."""
        table = self.sets.get(frozenset(modalities))
        if table is None:
            return None
        place = np.searchsorted(self.sample, sample).clip(max=len(self.sample) - 1)
        return np.where((self.sample[place] == sample)[:, None], table[place], np.nan)

    def to_frame(self) -> pl.DataFrame:
        """sample_id, modalities ("ehr+cxr"), and P of each label in a column of its name."""
        frames = []
        for chosen, table in self.sets.items():
            name = "+".join(one for one in (*self.modalities, *BESIDE) if one in chosen)
            columns = {label: table[:, place] for place, label in enumerate(self.task.labels)}
            frames.append(pl.DataFrame({"sample_id": self.sample, "modalities": [name] * len(self.sample), **columns}))
        return pl.concat(frames)


def open_truth(folder: Path) -> store.Artefact:
    """The truth of a clinic, its manifest checked. Raises ArtefactError where the folder is none."""
    manifest = Path(folder) / store.MANIFEST
    told = store.read_json(manifest) if manifest.is_file() else None
    kind = told.get("omnifuse") if isinstance(told, dict) else None
    if kind not in KINDS:
        raise ArtefactError("is no truth of a synthetic clinic", where=folder, hint="omnifuse demo writes RAW-truth beside the raw files")
    return store.open(folder, kind)


def read_ceilings(folder: Path, samples: pl.DataFrame, task: Task) -> Ceilings:
    """Reads the ceilings of the samples of one task, after making sure that they are of the same clinic.

    Args:
        folder: the truth, written beside the raw files (`raw-truth`).
        samples: the cohort's samples of the task, or a table of predictions.

    Raises:
        NoCeiling: the truth is of another task, other classes or another window.
        ArtefactError: it is no truth, or that of other patients.
    """
    truth = open_truth(folder)
    told = _samples(samples, task)
    return (_of_stays if truth.kind == CLINIC else _of_lesions)(truth, told, task)


def _samples(frame: pl.DataFrame, task: Task) -> pl.DataFrame:
    """sample_id, key columns and outcome (the index of the class), a row a sample; from samples or from predictions."""
    frame = frame.with_columns(pl.col("sample_id", "patient_id").cast(pl.String))
    if "y" in frame.columns:
        outcome = pl.col("y").list.get(0, null_on_oob=True)
    else:
        frame = frame.filter(pl.col("y_mask"))
        if task.kind == "multiclass":
            place = {label: index for index, label in enumerate(task.labels)}
            frame = frame.filter(pl.col("y_true") == 1).with_columns(y=pl.col("label_name").replace_strict(place, default=None))
        else:
            frame = frame.with_columns(y=pl.col("y_true"))
        outcome = pl.col("y")
    stay = pl.col("stay_id" if "stay_id" in frame.columns else "sample_id").cast(pl.Int64, strict=False)
    found = frame.select("sample_id", "patient_id", stay_id=stay, outcome=outcome.cast(pl.Float64))
    return found.unique("sample_id", keep="first").sort("sample_id")


def _of_stays(truth: store.Artefact, samples: pl.DataFrame, task: Task) -> Ceilings:
    hours = float(truth.json("design.json")["knobs"]["stays"]["design_hours"])
    window = task.notes.get("window_hours")
    if task.kind != "binary" or task.name != "mortality" or (window is not None and float(window) != hours):
        raise NoCeiling(f"there is no ceiling: the truth is of mortality at {hours:g} h, not of {_named(task)}", where=truth.folder)
    stays = truth.table("stays.parquet").select("stay_id", known=pl.col("died").cast(pl.Float64))
    _require_same(samples.join(stays, on="stay_id", how="left", maintain_order="left"), truth)
    rows = samples.select("sample_id", "stay_id").join(
        truth.table("ceilings.parquet"), on="stay_id", how="left", maintain_order="left", suffix="_truth"
    )
    tables = {name: _finite(rows[f"p_{name}"])[:, None] for name in _names(rows)}
    return _ceilings(truth, rows, task, tables)


def _of_lesions(truth: store.Artefact, samples: pl.DataFrame, task: Task) -> Ceilings:
    groups = [CLASSES.get(label) for label in task.labels]
    if task.kind != "multiclass" or None in groups or sorted(sum(groups, ())) != sorted(GRADES):
        raise NoCeiling(f"there is no ceiling: the truth is of the grades of lung lesions, not of {_named(task)}", where=truth.folder)
    lesions = truth.table("lesions.parquet")
    place = {grade: index for index, grades in enumerate(groups) for grade in grades}
    known = lesions.select("patient_id", known=pl.col("subtype").replace_strict(place, return_dtype=pl.Float64))
    _require_same(samples.join(known, on="patient_id", how="left", maintain_order="left"), truth)
    rows = samples.select("sample_id", "patient_id").join(lesions, on="patient_id", how="left", maintain_order="left")
    columns = [[GRADES.index(grade) for grade in grades] for grades in groups]
    tables = {}
    for name in _names(rows):
        each = np.array([list(chances) if chances is not None else [np.nan] * len(GRADES) for chances in rows[f"p_{name}"].to_list()])
        tables[name] = np.column_stack([each[:, chosen].sum(1) for chosen in columns])  # [N, L]
    return _ceilings(truth, rows, task, tables)


def _names(rows: pl.DataFrame) -> list[str]:
    """Of the columns p_ehr_cxr ...: those of sets of modalities, and of what is read of a modality."""
    names = [column.removeprefix("p_") for column in rows.columns if column.startswith("p_")]
    return [name for name in names if name in BESIDE or set(name.split("_")) <= set(MODALITIES)]


def _ceilings(truth: store.Artefact, rows: pl.DataFrame, task: Task, tables: dict[str, np.ndarray]) -> Ceilings:
    sets = {frozenset([name] if name in BESIDE else name.split("_")): table for name, table in tables.items()}
    return Ceilings(task, truth.folder, truth.fingerprint, rows["sample_id"].to_numpy(), sets)


def _require_same(rows: pl.DataFrame, truth: store.Artefact) -> None:
    """Every sample is known to the truth, with the outcome that the samples tell."""
    strange = int(rows["known"].is_null().sum())
    if strange:
        raise ArtefactError(f"is not the truth of these samples: {strange} of {len(rows)} are unknown to it", where=truth.folder)
    other = int((rows["known"] != rows["outcome"]).sum())  # an unknown outcome is no contradiction
    if other:
        raise ArtefactError(f"is not the truth of these samples: {other} of {len(rows)} have another outcome in it", where=truth.folder)


def _named(task: Task) -> str:
    window = task.notes.get("window_hours")
    return plain(task.name) + (f" at {window:g} h" if isinstance(window, int | float) else "")


def _finite(series: pl.Series) -> np.ndarray:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
