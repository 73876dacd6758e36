"""MedFuse: the embeddings of the modalities a sample possesses, one after the other, through an LSTM (Hayat et al., MLHC 2022).

    v_m = z_m of the first modality, W_m z_m of the others          + a learned vector a modality (ours)
    h   = last state of LSTM(v of those present, in order)          l = W h + b

The paper has two modalities, of which the first is never absent. For more (ours): the order is fixed and told (`order`; the last one
present weighs most), those present close up, none is required, and a learned vector stands for a sample without any. Absent modalities
are not encoded: a zero film put through a ResNet in train mode would get into its batch statistics.

The public loader draws a stay without a film at random for every index, so that a fifth of the tested stays are doubles and no two
evaluations agree. Here a part's samples, paired or not, are read once each in every epoch (preprocess/dataset.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Encoder, Method, Output, build_head
from omnifuse.preprocess.schema import ConfigError, nearest


class MedFuse(Method):
    """An LSTM over present modalities, and a linear head on its last state."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        order: list[str] | None = None,
        hidden: int = 512,
        type_embedding: bool = True,
    ):
        super().__init__(encoders, kind, outputs)
        self.order = _require_order(order or [], self.modalities)
        anchor, *others = self.order
        self.dim = encoders[anchor].dim
        self.project = nn.ModuleDict({name: nn.Linear(encoders[name].dim, self.dim) for name in others})
        self.types = nn.Parameter(torch.randn(len(encoders), self.dim) * 0.02) if type_embedding else None
        self.nothing = nn.Parameter(torch.randn(self.dim) * 0.02)
        self.lstm = nn.LSTM(self.dim, hidden, batch_first=True)
        self.head = build_head("linear", hidden, outputs)

    def forward(self, batch) -> Output:
        tokens = [self._token(name, self.encode(batch, name).pooled) for name in self.order]
        present = batch.present[:, [self.modalities.index(name) for name in self.order]]  # [B, M], as ordered
        return Output(self.fuse(torch.stack(tokens, 1), present))

    def _token(self, name: str, pooled: Tensor) -> Tensor:
        token = self.project[name](pooled) if name in self.project else pooled
        return token if self.types is None else token + self.types[self.order.index(name)]

    def fuse(self, tokens: Tensor, present: Tensor) -> Tensor:
        """tokens [B, M, d] and present [B, M], in order -> [B, C]. An absent one's token changes nothing."""
        front = (~present).int().argsort(dim=1, stable=True)  # those present first, their order kept
        length = present.sum(1)  # [B]
        tokens = tokens.gather(1, front[..., None].expand_as(tokens))
        first = torch.where((length == 0)[:, None], self.nothing.to(tokens.dtype), tokens[:, 0])
        states, _ = self.lstm(torch.cat([first[:, None], tokens[:, 1:]], 1))  # [B, M, H]
        # The state after the last real one; what follows it cannot reach back.
        last = (length - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
        return self.head(states.gather(1, last)[:, 0])

    def head_for(self, modality: str):
        """The sequence of this modality alone."""

        def alone(pooled: Tensor, key: Tensor | None = None) -> Tensor:
            return self.fuse(self._token(modality, pooled)[:, None], torch.ones(len(pooled), 1, dtype=torch.bool, device=pooled.device))

        return alone


def _require_order(order: list[str], modalities: tuple[str, ...]) -> list[str]:
    """Every modality once; no order is that of --modalities."""
    for name in order:
        if name not in modalities:
            raise ConfigError(f"order names {name!r}, which is no modality of this run", hint=nearest(name, modalities))
    if order and sorted(order) != sorted(modalities):
        raise ConfigError("order must name every modality of this run once", hint=f"order: [{', '.join(modalities)}]")
    return order or list(modalities)
