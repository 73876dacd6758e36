"""Finds fusion methods and encoders by the names of their files. There is no list to keep."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import torch

from omnifuse.models.contract import Method
from omnifuse.models.encoding import Encoder
from omnifuse.models.parts import keyed
from omnifuse.preprocess import schema
from omnifuse.preprocess.schema import ConfigError, nearest

FOLDERS = {"method": ("omnifuse.models.fusion", Method), "encoder": ("omnifuse.models.encoders", Encoder)}


def names(what: str) -> list[str]:
    """The registered methods or encoders; none of them is imported."""
    package = importlib.import_module(FOLDERS[what][0])
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find(what: str, name: str) -> type:
    """The one class of the file NAME. Raises ConfigError with the nearest known name."""
    folder, base = FOLDERS[what]
    if name not in (known := names(what)):
        raise ConfigError(f"no {what} {name!r}", hint=nearest(name, known))
    module = importlib.import_module(f"{folder}.{name}")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ConfigError(f"{folder}.{name} defines {len(found)} subclasses of {base.__name__}, not one")
    return found[0]


def build(
    config: dict[str, Any],
    encoder_configs: dict[str, dict[str, Any]],
    dims: dict[str, int | list[int]],
    task: schema.Task,
    seed: int,
) -> Method:
    """A method over its encoders, initialised.

    Every encoder draws its first weights from (seed, modality) and the method from (seed): a modality more or another method leaves an
    encoder's first weights as they are.

    Args:
        config: `name`, and options of the method's constructor.
        encoder_configs: for each modality, in order, `name` and options of the encoder's constructor.
        dims: D of each modality's values.

    Raises:
        ConfigError: an unknown name or option.
    """
    encoders = {modality: build_encoder(told, dims[modality], seed, modality) for modality, told in encoder_configs.items()}
    with _seeded(seed, "method"):
        method = _construct("method", config, {"encoders": encoders, "kind": task.kind, "outputs": task.outputs})
    keyed.name_dropouts(method)
    return method


def build_encoder(config: dict[str, Any], dim: int | list[int], seed: int, modality: str) -> Encoder:
    """One encoder, initialised from (seed, modality). Raises ConfigError for an unknown name or option."""
    with _seeded(seed, "encoder", modality):
        return _construct("encoder", config, {"input_dim": dim})


def _construct(what: str, config: dict[str, Any], given: dict[str, Any]):
    options = {name: value for name, value in config.items() if name != "name"}
    made = find(what, config["name"])
    known = [name for name in inspect.signature(made).parameters if name not in given]
    for name in options:
        if name not in known:
            raise ConfigError(f"{what} {config['name']} has no option {name!r}", hint=nearest(name, known))
    return made(**given, **options)


class _seeded:
    """Draws from torch's generator as if it had just been seeded by these names, and leaves it as it was."""

    def __init__(self, *source: object):
        self.seed = keyed.number(*source)

    def __enter__(self) -> None:
        self.fork = torch.random.fork_rng(devices=[])
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        self.fork.__exit__(*error)
