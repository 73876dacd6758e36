"""ResNet34 over films and slices: the network of torchvision without its head; its four stages are the levels.

    pooled = LayerNorm(Linear(dropout(mean or attention over the films of (mean over a film's 7 x 7 map))))

Source: He et al. 2016; the ImageNet weights of torchvision (IMAGENET1K_V1). 512 features a film, as in OmniFuse and MedFuse. Tokens are
the last map, at most 7 x 7 of each film. ImageNet's mean and deviation are applied here, so that a cohort holds plain bytes, and a grey
film is repeated over the three channels.

Differs: batch normalisation keeps the statistics it came with (of ImageNet, or of a standard normal) also while it is tuned; its scale
and shift learn. A sample's output may not depend on its batch, and batches of volumes are small. Trained from nothing it learns slowly.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, channels_last, nn
from torchvision.models import resnet34

from omnifuse.models.encoding import Encoded, Encoder
from omnifuse.models.parts.films import IMAGENET, Normalise, film_shape, keep_statistics, learnable, over_films, require_layers
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, grid_tokens, projection
from omnifuse.models.parts.pretrained import fill
from omnifuse.models.weights import TorchFile, Weights

SIDE = 7  # of a grid of tokens


class ResNet34(Encoder):
    """Films [B, T, 1 or 3, H, W] to an embedding [B, dim].

    Args:
        size: the side that films are brought to when they are decoded; `input_dim` tells what came of it.
        slices: `mean` or `attention` over a sample's films or slices, or the `last`.
        tune_layers: how many of stem, layer1 .. layer4 learn, counted from the last; -1: all; 0: the projection alone.
    """

    reads = "image"
    published: ClassVar[dict[str, Any]] = {"imagenet": TorchFile("resnet34-b627a593.pth")}

    def __init__(
        self, input_dim: list[int], size: int = 224, slices: str = "mean", dim: int = 128, dropout: float = 0.3, tune_layers: int = -1
    ):
        super().__init__()
        film_shape(input_dim, "resnet34")
        self.input_dim, self.dim, self.token_dim, self.level_dims = list(input_dim), dim, 512, (64, 128, 256, 512)
        self.normalise = Normalise(*IMAGENET)
        self.network = resnet34(weights=None)
        self.network.fc = nn.Identity()
        self.network.to(memory_format=channels_last)
        self.pool, self.dropout, self.project = Pool(slices, 512), Dropout(dropout), projection(512, dim)
        self.tune_layers = require_layers(self._stages(), tune_layers, "resnet34")

    def _stages(self) -> list[nn.Module]:
        network = self.network
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        return [stem, network.layer1, network.layer2, network.layer3, network.layer4]

    def _films(self, films: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[N, C, H, W] -> [N, 512], [N, P, 512], four levels."""
        stem, *layers = self._stages()
        maps, levels = stem(self.normalise(films)), []
        for layer in layers:
            maps = layer(maps)
            levels.append(grid_tokens(maps, SIDE))
        return maps.mean((2, 3)), levels[-1], levels

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        film, *rest = over_films(self._films, values, mask)  # [B, T, 512]
        return Encoded(self.project(self.dropout(self.pool(film, mask), key)), *rest)

    def load(self, weights: Weights) -> None:
        if weights.native:
            return super().load(weights)
        fill(self.network, weights.tensors(), weights.told, ignore=("fc.",))

    def learnable(self) -> list[nn.Parameter]:
        return learnable(self, self._stages(), self.tune_layers)

    def train(self, mode: bool = True) -> ResNet34:
        super().train(mode)
        keep_statistics(self.network)
        return self
