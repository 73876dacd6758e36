"""A one-dimensional residual network over signals (ECG leads, waveforms): the outputs of its stages are the levels.

    stem: convolution of 15 moments, every second kept;  stage l: two residual blocks of 7 moments, every second kept, width 16 * 2^l
    pooled = LayerNorm(Linear(dropout([mean, max] over the last stage)))

Source: the layout of He et al. 2016 in one dimension, as Ribeiro et al. 2020 (12-lead ECG) and Hannun et al. 2019 have it; widths are
ours. After four stages a token stands for 32 moments, a third of a second at 100 Hz; for 500 Hz `stride` is better 4.

Differs: normalisation over a signal's own real moments stands for batch normalisation (parts/masked_conv.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.masked_conv import MaskedConv, shortened
from omnifuse.models.parts.pooling import masked_mean, projection
from omnifuse.preprocess.schema import ConfigError

BLOCKS = 2  # a stage


class ResNet1d(Encoder):
    """Signals [B, T, input_dim] to an embedding [B, dim].

    Args:
        width: channels of the first stage, doubled by each further one.
        stride: each stage keeps every n-th moment.
    """

    reads = "signal"

    def __init__(
        self, input_dim: int, width: int = 16, stages: int = 4, stride: int = 2, kernel: int = 7, dim: int = 128, dropout: float = 0.3
    ):
        super().__init__()
        if not 1 <= stages <= MAX_LEVELS:
            raise ConfigError(f"a resnet1d encoder has 1 to {MAX_LEVELS} stages")
        if kernel % 2 == 0:
            raise ConfigError("the kernel of a resnet1d encoder is odd", hint=f"kernel={kernel + 1}")
        widths = [width * 2**stage for stage in range(stages)]
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, widths[-1], tuple(widths)
        self.stem = MaskedConv(input_dim, width, 15, 2)
        self.stages = nn.ModuleList(_Stage(below, wide, kernel, stride) for below, wide in zip([width, *widths], widths))
        self.dropout, self.project = Dropout(dropout), projection(2 * widths[-1], dim)

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        x = values.masked_fill(~mask[..., None], 0.0).transpose(1, 2)  # [B, L, T]
        x, real = self.stem(x, mask)
        x, levels = torch.relu(x), []
        for stage in self.stages:
            x, real = stage(x, real)
            levels.append((x.transpose(1, 2), real))  # [B, T_l, D_l]
        tokens = levels[-1][0]
        highest = tokens.masked_fill(~real[..., None], torch.finfo(tokens.dtype).min).amax(1)
        highest = highest.masked_fill(~real.any(1, keepdim=True), 0.0)
        pooled = torch.cat([masked_mean(tokens, real), highest], 1)  # [B, 2 * D_L]
        return Encoded(self.project(self.dropout(pooled, key)), tokens, real, levels)


class _Stage(nn.Module):
    """Residual blocks; the first shortens and widens, and so does what goes past it."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int):
        super().__init__()
        self.stride = stride
        self.past = nn.Conv1d(channels, width, 1, bias=False)
        self.first = nn.ModuleList(MaskedConv(below, width, kernel, s) for below, s in [(channels, stride)] + [(width, 1)] * (BLOCKS - 1))
        self.second = nn.ModuleList(MaskedConv(width, width, kernel) for _ in range(BLOCKS))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for number, (first, second) in enumerate(zip(self.first, self.second)):
            inner, real = first(x, mask)
            inner, _ = second(torch.relu(inner), real)
            past = x if number else self.past(_thinned(x, mask, self.stride))
            x, mask = torch.relu(past + inner).masked_fill(~real[:, None], 0.0), real
        return x, mask


def _thinned(x: Tensor, mask: Tensor, stride: int) -> Tensor:
    """x [B, C, T] -> [B, C, ceil(T / stride)]: the mean of each `stride` moments that are real."""
    if stride == 1:
        return x
    count = torch.nn.functional.avg_pool1d(mask[:, None].to(x.dtype), stride, ceil_mode=True)
    total = torch.nn.functional.avg_pool1d(x.masked_fill(~mask[:, None], 0.0), stride, ceil_mode=True)
    return total / count.clamp(min=1e-6) * shortened(mask, stride)[:, None]
