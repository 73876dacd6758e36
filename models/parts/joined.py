"""What methods over whole sets of embeddings share: something stands where a modality is absent, and, of most, one linear head reads all.

Filled   embeddings of every modality for every sample (parts/filling.py); what fills in learns and is measured along the way
Joined   and one linear head over them (parts/joint.py), whose slices speak for single modalities: concatenation, as it is
"""

from __future__ import annotations

from torch import Tensor

from omnifuse.models.contract import Context, Encoder, Method, Output, Stage, Term
from omnifuse.models.parts.filling import Filling
from omnifuse.models.parts.joint import Joint


class Filled(Method):
    """Args: `fill`, what stands for an absent modality (parts/filling.py)."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, fill: str):
        super().__init__(encoders, kind, outputs)
        self.filling = Filling(encoders, fill)

    def blocks(self, batch) -> list[Tensor]:
        """[B, D_m] of each modality."""
        return self.filling(self.encoders, batch)

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        return super().loss(output, batch, stage) | self.filling.terms(self.encoders, batch)

    def begin_stage(self, context: Context) -> None:
        self.filling.measure(self.encoders, context)

    def after_epoch(self, context: Context) -> None:
        self.filling.measure(self.encoders, context)


class Joined(Filled):
    """The output's part `blocks` holds the embeddings that the head read."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, fill: str):
        super().__init__(encoders, kind, outputs, fill)
        self.head = Joint([encoder.dim for encoder in encoders.values()], outputs)

    def forward(self, batch) -> Output:
        blocks = self.blocks(batch)
        return Output(self.head(blocks), parts={"blocks": blocks})

    def head_for(self, modality: str):
        """The head's slice for one modality, with its share of the bias."""
        place = self.modalities.index(modality)
        return lambda pooled, key=None: self.head.slice(place, pooled)
