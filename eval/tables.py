"""Prediction tables as arrays: which model scored which samples of which fold, checked before anything is computed.

A model here is what a row of a results table stands for: a method on a set of modalities, by one of its heads. Its test sets are one a seed
and fold. Predictions may come from another tool: the columns of `schema.PREDICTION_COLUMNS` suffice, and a column `modalities` ("ehr+cxr")
tells unimodal models from fusions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from omnifuse.eval import leaks
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import PREDICTION_COLUMNS, ConfigError, InputError, Task
from omnifuse.preprocess.store import Artefact

FINAL = "final"  # the head that gives a method's answer
SUM_TOLERANCE = 1e-3  # the classes of a multi-class sample sum to one, to float32
_TYPES = dict.fromkeys(("run_id", "method", "modalities", "part", "head", "sample_id", "patient_id", "label_name"), pl.String) | {
    "seed": pl.Int64, "fold": pl.Int64, "y_true": pl.Float64, "y_mask": pl.Boolean, "y_score": pl.Float64,
}  # fmt: skip


class Model(NamedTuple):
    """A method on a set of modalities, by one of its heads.

    `head` is empty where the method has one head only; `leak` names those of the modalities through which the task leaks ("dn").
    """

    method: str
    modalities: str
    head: str = ""
    leak: str = ""

    @property
    def name(self) -> str:
        """As it is told everywhere: a modality that leaks is marked."""
        seen = leaks.mark(self.modalities, self.leak)
        parts = [self.method, f"({seen})" if seen else "", f"[{self.head}]" if self.head else ""]
        return plain(" ".join(part for part in parts if part))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities one by one."""
        return tuple(self.modalities.split("+")) if self.modalities else ()


@dataclass(frozen=True)
class TestSet:
    """What one model said about one part of one fold, sorted by sample. L labels or classes."""

    __test__ = False  # not a test class of pytest

    seed: int
    fold: int
    sample: np.ndarray  # [N] text
    patient: np.ndarray  # [N] text
    y_true: np.ndarray  # [N, L] float64, 0 or 1
    known: np.ndarray  # [N, L] bool, False where the label is unknown
    y_score: np.ndarray  # [N, L] float64 probability

    def take(self, rows) -> TestSet:
        """The given rows of the test set."""
        columns = (self.sample, self.patient, self.y_true, self.known, self.y_score)
        return TestSet(self.seed, self.fold, *(column[rows] for column in columns))


Tests = dict[Model, list[TestSet]]


def read_predictions(runs: Sequence[Artefact], condition: str = "full") -> pl.DataFrame:
    """Predictions of several runs of one task and cohort, with a column `modalities`.

    Raises:
        ConfigError: no runs, or runs of more than one task or cohort: their numbers do not belong in one table.
    """
    if not runs:
        raise ConfigError("there are no runs to evaluate", hint="omnifuse train makes one")
    for key in ("task", "cohort"):
        if len({run.meta.get(key) for run in runs}) > 1:
            raise ConfigError(f"the runs differ in their {key}", hint=f"evaluate the runs of one {key} at a time")
    frames = []
    for run in runs:
        modalities = run.meta.get("modalities") or ()
        name = modalities.replace(",", "+") if isinstance(modalities, str) else "+".join(modalities)
        frame = run.table(f"predictions/{condition}.parquet").with_columns(modalities=pl.lit(name))
        frames.append(_typed(frame, run.folder))
    return pl.concat(frames)


def train_patients(parts: pl.DataFrame, samples: pl.DataFrame) -> dict[int, int]:
    """Patients with a sample of the task in the part `train`, by fold: what the weights were trained on."""
    owners = samples.select(pl.col("patient_id").cast(pl.String)).unique()
    kept = (
        parts.filter(pl.col("part") == "train").with_columns(pl.col("patient_id").cast(pl.String)).join(owners, on="patient_id", how="semi")
    )
    return {int(fold): int(count) for fold, count in kept.group_by("fold").agg(pl.col("patient_id").n_unique()).sort("fold").iter_rows()}


def arrange(predictions: pl.DataFrame, task: Task, part: str = "test", every_head: bool = False) -> Tests:
    """Test sets by model, in the order of their names; models with fewer modalities first.

    Args:
        part: val, calib, probe or test.
        every_head: the heads of a method stand side by side; else the one named `final` speaks for a method that has it.

    Raises:
        InputError: columns, labels or values are not what the task says, or two runs claim the same model, seed and fold.
    """
    frame = predictions if "modalities" in predictions.columns else predictions.with_columns(modalities=pl.lit(""))
    frame = _typed(frame).filter(pl.col("part") == part)
    if not every_head:
        has_final = (pl.col("head") == FINAL).any().over("method", "modalities")
        frame = frame.filter(~has_final | (pl.col("head") == FINAL))
    _check_values(frame, task)
    several = {key for key, group in frame.group_by(["method", "modalities"]) if group["head"].n_unique() > 1}
    tests: Tests = {}
    keys = ["method", "modalities", "head", "seed", "fold"]
    for (method, modalities, head, seed, fold), group in sorted(frame.group_by(keys), key=lambda item: tuple(map(str, item[0]))):
        model = Model(method, modalities, head if (method, modalities) in several else "", leaks.among(modalities, task))
        tests.setdefault(model, []).append(_test_set(group, task, int(seed), int(fold), model))
    for sets in tests.values():
        sets.sort(key=lambda test: (test.fold, test.seed))
    return dict(sorted(tests.items(), key=lambda item: (len(item[0].inputs), item[0])))


def _typed(frame: pl.DataFrame, where=None) -> pl.DataFrame:
    """The columns that count, in their types."""
    missing = [name for name in PREDICTION_COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(f"predictions lack the column {', '.join(missing)}", where=where)
    try:
        return frame.select(pl.col(name).cast(kind) for name, kind in _TYPES.items())
    except pl.exceptions.PolarsError:  # its text quotes cells
        raise InputError("a column of the predictions has values of another type than it should", where=where) from None


def _check_values(frame: pl.DataFrame, task: Task) -> None:
    strange = sorted(set(frame["label_name"].unique()) - set(task.labels))
    if strange:
        raise InputError(f"predictions name {len(strange)} label(s) that the task {plain(task.name)} does not have: {plain(strange[0])}")
    bad = frame.filter(pl.col("y_score").is_null() | pl.col("y_score").is_nan() | ~pl.col("y_score").is_between(0, 1))
    if len(bad):
        hint = "y_score is a probability: apply the sigmoid or softmax before writing it"
        raise InputError(f"{len(bad)} of {len(frame)} scores lie outside [0, 1] or are missing", hint=hint)
    known = frame.filter(pl.col("y_mask"))
    wrong = known.filter(pl.col("y_true").is_null() | ~pl.col("y_true").is_in([0.0, 1.0]))
    if len(wrong):
        raise InputError(f"{len(wrong)} of {len(known)} outcomes are neither 0 nor 1", hint="mark unknown ones by y_mask = false")
    truths = [known.group_by("fold", "sample_id", "label_name").agg(pl.col("y_true").n_unique().alias("n"))]
    truths.append(frame.group_by("sample_id").agg(pl.col("patient_id").n_unique().alias("n")))
    for what, count in zip(("outcome", "patient"), truths):
        if (count["n"] > 1).any():
            raise InputError(f"models disagree on the {what} of {int((count['n'] > 1).sum())} samples: they were not trained on one cohort")


def _test_set(group: pl.DataFrame, task: Task, seed: int, fold: int, model: Model) -> TestSet:
    group = group.sort("sample_id")
    sample, first, row = np.unique(group["sample_id"].to_numpy(), return_index=True, return_inverse=True)
    column = group["label_name"].replace_strict(list(task.labels), list(range(task.outputs)), return_dtype=pl.Int64).to_numpy()
    shape = (len(sample), task.outputs)
    seen = np.zeros(shape, dtype=int)
    np.add.at(seen, (row, column), 1)
    if seen.max(initial=0) > 1:
        hint = "choose one of them, or give one of them another method name"
        raise InputError(f"two runs of {model.name} hold seed {seed} and fold {fold}", hint=hint)
    y_true, known, y_score = np.zeros(shape), np.zeros(shape, dtype=bool), np.zeros(shape)
    known[row, column] = group["y_mask"].to_numpy()
    y_true[row, column] = np.where(known[row, column], group["y_true"].cast(pl.Float64).fill_null(0).to_numpy(), 0)
    y_score[row, column] = group["y_score"].cast(pl.Float64).to_numpy()
    if task.kind == "multiclass":
        _check_classes(seen, y_true, known, y_score, model)
    return TestSet(seed, fold, sample, group["patient_id"].to_numpy()[first], y_true, known, y_score)


def _check_classes(seen, y_true, known, y_score, model: Model) -> None:
    whole = (seen == 1).all(1) & (known.all(1) | ~known.any(1))
    one = (y_true.sum(1) == 1) | ~known.any(1)
    total = np.abs(y_score.sum(1) - 1) <= SUM_TOLERANCE
    for good, what in (
        (whole, "lack some class"),
        (one, "do not have exactly one true class"),
        (total, "have scores that do not sum to one"),
    ):
        if not good.all():
            raise InputError(f"{int((~good).sum())} of {len(good)} samples of {model.name} {what}")
