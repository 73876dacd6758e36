"""What each class counts for in the losses of all heads (pin A30 of OmniFuse).

    w[l, c] = n_l / (K_l n_lc)        over the training samples whose label l is known, of which K_l classes occur

By default heads learn the natural frequencies. `balanced` lets each class of a label count alike, and the mean weight is 1. What is
predicted then is a chance under equal classes, and whoever takes a prior away has to take that one: OmniFuse fits pi with the same weights.
What is no cross entropy of a head (prototypes, rankings, gates) is not weighed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHOICES = ("none", "balanced")


def count_classes(label: np.ndarray, kind: str, outputs: int) -> np.ndarray:
    """[L, c] samples of each class of each label: one label of `outputs` classes, or two classes a label.

    Args:
        label: [N, L], NaN where unknown; a multi-class task gives [N, 1] class indices.
    """
    classes = outputs if kind == "multiclass" else 2
    return (label[:, :, None] == np.arange(classes)).sum(0)


def balanced(label: np.ndarray, kind: str, outputs: int) -> Tensor:
    """[L, c] float32; 1 for a class that never occurs."""
    counts = count_classes(label, kind, outputs)
    known, occur = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True)
    weight = np.where(counts > 0, known / np.maximum(occur * counts, 1), 1.0)
    return torch.from_numpy(weight.astype(np.float32))
