"""Traceable laziness activation (eq 15-17, Wu et al. 2025): the combination of modalities that is worst off is trained on once more.

    delta_lazy = argmax over the 2^M - 1 combinations of the mean distance D(y_hat, y)     eq 15
    L_TLA      = H(y_hat, y) over the samples that show delta_lazy in this step            eq 16, 17

D is the cross entropy of the fused prediction, averaged over the samples that possess the whole combination: a sum would name the most
frequent one (pin A17). It is measured after each epoch on patients that the weights have not seen (A26); among training patients the
noisy modalities are memorised, have the lowest loss, and the dominant one is named. The combination of a sample is what is visible of it
in the step (A19), drawn uniformly among those of what it possesses (A15).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from omnifuse.models.contract import Context, Term
from omnifuse.models.parts import keyed
from omnifuse.models.parts.heads import task_loss

MAX_MODALITIES = 6  # 63 combinations


def combinations(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All but the empty one, in the order of their bit masks: number i is that of bits i + 1, the first modality the lowest bit."""
    return [tuple(m for place, m in enumerate(modalities) if bits >> place & 1) for bits in range(1, 1 << len(modalities))]


def visible_of(bits: Tensor, size: int) -> Tensor:
    """Bit masks [N] to [N, M] bool."""
    return (bits[:, None] >> torch.arange(size, device=bits.device)) & 1 > 0


def bits_of(visible: Tensor) -> Tensor:
    """visible [B, M] to bit masks [B] int64."""
    return (visible.long() << torch.arange(visible.shape[1], device=visible.device)).sum(1)


def draw_combinations(present: Tensor, key: Tensor) -> Tensor:
    """[B, M] bool: of each sample one of the non-empty combinations of what it possesses, all equally likely.

    Args:
        present: [B, M] bool.
        key: [B] int64, what is drawn from.
    """
    size = (1 << present.sum(1)) - 1  # [B] number of combinations
    drawn = (keyed.uniform(key, "combination") * size).long()  # [B]; the product may round up to `size`
    chosen = torch.minimum(drawn + 1, size)  # [B] bits over the present ones alone
    rank = present.cumsum(1) - 1  # [B, M] place among the present ones
    return present & ((chosen[:, None] >> rank.clamp(min=0)) & 1 > 0)


def distances(batch, predict: Callable[[Tensor, Tensor], Tensor], class_weight: Tensor | None = None) -> Term:
    """Sum and number [2^M - 1] of the distances of each combination, over the samples of a batch that possess all its members.

    Args:
        predict: (rows [b], visible [b, M]) -> fused logits [b, C] of these rows with only that visible.
        class_weight: [L, c] what each class counts for.
    """
    size, sums, counts = batch.present.shape[1], [], []
    for bits in range(1, 1 << size):
        visible = visible_of(torch.tensor([bits], device=batch.present.device), size)  # [1, M]
        rows = (batch.present | ~visible).all(1).nonzero()[:, 0]
        logits = predict(rows, visible.expand(len(rows), size))
        loss, known = task_loss(logits, batch.label[rows], batch.label_mask[rows], class_weight)
        term = Term.of(loss, known)
        sums.append(term.sum)
        counts.append(term.count)
    return Term(torch.stack(sums), torch.stack(counts))


def find_lazy(distance: Term) -> int:
    """The bit mask of the combination with the greatest mean distance, the lowest among equals; 0 where nothing was measured."""
    mean = torch.where(distance.count > 0, distance.mean, -torch.inf)
    return int(mean.argmax()) + 1 if bool((distance.count > 0).any()) else 0


def trace(context: Context, modalities: tuple[str, ...], distance: Term, lazy: int) -> None:
    """The distance of each combination that somebody possesses, and 1 for the one that is lazy."""
    for number, combination in enumerate(map("+".join, combinations(modalities))):
        if distance.count[number] > 0:
            context.trace(f"distance/{combination}", float(distance.mean[number]))
        if number + 1 == lazy:
            context.trace(f"lazy/{combination}", 1.0)
