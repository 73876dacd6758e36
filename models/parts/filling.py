"""What stands for the embedding of an absent modality (pin A13 of OmniFuse): encoder(0), zeros, the training patients' mean, or v'.

    encoder_zero   the encoder of one zero step
    zero           zeros
    mean           of the training samples that possess the modality, measured anew after every epoch
    cra            what OmniFuse's cascades impute from the modalities that are present (parts/imputation.py), with the paper's K = 5

The cascades learn beside the method, from eq 7 and 8 alone and from what the task's loss asks of the slots they fill: they are shown
random combinations of what a sample possesses, the method is not, and no gradient of eq 7 and 8 reaches an encoder. A method adds
`terms` to its loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Term
from omnifuse.models.encoding import encode
from omnifuse.models.parts.choices import require_choice
from omnifuse.models.parts.imputer import Imputer, side_by_side
from omnifuse.models.parts.laziness import draw_combinations

FILLS = ("encoder_zero", "zero", "mean", "cra")


class Filling(nn.Module):
    """Embeddings of all modalities for all samples."""

    def __init__(self, encoders: dict[str, Encoder], fill: str):
        super().__init__()
        require_choice("fill", fill, FILLS)
        self.fill = fill
        self.imputer = Imputer(encoders, "fw/bw") if fill == "cra" and len(encoders) > 1 else None
        if fill == "mean":
            for modality, encoder in encoders.items():
                self.register_buffer(f"mean_{modality}", torch.zeros(1, encoder.dim))

    def forward(self, encoders: nn.ModuleDict, batch) -> list[Tensor]:
        """[B, D_m] of each modality, in the order of `encoders`."""
        pooled = [encode(encoder, batch, modality).pooled for modality, encoder in encoders.items()]  # zeros where absent
        if self.imputer is None:
            return [self._filled(encoders[m], batch, m, block) for m, block in zip(encoders, pooled)]
        v = side_by_side(pooled, _zeros(encoders, batch), batch.present)
        return list(self.imputer.fill(v, batch.present).filled.split(self.imputer.widths, 1))

    def _filled(self, encoder: Encoder, batch, modality: str, pooled: Tensor) -> Tensor:
        present = batch.present[:, batch.modalities.index(modality)]  # [B]
        if self.fill in ("zero", "cra") or bool(present.all()):
            return pooled
        if self.fill == "mean":
            stand_in = getattr(self, f"mean_{modality}")
        else:
            stand_in = encoder.zero(vector=batch.values[modality].ndim == 2)
        return torch.where(present[:, None], pooled, stand_in.to(pooled.dtype))

    def terms(self, encoders: nn.ModuleDict, batch) -> dict[str, Term]:
        """In training, what the cascades learn from; nothing where there are none."""
        if self.imputer is None or not self.training:
            return {}
        visible = draw_combinations(batch.present, batch.key)
        with torch.no_grad():
            shown = batch.hide(visible)
            pooled = [encode(encoder, shown, modality).pooled for modality, encoder in encoders.items()]
            v = side_by_side(pooled, _zeros(encoders, batch), visible)
        found = self.imputer.terms(self.imputer.fill(v, visible), batch, encoders)
        return {f"imputation/{name}": term for name, term in found.items()}

    def measure(self, encoders: nn.ModuleDict, context: Context) -> None:
        """At the start of a stage and after every epoch: the mean embeddings; the cascades' teacher, and how near they come to it."""
        if self.imputer is not None and context.epoch == 0:
            self.imputer.appoint(encoders, context)
        elif self.imputer is not None and context.stage.modalities is None:
            self.imputer.trace(encoders, context)
        if self.fill != "mean":
            return
        places = list(enumerate(encoders.items()))

        def means(batch) -> dict[str, Term]:
            return {m: Term(encode(encoder, batch, m).pooled.float().sum(0), batch.present[:, i].sum()) for i, (m, encoder) in places}

        for modality, term in context.evaluate("train", means).items():
            getattr(self, f"mean_{modality}").copy_(term.mean)


def _zeros(encoders: nn.ModuleDict, batch) -> list[Tensor]:
    """encoder(0) [1, D_m] of each modality."""
    return [encoder.zero(vector=batch.values[modality].ndim == 2) for modality, encoder in encoders.items()]
