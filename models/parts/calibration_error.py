"""Expected calibration error in bins of equal width, as sums that can be added over batches and processes (Guo et al. 2017).

A traced number of training, on val; the report's calibration figures are those of `eval`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from omnifuse.models.contract import Term
from omnifuse.models.parts.heads import probabilities

BINS = 15


def calibration_bins(logits: Tensor, label: Tensor, label_mask: Tensor, kind: str) -> Term:
    """Sums [2, BINS] of confidences and of what came true, and how many [BINS].

    Binary and multi-label tasks: the probability of each label, pooled; a multi-class task: that of the class that is chosen.
    Missing data: unknown labels and logits that are NaN count nowhere.
    """
    prob = probabilities(logits, kind)  # [B, C]
    if kind == "multiclass":
        confidence, chosen = prob.max(1)
        correct, known = (chosen == label).float(), label_mask
    else:
        confidence, correct, known = prob, label, label_mask
    known = known & ~confidence.isnan()
    confidence, correct = confidence[known].double(), correct[known].double()
    place = (confidence * BINS).long().clamp(max=BINS - 1)
    add = lambda values: torch.zeros(BINS, dtype=torch.float64, device=values.device).index_add(0, place, values)
    return Term(torch.stack([add(confidence), add(correct)]), add(torch.ones_like(confidence)))


def expected_calibration_error(bins: Term) -> float:
    """The mean distance between confidence and frequency, NaN where nothing was counted."""
    confidence, correct = bins.sum
    return float((confidence - correct).abs().sum() / bins.count.sum()) if float(bins.count.sum()) else float("nan")


def calibration_error_of(logits: np.ndarray, label: np.ndarray, kind: str) -> float:
    """The error of a part's predictions: logits [N, C], label [N, L] NaN where unknown, class indices [N, 1] of a multi-class task."""
    known, told = torch.from_numpy(~np.isnan(label)), torch.from_numpy(np.nan_to_num(label))
    if kind == "multiclass":
        known, told = known[:, 0], told[:, 0].long()
    return expected_calibration_error(calibration_bins(torch.from_numpy(logits), told, known, kind))
