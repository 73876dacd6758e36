"""Sum of embeddings, then one linear head (Wu et al. 2025); or the sum of one linear head a modality (Peng et al. 2022).

    embedding   l = W mean_m z_m + b
    logit       l = mean_m (W_m z_m + b_m)

A mean over what a sample possesses stands for the sum: with all present both are the same family of functions, and with some absent the
scale stays. With a `fill` other than zero, what stands for an absent modality counts as well.
"""

from __future__ import annotations

import torch
from torch import nn

from omnifuse.models.contract import Encoder, Output, build_head
from omnifuse.models.parts.joined import Filled
from omnifuse.preprocess.schema import ConfigError


class Sum(Filled):
    """The mean of embeddings or of logits."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, over: str = "embedding", fill: str = "zero"):
        super().__init__(encoders, kind, outputs, fill)
        widths = {name: encoder.dim for name, encoder in encoders.items()}
        if over not in ("embedding", "logit"):
            raise ConfigError(f"cannot sum over {over!r}", hint="embedding or logit")
        if over == "embedding" and len(set(widths.values())) > 1:
            told = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ConfigError(f"embeddings of different width cannot be summed ({told})", hint="the same encoder.*.dim, or over: logit")
        self.over = over
        if over == "embedding":
            self.head = build_head("linear", next(iter(widths.values())), outputs)
        else:
            self.heads = nn.ModuleDict({name: build_head("linear", width, outputs) for name, width in widths.items()})

    def forward(self, batch) -> Output:
        blocks = self.blocks(batch)  # [B, D] each
        counted = batch.present if self.filling.fill == "zero" else torch.ones_like(batch.present)  # [B, M]
        if self.over == "logit":
            blocks = [self.heads[name](block) for name, block in zip(self.modalities, blocks)]  # [B, C] each
        summed = torch.einsum("mbd,bm->bd", torch.stack(blocks), counted.to(blocks[0].dtype))
        mean = summed / counted.sum(1, keepdim=True).clamp(min=1)
        return Output(mean if self.over == "logit" else self.head(mean))

    def head_for(self, modality: str):
        return self.head if self.over == "embedding" else self.heads[modality]
