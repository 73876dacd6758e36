"""SE-Gate: squeeze-and-excitation over the embeddings of all modalities, then one linear head.

    s = [z_1; ...; z_M; present]      h = relu(W_1 s)      g = sigmoid(W_2 h)      l = W (g * z) + b

No public code of the block that Wu et al. 2025 and Wang et al. 2020 compare with was found; this is Hu et al. 2018 on embeddings. Ours:
the mask is an input and an absent modality has gate 0, or, with a `fill` other than zero, what stands for it is gated as the others are;
gates begin at 0.88 (bias 2), for a half would begin with half the signal; a modality alone has no gate. Gates are traced, and are no
attribution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Encoder, Output
from omnifuse.models.parts.choices import require_choice
from omnifuse.models.parts.joined import Filled
from omnifuse.models.parts.joint import Joint

GATES = ("channel", "modality")
OPEN = 2.0  # bias of the gates at the start


class SEGate(Filled):
    """One gate a channel, or one a modality."""

    def __init__(
        self, encoders: dict[str, Encoder], kind: str, outputs: int, gate: str = "channel", reduction: int = 16, fill: str = "zero"
    ):
        super().__init__(encoders, kind, outputs, fill)
        require_choice("gate", gate, GATES)
        widths = [encoder.dim for encoder in encoders.values()]
        self.gate, self.head = gate, Joint(widths, outputs)
        if len(widths) > 1:
            hidden = max(sum(widths) // reduction, 8)
            self.squeeze = nn.Linear(sum(widths) + len(widths), hidden)
            self.excite = nn.Linear(hidden, sum(widths) if gate == "channel" else len(widths))
            nn.init.constant_(self.excite.bias, OPEN)

    def forward(self, batch) -> Output:
        blocks = self.blocks(batch)  # [B, D_m] each
        if len(blocks) == 1:
            return Output(self.head(blocks))
        gates = self._gates(blocks, batch.present)
        traces = {
            f"gate/{name}": gate.float().mean(1).masked_fill(~there, torch.nan)
            for name, gate, there in zip(self.modalities, gates, batch.present.T)
        }
        weights = torch.cat(gates, 1).float() if self.gate == "modality" and not self.training else None
        return Output(self.head([gate * block for gate, block in zip(gates, blocks)]), traces=traces, weights=weights)

    def _gates(self, blocks: list[Tensor], present: Tensor) -> list[Tensor]:
        """[B, D_m] of each modality, or [B, 1]; 0 where it is absent and nothing stands for it."""
        squeezed = F.relu(self.squeeze(torch.cat([*blocks, present.to(blocks[0].dtype)], 1)))
        gates = torch.sigmoid(self.excite(squeezed))
        widths = self.head.widths if self.gate == "channel" else [1] * len(blocks)
        gates = gates.split(widths, dim=1)
        return [gate * there[:, None] for gate, there in zip(gates, present.T)] if self.filling.fill == "zero" else list(gates)

    def head_for(self, modality: str):
        """The slice of the head, ungated."""
        place = self.modalities.index(modality)
        return lambda pooled, key=None: self.head.slice(place, pooled)
