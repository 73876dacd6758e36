"""Concatenation: one linear head on the embeddings side by side. Row (a) of Table 4 of Wu et al. 2025 (pin A12).

    l = W [z_1; ...; z_M] + b

What stands for an absent z_m is an option (pin A13): encoder(0), zeros, or the mean embedding of the training patients that possess m,
measured anew after every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from omnifuse.models.contract import Context, Encoder, Method, Output, Term, build_head
from omnifuse.preprocess.schema import ConfigError

FILLS = ("encoder_zero", "zero", "mean")


class Concat(Method):
    """One linear layer over all modalities."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, fill: str = "encoder_zero"):
        super().__init__(encoders, kind, outputs)
        if fill not in FILLS:
            raise ConfigError(f"unknown fill {fill!r}", hint=f"one of {', '.join(FILLS)}")
        self.fill, self.widths = fill, [encoder.dim for encoder in encoders.values()]
        self.head = build_head("linear", sum(self.widths), outputs)
        if fill == "mean":
            for modality, encoder in encoders.items():
                self.register_buffer(f"mean_{modality}", torch.zeros(1, encoder.dim))

    def forward(self, batch) -> Output:
        blocks = [self._filled(batch, modality, present) for modality, present in zip(self.modalities, batch.present.T)]
        return Output(self.head(torch.cat(blocks, 1)))  # [B, M * D] -> [B, C]

    def _filled(self, batch, modality: str, present: Tensor) -> Tensor:
        pooled = self.encode(batch, modality).pooled  # [B, D], zeros where absent
        if self.fill == "zero" or bool(present.all()):
            return pooled
        if self.fill == "mean":
            stand_in = getattr(self, f"mean_{modality}")
        else:
            stand_in = self.encoders[modality].zero(vector=batch.values[modality].ndim == 2)
        return torch.where(present[:, None], pooled, stand_in)

    def head_for(self, modality: str):
        """The head's slice for one modality, with its share of the bias."""
        place = self.modalities.index(modality)
        weight = self.head.weight.split(self.widths, dim=1)[place]
        return lambda pooled, key=None: F.linear(pooled, weight, self.head.bias / len(self.widths))

    def begin_stage(self, context: Context) -> None:
        self._measure(context)

    def after_epoch(self, context: Context) -> None:
        self._measure(context)

    def _measure(self, context: Context) -> None:
        """The mean embedding of each modality over the training samples that possess it."""
        if self.fill != "mean":
            return
        places = list(enumerate(self.modalities))
        found = context.evaluate(
            "train", lambda batch: {m: Term(self.encode(batch, m).pooled.float().sum(0), batch.present[:, i].sum()) for i, m in places}
        )
        for modality, term in found.items():
            getattr(self, f"mean_{modality}").copy_(term.mean)
