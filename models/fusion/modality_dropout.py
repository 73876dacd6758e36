"""Modality dropout: concatenation that learns with modalities hidden at random, so that no head can lean on one alone.

Every modality that a sample possesses is hidden with chance `rate`, drawn from the sample's key, never all of them: where all would be,
the one with the largest draw stays. At validation and test nothing is hidden. Source: Neverova et al. 2016 (ModDrop).
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnifuse.models.contract import Encoder, Output
from omnifuse.models.parts import keyed
from omnifuse.models.parts.joined import Joined


class ModalityDropout(Joined):
    """One linear layer over all modalities, some of them hidden in training."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, rate: float = 0.3, fill: str = "encoder_zero"):
        super().__init__(encoders, kind, outputs, fill)
        self.rate = rate

    def forward(self, batch) -> Output:
        if self.training:
            batch = batch.hide(self._visible(batch.key, batch.present))
        return super().forward(batch)

    def _visible(self, key: Tensor, present: Tensor) -> Tensor:
        """[B, M]: what stays of what is present."""
        draw = keyed.uniform(key, "modality dropout", (present.shape[1],)).masked_fill(~present, -1.0)
        stays = present & (draw >= self.rate)
        largest = draw == draw.amax(1, keepdim=True)
        return torch.where(stays.any(1, keepdim=True), stays, present & largest)
