"""Dynamic weighted fusion: each modality learns less where the others are already sure (eq 9-14, Wu et al. 2025, after Liu et al. 2018).

    omega_m = prod_{n != m} (1 - p_n) ^ (beta / (M - 1))                     eq 10
    L_enc   = sum_m omega_m * CE(p_m, y)                                     eq 12, with p_n that of the true class
    score[c] = log pi[c] + sum_m omega_m[c] (log p_m[c] - log pi[c]) + alpha (log o[c] - log pi[c])

Differs from the paper: omega scales the loss instead of standing in its logarithm, where it would scale no gradient (pin A6), the sum is
minimised (A5), and omega carries no gradient (A8). A prediction has no y: it weighs each class by its own omega, and takes away the class
prior pi that eq 14 would count once per present modality, so that one threshold would not serve two patterns (A7).

Every kind of task is read as L labels of c classes each: binary and multi-label outputs are two classes a label, a multi-class task is
one label. Probabilities, weights and scores are float32 at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Term
from omnifuse.models.parts.first_weights import drawn_apart
from omnifuse.models.parts.heads import build_head, task_loss
from omnifuse.models.parts.imputation import Slots

EPS = 1e-6  # within omega only: log p has the whole range, or a surely wrong head would get no gradient


def log_probabilities(logits: Tensor, kind: str) -> Tensor:
    """Logits [..., C] to log p [..., L, c]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if kind == "multiclass":
        return F.log_softmax(logits, -1).unsqueeze(-2)
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)


def as_logits(score: Tensor, kind: str) -> Tensor:
    """Scores [..., L, c] to logits [..., C] whose softmax or sigmoid is the softmax over c."""
    return score.squeeze(-2) if kind == "multiclass" else score[..., 1] - score[..., 0]


def true_classes(label: Tensor, label_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each label [B, L] int64, and whether it is known [B, L]."""
    return (label[:, None], label_mask[:, None]) if label.ndim == 1 else (label.long(), label_mask)


def omega(prob: Tensor, counted: Tensor, beta: float = 0.5, detach: bool = True) -> Tensor:
    """Weight of each modality: the chance that all the other present ones are wrong.

    Args:
        prob: [B, M, L, c] probability of each class, by each modality's own head.
        counted: [B, M] bool: present, or imputed; another neither weighs nor is weighed.
        beta: strength; 0 weighs all alike.
        detach: without gradient.

    Returns:
        [B, M, L, c] in [0, 1]; 1 where a modality is alone, 0 where it does not count.
    """
    counts = counted[..., None, None]  # [B, M, 1, 1]
    wrong = torch.where(counts, 1 - prob.clamp(EPS, 1 - EPS), 1.0).log()
    others = wrong.sum(1, keepdim=True) - wrong  # sum over n != m
    companions = (counted.sum(1) - 1).clamp(min=1)[:, None, None, None]  # M - 1 of eq 10
    weight = torch.where(counts, torch.exp(others * (beta / companions)), 0.0)
    return weight.detach() if detach else weight


def fuse(
    log_prob: Tensor,
    weight: Tensor,
    log_prior: Tensor,
    log_latent: Tensor | None = None,
    alpha: float = 0.1,
    prior_correct: bool = True,
) -> Tensor:
    """The score of each class [B, L, c], of which the softmax over c is the prediction.

    Args:
        log_prob: [B, M, L, c] of the modalities' heads.
        weight: [B, M, L, c], 0 where a modality does not count.
        log_prior: [L, c] log pi: frequencies of the training part.
        log_latent: [B, L, c] log o of eq 11.
        prior_correct: false is the literal form, sum omega log p + alpha log o.
    """
    if not prior_correct:
        literal = (weight * log_prob).sum(1)
        return literal if log_latent is None else literal + alpha * log_latent
    score = log_prior + (weight * (log_prob - log_prior)).sum(1)
    return score if log_latent is None else score + alpha * (log_latent - log_prior)


def at_truth(values: Tensor, truth: Tensor) -> Tensor:
    """values [B, ..., L, c] at each label's class, truth [B, L]: [B, ..., L]."""
    between = values.ndim - truth.ndim - 1
    place = truth.reshape(len(truth), *(1,) * between, truth.shape[1], 1).expand(*values.shape[:-1], 1)
    return values.gather(-1, place).squeeze(-1)


def mean_over_labels(values: Tensor, known: Tensor) -> Tensor:
    """values [B, ..., L] to [B, ...]: the mean over the labels that are known [B, L]; 0 where none is."""
    known = known.reshape(len(known), *(1,) * (values.ndim - 2), known.shape[1])
    return torch.where(known, values, 0.0).sum(-1) / known.sum(-1).clamp(min=1)


def weighted_losses(
    log_prob: Tensor, counted: Tensor, truth: Tensor, known: Tensor, beta: float, detach: bool, class_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of each sample and modality the weighted cross entropy omega_m CE(p_m, y), whose sum over modalities is eq 12, and omega_m.

    Shapes: log_prob [B, M, L, c]; counted [B, M]; truth, known [B, L]; class_weight [L, c], what each class counts for. Returns two of
    [B, M], means over the known labels.
    """
    log_true = at_truth(log_prob, truth)  # [B, M, L]
    weight = omega(log_true.exp()[..., None], counted, beta, detach)[..., 0]
    losses = weight * -log_true
    if class_weight is not None:
        losses = losses * at_truth(class_weight.expand(len(truth), *class_weight.shape), truth)[:, None]
    return mean_over_labels(losses, known), mean_over_labels(weight, known)


def log_prior(counts: Tensor, known: Tensor) -> Tensor:
    """log pi [L, c] of class counts [L, c] and numbers of known labels [L].

    Missing data: a class that never occurs counts as half a sample, so that its logarithm is finite; no label known: all alike.
    """
    size = known[:, None]
    share = torch.where(counts > 0, counts, 0.5) / size.clamp(min=1)
    return torch.where(size > 0, share, 1 / counts.shape[1]).log()


@dataclass
class Weighed:
    """What the heads say.

    Shapes: modality [B, M, C] logits; log_prob and omega [B, M, L, c]; latents [B, C] logits of g_ra, or None; counted, visible [B, M].
    """

    modality: Tensor
    log_prob: Tensor
    omega: Tensor
    latents: Tensor | None
    counted: Tensor
    visible: Tensor


class DWFuse(nn.Module):
    """The heads g_m of eq 9 and g_ra of eq 11, and how they are weighed.

    Args:
        widths: of each modality's embedding.
        latent_dim: K * L of the forward cascade; 0: there is none, and no alpha term (pin A12).
    """

    def __init__(
        self,
        widths: dict[str, int],
        latent_dim: int,
        kind: str,
        outputs: int,
        *,
        alpha: float = 0.1,
        beta: float = 0.5,
        hidden: int = 128,
        dropout: float = 0.3,
        prior_correct: bool = True,
        omega_at_inference: bool = True,
        detach_omega: bool = True,
    ):
        super().__init__()
        self.kind, self.alpha, self.beta = kind, alpha, beta
        self.prior_correct, self.omega_at_inference, self.detach_omega = prior_correct, omega_at_inference, detach_omega
        self.widths, self.heads = list(widths.values()), nn.ModuleDict()
        for modality, width in widths.items():
            with drawn_apart(f"heads.{modality}"):
                self.heads[modality] = build_head("mlp", width, outputs, hidden, dropout)
        if latent_dim:
            with drawn_apart("latent_head"):
                self.latent_head = build_head("mlp", latent_dim, outputs, hidden, dropout)
        classes = (1, outputs) if kind == "multiclass" else (outputs, 2)
        self.register_buffer("log_prior", torch.zeros(classes).log_softmax(1))  # [L, c]

    def forward(self, slots: Slots, key: Tensor | None) -> Weighed:
        """Eq 9-11 of what is there and what is imputed (pin A11); every class is weighed as if it were the true one (A7)."""
        embeddings = slots.filled.split(self.widths, 1)
        modality = torch.stack([head(z, key) for head, z in zip(self.heads.values(), embeddings)], 1)  # [B, M, C]
        log_prob = log_probabilities(modality, self.kind)
        weight = omega(log_prob.exp(), slots.counted, self.beta, self.detach_omega)
        latents = None if slots.latents is None else self.latent_head(slots.latents, key)
        return Weighed(modality, log_prob, weight, latents, slots.counted, slots.visible)

    def score(self, weighed: Weighed, *, weighted: bool | None = None, corrected: bool | None = None) -> Tensor:
        """[B, L, c]; the arguments override `omega_at_inference` and `prior_correct`."""
        weighted = self.omega_at_inference if weighted is None else weighted
        corrected = self.prior_correct if corrected is None else corrected
        weight = weighed.omega if weighted else weighed.counted[..., None, None].to(weighed.omega.dtype)
        latent = None if weighed.latents is None else log_probabilities(weighed.latents, self.kind)
        return fuse(weighed.log_prob, weight, self.log_prior, latent, self.alpha, corrected)

    def further_heads(self, weighed: Weighed) -> dict[str, Tensor]:
        """Logits [B, C] of each modality where it is visible, of the latents, and of the score with either switch of pin A7 turned over."""
        absent = ~weighed.visible[..., None]
        heads = dict(zip(self.heads, weighed.modality.masked_fill(absent, torch.nan).unbind(1)))
        heads |= {} if weighed.latents is None else {"latents": weighed.latents}
        other = {
            "unweighted" if self.omega_at_inference else "weighted": {"weighted": not self.omega_at_inference},
            "uncorrected" if self.prior_correct else "corrected": {"corrected": not self.prior_correct},
        }
        return heads | {name: as_logits(self.score(weighed, **how), self.kind) for name, how in other.items()}

    def traces(self, weighed: Weighed, score: Tensor) -> dict[str, Tensor]:
        """[B] omega of each modality, expected under the prediction and averaged over labels; NaN where it does not count."""
        expected = (score.detach().softmax(-1)[:, None] * weighed.omega.detach()).sum(-1).mean(-1)  # [B, M]
        expected = torch.where(weighed.counted, expected, torch.nan)
        return {f"omega/{modality}": column for modality, column in zip(self.heads, expected.unbind(1))}

    def weights(self, weighed: Weighed, score: Tensor) -> Tensor:
        """[B, M] omega of the predicted class, a mean over labels; 0 where a modality does not count."""
        return at_truth(weighed.omega, score.argmax(-1)).mean(-1)

    def terms(self, weighed: Weighed, batch, weight: float, class_weight: Tensor | None = None) -> dict[str, Term]:
        """Eq 12-14, and omega of the true class, to look at."""
        truth, known = true_classes(batch.label, batch.label_mask)
        losses, omegas = weighted_losses(weighed.log_prob, weighed.counted, truth, known, self.beta, self.detach_omega, class_weight)
        told = known.any(1)
        terms = {"encoders": Term.of(losses.sum(1), told, weight)}
        if weighed.latents is not None:
            terms["latents"] = Term.of(*task_loss(weighed.latents, batch.label, batch.label_mask, class_weight), weight * self.alpha)
        for place, modality in enumerate(self.heads):
            terms[f"omega/{modality}"] = Term.of(omegas[:, place].detach(), told & weighed.counted[:, place], 0.0)
        return terms

    def count_classes(self, batch) -> dict[str, Term]:
        """Statistic for `fit_prior`."""
        truth, known = true_classes(batch.label, batch.label_mask)  # [B, L]
        each = F.one_hot(truth, self.log_prior.shape[1]) * known[..., None]
        return {"classes": Term(each.sum(0), known.sum(0))}

    def fit_prior(self, counts: Term, class_weight: Tensor | None = None) -> None:
        """pi of the training part, each class counting `class_weight` [L, c]: the frequencies that the heads learn (pin A30)."""
        told = counts.sum if class_weight is None else counts.sum * class_weight
        self.log_prior.copy_(log_prior(told, counts.count if class_weight is None else told.sum(1)))
