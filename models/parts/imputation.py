"""Imputation of missing modalities by a cascade of residual autoencoders (eq 2-8, Wu et al. 2025, after MMIN, Zhao et al. 2021).

    v    what is there, and encoder(0) where it is not                        eq 2
    dz_k = phi_k(v + sum_{j<k} dz_j)                                          eq 4
    v'   = v + sum_k dz_k        of the forward cascade                       eq 5
    v''  = v' + sum_k dz_k       of the backward cascade, from v'             eq 6
    L_forward = |v' - v_hat|^2,  L_backward = |v'' - v|^2                     eq 7, 8

v_hat is the complement of v: what a frozen teacher says of the modalities that were hidden, and its encoder(0) of those that were seen.
Differs from the paper: eq 7 prints v in place of v_hat, which no residual at all would solve (pin A1); targets carry no gradient and come
from a frozen teacher, for else constant embeddings were the best ones (A3); the norm is a mean over dimensions (A2). A modality the
patient never had is no target, and where nothing was hidden there is nothing to learn (A15).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Term

LATENT = 64  # the autoencoders are 256-128-64 wide: MMIN's published scripts (pin A16)
DIRECTIONS = ("none", "fw", "bw", "fw/bw")
TARGETS = ("complement", "masked")
REDUCTIONS = ("mean", "sum")


@dataclass
class Slots:
    """The modalities' embeddings side by side, a slot each.

    Shapes: v [B, D] of eq 2; imputed, v' of eq 5, and latents [B, K * L], or None; filled, v~ [B, D]; visible and counted [B, M].
    """

    v: Tensor
    imputed: Tensor | None
    latents: Tensor | None
    filled: Tensor
    visible: Tensor
    counted: Tensor


class ResidualAutoencoder(nn.Module):
    """phi_k of eq 4: dim - 4L - 2L - L - 2L - 4L - dim; the latent c_k is linear, as the output is."""

    def __init__(self, dim: int, latent: int = LATENT):
        super().__init__()
        down, up = (dim, 4 * latent, 2 * latent, latent), (latent, 2 * latent, 4 * latent, dim)
        self.encoder = _layers(down, nn.LeakyReLU)
        self.decoder = _layers(up, nn.ReLU)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, dim] -> latent [B, L], residual [B, dim]."""
        latent = self.encoder(x)
        return latent, self.decoder(latent)


def _layers(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


class Cascade(nn.Module):
    """K residual autoencoders in a row, on all modalities side by side.

    Args:
        blocks: K; with none, v' = v.
        transition: a last Linear, ReLU, Linear, which MMIN's code has and eq 5 has not.
    """

    def __init__(self, dim: int, blocks: int = 5, latent: int = LATENT, transition: bool = False):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualAutoencoder(dim, latent) for _ in range(blocks))
        self.transition = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)) if transition else nn.Identity()
        self.latent_dim = blocks * latent

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """v [B, D] -> v' [B, D], latents c_1 .. c_K side by side [B, K * L]."""
        x, latents = v, [v.new_zeros(len(v), 0)]
        for block in self.blocks:
            latent, residual = block(x)
            x = x + residual  # v + sum_{j<=k} dz_j
            latents.append(latent)
        return self.transition(x), torch.cat(latents, 1)


def slot_errors(found: Tensor, wanted: Tensor, widths: list[int], reduction: str = "mean") -> Tensor:
    """[B, M]: the squared error of each modality's slot, its mean (or sum) over dimensions.

    Shapes: found, wanted [B, D], the slots of `widths` side by side.
    """
    squares = (found - wanted).square()
    squares = squares.to(torch.promote_types(squares.dtype, torch.float32))
    each = [slot.mean(1) if reduction == "mean" else slot.sum(1) for slot in squares.split(widths, 1)]
    return torch.stack(each, 1)


def imputation_slots(visible: Tensor, hidden: Tensor, target: str = "complement") -> Tensor:
    """[B, M] bool: the slots that eq 7 and 8 compare.

    Args:
        visible: [B, M] what the method sees.
        hidden: [B, M] what the patient has and the method does not see.
        target: `masked` leaves out the slots that are seen.

    Missing data: a modality the patient never had is neither; a sample of which nothing is hidden has no slot.
    """
    if target == "masked":
        return hidden
    return (hidden | visible) & hidden.any(1, keepdim=True)


def imputation_term(errors: Tensor, slots: Tensor, weight: float, reduction: str = "mean") -> Term:
    """The mean of `errors` [B, M] over `slots` [B, M]; with `sum`, the sum over slots, averaged over samples that have one."""
    total = torch.where(slots, errors, 0.0).sum()
    return Term(total, slots.sum() if reduction == "mean" else slots.any(1).sum(), weight)
