"""The cascades of a method, forward and backward, with the frozen teacher that tells them what is missing (pins A1-A4, A15).

The teacher is the encoders as they stand when the stage begins: those of the unimodal runs, each at its own best epoch. It is never in
train mode, and an encoder that learns nothing is its own teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Term
from omnifuse.models.encoding import encode
from omnifuse.models.parts import imputation
from omnifuse.models.parts import imputation_quality as quality
from omnifuse.models.parts.first_weights import drawn_apart


class Imputer(nn.Module):
    """v' for what is missing, and the losses it learns from.

    Args:
        direction: `fw` learns eq 7, `bw` eq 8 alone, `fw/bw` both.
        target, reduction: see imputation_slots and slot_errors.
        backward_weight: lambda 1 of eq 18.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        direction: str,
        *,
        blocks: int = 5,
        latent: int = imputation.LATENT,
        transition: bool = False,
        target: str = "complement",
        reduction: str = "mean",
        backward_weight: float = 1.0,
    ):
        super().__init__()
        self.target, self.reduction = target, reduction
        self.forward_weight, self.backward_weight = 1.0 if "fw" in direction else 0.0, backward_weight
        self.modalities, self.widths = tuple(encoders), [encoder.dim for encoder in encoders.values()]
        with drawn_apart("forward_cascade"):
            self.forward_cascade = imputation.Cascade(sum(self.widths), blocks, latent, transition)
        self.backward_cascade = None
        if "bw" in direction:
            with drawn_apart("backward_cascade"):
                self.backward_cascade = imputation.Cascade(sum(self.widths), blocks, latent, transition)
        self.teachers = nn.ModuleDict({m: copy.deepcopy(encoder) for m, encoder in encoders.items() if encoder.learnable()})
        self.teachers.frozen = True
        for modality, width in zip(self.modalities, self.widths):
            for name in ("zero", "mean"):
                self.register_buffer(f"{name}_{modality}", torch.zeros(1, width))
        self.register_buffer("controls", torch.full((len(self.widths), len(quality.CONTROLS)), torch.nan))

    def train(self, mode: bool = True):
        super().train(mode)
        self.teachers.eval()
        return self

    @property
    def latent_dim(self) -> int:
        return self.forward_cascade.latent_dim

    def fill(self, v: Tensor, visible: Tensor) -> imputation.Slots:
        """Eq 4, 5 and v~ (pin A11) from v [B, D], where `visible` [B, M] tells what is there."""
        imputed, latents = self.forward_cascade(v)
        seen = torch.cat([here.expand(-1, width) for here, width in zip(visible.split(1, 1), self.widths)], 1)  # [B, D]
        return imputation.Slots(v, imputed, latents, torch.where(seen, v, imputed), visible, torch.ones_like(visible))

    def terms(self, slots: imputation.Slots, batch, encoders: nn.ModuleDict) -> dict[str, Term]:
        """Eq 7 and 8; without a weight eq 7 is only looked at."""
        hidden = batch.present & ~slots.visible
        compared = imputation.imputation_slots(slots.visible, hidden, self.target)
        errors = lambda found, wanted: imputation.slot_errors(found, wanted, self.widths, self.reduction)
        term = lambda values, weight: imputation.imputation_term(values, compared, weight, self.reduction)
        imputed = slots.imputed if self.forward_weight else slots.imputed.detach()
        terms = {"forward": term(errors(imputed, self.complement(batch, hidden, encoders)), self.forward_weight)}
        if self.backward_cascade is not None:
            back, _ = self.backward_cascade(slots.imputed)
            terms["backward"] = term(errors(back, slots.v.detach()), self.backward_weight)
        return terms

    @torch.no_grad()
    def complement(self, batch, hidden: Tensor, encoders: nn.ModuleDict) -> Tensor:
        """v_hat of eq 3 [B, D]: the teacher's embedding of what is hidden [B, M], its encoder(0) of all else."""
        batch, blocks = batch.hide(hidden), []
        for modality, there in zip(self.modalities, hidden.split(1, 1)):
            pooled = encode(self._teacher(modality, encoders), batch, modality).pooled
            blocks.append(torch.where(there, pooled, getattr(self, f"zero_{modality}")))
        return torch.cat(blocks, 1)

    def _teacher(self, modality: str, encoders: nn.ModuleDict) -> Encoder:
        return self.teachers[modality] if modality in self.teachers else encoders[modality]

    @property
    def means(self) -> list[Tensor]:
        """[1, D_m] the mean of what the teacher says of the training patients."""
        return [getattr(self, f"mean_{modality}") for modality in self.modalities]

    def appoint(self, encoders: nn.ModuleDict, context: Context) -> None:
        """Makes the encoders, as they are now, the teacher, and measures what controls can do."""
        for modality, teacher in self.teachers.items():
            teacher.load_state_dict(encoders[modality].state_dict())
        for name, term in context.evaluate("train", lambda batch: self._measure_teachers(batch, encoders)).items():
            getattr(self, name).copy_(term.mean)
        teach = lambda batch: self.complement(batch, batch.present, encoders)
        self.controls.copy_(quality.compute_controls(context, self.widths, self.means, teach))

    def _measure_teachers(self, batch, encoders: nn.ModuleDict) -> dict[str, Term]:
        terms = {}
        for place, modality in enumerate(self.modalities):
            teacher, one = self._teacher(modality, encoders), torch.ones((), device=batch.present.device)
            terms[f"zero_{modality}"] = Term(teacher.zero(vector=batch.values[modality].ndim == 2).float(), one)
            pooled = encode(teacher, batch, modality).pooled.float()
            terms[f"mean_{modality}"] = Term(pooled.sum(0, keepdim=True), batch.present[:, place].sum())
        return terms

    def measure(self, batch, pooled: list[Tensor], zeros: list[Tensor], encoders: nn.ModuleDict) -> dict[str, Term]:
        """How near the imputed embedding of each modality comes to the teacher's, where it is known and hidden for this.

        Args:
            pooled, zeros: [B, D_m] and [1, D_m] of each modality.
        """
        taught, terms = self.complement(batch, batch.present, encoders).split(self.widths, 1), {}
        for place, (modality, mean) in enumerate(zip(self.modalities, self.means)):
            rows = quality.others_known(batch.present, place)
            visible = batch.present[rows]
            visible[:, place] = False
            v = side_by_side([z[rows] for z in pooled], zeros, visible)
            found = self.fill(v, visible).imputed.split(self.widths, 1)[place]
            measured = quality.agreement(found, taught[place][rows], mean)
            terms |= {f"imputation/{modality}/{name}": term for name, term in measured.items()}
        return terms

    def trace(self, encoders: nn.ModuleDict, context: Context) -> None:
        """What is imputed on val, beside the controls."""

        def measure(batch) -> dict[str, Term]:
            pooled = [encode(encoder, batch, modality).pooled for modality, encoder in encoders.items()]
            zeros = [encoder.zero(vector=batch.values[modality].ndim == 2) for modality, encoder in encoders.items()]
            return self.measure(batch, pooled, zeros, encoders)

        for name, term in context.evaluate("val", measure).items():
            context.trace(name, float(term.mean))
        for modality, row in zip(self.modalities, self.controls.tolist()):
            for name, value in zip(quality.CONTROLS, row):
                context.trace(f"imputation/{modality}/{name}", value)


def side_by_side(pooled: list[Tensor], zeros: list[Tensor | None], visible: Tensor) -> Tensor:
    """v of eq 2 [B, D]: the embeddings [B, D_m] where `visible` [B, M] says so, else encoder(0) [1, D_m]; None needs none."""
    there = visible.split(1, 1)
    return torch.cat([z if zero is None else torch.where(here, z, zero) for z, zero, here in zip(pooled, zeros, there)], 1)
