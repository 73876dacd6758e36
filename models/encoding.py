"""What an encoder is, and how a method calls it: present samples only, and encoder(0) where something must stand for an absent one.

An encoder is a file in models/encoders: one subclass of `Encoder`, registered under the file's name; its options are the keyword
arguments of its constructor and the parameters of configs/encoders/NAME.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

MAX_LEVELS = 6


@dataclass
class Encoded:
    """What one forward pass of an encoder gives.

    Shapes: pooled [B, D]; tokens [B, T, E] and mask [B, T]; levels: from the input to the output, each a pair [B, T_l, D_l], [B, T_l].
    """

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    levels: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Encoder(nn.Module):
    """Maps one modality's values to an embedding.

    A subclass sets `dim` (D of pooled), `token_dim` (E of tokens), `level_dims` (at most six) and `input_dim`, and drops out with
    `parts.keyed.Dropout` alone, or says in its docstring why it cannot.
    """

    input_dim: int
    dim: int
    token_dim: int
    level_dims: tuple[int, ...]

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        """Encodes samples that possess the modality.

        Args:
            values: [B, T, input_dim], or [B, input_dim] of a vector modality.
            mask: [B, T] bool, True = a real token; what is not real changes no output.
            key: [B] int64, what dropout draws from; None drops nothing.
        """
        raise NotImplementedError

    def zero(self, vector: bool = False) -> Tensor:
        """[1, D]: the embedding of one zero step with mask True, which can stand for an absent sample (e(0) of OmniFuse).

        It has no key, so that dropout leaves it alone: the stand-in is the same for the whole step.
        """
        reference = next(self.parameters())
        shape = (1, self.input_dim) if vector else (1, 1, self.input_dim)
        mask = torch.ones(1, 1, dtype=torch.bool, device=reference.device)
        return self(torch.zeros(shape, device=reference.device), mask).pooled


def encode(encoder: Encoder, batch, modality: str, *, full: bool = False) -> Encoded:
    """The embedding of each sample of a batch that possesses the modality; zeros for the others, which are not encoded.

    Args:
        full: tokens and levels too, also zero (and masked) for the others.
    """
    present = batch.present[:, batch.modalities.index(modality)]  # [B]
    values, mask = batch.values[modality], batch.mask[modality]
    if bool(present.all()):
        return encoder(values, mask, batch.key)
    if not bool(present.any()):
        return _nothing(encoder, values, mask, full)
    rows = present.nonzero()[:, 0]
    some = encoder(values[rows], mask[rows], batch.key[rows])
    spread = lambda x: x.new_zeros(len(present), *x.shape[1:]).index_copy(0, rows, x)
    if not full:
        return Encoded(spread(some.pooled))
    levels = [(spread(tokens), spread(real)) for tokens, real in some.levels]
    return Encoded(spread(some.pooled), spread(some.tokens), spread(some.mask), levels)


def _nothing(encoder: Encoder, values: Tensor, mask: Tensor, full: bool) -> Encoded:
    size, width = mask.shape
    zeros = lambda *shape: torch.zeros(size, *shape, device=values.device)
    if not full:
        return Encoded(zeros(encoder.dim))
    unreal = torch.zeros_like(mask)
    return Encoded(zeros(encoder.dim), zeros(width, encoder.token_dim), unreal, [(zeros(width, dim), unreal) for dim in encoder.level_dims])
