"""Word n-grams, each with an embedding, and their mean: for a few hundred texts of any language on a CPU.

    token_t = sum_{n = 1..order} E[hash(word_{t-n+1} .. word_t)]
    pooled  = Linear(dropout(mean over texts [scale * mean_t token_t; log T - log 128]))

The layout of fastText (Joulin et al. 2017), with n-grams hashed into one table. Few short texts are told apart by phrases ("no effusion",
"cannot be excluded") before a network can learn to put them together: on the clinic's reports this is about as good as logistic
regression on the same n-grams, and small_bert learns more slowly.

Differs: a nonlinear head follows. Embeddings start small (a deviation of .3), so that what is learnt outweighs where they started, and no
LayerNorm follows: it would give the part that all texts share the same weight as what tells them apart. The length of the text is told,
for a mean forgets it, and how much is written about a patient tells something. There is one level: the tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import Encoded, Encoder, Tokenise
from omnifuse.models.parts import hashed_words
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import projection
from omnifuse.models.parts.texts import Texts
from omnifuse.models.weights import Weights

START = 0.3  # standard deviation of an embedding before training
SCALE = 3.0  # of the mean of many small embeddings
USUAL = 128  # words


class Ngrams(Encoder):
    """Hashed words [B, T] to an embedding [B, dim].

    Missing data: a sample without a word is the constant of the projection, with the usual length.

    Args:
        order: words of the longest n-gram.
        width: of an n-gram's embedding.
    """

    reads = "text"

    def __init__(self, input_dim: int = 0, order: int = 4, width: int = 32, dim: int = 128, dropout: float = 0.1):
        super().__init__()
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, width, (width,)
        self.order = order
        self.embedding = nn.Embedding(hashed_words.BUCKETS, width, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(START)  # the padding's stays zero
        self.dropout, self.project = Dropout(dropout), projection(width + 1, dim, norm=False)

    @classmethod
    def tokeniser(cls, weights: Weights | None) -> Tokenise:
        return hashed_words.tokenise

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        texts = Texts.of(values, mask)
        ids = values.long().masked_fill(~texts.real, 0)  # [B, T]; no n-gram reaches over a 0
        tokens = sum(self.embedding(grams) for grams in hashed_words.ngrams(ids, self.order)) * texts.real[..., None]  # [B, T, width]
        mean = self.dropout(texts.mean(tokens) * (SCALE / math.sqrt(self.order)), key)
        length = texts.average((texts.length / USUAL).log()[:, None])  # [B, 1]
        return Encoded(self.project(torch.cat([mean, length.to(mean.dtype)], 1)), tokens, texts.real, [(tokens, texts.real)])
