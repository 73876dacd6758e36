"""From many vectors to one: over the steps of a series, the slices of a volume, the films of a patient, the words of a text.

What the mask leaves out reaches nothing: neither the result nor a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from omnifuse.preprocess.schema import ConfigError

POOLS = ("mean", "attention", "last")


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """x [B, T, D], mask [B, T] -> [B, D]; zeros where nothing is real."""
    x = x.masked_fill(~mask[..., None], 0.0)
    return x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def last_real(x: Tensor, mask: Tensor) -> Tensor:
    """x [B, T, D], mask [B, T] -> [B, D]: the last of each that is real; zeros where nothing is."""
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask  # [B, T]
    place, last = places.max(1)
    return x[torch.arange(len(x), device=x.device), last].masked_fill((place == 0)[:, None], 0.0)


class Attention(nn.Module):
    """A weighted mean whose weights are learned: w = softmax(v . (tanh(Ux) * sigmoid(Wx))).

    Source: gated attention of Ilse et al. 2018 (Attention-based Deep Multiple Instance Learning, eq 9). v begins at zero, so that the
    first answer is the plain mean.
    """

    def __init__(self, dim: int, hidden: int = 64):
        super().__init__()
        self.value, self.gate, self.score = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, D], mask [B, T] -> [B, D]; zeros where nothing is real."""
        x = x.masked_fill(~mask[..., None], 0.0)
        score = self.score(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))[..., 0].float()  # [B, T]
        score = score.masked_fill(~mask, torch.finfo(score.dtype).min)
        weight = torch.softmax(score, 1) * mask
        return torch.einsum("bt,btd->bd", weight.to(x.dtype), x)


class Pool(nn.Module):
    """`mean`, `attention` or `last` over what is real."""

    def __init__(self, kind: str, dim: int):
        super().__init__()
        if kind not in POOLS:
            raise ConfigError(f"unknown pooling {kind!r}", hint=f"one of {', '.join(POOLS)}")
        self.kind = kind
        if kind == "attention":
            self.attention = Attention(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, D], mask [B, T] -> [B, D]."""
        if self.kind == "attention":
            return self.attention(x, mask)
        return masked_mean(x, mask) if self.kind == "mean" else last_real(x, mask)


def projection(size: int, dim: int, norm: bool = True) -> nn.Sequential:
    """LayerNorm(Linear(x)): what ends an encoder (pin A27 of OmniFuse), drawn anew whatever the weights. Few go without `norm`."""
    return nn.Sequential(nn.Linear(size, dim), *([nn.LayerNorm(dim)] if norm else []))


def grid_tokens(maps: Tensor, side: int) -> Tensor:
    """Maps [N, D, H, W] as tokens [N, T, D], row by row, averaged to at most side x side."""
    height, width = maps.shape[-2:]
    target = min(height, side), min(width, side)
    if (height, width) != target:
        # avg_pool2d has a deterministic gradient on the GPU, adaptive_avg_pool2d has none.
        even = height % target[0] == 0 and width % target[1] == 0
        maps = avg_pool2d(maps, (height // target[0], width // target[1])) if even else adaptive_avg_pool2d(maps, target)
    return maps.flatten(2).transpose(1, 2)
