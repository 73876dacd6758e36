"""Point estimates and bootstrap draws of one model, over its cells (a fold and seed) and rows (labels, then averages)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnifuse.eval import metrics, multiclass
from omnifuse.eval.bootstrap import PatientBootstrap
from omnifuse.eval.tables import TestSet
from omnifuse.preprocess.schema import Task

MACRO, MICRO, OVERALL = "macro", "micro", "all classes"
NULL_DRAWS = 200  # of outcomes, for what perfect calibration would show


def row_names(task: Task) -> tuple[str, ...]:
    """The labels, then the averages that the kind of task has."""
    averages = {"binary": (), "multilabel": (MACRO, MICRO), "multiclass": (MACRO, OVERALL)}[task.kind]
    return task.labels + averages


def headline_row(task: Task) -> str:
    """The row that stands for the task: its only label, else the macro average."""
    return task.labels[0] if task.kind == "binary" else MACRO


def defined_metrics(row: str) -> tuple[str, ...]:
    """The metrics that a row has."""
    return multiclass.MULTICLASS if row == OVERALL else metrics.BINARY


@dataclass(frozen=True)
class Draws:
    """What one model reached, and what it would have reached with other patients.

    values: metric -> [cells, rows, 1 + B]; index 0 of the last axis is the point estimate, NaN is undefined. For the calibration errors the
    others are draws not of patients but of outcomes, from the scores themselves: what perfect calibration would show.
    folds, seeds: [cells].
    """

    values: dict[str, np.ndarray]
    rows: tuple[str, ...]
    labels: int
    folds: np.ndarray
    seeds: np.ndarray

    def by_fold(self, metric: str, row: str) -> np.ndarray:
        """[folds, 1 + B], seeds averaged."""
        value = self.values[metric][:, self.rows.index(row)]
        return np.stack([mean_defined(value[self.folds == fold]) for fold in np.unique(self.folds)])

    def mean(self, metric: str, row: str) -> np.ndarray:
        """[1 + B], the mean over the folds that have a value."""
        return mean_defined(self.by_fold(metric, row))

    def by_seed(self, metric: str, row: str) -> np.ndarray:
        """[seeds] point estimates, each the mean over its folds."""
        value = self.values[metric][:, self.rows.index(row), 0]
        return np.stack([mean_defined(value[self.seeds == seed]) for seed in np.unique(self.seeds)])

    def labels_defined(self, metric: str, cells=slice(None)) -> np.ndarray:
        """[cells] how many labels have a value."""
        return np.isfinite(self.values[metric][cells, : self.labels, 0]).sum(1)

    def degenerate(self, metric: str, row: str, cells=slice(None)) -> int:
        """Draws in which a fold or label lost a value that it had: the average is then that of the others."""
        place = slice(0, self.labels) if row == MACRO else slice(self.rows.index(row), self.rows.index(row) + 1)
        value = np.isnan(self.values[metric][cells, place])  # [cells, labels, 1 + B]
        return int((value[..., 1:] & ~value[..., :1]).any((0, 1)).sum())


def compute_draws(
    sets: Sequence[TestSet], task: Task, patients: np.ndarray, resampler: PatientBootstrap, only: tuple[str, ...] = metrics.BINARY
) -> Draws:
    """Scores a model's test sets under every draw of patients.

    Args:
        patients: sorted ids, the rows of the resampler's weights.
        only: which metrics; the figures over all classes come along only where all are asked for.
    """
    rows, whole = row_names(task), set(only) == set(metrics.BINARY)
    names = tuple(only) + (tuple(set(multiclass.MULTICLASS) - set(only)) if whole and task.kind == "multiclass" else ())
    values = {name: np.full((len(sets), len(rows), 1 + resampler.resamples), np.nan) for name in names}
    prepared = [_prepare(test, task, np.searchsorted(patients, test.patient), len(patients), whole) for test in sets]
    start, wanted = 0, only
    for weights in _point_first(resampler):
        stop = start + weights.shape[1]
        for cell, scored_rows in enumerate(prepared):
            for row, scored in scored_rows.items():
                found = scored.compute(weights) if row == OVERALL else scored.compute(weights, wanted)
                for name, value in found.items():
                    values[name][cell, rows.index(row), start:stop] = value
        start, wanted = stop, tuple(name for name in only if name not in metrics.CALIBRATION)
    _draw_calibrated(prepared, values, rows, resampler)
    if MACRO in rows:
        for name in only:
            values[name][:, rows.index(MACRO)] = mean_defined(values[name][:, : task.outputs], axis=1)
    return Draws(values, rows, task.outputs, np.array([test.fold for test in sets]), np.array([test.seed for test in sets]))


def _draw_calibrated(prepared, values, rows, resampler: PatientBootstrap) -> None:
    """Fills in what the calibration errors would be if the probabilities were perfect."""
    draws = min(NULL_DRAWS, resampler.resamples)
    for name in values.keys() & set(metrics.CALIBRATION):
        for cell, scored_rows in enumerate(prepared):
            for row, scored in scored_rows.items():
                if row != OVERALL:
                    generator = np.random.default_rng([resampler.seed, cell, rows.index(row)])
                    values[name][cell, rows.index(row), 1 : 1 + draws] = scored.null_ece(name, draws, generator)


def _point_first(resampler: PatientBootstrap):
    yield np.ones((len(resampler.strata), 1))
    yield from resampler.blocks()


def _prepare(test: TestSet, task: Task, who, patients: int, whole: bool) -> dict[str, metrics.Scored | multiclass.ScoredClasses]:
    """The scored samples of every row that is no mean over labels."""
    rows: dict[str, metrics.Scored | multiclass.ScoredClasses] = {}
    for label, name in enumerate(task.labels):
        known = test.known[:, label]
        rows[name] = metrics.Scored(test.y_true[known, label], test.y_score[known, label], who[known], patients)
    if task.kind == "multilabel":
        owner = np.broadcast_to(who[:, None], test.known.shape)[test.known]
        rows[MICRO] = metrics.Scored(test.y_true[test.known], test.y_score[test.known], owner, patients)
    if task.kind == "multiclass" and whole:
        known = test.known.all(1)
        rows[OVERALL] = multiclass.ScoredClasses(test.y_true[known], test.y_score[known], who[known], patients)
    return rows


def mean_defined(values, axis: int = 0) -> np.ndarray:
    """Mean of what is defined; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)
