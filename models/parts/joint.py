"""One linear head on embeddings side by side, whose slices speak for single modalities without heads of their own.

    l = W [z_1; ...; z_M] + b        l_m = W[:, block m] z_m + b / M        so that l = sum_m l_m

Source: OGM-GE (Peng et al., CVPR 2022) reads the confidence of each modality off its slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Joint(nn.Linear):
    """A linear head on M embeddings of the given widths."""

    def __init__(self, widths: Sequence[int], outputs: int):
        super().__init__(sum(widths), outputs)
        self.widths = list(widths)

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """M embeddings [B, D_m] -> [B, C]."""
        return super().forward(torch.cat([*blocks], 1))

    def slice(self, place: int, block: Tensor) -> Tensor:
        """[B, D_m] of the modality at `place` -> [B, C], with its share of the bias."""
        return F.linear(block, self.weight.split(self.widths, dim=1)[place], self.bias / len(self.widths))

    def slices(self, blocks: Sequence[Tensor]) -> Tensor:
        """M embeddings [B, D_m] -> [B, M, C]."""
        return torch.stack([self.slice(place, block) for place, block in enumerate(blocks)], 1)
