"""One-dimensional convolutions over signals of unequal length: what lies behind a signal's end is zero before every convolution.

So each moment of a short signal in a long batch is what it is alone, where a convolution pads with zeros itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d

EPS = 1e-5


class MaskedConv(nn.Module):
    """Convolution, then normalisation over all that is real of a sample (channels and moments); `stride` shortens the mask alike.

    Batch statistics would make a sample's output depend on its batch, and count what is padded.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv1d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.stride = stride
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, T], mask [B, T] -> [B, width, T'], [B, T'], T' = ceil(T / stride)."""
        x = self.convolution(x.masked_fill(~mask[:, None], 0.0))
        mask = shortened(mask, self.stride)
        return self._normalised(x, mask), mask

    def _normalised(self, x: Tensor, mask: Tensor) -> Tensor:
        real = mask[:, None]  # [B, 1, T]
        count = (mask.sum(1) * x.shape[1]).clamp(min=1)[:, None, None]
        mean = torch.where(real, x.float(), 0.0).sum((1, 2), keepdim=True) / count
        centred = torch.where(real, x.float() - mean, 0.0)
        variance = centred.square().sum((1, 2), keepdim=True) / count
        normal = (centred / (variance + EPS).sqrt()).to(x.dtype)
        return (normal * self.weight[:, None] + self.bias[:, None]).masked_fill(~real, 0.0)


def shortened(mask: Tensor, stride: int) -> Tensor:
    """mask [B, T] -> [B, ceil(T / stride)]: real where one of its `stride` moments is."""
    if stride == 1:
        return mask
    return max_pool1d(mask[:, None].float(), stride, ceil_mode=True)[:, 0] > 0
