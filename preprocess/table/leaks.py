"""Columns that tell the label by themselves: what was written down after the outcome, or because of it.

A number is judged by its AUROC, a category by the share of the label among the others of its category (leave one out: a category of one
patient tells nothing), a column that is often empty also by whether it is filled, a modality by whether it is there. More than SURE, with
at least ENOUGH samples of each side, is told. A true marker may be that good; mostly it is the outcome in other words.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.stats import rankdata

SURE, ENOUGH = 0.98, 10


def audit(columns: dict[str, tuple[np.ndarray, bool]], y: pl.Series, kind: str, labels: tuple[str, ...]) -> list[str]:
    """One warning a column that nearly is a function of a label.

    Args:
        columns: name -> ([N] float64, NaN where missing; is it a number, else the index of a category).
        y: [N] lists as in the samples.
    """
    told = []
    for name, (values, is_number) in columns.items():
        there = ~np.isnan(values)
        for label, target in _targets(y, kind, labels):
            known = ~np.isnan(target)
            filled = auroc(there[known].astype(float), target[known] == 1)
            seen = known & there
            scores = values[seen] if is_number else _others_share(values[seen], target[seen])
            alone = auroc(scores, target[seen] == 1)
            if is_number and alone is not None:
                alone = max(alone, 1 - alone)
            if alone is not None and alone > SURE:
                told.append(
                    f"{name} tells the label {label} nearly by itself (AUROC {alone:.3f}): was it written before the outcome was known?"
                )
                break
            if filled is not None and max(filled, 1 - filled) > SURE:
                told.append(f"whether {name} is filled tells the label {label} nearly by itself (AUROC {max(filled, 1 - filled):.3f})")
                break
    return told


def auroc(score: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the ROC curve with ties at a half; None with fewer than ENOUGH of a side."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if min(n_positive, n_negative) < ENOUGH:
        return None
    return float((rankdata(score)[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _targets(y: pl.Series, kind: str, labels: tuple[str, ...]):
    """(label, [N] 0, 1 or NaN), one against the rest for classes."""
    table = np.array(y.to_list(), dtype=np.float64)
    for index, name in enumerate(labels):
        yield name, (table[:, 0] == index).astype(np.float64) if kind == "multiclass" else table[:, index]


def _others_share(category: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[n] the share of the label among the other samples of the same category; a half where there is no other."""
    _, group = np.unique(category, return_inverse=True)
    count, positive = np.bincount(group), np.bincount(group, weights=target)
    others = count[group] - 1
    return np.where(others > 0, (positive[group] - target) / np.maximum(others, 1), 0.5)
