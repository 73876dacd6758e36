"""The trainable end of a frozen encoder: features [B, T, E] that were extracted once, pooled and projected.

    pooled = LayerNorm(Linear(dropout(mean, attention or last over the real rows)))

So the film encoder of OmniFuse (pin A27: Linear on the frozen 512). T rows are films, slices, or the tokens of a text; features of levels
are one row a sample, the levels one after the other.

Features of an encoder that a run has tuned come with what that run had after them, and start from it. They know their training patients
by heart, so that a projection drawn anew learns from these what holds for nobody else: the clinic's films fell from an AUROC of .61 to .49.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, projection
from omnifuse.preprocess.schema import ConfigError


class Embedding(Encoder):
    """Features [B, T, input_dim], or [B, input_dim] of a vector modality, to an embedding [B, dim].

    Tokens are the features as they are. Where `input_dim` is the list of the widths of levels, the features' last axis is their
    concatenation: each is a level, and tokens and embedding are of the last.

    Args:
        start: `tuned`, from the last layers of the run that tuned the frozen encoder, where it is one; or drawn anew, `scratch`.
        architecture: of these layers (`Encoder.end`): they decide instead of `pool` and `dim`.
    """

    reads = "embedding"

    def __init__(
        self,
        input_dim: int | list[int],
        pool: str = "mean",
        dim: int = 128,
        dropout: float = 0.3,
        start: str = "tuned",
        architecture: dict[str, Any] | None = None,
    ):
        super().__init__()
        end = {"pool": pool, "dim": dim, "norm": True} | (architecture or {})
        widths = (input_dim,) if isinstance(input_dim, int) else tuple(input_dim)
        if not 1 <= len(widths) <= MAX_LEVELS:
            raise ConfigError(f"an embedding has 1 to {MAX_LEVELS} levels")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, end["dim"], widths[-1], widths
        self.pool, self.dropout = Pool(end["pool"], widths[-1]), Dropout(dropout)
        self.project = projection(widths[-1], end["dim"], norm=end["norm"])

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        values = values[:, None] if values.ndim == 2 else values  # [B, T, sum of the widths]
        values = values.float().masked_fill(~mask[..., None], 0.0)
        levels = [(level, mask) for level in values.split(self.level_dims, -1)]
        tokens = levels[-1][0]  # [B, T, E]
        return Encoded(self.project(self.dropout(self.pool(tokens, mask), key)), tokens, mask, levels)
