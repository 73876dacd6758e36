"""A pre-LN Transformer over a series; its layers are the levels.

    h = Linear(x) + position;  h = h + dropout(Attention(LN(h)));  h = h + dropout(MLP(LN(h)))
    pooled = LayerNorm(Linear(dropout(mean, attention or last over LN(h_L))))

Source: Vaswani et al. 2017 with the normalisation of Xiong et al. 2020 (it trains without warm-up); positions are sines, so that a stay
may be of any length. Written out rather than torch's TransformerEncoder, whose fast path in eval mode packs what is padded into nested
tensors, and drops its columns; and whose dropout draws from torch's generators. Attention weights themselves are not dropped out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, projection
from omnifuse.preprocess.schema import ConfigError


class Transformer(Encoder):
    """Series [B, T, input_dim] to an embedding [B, dim].

    Args:
        inner: how many times wider than `hidden` the MLP of a layer is.
        pool: `mean`, `attention` or `last` over the steps.
    """

    def __init__(
        self,
        input_dim: int,
        hidden: int = 128,
        layers: int = 2,
        heads: int = 4,
        inner: int = 4,
        pool: str = "mean",
        dim: int = 128,
        dropout: float = 0.3,
    ):
        super().__init__()
        if not 1 <= layers <= MAX_LEVELS:
            raise ConfigError(f"a transformer encoder has 1 to {MAX_LEVELS} layers")
        if hidden % heads or hidden % 2:
            raise ConfigError("the hidden size of a transformer encoder is even, and a multiple of its heads")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, hidden, (hidden,) * layers
        self.enter, self.drop_input = nn.Linear(input_dim, hidden), Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(hidden, heads, inner, dropout) for _ in range(layers))
        self.norm, self.pool = nn.LayerNorm(hidden), Pool(pool, hidden)
        self.dropout, self.project = Dropout(dropout), projection(hidden, dim)

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        values = values.masked_fill(~mask[..., None], 0.0)  # [B, T, input_dim]
        h = self.drop_input(self.enter(values) + positions(values.shape[1], self.token_dim, values.device), key)
        # A query needs something to look at, or its softmax is NaN: a sample of no real step looks at all it has.
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]  # [B, 1, 1, T]
        levels = []
        for layer in self.layers:
            h = layer(h, seen, key)  # [B, T, hidden]
            levels.append((h, mask))
        tokens = self.norm(h)
        levels[-1] = (tokens, mask)
        return Encoded(self.project(self.dropout(self.pool(tokens, mask), key)), tokens, mask, levels)


class _Layer(nn.Module):
    def __init__(self, hidden: int, heads: int, inner: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query_key_value, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, inner * hidden), nn.GELU(), nn.Linear(inner * hidden, hidden))
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(self, h: Tensor, seen: Tensor, key: Tensor | None) -> Tensor:
        h = h + self.dropout1(self._attend(self.norm1(h), seen), key)
        return h + self.dropout2(self.mlp(self.norm2(h)), key)

    def _attend(self, x: Tensor, seen: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, T, D / H]
        found = scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.out(found.transpose(1, 2).flatten(2))


def positions(length: int, width: int, device: torch.device) -> Tensor:
    """[T, width]: sines and cosines of wave lengths from 2 pi to 10,000 * 2 pi steps (Vaswani et al. 2017, section 3.5)."""
    step = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    return torch.cat([torch.sin(step * rate), torch.cos(step * rate)], 1)
