"""A small transformer over hashed words, learnt from nothing in seconds on a CPU, for texts of any language.

    x = word + pair + position;  x = x + dropout(attention(LayerNorm x));  x = x + dropout(mlp(LayerNorm x));  tokens = LayerNorm x
    pooled = LayerNorm(Linear(dropout(mean of tokens)))

Differs from BERT (Devlin et al. 2019): the vocabulary is not fitted (parts/hashed_words.py), LayerNorm stands before each part (Xiong et
al. 2020: it trains without warm-up), embeddings start at unit variance (at BERT's 0.02 an order of words took twice the steps to learn),
a word is embedded together with the one before it (the pairs of fastText, Joulin et al. 2017: which of two words stands first is then
seen from the first step on), positions and what a layer adds start at zero, so that learning begins from a bag of words and pairs, there
are no special tokens, attention weights are not dropped, and long texts are read in windows, word t in window t // window. Levels are the
layers; the last of them is the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder, Tokenise
from omnifuse.models.parts import hashed_words
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.texts import Texts
from omnifuse.models.parts.windows import Windows
from omnifuse.models.weights import Weights
from omnifuse.preprocess.schema import ConfigError


class Layer(nn.Module):
    """Pre-LN self-attention and two fully connected layers, each added to what it reads."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.queries_keys_values, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(2))
        for last in (self.output, self.mlp[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, real: Tensor, key: Tensor | None) -> Tensor:
        """x [n, L, width]; real [n, L] bool; key [n]."""
        n, length, width = x.shape
        split = self.queries_keys_values(self.norms[0](x)).reshape(n, length, 3, self.heads, width // self.heads)
        query, keys, value = split.permute(2, 0, 3, 1, 4)  # [n, heads, L, width / heads] each
        attended = nn.functional.scaled_dot_product_attention(query, keys, value, attn_mask=real[:, None, None, :])
        x = x + self.dropouts[0](self.output(attended.transpose(1, 2).reshape(n, length, width)), key)
        return x + self.dropouts[1](self.mlp(self.norms[1](x)), key)


class SmallBert(Encoder):
    """Hashed words [B, T] to an embedding [B, dim]."""

    reads = "text"

    def __init__(
        self, input_dim: int = 0, width: int = 64, layers: int = 2, heads: int = 4, window: int = 256, dim: int = 128, dropout: float = 0.1
    ):
        super().__init__()
        if not 1 <= layers <= MAX_LEVELS:
            raise ConfigError(f"a small_bert encoder has 1 to {MAX_LEVELS} layers")
        if width % heads:
            raise ConfigError("the width of a small_bert encoder is a multiple of its heads")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, width, (width,) * layers
        self.window = window
        # Of words and of pairs: two tables would double the time of a step, which is the optimiser's over the table.
        self.words, self.positions = nn.Embedding(hashed_words.BUCKETS, width), nn.Embedding(window, width)
        nn.init.zeros_(self.positions.weight)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(2))
        self.project = nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))

    @classmethod
    def tokeniser(cls, weights: Weights | None) -> Tokenise:
        return hashed_words.tokenise

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        texts = Texts.of(values, mask)
        windows = Windows.cut(texts, self.window)
        ids, keys = values.flatten()[windows.at].long(), windows.keys(key)
        numbers, states = [], []
        for group in windows.groups():
            number, real = windows.places(group)  # [n, L]
            hidden = self._layers(ids[number], real, None if keys is None else keys[group])  # each [n, L, width]
            inside = real.flatten().nonzero()[:, 0]
            numbers.append(number.flatten()[inside])
            states.append([level.flatten(0, 1)[inside] for level in hidden])
        levels = [windows.back([state[place] for state in states], numbers, self.token_dim) for place in range(len(self.layers))]
        pooled = self.project(self.dropouts[1](texts.mean(levels[-1]), key))  # [B, dim]
        return Encoded(pooled, levels[-1], texts.real, [(level, texts.real) for level in levels])

    def _layers(self, ids: Tensor, real: Tensor, key: Tensor | None) -> list[Tensor]:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.dropouts[0](self.words(ids) + self.words(hashed_words.pairs(ids)) + self.positions(places), key)  # [n, L, width]
        states = []
        for layer in self.layers:
            x = layer(x, real, key)
            states.append(x)
        return [*states[:-1], self.norm(x)]
