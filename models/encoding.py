"""What an encoder is, and how a method calls it: present samples only, and encoder(0) where something must stand for an absent one.

An encoder is a file in models/encoders: one subclass of `Encoder`, registered under the file's name; its options are the keyword
arguments of its constructor and the parameters of configs/encoders/NAME.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from omnifuse.models.parts.pretrained import fill
from omnifuse.models.weights import Weights
from omnifuse.preprocess.schema import ConfigError

MAX_LEVELS = 6
READS = ("series", "image", "text", "signal", "embedding")
Tokenise = Callable[[Sequence[str]], list[np.ndarray]]


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

    What `values` are depends on what it `reads`; `input_dim` is the constructor's first argument:

        series, embedding   [B, T, input_dim] float; [B, input_dim] of a vector modality. An embedding with levels has a list of widths
        image               [B, T, C, H, W] uint8, or float in 0..1; T films or slices; input_dim [C, H, W]
        text                [B, T] int64 word pieces without special tokens, parts.texts.END after each of a sample's texts; input_dim 0
        signal              [B, T, input_dim] float; T moments, input_dim leads

    One that has published weights names them (`published`, see models/weights.py) and takes them in `load`; what their files decide of
    its shape (a BERT's width) comes in the constructor's option `architecture`. One that reads text says how it is cut, in `tokeniser`.
    """

    reads: ClassVar[str] = "series"
    gives_levels: bool = True  # set to False where nobody reads them: an encoder may then leave `levels` empty and save their memory
    published: ClassVar[dict[str, Any]] = {}
    input_dim: int | list[int]
    dim: int
    token_dim: int
    level_dims: tuple[int, ...]

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        """Encodes samples that possess the modality.

        Args:
            values: as the class says.
            mask: [B, T] bool, True = a real token; what is not real changes no output.
            key: [B] int64, what dropout draws from; None drops nothing.
        """
        raise NotImplementedError

    @classmethod
    def tokeniser(cls, weights: Weights | None) -> Tokenise:
        """How texts become values: each an int64 array [T] of word pieces, without special tokens, not cut."""
        raise ConfigError(f"the encoder {cls.__name__} reads no text")

    def load(self, weights: Weights) -> None:
        """Takes over pretrained weights: here those of a run; one with published weights takes these too.

        Raises ConfigError where they are of another network.
        """
        if not weights.native:
            raise ConfigError(f"the encoder {type(self).__name__} takes weights of a run alone", hint="--weights none")
        fill(self, weights.tensors(), weights.told)

    def bare(self) -> Encoder:
        """Without its last layer, `project`: features keep what stands before it, and are projected anew where they are used."""
        if isinstance(project := getattr(self, "project", None), nn.Sequential):
            self.project, self.dim = nn.Identity(), project[0].in_features
        return self

    def end(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """What stands after the features of `bare`: the `architecture` by which `encoders.embedding` builds it, and its state_dict.

        None where that is no projection of one Linear, with or without a LayerNorm.
        """
        project = getattr(self, "project", None)
        if not isinstance(project, nn.Sequential) or [type(part) for part in project] not in ([nn.Linear], [nn.Linear, nn.LayerNorm]):
            return None
        # Films and slices are pooled after they became features; what else is pooled was so before.
        pool = getattr(self, "pool", None) if self.reads == "image" else None
        parts = ("project.",) if pool is None else ("project.", "pool.")
        architecture = {"pool": getattr(pool, "kind", "mean"), "dim": project[0].out_features, "norm": len(project) > 1}
        return architecture, {name: tensor for name, tensor in self.state_dict().items() if name.startswith(parts)}

    def learnable(self) -> list[nn.Parameter]:
        """What training may change; all of it by default."""
        return list(self.parameters())

    def zero(self, vector: bool = False) -> Tensor:
        """[1, D]: the embedding of one zero step with mask True, which can stand for an absent sample (e(0) of OmniFuse).

        It has no key, so that dropout leaves it alone: the stand-in is the same for the whole step.
        """
        device = next(self.parameters()).device
        width = sum(self.input_dim) if self.reads == "embedding" and isinstance(self.input_dim, list) else self.input_dim
        shape = {"image": (1, 1, *np.atleast_1d(self.input_dim)), "text": (1, 1)}.get(self.reads, (1, width) if vector else (1, 1, width))
        values = torch.zeros(shape, device=device, dtype=torch.int64 if self.reads == "text" else torch.float32)
        return self(values, torch.ones(1, 1, dtype=torch.bool, device=device)).pooled


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
