"""TextCNN (Kim 2014): convolutions 3, 4 and 5 words wide over word embeddings, and the maximum of each map over the text.

    c_w = ReLU(Conv_w(embedding));  pooled = LayerNorm(Linear(dropout([max_t c_3; max_t c_4; max_t c_5])))

100 maps a width and dropout 0.5 are Kim's. Differs: words are hashed and their embeddings start at random (parts/hashed_words.py), there is
no bound on the norm of weights, and a map has one value at each word, of the words around it, with nothing beyond the ends. A level is
the maps of one width, from narrow to wide; tokens are all of them. It reads texts of any length in one piece and learns in seconds on a
CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import Encoded, Encoder, Tokenise
from omnifuse.models.parts import hashed_words
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.texts import Texts
from omnifuse.models.parts.windows import Windows
from omnifuse.models.weights import Weights

WIDTHS = (3, 4, 5)  # words


class TextCNN(Encoder):
    """Hashed words [B, T] to an embedding [B, dim]."""

    reads = "text"

    def __init__(self, input_dim: int = 0, embedded: int = 128, maps: int = 100, dim: int = 128, dropout: float = 0.5):
        super().__init__()
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, maps * len(WIDTHS), (maps,) * len(WIDTHS)
        self.embedding = nn.Embedding(hashed_words.BUCKETS, embedded)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedded, maps, width) for width in WIDTHS)
        self.dropout = Dropout(dropout)
        self.project = nn.Sequential(nn.Linear(self.token_dim, dim), nn.LayerNorm(dim))

    @classmethod
    def tokeniser(cls, weights: Weights | None) -> Tokenise:
        return hashed_words.tokenise

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        texts = Texts.of(values, mask)
        windows = Windows.cut(texts, max(1, values.shape[1]))  # a text is one of them
        ids, groups = values.flatten()[windows.at].long(), windows.groups()
        numbers, states, largest = [], [], []
        for group in groups:
            number, real = windows.places(group)  # [n, L]
            found = self._maps(ids[number], real)  # [n, L, maps of all widths]
            inside = real.flatten().nonzero()[:, 0]
            numbers.append(number.flatten()[inside])
            states.append(found.flatten(0, 1)[inside])
            largest.append(found.amax(1))
        tokens = windows.back(states, numbers, self.token_dim)  # [B, T, maps of all widths]
        pooled = self.project(self.dropout(windows.mean(largest, groups, self.token_dim), key))  # [B, dim]
        return Encoded(pooled, tokens, texts.real, [(level, texts.real) for level in tokens.split(self.level_dims, -1)])

    def _maps(self, ids: Tensor, real: Tensor) -> Tensor:
        """Ids [n, L] and which of them are real -> [n, L, maps of all widths], zero where there is none."""
        words = self.embedding(ids.masked_fill(~real, 0)).masked_fill(~real[..., None], 0.0).mT  # [n, embedded, L]
        maps = [torch.relu(convolve(_around(words, width))) for width, convolve in zip(WIDTHS, self.convolutions)]  # [n, maps, L]
        return torch.cat(maps, 1).mT * real[..., None]


def _around(words: Tensor, width: int) -> Tensor:
    """Zeros before and after, so that a convolution gives one value a word."""
    return nn.functional.pad(words, ((width - 1) // 2, width // 2))
