"""Puts tensors of a file into a network, each into its place or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from omnifuse.preprocess.schema import ConfigError


def fill(network: nn.Module, tensors: dict[str, Tensor], told: str, ignore: tuple[str, ...] = ()) -> None:
    """Loads a whole state_dict.

    Args:
        tensors: by the names of the network.
        told: what the user called the weights, for the message.
        ignore: how names begin that may be there and are not wanted: the head of a published network.

    Raises:
        ConfigError: names or shapes are of another network. Nothing was loaded then.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(ignore)}
    own = network.state_dict()
    # torch 1.0 and its elders did not count batches.
    missing = {name for name in own.keys() - tensors.keys() if not name.endswith("num_batches_tracked")}
    if missing or tensors.keys() - own.keys():
        raise _another(told, f"{len(missing)} of its {len(own)} tensors missing, {len(tensors.keys() - own.keys())} unknown")
    if wrong := [name for name in tensors if tensors[name].shape != own[name].shape]:
        raise _another(told, f"{len(wrong)} tensors of another shape")
    network.load_state_dict(tensors, strict=False)


def fill_transformers(network: nn.Module, tensors: dict[str, Tensor], told: str, ignore: tuple[str, ...] = (), **options: Any) -> None:
    """`fill` for a network of transformers, whose names have changed with its versions: it renames them itself, and strips `bert.`.

    Args:
        ignore: how names end, or what they hold: `classifier.`, `pooler.`.
        options: of the network's constructor.

    Raises:
        ConfigError: as `fill`.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in ignore)}
    with _quiet(), torch.random.fork_rng(devices=[]):
        try:
            filled, report = type(network).from_pretrained(
                None, config=network.config, state_dict=tensors, output_loading_info=True, local_files_only=True, **options
            )
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _another(told, "tensors of another shape") from None
    missing, unknown, wrong = (len(report[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    if missing or unknown or wrong:
        raise _another(told, f"{missing} of its {len(network.state_dict())} tensors missing, {unknown} unknown, {wrong} of another shape")
    network.load_state_dict(filled.state_dict())


def _another(told: str, why: str) -> ConfigError:
    return ConfigError(f"the weights {told} are of another network: {why}", hint="choose the encoder they were made for")


def configuration(kind: type, architecture: dict[str, Any] | None, told: str, **default: Any):
    """The configuration of a transformers network: `default`, or what a published configuration says of it and no more.

    Args:
        kind: a subclass of PreTrainedConfig; its `model_type` has to be that of the architecture.
        told: the encoder's name, for the message.

    Raises:
        ConfigError: the architecture is of another kind of network, or impossible.
    """
    if not architecture:
        return kind(**default)
    if (named := architecture.get("model_type", kind.model_type)) != kind.model_type:
        raise ConfigError(f"the encoder {told} is a {kind.model_type}, these weights are of a {named}")
    known = kind().to_dict()
    try:
        return kind(**{name: value for name, value in architecture.items() if name in known and name != "model_type"})
    except Exception:  # huggingface_hub's validation has classes of its own
        raise ConfigError(f"the configuration of these weights makes no {kind.model_type}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers prints a bar and a table of names while it loads; what matters of it is in our error."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
