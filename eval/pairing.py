"""Two models on the samples that both have scored, fold by fold: what every paired difference stands on."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omnifuse.eval.draws import Draws, compute_draws, headline_row
from omnifuse.eval.tables import Model, TestSet

if TYPE_CHECKING:
    from omnifuse.eval.evaluation import Evaluation

METRIC = "auroc"
LEAST = 5  # patients of a class, below which an AUROC is luck


@dataclass(frozen=True)
class Paired:
    """Two models on the samples that both scored. a, b: [folds, 1 + B] AUROC, folds where both are defined."""

    folds: list[int]
    a: np.ndarray
    b: np.ndarray
    sets_a: list[TestSet]
    sets_b: list[TestSet]
    samples: int
    left_out: int

    @property
    def difference(self) -> np.ndarray:
        return self.a - self.b


def best_single(fusion: Model, evaluation: Evaluation) -> Model | None:
    """The model with one of the fusion's modalities that has the highest mean AUROC; None for a single modality, or without such runs.

    A modality that too few patients have may have any AUROC: it is the best only where the others are not better founded.
    """
    row = headline_row(evaluation.task)
    singles = {}
    for model, sets in evaluation.tests.items():
        value = evaluation.draws[model].mean(METRIC, row)[0]
        if len(fusion.inputs) > 1 and len(model.inputs) == 1 and model.inputs[0] in fusion.inputs and np.isfinite(value):
            singles[model] = (sum(map(fewest_patients, sets)) >= LEAST, value)
    return max(singles, key=singles.__getitem__) if singles else None


def fewest_patients(test: TestSet) -> int:
    """Patients of the smallest class, over the labels that have an AUROC."""
    counts = [[len(set(test.patient[known & (true == value)])) for value in (0, 1)] for true, known in zip(test.y_true.T, test.known.T)]
    return min((min(pair) for pair in counts if min(pair) > 0), default=0)


def pair_up(model_a: Model, model_b: Model, evaluation: Evaluation, only: Container[str] | None = None) -> Paired:
    """Both models on their shared samples.

    Args:
        only: of these samples alone.
    """
    sets_a, sets_b = evaluation.tests[model_a], evaluation.tests[model_b]
    shared = {}
    for fold in sorted({test.fold for test in sets_a} & {test.fold for test in sets_b}):
        samples = set.intersection(*(set(test.sample) for test in sets_a + sets_b if test.fold == fold))
        shared[fold] = np.array(sorted(sample for sample in samples if only is None or sample in only))
    kept_a, kept_b = restrict(sets_a, shared), restrict(sets_b, shared)
    a, b = auroc_by_fold(model_a, kept_a, evaluation), auroc_by_fold(model_b, kept_b, evaluation)
    folds = [fold for fold in shared if fold in a and fold in b and np.isfinite(a[fold][0] - b[fold][0])]
    every = {sample for test in sets_a + sets_b for sample in test.sample}
    used = {sample for fold in folds for sample in shared[fold]}
    width = 1 + evaluation.resampler.resamples
    stack = [np.stack([side[fold] for fold in folds]) if folds else np.zeros((0, width)) for side in (a, b)]
    return Paired(folds, *stack, kept_a, kept_b, len(used), len(every) - len(used))


def restrict(sets: list[TestSet], shared: dict[int, np.ndarray]) -> list[TestSet]:
    """The test sets with no other samples than those shared in their fold; a set that keeps all of its own is the same object."""
    return [
        test if len(test.sample) == len(shared[test.fold]) else test.take(np.isin(test.sample, shared[test.fold]))
        for test in sets
        if test.fold in shared and len(shared[test.fold])
    ]


def auroc_by_fold(model: Model, kept: list[TestSet], evaluation: Evaluation) -> dict[int, np.ndarray]:
    """fold -> [1 + B] of the row that stands for the task; taken from the evaluation where nothing had to be left out."""
    if not kept:
        return {}
    sets = evaluation.tests[model]
    same = len(kept) == len(sets) and all(ours is theirs for ours, theirs in zip(kept, sets))
    draws: Draws = (
        evaluation.draws[model] if same else compute_draws(kept, evaluation.task, evaluation.patients, evaluation.resampler, only=(METRIC,))
    )
    return dict(zip(np.unique(draws.folds).tolist(), draws.by_fold(METRIC, headline_row(evaluation.task))))
