"""DenseNet121 over films and slices: the network of torchvision without its head; its four dense blocks are the levels.

    pooled = LayerNorm(Linear(dropout(mean or attention over the films of (mean over a film's 7 x 7 map))))

Source: Huang et al. 2017; the ImageNet weights of torchvision (IMAGENET1K_V1, ported from Torch7, with that time's names). 1024 features a
film: the backbone of CheXNet and of torchxrayvision. Tokens are the last map after its normalisation, at most 7 x 7 of each film.

Differs: batch normalisation keeps the statistics it came with, as in resnet34.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import Tensor, channels_last, nn
from torchvision.models import densenet121

from omnifuse.models.encoding import Encoded, Encoder
from omnifuse.models.parts.films import IMAGENET, Normalise, film_shape, keep_statistics, learnable, over_films, require_layers
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, grid_tokens, projection
from omnifuse.models.parts.pretrained import fill
from omnifuse.models.weights import TorchFile, Weights

SIDE = 7  # of a grid of tokens
OLD_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")


class DenseNet121(Encoder):
    """Films [B, T, 1 or 3, H, W] to an embedding [B, dim].

    Args:
        size: the side that films are brought to when they are decoded; `input_dim` tells what came of it.
        slices: `mean` or `attention` over a sample's films or slices, or the `last`.
        tune_layers: how many of stem, block 1 .. block 4 learn, counted from the last; -1: all; 0: the projection alone.
    """

    reads = "image"
    published: ClassVar[dict[str, Any]] = {"imagenet": TorchFile("densenet121-a639ec97.pth")}

    def __init__(
        self, input_dim: list[int], size: int = 224, slices: str = "mean", dim: int = 128, dropout: float = 0.3, tune_layers: int = -1
    ):
        super().__init__()
        film_shape(input_dim, "densenet121")
        self.input_dim, self.dim, self.token_dim, self.level_dims = list(input_dim), dim, 1024, (256, 512, 1024, 1024)
        self.normalise = Normalise(*IMAGENET)
        self.network = densenet121(weights=None)
        self.network.classifier = nn.Identity()
        self.network.to(memory_format=channels_last)
        self.pool, self.dropout, self.project = Pool(slices, 1024), Dropout(dropout), projection(1024, dim)
        self.tune_layers = require_layers(self._stages(), tune_layers, "densenet121")

    def _stages(self) -> list[nn.Module]:
        """The stem, then each block with the transition before it; the last with the normalisation behind it."""
        parts = self.network.features
        stem = nn.Sequential(parts.conv0, parts.norm0, parts.relu0, parts.pool0)
        blocks = [nn.Sequential(getattr(parts, f"transition{n - 1}"), getattr(parts, f"denseblock{n}")) for n in (2, 3)]
        last = nn.Sequential(parts.transition3, parts.denseblock4, parts.norm5)
        return [stem, nn.Sequential(parts.denseblock1), *blocks, last]

    def _films(self, films: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[N, C, H, W] -> [N, 1024], [N, P, 1024], four levels."""
        stem, *blocks = self._stages()
        maps, levels = stem(self.normalise(films)), []
        for number, block in enumerate(blocks):
            maps = block(maps)
            if number == len(blocks) - 1:
                maps = torch.relu(maps)
            levels.append(grid_tokens(maps, SIDE))
        return maps.mean((2, 3)), levels[-1], levels

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        film, *rest = over_films(self._films, values, mask)  # [B, T, 1024]
        return Encoded(self.project(self.dropout(self.pool(film, mask), key)), *rest)

    def load(self, weights: Weights) -> None:
        if weights.native:
            return super().load(weights)
        tensors = {OLD_NAME.sub(r"\1\2", name): tensor for name, tensor in weights.tensors().items()}
        fill(self.network, tensors, weights.told, ignore=("classifier.",))

    def learnable(self) -> list[nn.Parameter]:
        return learnable(self, self._stages(), self.tune_layers)

    def train(self, mode: bool = True) -> DenseNet121:
        super().train(mode)
        keep_statistics(self.network)
        return self
