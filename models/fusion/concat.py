"""Concatenation: one linear head on the embeddings side by side. Row (a) of Table 4 of Wu et al. 2025 (pin A12).

    l = W [z_1; ...; z_M] + b

What stands for an absent z_m is an option (pin A13, parts/filling.py).
"""

from __future__ import annotations

from omnifuse.models.contract import Context, Encoder, Method, Output, Stage, Term
from omnifuse.models.parts.filling import Filling
from omnifuse.models.parts.joint import Joint


class Concat(Method):
    """One linear layer over all modalities."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, fill: str = "encoder_zero"):
        super().__init__(encoders, kind, outputs)
        self.filling, self.head = Filling(encoders, fill), Joint([encoder.dim for encoder in encoders.values()], outputs)

    def forward(self, batch) -> Output:
        return Output(self.head(self.filling(self.encoders, batch)))  # [B, D_m] each -> [B, C]

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        return super().loss(output, batch, stage) | self.filling.terms(self.encoders, batch)

    def head_for(self, modality: str):
        """The head's slice for one modality, with its share of the bias."""
        place = self.modalities.index(modality)
        return lambda pooled, key=None: self.head.slice(place, pooled)

    def begin_stage(self, context: Context) -> None:
        self.filling.measure(self.encoders, context)

    def after_epoch(self, context: Context) -> None:
        self.filling.measure(self.encoders, context)
