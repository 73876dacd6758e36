"""Class prototypes of one modality's embeddings, and what the distances to them say of a sample.

    c_k = mean of z_i over class k        p_i(k) = softmax_k(-||z_i - c_k|| / temperature)

Classes come in groups: a multi-class task is one group of C classes, each label of a binary or multi-label task a group of two, without
and with. A class with too few samples has no prototype: it is no answer, and samples of it are no evidence. What is left of a group must
have two classes.

Source: PMR (Fan et al., CVPR 2023). Its public code divides by the count of a class, zero included, and takes the mean over no sample,
which is NaN, into all further distances (`released`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Term
from omnifuse.models.parts.truth import precise


def members(label: Tensor, label_mask: Tensor, classes: int) -> Tensor:
    """[B, G, K] bool: the class of a sample in each group; none where its label is unknown."""
    if label.ndim == 1:
        return (F.one_hot(label, classes).bool() & label_mask[:, None])[:, None]
    positive = label > 0.5  # [B, L]
    return torch.stack([~positive, positive], 2) & label_mask[..., None]


def class_sums(embedding: Tensor, member: Tensor, present: Tensor) -> Term:
    """Sums [G, K, D] and counts [G, K, 1] over samples that possess the modality.

    Args:
        embedding: [B, D].
        member: [B, G, K].
        present: [B].
    """
    counted = (member & present[:, None, None]).to(torch.float64)
    return Term(torch.einsum("bgk,bd->gkd", counted, embedding.double()), counted.sum(0)[..., None])


class Prototypes(nn.Module):
    """Prototypes [G, K, D] of one modality, and which of them are known [G, K]."""

    def __init__(self, groups: int, classes: int, dim: int, least: int, shrink: float, momentum: float, temperature: float):
        super().__init__()
        self.least, self.shrink, self.momentum, self.temperature = least, shrink, momentum, temperature
        self.register_buffer("centre", torch.zeros(groups, classes, dim))
        self.register_buffer("known", torch.zeros(groups, classes, dtype=torch.bool))

    def update(self, sums: Tensor, counts: Tensor, released: bool = False) -> None:
        """Takes new sums and counts of `class_sums`; the old prototypes keep `momentum`."""
        if released:
            new, known = sums / counts, torch.ones_like(self.known)
        else:
            whole = sums.sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)  # [G, 1, D] the mean over all classes
            new = (sums + self.shrink * whole) / (counts + self.shrink).clamp(min=1e-12)
            known = counts[..., 0] >= self.least
        kept = torch.where(self.known, self.momentum, 0.0)[..., None]
        moved = (1 - kept) * new.to(self.centre.dtype) + kept * self.centre
        self.centre.copy_(torch.where(known[..., None], moved, self.centre))
        self.known |= known

    def distances(self, embedding: Tensor) -> Tensor:
        """[B, D] -> [B, G, K]."""
        flat = self.centre.flatten(0, 1).to(embedding.dtype)
        # Differences, not products: a product loses the small distances.
        found = torch.cdist(embedding, flat, compute_mode="donot_use_mm_for_euclid_dist")
        return found.unflatten(1, self.known.shape)

    def log_chance(self, embedding: Tensor) -> Tensor:
        """log p [B, G, K]; of a class without a prototype it is as good as minus infinity."""
        scores = -self.distances(precise(embedding)) / self.temperature
        return torch.log_softmax(scores.masked_fill(~self.known, torch.finfo(scores.dtype).min / 4), 2)

    def judged(self) -> Tensor:
        """[G] bool: the groups that tell classes apart."""
        return self.known.sum(1) >= 2

    def spread(self) -> Tensor:
        """The mean distance between known prototypes of a group; NaN where there are no two."""
        apart = torch.cdist(self.centre, self.centre, compute_mode="donot_use_mm_for_euclid_dist")  # [G, K, K]
        pairs = (self.known[:, :, None] & self.known[:, None]).triu(1)
        return torch.where(pairs, apart, 0.0).sum() / pairs.sum()


def prototype_loss(log_chance: Tensor, member: Tensor, judged: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the prototypes say of the truth, each a mean over a sample's groups.

    Args:
        log_chance: [B, G, K].
        member: [B, G, K] bool, the truth.
        judged: [G]; known: [G, K]; groups and classes that have prototypes.

    Returns:
        Cross entropy [B], chance of the truth [B], and whether there is any evidence [B].
    """
    evidence = (member & known).any(2) & judged  # [B, G]
    groups = evidence.sum(1).clamp(min=1)
    truth = torch.where(member, log_chance, 0.0).sum(2)  # [B, G]
    cross = torch.where(evidence, -truth, 0.0).sum(1) / groups
    chance = torch.where(evidence, truth.detach().exp(), 0.0).sum(1) / groups
    return cross, chance, evidence.any(1)


def entropy(log_chance: Tensor, judged: Tensor) -> Tensor:
    """[B]: mean entropy of p over the groups that tell classes apart; 0 where none does."""
    each = -(log_chance.exp() * log_chance).sum(2)  # [B, G]
    return torch.where(judged, each, 0.0).sum(1) / judged.sum().clamp(min=1)
