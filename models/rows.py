"""Films, slices, texts and records through an encoder: rows of each item, batch by batch.

What is kept: `pooled`, one row a film, slice, text or record; `tokens`, one a patch, moment or word piece; `levels`, one as `pooled`, the
masked means of all levels side by side; `raw`, what the encoder would read, for encoders that learn. Batches never reach over a block, so
that a block's rows depend on nothing but its items.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omnifuse.models import decoding, registry
from omnifuse.models.distributed import Processes
from omnifuse.models.encoding import Encoded, Encoder
from omnifuse.models.parts.texts import END
from omnifuse.models.weights import Weights
from omnifuse.preprocess.schema import ConfigError, NumericalError

KEEPS = ("pooled", "tokens", "levels", "raw")
RECIPE = 2  # of this module: what another recipe kept is made again
READS = {"image": "image", "volume": "image", "signal": "signal", "text": "text"}  # what an encoder must read of them
_SLICES = 8  # of a volume, about


@dataclass(frozen=True)
class Recipe:
    """What decides the rows, beside the items.

    Args:
        encoder: `name` and options.
        keep: one of KEEPS.
        dtype: what the encoder computes in, float32 or bfloat16.
    """

    encoder: dict[str, Any]
    weights: Weights | None
    keep: str
    dtype: torch.dtype = torch.float32

    def identity(self) -> dict[str, Any]:
        """As JSON. What is raw depends on no weights but those of a tokeniser, which come with them."""
        told = {"recipe": RECIPE, "keep": self.keep, "weights": self.weights and self.weights.digest}
        if self.keep == "raw":
            ended = {"ended": True} if registry.find("encoder", self.encoder["name"]).reads == "text" else {}  # with END after each
            return told | {"encoder": self.encoder["name"]} | ended
        return told | {"encoder": self.encoder, "dtype": str(self.dtype)}

    def build(self, items: Any) -> Encoder:
        """The encoder in eval mode, without its projection."""
        encoder = self.whole(items)
        encoder.gives_levels = self.keep == "levels"
        return encoder.bare().eval().requires_grad_(False)

    def whole(self, items: Any) -> Encoder:
        """The encoder with its weights, projection and all."""
        shape = list(items.shape) if items.reads in ("image", "volume") else items.shape[-1] if items.reads == "signal" else 0
        described = dict(self.encoder)
        if self.weights is not None and self.weights.architecture:
            described["architecture"] = self.weights.architecture
        encoder = registry.build_encoder(described, shape, 0, items.modality)
        if self.weights is not None:
            encoder.load(self.weights)
        return encoder


@dataclass(frozen=True)
class Means:
    """What it is done with; changes no row.

    Args:
        size: films, slices or records a batch.
        tokens: word pieces a batch, padding included.
        workers: processes that decode while the encoder runs; 0: none.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    size: int = 64
    tokens: int = 8192
    workers: int = 0
    processes: Processes = field(default_factory=Processes)


class Rows:
    """Items to rows, block by block."""

    def __init__(self, items: Any, recipe: Recipe, means: Means):
        self.items, self.recipe, self.means = items, recipe, means
        self.encoder: Encoder | None = None
        kind = registry.find("encoder", recipe.encoder["name"])
        if kind.reads != READS[items.reads]:
            told = f"the encoder {recipe.encoder['name']} reads {kind.reads}s, and the items of {items.modality} are {items.reads}s"
            raise ConfigError(told, hint=f"--encoder {items.modality}=NAME; omnifuse list encoders")
        if recipe.keep != "raw":
            self.encoder = cast_once(recipe.build(items).to(means.device), recipe.dtype)
        self.tokenise = kind.tokeniser(recipe.weights) if items.reads == "text" else None

    def blocks(self, blocks: list[tuple[int, np.ndarray]], bar: Any) -> Iterator[tuple[int, np.ndarray, list[int], list[str | None]]]:
        """(number, rows [R, *shape], rows of each item, why it has none)."""
        with torch.inference_mode():
            yield from self._texts(blocks, bar) if self.tokenise else self._decoded(blocks, bar)

    def _texts(self, blocks, bar):
        for number, numbers in blocks:
            pieces = self.tokenise([self.items.text(int(item)) for item in numbers])
            reasons: list[str | None] = [None if len(piece) else "is empty" for piece in pieces]
            rows: list[np.ndarray] = [np.append(piece, END).astype(np.int32) for piece in pieces]
            if self.encoder is not None:
                for batch in decoding.bucket([len(piece) for piece in pieces], self.means.tokens):
                    for place, found in zip(batch, self._encode(*decoding.pad([pieces[place] for place in batch]))):
                        rows[place] = found
                    bar.update(len(batch))
            else:
                bar.update(len(numbers))
            used = [row for row, reason in zip(rows, reasons) if reason is None]
            yield self._block(number, used, [0 if reason else len(row) for row, reason in zip(rows, reasons)], reasons)

    def _decoded(self, blocks, bar):
        """Whatever a worker reads next is already under way while the encoder runs."""
        size = max(1, self.means.size // (_SLICES if self.items.reads == "volume" else 1))
        packs = decoding.packs(self.items, blocks, size, self.means.workers)
        for number, numbers in blocks:
            rows, lengths, reasons = [], [], []
            while len(lengths) < len(numbers):
                pack = next(packs)
                reasons += pack.reasons
                found = [] if not len(pack.values) else self._rows(pack)
                rows += found
                sizes = iter([len(row) for row in found])
                lengths += [0 if reason else next(sizes) for reason in pack.reasons]
                bar.update(len(pack.reasons))
            yield self._block(number, rows, lengths, reasons)

    def _rows(self, pack: decoding.Pack) -> list[np.ndarray]:
        """Of each usable item of the pack, its rows."""
        lengths = [length for length in pack.lengths if length]
        if self.encoder is None:
            values = pack.values.numpy()
            values = values.astype(np.float16) if values.dtype.kind == "f" else values
            return np.split(values, np.cumsum(lengths)[:-1])
        if self.items.reads == "signal":
            return self._encode(*decoding.pad(np.split(pack.values.numpy(), np.cumsum(lengths)[:-1])))
        rows = []
        for start in range(0, len(pack.values), self.means.size):
            values = pack.values[start : start + self.means.size, None]  # [n, 1, C, H, W]: each slice is encoded by itself
            rows += self._encode(values, torch.ones(len(values), 1, dtype=torch.bool))
        bounds = np.cumsum([0, *lengths])
        return [np.concatenate(rows[low:high]) for low, high in itertools.pairwise(bounds)]

    def _encode(self, values: Tensor, mask: Tensor) -> list[np.ndarray]:
        """The rows [R, D] float16 of each of a batch's samples."""
        device = self.means.device
        with torch.autocast(device.type, self.recipe.dtype, enabled=self.recipe.dtype != torch.float32):
            found = self.encoder(values.to(device, non_blocking=True), mask.to(device, non_blocking=True))
        kept, real = _kept(found, self.recipe.keep)
        kept = kept.half().cpu()
        if not torch.isfinite(kept).all():
            raise NumericalError(f"the encoder {self.recipe.encoder['name']} gives NaN or infinity for items of {self.items.modality}")
        return [row[some].numpy() for row, some in zip(kept, real.cpu())]

    def _block(self, number: int, rows: list[np.ndarray], lengths: list[int], reasons: list[str | None]):
        if rows:
            return number, np.concatenate(rows), lengths, reasons
        return number, np.empty((0, *self._shape()), self._dtype()), lengths, reasons

    def _shape(self) -> tuple[int, ...]:
        if self.encoder is None:
            return () if self.tokenise else tuple(self.items.shape)
        width = {"pooled": self.encoder.dim, "tokens": self.encoder.token_dim, "levels": sum(self.encoder.level_dims)}
        return (width[self.recipe.keep],)

    def _dtype(self) -> np.dtype:
        if self.encoder is None:
            return np.dtype(np.int32) if self.tokenise else self.items.dtype if self.items.dtype.kind != "f" else np.dtype(np.float16)
        return np.dtype(np.float16)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes in it."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def cast_once(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network with the weights that autocast would copy at every batch kept in its type: the same numbers to the bit."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            module.to(dtype)
    return network


def _kept(found: Encoded, keep: str) -> tuple[Tensor, Tensor]:
    """[B, T, D] and which of them are real [B, T]."""
    if keep == "tokens":
        return found.tokens.float(), found.mask
    if keep == "pooled":
        kept = found.pooled
    else:
        kept = torch.cat([(tokens * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1) for tokens, real in found.levels], 1)
    return kept.float()[:, None], torch.ones(len(kept), 1, dtype=torch.bool)
