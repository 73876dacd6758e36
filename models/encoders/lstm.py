"""LSTM over a series: stacked one-layer LSTMs, so that the states of each layer are a level.

    h_l = LSTM_l(dropout(h_{l-1}));  pooled = LayerNorm(Linear(dropout(h_L at the last real step)))

Widths are pin A27 of OmniFuse: 2 x 256, projected to 128, dropout 0.3 on what each layer hands on. Tokens are the states of the last
layer before the projection. The series is padded on the right, where a forward LSTM cannot be reached by it: the last real state is
gathered. On CPU that is as fast as packing where lengths are equal, and many times faster where they are not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.preprocess.schema import ConfigError


class LSTM(Encoder):
    """Series [B, T, input_dim] to an embedding [B, dim]."""

    def __init__(self, input_dim: int, hidden: int = 256, layers: int = 2, dim: int = 128, dropout: float = 0.3):
        super().__init__()
        if not 1 <= layers <= MAX_LEVELS:
            raise ConfigError(f"an lstm encoder has 1 to {MAX_LEVELS} layers")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, hidden, (hidden,) * layers
        self.layers = nn.ModuleList(nn.LSTM(hidden if number else input_dim, hidden, batch_first=True) for number in range(layers))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(layers))
        self.project = nn.Sequential(nn.Linear(hidden, dim), nn.LayerNorm(dim))

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        states = values.masked_fill(~mask[..., None], 0.0)  # [B, T, input_dim]
        levels = []
        for number, layer in enumerate(self.layers):
            if number:
                states = self.dropouts[number - 1](states, key)
            states, _ = layer(states)  # [B, T, hidden]
            levels.append((states, mask))
        last = (mask.sum(1) - 1).clamp(min=0)  # [B]
        final = states[torch.arange(len(states), device=states.device), last]  # [B, hidden]
        pooled = self.project(self.dropouts[-1](final, key))  # [B, dim]
        return Encoded(pooled, states, mask, levels)
