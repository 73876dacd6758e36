"""What every encoder of films and slices does before and behind its network: only real films go in, and come out at their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.preprocess.schema import ConfigError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # of the Vision Transformers of Google

# Films [N, 3, H, W] -> one vector a film [N, D], tokens [N, P, E], levels [N, P_l, D_l].
Network = Callable[[Tensor], tuple[Tensor, Tensor, list[Tensor]]]


class Normalise(nn.Module):
    """uint8, or float in 0..1 -> what the network was trained on: three channels (a grey one is repeated), less mean, by deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        # They are constants of the class, and no part of what is saved.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, films: Tensor) -> Tensor:
        """[N, 1 or 3, H, W] -> [N, 3, H, W], channels last."""
        films = scaled(films, self.mean.dtype).expand(-1, 3, -1, -1)
        return ((films - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def scaled(films: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes to 0..1; floats are there already."""
    return films.to(dtype) / 255 if films.dtype == torch.uint8 else films.to(dtype)


def film_shape(input_dim: list[int], name: str, *, channels: tuple[int, ...] = (1, 3), least: int = 32, multiple: int = 1) -> list[int]:
    """[C, H, W] of a film, where the network can take it: so many channels (none: any), sides at least `least`, multiples of `multiple`."""
    if not isinstance(input_dim, (list, tuple)) or len(input_dim) != 3:
        raise ConfigError(f"the encoder {name} reads films, not vectors")
    depth, height, width = input_dim
    if channels and depth not in channels:
        raise ConfigError(f"the encoder {name} takes films of {' or '.join(map(str, channels))} channels, not {depth}")
    if min(height, width) < least or height % multiple or width % multiple:
        wanted = f"are multiples of {multiple}" if multiple > 1 else f"have at least {least} pixels"
        raise ConfigError(f"the encoder {name} takes films whose sides {wanted}, not {height} x {width}", hint="another size")
    return [depth, height, width]


def over_films(network: Network, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Puts the real films of samples through a network: (vectors [B, T, D], tokens [B, T * P, E], their mask [B, T * P], levels).

    Shapes: values [B, T, C, H, W], mask [B, T]. Tokens and levels of the T films of a sample stand one after the other.

    Missing data: a film that is not real is not put through; its vector and tokens are zeros, and masked.
    """
    vector, tokens, levels = network(values[mask])  # of the N real films of all samples
    film, _ = _placed(vector[:, None], mask)
    return film, *_placed(tokens, mask), [_placed(level, mask) for level in levels]


def _placed(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [N, P, E] of the real films -> [B, T * P, E], [B, T * P]."""
    size, films = mask.shape
    count, width = tokens.shape[1:]
    places = mask.flatten().nonzero()[:, 0]  # [N]
    spread = tokens.new_zeros(size * films, count, width).index_copy(0, places, tokens)
    return spread.reshape(size, films * count, width), mask.repeat_interleave(count, 1)


def detail_filters(channels: int) -> Tensor:
    """[8 * channels, 1, 3, 3]: the DCT of 3 x 3 pixels without its constant, orthonormal, for each channel on its own.

    Slopes, ridges, corners and the chequered finest: every direction that a patch can differ in from its mean, once.
    """
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    rows = rows / rows.norm(dim=1, keepdim=True)
    pairs = torch.einsum("ai,bj->abij", rows, rows).reshape(9, 3, 3)[1:]
    return pairs[:, None].repeat(channels, 1, 1, 1)


def to_grid(maps: Tensor, side: int, largest: bool = False) -> Tensor:
    """[N, D, H, W] -> [N, D, side', side']: means, or maxima, of even cells; sides that do not divide have cells of unequal size."""
    height, width = maps.shape[-2:]
    target = min(height, side), min(width, side)
    if height % target[0] or width % target[1]:
        return (F.adaptive_max_pool2d if largest else F.adaptive_avg_pool2d)(maps, target)
    # Pooling by even cells has a deterministic gradient on the GPU, the adaptive one has none.
    return (F.max_pool2d if largest else F.avg_pool2d)(maps, (height // target[0], width // target[1]))


def keep_statistics(network: nn.Module) -> None:
    """Batch normalisation by the statistics it has, also in train mode."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def require_layers(stages: Sequence[nn.Module], tune_layers: int, name: str) -> int:
    if not -1 <= tune_layers <= len(stages):
        raise ConfigError(f"tune_layers is -1 (all), or 0 to {len(stages)}, the layers of {name}")
    return tune_layers


def learnable(encoder: nn.Module, stages: Sequence[nn.Module], tune_layers: int) -> list[nn.Parameter]:
    """All parameters of an encoder but those of its first stages; `tune_layers` stages, counted from the last, learn, or with -1 all."""
    kept = [] if tune_layers == -1 else stages[: len(stages) - tune_layers]
    frozen = {id(parameter) for stage in kept for parameter in stage.parameters()}
    return [parameter for parameter in encoder.parameters() if id(parameter) not in frozen]
