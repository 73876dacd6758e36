"""How sure each modality is of the truth, and the ratio between modalities: what OGM-GE and PMR balance.

    s = softmax(l)[y]                                  multiclass
    s = mean over labels of sigma(l) where y = 1, and of 1 - sigma(l) where y = 0

A pair of modalities is compared on the samples that possess both; all is sums and counts, so that processes can add them up before
anything is divided. `balanced` takes the mean over classes of the mean score in a class: with rare positives the plain mean is that of
the easy negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from omnifuse.preprocess.schema import ConfigError

SCORES = ("mean", "balanced")
EPS = 1e-8
LEAST = 2  # samples of a pair: fewer are no evidence


def require_score(score: str) -> str:
    if score not in SCORES:
        raise ConfigError(f"unknown score {score!r}", hint=f"one of {', '.join(SCORES)}")
    return score


def precise(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def truth_scores(logits: Tensor, label: Tensor, label_mask: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Scores of the truth, summed by group and sample, and what they count.

    Args:
        logits: [B, M, C], of each modality alone.
        score: `mean`, one group; `balanced`, a group for each class, or for positive and for negative labels.

    Returns:
        [B, K, M] sums and [B, K] counts; 0 where the label is unknown.
    """
    logits = precise(logits)
    if label.ndim == 1:
        truth = torch.softmax(logits, 2).gather(2, label[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]  # [B, M]
        if score == "mean":
            return (truth * label_mask[:, None])[:, None], label_mask[:, None].to(truth)
        member = F.one_hot(label, logits.shape[2]) * label_mask[:, None]  # [B, C]
        return member[..., None] * truth[:, None], member.to(truth)
    chance = torch.sigmoid(logits)
    truth = torch.where(label[:, None] > 0.5, chance, 1 - chance) * label_mask[:, None]  # [B, M, L]
    if score == "mean":
        known = label_mask.sum(1)
        return (truth.sum(2) / known.clamp(min=1)[:, None])[:, None], (known > 0)[:, None].to(truth)
    member = torch.stack([(label > 0.5) & label_mask, (label <= 0.5) & label_mask], 1).to(truth)  # [B, 2, L]
    return torch.einsum("bkl,bml->bkm", member, truth), member.sum(2)


def pair_sums(values: Tensor, counts: Tensor, present: Tensor) -> Tensor:
    """Sums over the samples that possess both of a pair, for every pair.

    Args:
        values, counts: [B, K, M] and [B, K] of `truth_scores`; counts [B, K, M] where modalities know different samples.
        present: [B, M].

    Returns:
        [2 K + 1, M, M]: the sums of modality m beside modality j, their counts, and the number of samples.
    """
    counts = counts[..., None].expand_as(values) if counts.ndim == 2 else counts
    there = present.to(values) * (counts.sum(1) > 0)  # [B, M]
    sums = torch.einsum("bkm,bm,bj->kmj", values, there, there)
    counted = torch.einsum("bkm,bm,bj->kmj", counts.to(values), there, there)
    return torch.cat([sums, counted, torch.einsum("bm,bj->mj", there, there)[None]])


def pair_scores(table: Tensor) -> tuple[Tensor, Tensor]:
    """From `pair_sums`: [M, M] the mean score of m over the samples that it shares with j, and [M, M] whether there is evidence."""
    groups = (len(table) - 1) // 2
    sums, counts, samples = table[:groups], table[groups:-1], table[-1]
    means = torch.where(counts > 0, sums / counts.clamp(min=EPS), 0.0)  # [K, M, M]
    score = means.sum(0) / (counts > 0).sum(0).clamp(min=1)
    apart = ~torch.eye(len(samples), dtype=torch.bool, device=table.device)
    return score, (samples >= LEAST) & apart


def ratios(score: Tensor, evidence: Tensor, over: str) -> tuple[Tensor, Tensor]:
    """How much surer each modality is than the others: the mean of s_m / s_j over j, or the largest of them.

    Args:
        score, evidence: [M, M] of `pair_scores`.
        over: `mean`, or `max`, the ratio to the least sure.

    Returns:
        [M] and whether it is known [M]; 1 where it is not.
    """
    each = score / (score.T + EPS)  # [M, M]
    known = evidence.any(1)
    if over == "max":
        found = each.masked_fill(~evidence, -torch.inf).amax(1)
    else:
        found = torch.where(evidence, each, 0.0).sum(1) / evidence.sum(1).clamp(min=1)
    return torch.where(known, found, 1.0), known
