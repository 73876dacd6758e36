"""The numbers behind the ROC, precision-recall and reliability curves of one model.

A curve is the mean of the curves of its folds (and labels), taken at equal false-positive rate or recall, so that the area below it is the
AUROC or AUPRC of the table. Folds are never pooled for ranking, since each has its own model; calibration is pooled, since a probability
means the same in every fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnifuse.eval import calibration
from omnifuse.eval.tables import TestSet

GRID = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class Curve:
    """y at each x of `GRID`: the mean, and each fold's own [folds, 201]."""

    mean: np.ndarray
    folds: np.ndarray


def roc(sets: Sequence[TestSet], least: int = 1) -> Curve | None:
    """True-positive rate at each false-positive rate; None where no label has `least` positives and negatives in a fold."""
    return _average(sets, _roc_at_grid, least)


def precision_recall(sets: Sequence[TestSet], least: int = 1) -> Curve | None:
    """Precision at each recall, step-wise: that of the highest threshold which reaches the recall."""
    return _average(sets, _precision_at_grid, least)


def pooled_reliability(sets: Sequence[TestSet], least: int = calibration.MIN_BIN) -> calibration.Reliability | None:
    """Reliability over all folds of the first seed, all labels together; None without samples."""
    first = min(test.seed for test in sets)
    kept = [test for test in sets if test.seed == first]
    y, score = (np.concatenate([getattr(test, name)[test.known] for test in kept]) for name in ("y_true", "y_score"))
    return calibration.reliability(y, score, min_count=max(least, calibration.MIN_BIN)) if len(y) else None


def _average(sets, at_grid, least: int) -> Curve | None:
    folds: dict[int, list[np.ndarray]] = {}
    for test in sets:
        each = []
        for label, known in enumerate(test.known.T):
            y = test.y_true[known, label]
            if min(y.sum(), len(y) - y.sum()) >= max(least, 1):
                each.append(at_grid(y, test.y_score[known, label]))
        if each:
            folds.setdefault(test.fold, []).append(np.mean(each, axis=0))
    if not folds:
        return None
    stacked = np.stack([np.mean(seeds, axis=0) for seeds in folds.values()])
    return Curve(stacked.mean(0), stacked)


def _roc_at_grid(y, score) -> np.ndarray:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(y, score)
    return np.interp(GRID, false, true)


def _precision_at_grid(y, score) -> np.ndarray:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(y, score)
    precision, recall = precision[::-1], recall[::-1]  # recall ascending
    return precision[1:][np.searchsorted(recall[1:], np.clip(GRID - 1e-12, 0, 1), side="left").clip(max=len(recall) - 2)]
