"""Randomness that belongs to a sample: the same numbers whatever batch, process, worker or resumed run it meets them in.

A batch carries `key` [B], drawn from (seed, epoch, sample_id). From it and a name each place in a model draws numbers of its own, by
hashing (key, name, element): no generator is stepped, so nothing has to be saved or kept in step between processes.

Source: the mixing steps are those of lowbias32 (Wellons, hash-prospector), with the second half of the key folded in between.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn


def number(*names: object) -> int:
    """A whole number below 2**63 of a few names and numbers: seeds of seeds."""
    digest = hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def bits(key: Tensor, name: str | int, shape: tuple[int, ...] = ()) -> Tensor:
    """[B, *shape] int32, every value equally likely; element e of sample b is a function of (key[b], name, e)."""
    salt = name if isinstance(name, int) else number(name)
    low, high = ((half & 0xFFFFFFFF).to(torch.int32) for half in (key ^ salt, (key >> 32) ^ (salt >> 31)))  # [B]
    element = torch.arange(math.prod(shape), dtype=torch.int32, device=key.device).mul_(_signed(0x9E3779B9))
    x = low[:, None] + element  # [B, E]
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(0x21F0AAAD)
    x.bitwise_xor_(high[:, None])
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(0xD35A2D97))
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF))
    return x.reshape(len(key), *shape)


def uniform(key: Tensor, name: str | int, shape: tuple[int, ...] = ()) -> Tensor:
    """[B, *shape] float32 in [0, 1)."""
    return (bits(key, name, shape) >> 8).bitwise_and_(0xFFFFFF).float() / (1 << 24)


class Dropout(nn.Module):
    """Dropout whose mask belongs to the sample. Its name in the model (`salt`, set when the model is built) tells places apart."""

    def __init__(self, p: float):
        super().__init__()
        self.p, self.salt = p, 0

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """x [B, ...]; without a key nothing is dropped, as in eval mode."""
        if not self.training or self.p == 0 or key is None:
            return x
        keep = bits(key, self.salt, tuple(x.shape[1:])) >= round(self.p * (1 << 32)) - (1 << 31)
        return x * keep / (1 - self.p)


def name_dropouts(model: nn.Module) -> None:
    """Gives every keyed Dropout of a model its own numbers, by its name."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.salt = number(name)
