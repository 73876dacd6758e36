"""Numbers of every step, averaged over an epoch: what a method traces of what it did between gradients and update."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EpochMean(nn.Module):
    """The mean of N numbers over steps; buffers, so that a resumed epoch counts the steps before it too."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("total", torch.zeros(size))
        self.register_buffer("steps", torch.zeros(size))

    def add(self, values: Tensor, known: Tensor | None = None) -> None:
        """values [N]; where `known` [N] is false the step says nothing."""
        known = torch.ones_like(self.steps, dtype=torch.bool) if known is None else known
        self.total += torch.where(known, values, 0.0).to(self.total.dtype)
        self.steps += known

    def take(self) -> list[float]:
        """The N means, NaN where no step said anything; counting begins anew."""
        means = (self.total / self.steps).tolist()
        self.total.zero_()
        self.steps.zero_()
        return means
