"""Mask only: a logistic regression on which modalities are present, and nothing of what they hold.

What it reaches is what informative missingness alone is worth: a fusion that is told which modalities are absent (zeros tell it) may
have learned no more. With one modality, which every sample possesses, it is the base rate.
"""

from __future__ import annotations

from omnifuse.models.contract import Encoder, Group, Method, Output, Stage, build_head


class MaskOnly(Method):
    """logits = W present + b; the encoders are not asked."""

    blind = True

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int):
        super().__init__(encoders, kind, outputs)
        self.head = build_head("linear", len(encoders), outputs)

    def stages(self) -> list[Stage]:
        return [Stage("fusion", [Group("head", list(self.head.parameters()))])]

    def forward(self, batch) -> Output:
        return Output(self.head(batch.present.to(self.head.weight.dtype)))  # [B, M] -> [B, C]

    def head_for(self, modality: str):
        """What is said of samples that possess this modality alone."""
        place = self.modalities.index(modality)
        return lambda pooled, key=None: (self.head.weight[:, place] + self.head.bias).expand(len(pooled), -1)
