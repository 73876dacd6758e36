"""Fully connected layers over a vector: tabular columns, one row a sample. Over a series it reads the masked mean of the rows.

h_l = ReLU(Linear(dropout(h_{l-1})));  pooled = LayerNorm(Linear(dropout(h_L)))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.preprocess.schema import ConfigError


class MLP(Encoder):
    """A vector [B, input_dim], or the mean of a series [B, T, input_dim], to an embedding [B, dim]. It is one token."""

    def __init__(self, input_dim: int, hidden: int = 128, layers: int = 2, dim: int = 128, dropout: float = 0.3):
        super().__init__()
        if not 1 <= layers <= MAX_LEVELS:
            raise ConfigError(f"an mlp encoder has 1 to {MAX_LEVELS} layers")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, hidden, (hidden,) * layers
        self.layers = nn.ModuleList(nn.Linear(hidden if number else input_dim, hidden) for number in range(layers))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(layers))
        self.project = nn.Sequential(nn.Linear(hidden, dim), nn.LayerNorm(dim))

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        if values.ndim == 3:
            real = mask[..., None]
            values = torch.where(real, values, 0.0).sum(1) / real.sum(1).clamp(min=1)  # [B, input_dim]
        state, one = values, mask.any(1, keepdim=True)  # [B, 1]
        levels = []
        for number, layer in enumerate(self.layers):
            if number:
                state = self.dropouts[number - 1](state, key)
            state = torch.relu(layer(state))
            levels.append((state[:, None], one))
        return Encoded(self.project(self.dropouts[-1](state, key)), state[:, None], one, levels)
