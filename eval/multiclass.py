"""Metrics of all classes of a multi-class task at once; the metrics of one class against the rest are those of `metrics`."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from omnifuse.eval.metrics import EPS

MULTICLASS = ("accuracy", "kappa", "log_loss", "brier")


class ScoredClasses:
    """One test set of a task of C classes.

    Args:
        y_true: [N, C] one-hot. y_score: [N, C] probabilities. row, rows: as in `metrics.Scored`.
    """

    def __init__(self, y_true, y_score, row=None, rows: int | None = None):
        y, score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
        count, self.classes = y.shape
        row = np.arange(count) if row is None else np.asarray(row)
        rows = count if rows is None else rows
        surprise = -np.log(np.clip((y * score).sum(1), EPS, 1.0))
        columns = (np.ones(count), surprise, ((score - y) ** 2).sum(1))
        self._sums = sparse.csr_array(np.stack([np.bincount(row, column, rows) for column in columns]))
        cell = y.argmax(1) * self.classes + score.argmax(1)
        self._cells = sparse.coo_array((np.ones(count), (cell, row)), shape=(self.classes**2, rows)).tocsr()
        self.rows = rows

    def compute(self, weights=None) -> dict[str, np.ndarray]:
        """Metrics under each column of `weights` [R, B].

        Returns:
            accuracy of the most probable class; Cohen's kappa with quadratic weights, for classes in order (Cohen 1968); log_loss of the
            true class in nats; brier, summed over the classes (0 to 2). [B] each, NaN without samples, kappa also without disagreement
            by chance.
        """
        weights = np.ones((self.rows, 1)) if weights is None else np.asarray(weights)
        total, surprise, squared = self._sums @ weights
        table = (self._cells @ weights).reshape(self.classes, self.classes, -1)  # [true, predicted, B]
        step = np.arange(self.classes)
        cost = (step[:, None] - step[None, :]) ** 2.0
        chance = np.einsum("tp,tb,pb->b", cost, table.sum(1), table.sum(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "accuracy": np.einsum("ccb->b", table) / total,
                "kappa": np.where(chance > 0, 1 - np.einsum("tp,tpb->b", cost, table) * total / chance, np.nan),
                "log_loss": surprise / total,
                "brier": squared / total,
            }
