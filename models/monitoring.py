"""What tells whether an epoch was better than the ones before: macro AUROC, and early stopping on it or on anything else.

The area is that of the ROC polygon, in which equal scores share a corner: scikit-learn's value, without its import in every training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def roc_points(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - specificity and sensitivity at every threshold between two different scores, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    truth, score = truth[order], score[order]
    last = np.r_[np.flatnonzero(np.diff(score)), len(score) - 1]  # of each run of equal scores
    hits = np.cumsum(truth)[last]
    return np.r_[0, (last + 1 - hits) / (len(truth) - truth.sum())], np.r_[0, hits / truth.sum()]


def compute_auroc(score: np.ndarray, label: np.ndarray) -> tuple[float | None, int, int]:
    """Macro AUROC over the labels that are defined: both values occur among the known ones.

    Args:
        score: [N, C], any increasing function of the probability; NaN where a head does not speak.
        label: [N, C] 0, 1 or NaN where unknown; a multi-class task gives [N, 1] class indices, taken one against the rest.

    Returns:
        The mean, or None where no label is defined; how many are; of how many.
    """
    if label.shape[1] == 1 and score.shape[1] > 1:
        label = (label == np.arange(score.shape[1])).astype(np.float32)  # [N, C]
    found = []
    for truth, guess in zip(label.T, score.T):
        known = ~(np.isnan(truth) | np.isnan(guess))
        if len(np.unique(truth[known])) == 2:
            false_positive, true_positive = roc_points(truth[known].astype(np.float64), guess[known])
            found.append(np.trapezoid(true_positive, false_positive))
    return (float(np.mean(found)) if found else None), len(found), score.shape[1]


@dataclass
class EarlyStop:
    """Counts the epochs since the best one. A value of None cannot be compared: the newest epoch then counts as the best."""

    patience: int
    larger_is_better: bool
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def update(self, value: float | None, epoch: int) -> bool:
        """Whether this epoch is the best so far; equal is not better."""
        better = value is None or self.best is None or (value > self.best if self.larger_is_better else value < self.best)
        if better:
            self.best, self.best_epoch, self.waited = value, epoch, 0
        else:
            self.waited += 1
        return better

    @property
    def stop(self) -> bool:
        return self.waited >= self.patience
