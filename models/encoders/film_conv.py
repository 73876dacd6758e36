"""A small network over small films and slices, for a few hundred of them on a CPU: its first layer is known, not learned.

    detail_o = DCT filters of 3 x 3 on the film, halved o times (at every second pixel of a large one);  energy_o = log mean square
    maps     = [mean, maximum; energy_0; energy_1; energy_2] on a grid of 8 x 8;  level l = ReLU(GroupNorm(conv 3 x 3))
    pooled   = LayerNorm(Linear(dropout(mean or attention over the films of the last map's quarters)))

A fine texture of zero mean shows in its energy alone, which a network of learned filters has to build first. The layout is that of
scattering networks for few samples (Oyallon et al. 2017; Bruna and Mallat 2013): filters and modulus are fixed, what they mean is
learned. The quarters keep where something stands. Differs: a DCT in place of wavelets, one order, and the log of the energy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.films import detail_filters, film_shape, over_films, scaled, to_grid
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, grid_tokens, projection
from omnifuse.preprocess.schema import ConfigError

SIDE = 8  # of the grid
OCTAVES = 3
LEAST_ENERGY, MIDDLE, SPREAD = 1e-3, -4.5, 2.0  # of the log energy of films in -2..2
AT_ONCE = 64  # films whose details are computed together: their maps stay in a processor's cache, which halves the time


class FilmConv(Encoder):
    """Films [B, T, C, H, W] to an embedding [B, dim]. Tokens are the last map of each film.

    Args:
        size: the side that films are brought to when they are decoded; `input_dim` tells what came of it.
        width: channels of each level.
        slices: `mean` or `attention` over a sample's films or slices, or the `last`.
    """

    reads = "image"

    def __init__(
        self,
        input_dim: list[int],
        size: int = 64,
        width: int = 64,
        levels: int = 3,
        slices: str = "attention",
        dim: int = 128,
        dropout: float = 0.3,
    ):
        super().__init__()
        if not 1 <= levels <= MAX_LEVELS:
            raise ConfigError(f"film_conv has 1 to {MAX_LEVELS} levels")
        channels, *sides = film_shape(input_dim, "film_conv", channels=(), least=2**OCTAVES)
        self.input_dim, self.dim, self.token_dim, self.level_dims = list(input_dim), dim, width, (width,) * levels
        self.side = min(SIDE, min(sides) // 2 ** (OCTAVES - 1))
        # Fixed, and a function of nothing: no part of what is saved.
        self.register_buffer("filters", detail_filters(channels), persistent=False)
        known = channels * (2 + OCTAVES * (len(self.filters) // channels))
        self.levels = nn.ModuleList(_level(known if not level else width, width, 2 if level == 1 else 1) for level in range(levels))
        self.pool, self.dropout = Pool(slices, 4 * width), Dropout(dropout)
        self.project = projection(4 * width, dim)

    def details(self, films: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, 26 * C, G, G]: what is learned from. float32 whatever autocast says: a square of noise is small."""
        with torch.autocast(films.device.type, enabled=False):
            here = scaled(films) * 4 - 2
            known = [to_grid(here, self.side), to_grid(here, self.side, largest=True)]
            for octave in range(OCTAVES):
                if octave:
                    here = F.avg_pool2d(here, 2)
                # Sixteen places a cell tell its energy well enough: all of them took most of the time.
                stride = 2 if min(here.shape[-2:]) >= 8 * self.side else 1
                detail = F.conv2d(F.pad(here, (1, 1, 1, 1), mode="replicate"), self.filters, stride=stride, groups=here.shape[1])
                energy = to_grid(detail.square(), self.side)
                known.append(((energy + LEAST_ENERGY).log() - MIDDLE) / SPREAD)
            return torch.cat(known, 1)

    def _films(self, films: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[N, C, H, W] -> [N, 4 * E], [N, P, E], the levels."""
        maps, levels = torch.cat([self.details(part) for part in films.split(AT_ONCE)]), []
        for level in self.levels:
            maps = level(maps)
            levels.append(grid_tokens(maps, SIDE))
        return to_grid(maps, 2).flatten(1), levels[-1], levels

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        film, *rest = over_films(self._films, values, mask)  # [B, T, 4 * E]
        return Encoded(self.project(self.dropout(self.pool(film, mask), key)), *rest)


def _level(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.GroupNorm(1, width), nn.ReLU())
