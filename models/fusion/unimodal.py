"""One modality alone: its encoder and a head (eq 9 of Wu et al. 2025). Its runs are the stage 1 that fusion methods start from.

Stage 1 takes at most 30 epochs with patience 5 and keeps its best epoch (pins A25, A27): heads that ran on became over-confident.

On features of an encoder that such a run has tuned for the same task it is that run, with its projection and its head, and nothing is
left to train: a head trained on features that know their training patients by heart is worse than the one they were tuned with.
"""

from __future__ import annotations

from torch import Tensor

from omnifuse.models.contract import Encoder, Group, Method, Output, Stage, build_head
from omnifuse.preprocess.schema import ConfigError


class Unimodal(Method):
    """logits = head(encoder(x)), for the samples that possess the modality."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        head: str = "mlp",
        hidden: int = 128,
        dropout: float = 0.3,
        epochs: int = 30,
        patience: int = 5,
    ):
        super().__init__(encoders, kind, outputs)
        if len(encoders) != 1:
            raise ConfigError(f"the method unimodal takes one modality, not {len(encoders)}", hint="--modalities ehr")
        self.head = build_head(head, self.encoders[self.modalities[0]].dim, outputs, hidden, dropout)
        self.epochs, self.patience, self.tuned = epochs, patience, False

    def stages(self) -> list[Stage]:
        if self.tuned:
            return [Stage("unimodal", [Group("all", [])], epochs=0)]
        return [Stage("unimodal", [Group("all", self.learnable())], epochs=self.epochs, patience=self.patience)]

    def take_head(self, tensors: dict[str, Tensor]) -> None:
        """Takes the head of the run that tuned the encoder, where it is one like its own."""
        mine = self.head.state_dict()
        if {name: tensor.shape for name, tensor in tensors.items()} == {name: tensor.shape for name, tensor in mine.items()}:
            self.head.load_state_dict(tensors)
            self.tuned = True

    def forward(self, batch) -> Output:
        return Output(self.head(self.encode(batch, self.modalities[0]).pooled, batch.key))

    def head_for(self, modality: str):
        return self.head
