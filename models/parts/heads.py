"""What the three kinds of task share: heads, losses on logits, probabilities.

    binary      logits [B, 1]   label [B, 1]   each output on its own
    multilabel  logits [B, L]   label [B, L]   averaged over the labels that are known
    multiclass  logits [B, C]   label [B]      softmax

Losses are float32 and come per sample, so that a method can weigh samples and the trainer can add up sums and counts over processes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.parts.keyed import Dropout
from omnifuse.preprocess.schema import ConfigError


class MLP(nn.Module):
    """g_m of OmniFuse eq 9: Linear, ReLU, dropout, Linear (128-128-C, dropout 0.3: pin A27)."""

    def __init__(self, dim: int, outputs: int, hidden: int = 128, dropout: float = 0.3):
        super().__init__()
        self.inner, self.dropout, self.outer = nn.Linear(dim, hidden), Dropout(dropout), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        return self.outer(self.dropout(F.relu(self.inner(x)), key))


class Linear(nn.Linear):
    """A linear head; it takes a key as every head does, and has no use for it."""

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        return super().forward(x)


def build_head(kind: str, dim: int, outputs: int, hidden: int = 128, dropout: float = 0.3) -> nn.Module:
    """A head of `kind` linear or mlp, called with (embedding [B, dim], key)."""
    if kind == "linear":
        return Linear(dim, outputs)
    if kind == "mlp":
        return MLP(dim, outputs, hidden, dropout)
    raise ConfigError(f"unknown head {kind!r}", hint="linear or mlp")


def task_loss(logits: Tensor, label: Tensor, label_mask: Tensor, class_weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross entropy of each sample and whether it has a known label: [B] float32, [B] bool; 0 where it has none.

    The kind shows in the label's shape: [B] is a class index, [B, L] one truth value a label. `class_weight` [L, c] is what each class
    counts for (parts/class_weights.py); None: all alike.
    """
    logits = logits.float()
    if label.ndim == 1:
        loss = F.cross_entropy(logits, label, reduction="none") * label_mask
        return loss if class_weight is None else loss * class_weight[0][label], label_mask
    each = F.binary_cross_entropy_with_logits(logits, label, reduction="none") * label_mask  # [B, L]
    if class_weight is not None:
        each = each * torch.where(label > 0.5, class_weight[:, 1], class_weight[:, 0])
    known = label_mask.sum(1)
    return each.sum(1) / known.clamp(min=1), known > 0


def probabilities(logits: Tensor, kind: str) -> Tensor:
    """[B, C] float32: a softmax for a multi-class task, else a sigmoid of each output."""
    return torch.softmax(logits.float(), 1) if kind == "multiclass" else torch.sigmoid(logits.float())
