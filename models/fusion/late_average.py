"""Late average: every modality answers alone, and the answers of those present are averaged. Nothing is fused in training.

    probability   p = mean_m p_m
    logit         l = mean_m l_m        (the product of experts, normalised)

Each encoder and head learns on its own loss over the samples that possess it; with stage-1 runs both start from there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Encoder, Method, Output, Stage, Term, build_head
from omnifuse.models.parts.truth import precise
from omnifuse.preprocess.schema import ConfigError


class LateAverage(Method):
    """A head a modality, averaged over those present."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        average: str = "probability",
        head: str = "mlp",
        hidden: int = 128,
        dropout: float = 0.3,
    ):
        super().__init__(encoders, kind, outputs)
        if average not in ("probability", "logit"):
            raise ConfigError(f"cannot average {average!r}", hint="probability or logit")
        self.average = average
        self.heads = nn.ModuleDict({name: build_head(head, encoder.dim, outputs, hidden, dropout) for name, encoder in encoders.items()})

    def forward(self, batch) -> Output:
        alone = [self.heads[name](self.encode(batch, name).pooled, batch.key) for name in self.modalities]
        alone = precise(torch.stack(alone, 1))  # [B, M, C]
        heads = alone.masked_fill(~batch.present[..., None], torch.nan).unbind(1)
        return Output(self._averaged(alone, batch.present), dict(zip(self.modalities, heads)), parts={"alone": alone})

    def _averaged(self, logits: Tensor, present: Tensor) -> Tensor:
        """[B, M, C] -> [B, C]."""
        absent = ~present[..., None]
        if self.average == "logit":
            return logits.masked_fill(absent, 0.0).sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        # A log of a sum of absent ones alone stays finite, and cancels below.
        pooled = lambda logs: torch.logsumexp(logs.masked_fill(absent, torch.finfo(logs.dtype).min / 2), 1)
        if self.kind == "multiclass":
            log_chance = pooled(torch.log_softmax(logits, 2))
            return log_chance - torch.logsumexp(log_chance, 1, keepdim=True)
        return pooled(F.logsigmoid(logits)) - pooled(F.logsigmoid(-logits))

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        terms = {"task": Term.of(*self.task_loss(output.logits, batch), weight=0.0)}
        for place, name in enumerate(self.modalities):
            loss, known = self.task_loss(output.parts["alone"][:, place], batch)
            terms[name] = Term.of(loss, known & batch.present[:, place])
        return terms

    def head_for(self, modality: str):
        return self.heads[modality]

    def start_from(self, modality: str, tensors: dict[str, Tensor]) -> None:
        """Takes over the head of the stage-1 run too."""
        super().start_from(modality, tensors)
        head = {name.removeprefix("head."): tensor for name, tensor in tensors.items() if name.startswith("head.")}
        try:
            self.heads[modality].load_state_dict(head)
        except RuntimeError:
            raise ConfigError(
                f"the stage-1 run of {modality} has another head", hint="the head, hidden and dropout of unimodal, or --init scratch"
            ) from None
