"""A small convolutional network over small films and slices: three levels, trained from nothing in minutes on a CPU.

    level l: halve, then two 3 x 3 convolutions with normalisation, of 16, 32, 64 channels at 32, 16, 8 pixels (films of 64)
    pooled = LayerNorm(Linear(dropout(mean or attention over the films of [mean, max] over the last map)))

The maximum keeps a small finding that the mean over the film would drown. Normalised within a film, over all its channels and places, so
that its output does not depend on its batch. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, channels_last, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.films import film_shape, over_films, scaled
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, grid_tokens, projection
from omnifuse.preprocess.schema import ConfigError

SIDE = 8  # of a grid of tokens


class FilmConv(Encoder):
    """Films [B, T, C, H, W] to an embedding [B, dim]. Tokens are the last map, at most 8 x 8 of each film.

    Args:
        size: the side that films are brought to when they are decoded; `input_dim` tells what came of it.
        width: channels of the first level, doubled by each further one.
        slices: `mean` or `attention` over a sample's films or slices, or the `last`.
    """

    reads = "image"

    def __init__(
        self,
        input_dim: list[int],
        size: int = 64,
        width: int = 16,
        levels: int = 3,
        slices: str = "attention",
        dim: int = 128,
        dropout: float = 0.3,
    ):
        super().__init__()
        if not 1 <= levels <= MAX_LEVELS:
            raise ConfigError(f"film_conv has 1 to {MAX_LEVELS} levels")
        channels, *_ = film_shape(input_dim, "film_conv", channels=(), least=2**levels)
        widths = [width * 2**level for level in range(levels)]
        self.input_dim, self.dim, self.token_dim, self.level_dims = list(input_dim), dim, widths[-1], tuple(widths)
        self.levels = nn.ModuleList(_level(below, wide) for below, wide in zip([channels, *widths], widths))
        self.levels.to(memory_format=channels_last)
        self.pool, self.dropout = Pool(slices, 2 * widths[-1]), Dropout(dropout)
        self.project = projection(2 * widths[-1], dim)

    def _films(self, films: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[N, C, H, W] -> [N, 2 * E], [N, P, E], the levels."""
        maps, levels = (scaled(films) * 2 - 1).contiguous(memory_format=channels_last), []
        for level in self.levels:
            maps = level(maps)
            levels.append(grid_tokens(maps, SIDE))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1), levels[-1], levels

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        film, *rest = over_films(self._films, values, mask)  # [B, T, 2 * E]
        return Encoded(self.project(self.dropout(self.pool(film, mask), key)), *rest)


def _level(channels: int, width: int) -> nn.Sequential:
    """Half the side, `width` channels."""
    layers: list[nn.Module] = []
    for below, stride in ((channels, 2), (width, 1)):
        convolution = nn.Conv2d(below, width, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(1, width), nn.ReLU()]
    return nn.Sequential(*layers)
