"""What stands for the embedding of an absent modality (pin A13 of OmniFuse): encoder(0), zeros, or the training patients' mean.

The mean is over the training samples that possess the modality, measured anew after every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Term
from omnifuse.models.encoding import encode
from omnifuse.preprocess.schema import ConfigError

FILLS = ("encoder_zero", "zero", "mean")


class Filling(nn.Module):
    """Embeddings of all modalities for all samples."""

    def __init__(self, encoders: dict[str, Encoder], fill: str):
        super().__init__()
        if fill not in FILLS:
            raise ConfigError(f"unknown fill {fill!r}", hint=f"one of {', '.join(FILLS)}")
        self.fill = fill
        if fill == "mean":
            for modality, encoder in encoders.items():
                self.register_buffer(f"mean_{modality}", torch.zeros(1, encoder.dim))

    def forward(self, encoders: nn.ModuleDict, batch) -> list[Tensor]:
        """[B, D_m] of each modality, in the order of `encoders`."""
        return [self._filled(encoder, batch, modality) for modality, encoder in encoders.items()]

    def _filled(self, encoder: Encoder, batch, modality: str) -> Tensor:
        present = batch.present[:, batch.modalities.index(modality)]  # [B]
        pooled = encode(encoder, batch, modality).pooled  # [B, D], zeros where absent
        if self.fill == "zero" or bool(present.all()):
            return pooled
        if self.fill == "mean":
            stand_in = getattr(self, f"mean_{modality}")
        else:
            stand_in = encoder.zero(vector=batch.values[modality].ndim == 2)
        return torch.where(present[:, None], pooled, stand_in.to(pooled.dtype))

    def measure(self, encoders: nn.ModuleDict, context: Context) -> None:
        """The mean embeddings: at the start of a stage and after every epoch."""
        if self.fill != "mean":
            return
        places = list(enumerate(encoders.items()))

        def means(batch) -> dict[str, Term]:
            return {m: Term(encode(encoder, batch, m).pooled.float().sum(0), batch.present[:, i].sum()) for i, (m, encoder) in places}

        for modality, term in context.evaluate("train", means).items():
            getattr(self, f"mean_{modality}").copy_(term.mean)
