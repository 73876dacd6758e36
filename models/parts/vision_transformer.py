"""What the encoders of vision transformers share: films through a network of transformers, its CLS states, levels, weights.

Each of them names a model class of transformers and its configuration class; nothing is looked up by a name that stands in a file. What
the network itself would drop out (hidden states, attention, whole layers) is set to 0: it draws from torch's generators, so that a
sample's result would depend on its batch. The only dropout is keyed, before the projection. Position embeddings are interpolated
(bicubic) to the films' own size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import Encoded, Encoder
from omnifuse.models.parts.films import Normalise, film_shape, over_films, require_layers
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import Pool, projection
from omnifuse.models.parts.pretrained import configuration, fill_transformers
from omnifuse.models.parts.pretrained_text import level_layers
from omnifuse.models.weights import Weights

UNUSED = ("classifier.", "pooler.", "head.", "decoder.", "mask_token")  # of published networks: what films do not pass


class VisionTransformer(Encoder):
    """Films [B, T, 1 or 3, H, W] to an embedding [B, dim]: the last CLS state of each, pooled over the films, and projected.

    Tokens are CLS and patches, row by row, of each film. Levels are hidden states of layers at even distances, 2, 4, .. 12 of 12; the
    last of them is normalised, as the tokens are.

    Args:
        size: the side that films are brought to when they are decoded; `input_dim` tells what came of it.
        architecture: the weights' configuration; None: `default`.
        slices: `mean` or `attention` over a sample's films or slices, or the `last`.
        tune_layers: how many layers learn, counted from the last; -1: all of the network; 0: the projection alone.
    """

    reads = "image"
    config_class: ClassVar[type]
    model_class: ClassVar[type]
    default: ClassVar[dict[str, Any]]
    mean_std: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    fixed: ClassVar[dict[str, Any]] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model_options: ClassVar[dict[str, Any]] = {}
    call_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        input_dim: list[int],
        size: int,
        architecture: dict[str, Any] | None = None,
        slices: str = "mean",
        dim: int = 128,
        dropout: float = 0.3,
        tune_layers: int = -1,
    ):
        super().__init__()
        name = type(self).__module__.rpartition(".")[2]
        config = configuration(self.config_class, (architecture or self.default) | self.fixed, name)
        film_shape(input_dim, name, least=config.patch_size, multiple=config.patch_size)
        self.network = self.model_class(config, **self.model_options)
        width, depth = config.hidden_size, config.num_hidden_layers
        self.picked = level_layers(depth)
        self.input_dim, self.dim, self.token_dim, self.level_dims = list(input_dim), dim, width, (width,) * len(self.picked)
        self.normalise = Normalise(*self.mean_std)
        self.pool, self.dropout, self.project = Pool(slices, width), Dropout(dropout), projection(width, dim)
        self.tune_layers = require_layers(range(depth), tune_layers, name)

    def _layers(self) -> nn.ModuleList:
        """Versions of transformers name it differently."""
        lists = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        return next(layers for layers in lists if len(layers) == self.network.config.num_hidden_layers)

    def _films(self, films: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[N, C, H, W] -> [N, E], [N, 1 + P, E], up to six levels."""
        found = self.network(pixel_values=self.normalise(films), output_hidden_states=True, **self.call_options)
        tokens = found.last_hidden_state
        return tokens[:, 0], tokens, [found.hidden_states[layer] for layer in self.picked[:-1]] + [tokens]

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        film, *rest = over_films(self._films, values, mask)  # [B, T, E]
        return Encoded(self.project(self.dropout(self.pool(film, mask), key)), *rest)

    def learnable(self) -> list[nn.Parameter]:
        if self.tune_layers == -1:
            return list(self.parameters())
        layers = list(self._layers())
        tuned = layers[len(layers) - self.tune_layers :]
        kept = {id(p) for p in self.network.parameters()} - {id(p) for layer in tuned for p in layer.parameters()}
        return [p for p in self.parameters() if id(p) not in kept]

    def load(self, weights: Weights) -> None:
        if weights.native:
            return super().load(weights)
        tensors = {name: self._resampled(name, tensor) for name, tensor in self._renamed(weights.tensors()).items()}
        fill_transformers(self.network, tensors, weights.told, ignore=UNUSED, **self.model_options)

    def _renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """By names that this network's files have on the hub."""
        return tensors

    def _resampled(self, name: str, tensor: Tensor) -> Tensor:
        """Position embeddings of another size, brought to this network's grid."""
        if not name.endswith("embeddings.position_embeddings") or tensor.ndim != 3:
            return tensor
        config = self.network.config
        side, old = config.image_size // config.patch_size, round((tensor.shape[1] - 1) ** 0.5)
        if side == old or old * old != tensor.shape[1] - 1:
            return tensor
        grid = tensor[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([tensor[:, :1].float(), grid.flatten(2).transpose(1, 2)], 1)
