"""HEALNet: a latent array that all samples share reads the tokens of one modality after the other, round after round (Hemker et al. 2024).

    S <- S + present_m CrossAttention_m(S, x_m),   S <- S + present_m SNN(S)       for each modality m in order
    S <- S + SelfAttention(S),                     S <- S + SNN(S)                 after each round, of `depth`
    l  = W LayerNorm(mean S) + b

A modality that is absent is skipped: by sample, and it leaves that sample's latents as they are. Each modality has weights of its own,
shared by no other. SNN is a gated feed-forward network with SELU.

Ours: the x_m are the tokens of the encoders that every method starts from, not raw pixels and rows; their places, which the paper tells
by Fourier features over the length of the batch, are counted over the sample's own tokens, so that no answer depends on who shares
its batch. A modality alone has nothing to be fused with: there is one linear head on its embedding.
The public code skips a modality by catching every exception of its attention, for a whole batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Encoder, Method, Output, build_head
from omnifuse.models.parts.keyed import Dropout
from omnifuse.preprocess.schema import ConfigError

MULTIPLE = 4  # of the width, inside a feed-forward network
HIGHEST = 10.0  # frequency of the places' sines, halves over the length


class HEALNet(Method):
    """Latents that read tokens of all modalities."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        latents: int = 32,
        dim: int = 128,
        depth: int = 3,
        heads: int = 4,
        bands: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__(encoders, kind, outputs)
        if dim % heads:
            raise ConfigError(f"dim {dim} is no multiple of heads {heads}", hint="dim: 128 and heads: 4")
        self.bands = bands
        if len(encoders) == 1:
            self.head = build_head("linear", next(iter(encoders.values())).dim, outputs)
            return
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        widths = {name: encoder.token_dim + (2 * bands + 1 if bands else 0) for name, encoder in encoders.items()}
        self.rounds = nn.ModuleList(Round(dim, widths, heads, dropout) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), build_head("linear", dim, outputs)

    def forward(self, batch) -> Output:
        if len(self.encoders) == 1:
            return Output(self.head(self.encode(batch, self.modalities[0]).pooled))
        read = {}
        for name in self.modalities:
            found = self.encode(batch, name, full=True)
            read[name] = (self._placed(found.tokens, found.mask), found.mask)
        x = self.latents.expand(len(batch), -1, -1)  # [B, N, D]
        for one in self.rounds:
            x = one(x, read, batch.present, batch.key)
        return Output(self.head(self.norm(x.mean(1))))

    def _placed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, T, E] with its place, from 0 to 1 over the real tokens, as sines and cosines beside it."""
        if not self.bands:
            return tokens
        place = (mask.cumsum(1) - 1) / (mask.sum(1, keepdim=True) - 1).clamp(min=1)  # [B, T]
        waves = torch.linspace(1.0, HIGHEST / 2, self.bands, device=mask.device) * math.pi * place[..., None]  # [B, T, F]
        features = torch.cat([waves.sin(), waves.cos(), place[..., None]], 2) * mask[..., None]
        return torch.cat([tokens, features.to(tokens.dtype)], 2)

    def head_for(self, modality: str):
        if len(self.encoders) > 1:
            raise ConfigError("HEALNet with several modalities reads tokens, not embeddings", hint="hide the others instead")
        return self.head


class Round(nn.Module):
    """Every modality read once, then the latents among themselves."""

    def __init__(self, dim: int, widths: dict[str, int], heads: int, dropout: float):
        super().__init__()
        self.read = nn.ModuleDict({name: Attention(dim, width, heads) for name, width in widths.items()})
        self.digest = nn.ModuleDict({name: SNN(dim, dropout) for name in widths})
        self.among, self.settle = Attention(dim, dim, heads), SNN(dim, dropout)

    def forward(self, x: Tensor, read: dict[str, tuple[Tensor, Tensor]], present: Tensor, key: Tensor) -> Tensor:
        """x [B, N, D]; read[m]: tokens [B, T, E] and mask [B, T]; present [B, M]."""
        for (name, (tokens, mask)), there in zip(read.items(), present.T):
            seen = x + self.read[name](x, tokens, mask)
            x = torch.where(there[:, None, None], seen + self.digest[name](seen, key), x)
        x = x + self.among(x, x, None)
        return x + self.settle(x, key)


class Attention(nn.Module):
    """Latents ask, tokens answer; both are normalised first."""

    def __init__(self, dim: int, width: int, heads: int):
        super().__init__()
        self.heads, self.norm, self.norm_tokens = heads, nn.LayerNorm(dim), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(dim, dim, bias=False), nn.Linear(width, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, N, D], tokens [B, T, E], mask [B, T] or None: all are real -> [B, N, D]. What is masked is not read."""
        apart = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, H, T, D / H]
        query = apart(self.query(self.norm(x)))
        key, value = map(apart, self.key_value(self.norm_tokens(tokens)).chunk(2, dim=2))
        score = (query @ key.transpose(2, 3)).float() / math.sqrt(query.shape[-1])  # [B, H, N, T]
        if mask is not None:
            score = score.masked_fill(~mask[:, None, None], torch.finfo(score.dtype).min)
        read = torch.softmax(score, 3).to(value.dtype) @ value
        return self.out(read.transpose(1, 2).flatten(2))


class SNN(nn.Module):
    """A self-normalising feed-forward network: x * selu(gate) inside."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(dim), nn.Linear(dim, 2 * MULTIPLE * dim), nn.Linear(MULTIPLE * dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        value, gate = self.inner(self.norm(x)).chunk(2, dim=2)
        return self.dropout(self.outer(value * F.selu(gate)), key)
