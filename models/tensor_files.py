"""Reads named tensors out of a file that someone else wrote. What is no plain tensor is refused, and there is no second try.

A safetensors file is a header and numbers. A .pth (.pt, .bin) is a pickle: torch reads it with `weights_only=True`, which builds tensors
and nothing else; a file that asks for more is refused. TorchScript and .pt2 archives hold programs and are not opened.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnifuse.preprocess.schema import ArtefactError, ConfigError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAX_HEADER, MAX_TENSORS = 16 << 20, 20_000  # a BERT's header is 25 kB, of 200 tensors
NESTED = ("state_dict", "model")  # where training scripts put the tensors among other things


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name, on the CPU.

    Raises:
        ConfigError: no file that holds tensors alone, by its suffix.
        ArtefactError: it is cut off, broken or doctored; or it holds objects, NaN or infinity.
    """
    path = Path(path)
    require_suffix(path)
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not tensors or len(tensors) > MAX_TENSORS:
        raise ArtefactError(f"holds {len(tensors)} tensors", where=path, hint="it is no file of weights")
    for tensor in tensors.values():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise ArtefactError("holds NaN or infinity", where=path, hint="get the weights again")
    return tensors


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"is not opened: weights are {', '.join(SUFFIXES)}", where=path, hint="save the state_dict as .safetensors")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
    if size > MAX_HEADER:
        raise ArtefactError("is no file of weights: its header is too long", where=path, hint="get the file again")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError, MemoryError):
        raise ArtefactError("is no whole safetensors file", where=path, hint="get the file again") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    _refuse_compressed(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # Whatever it asked for: the text of the error would name the attacker's objects.
        told = "is cut off, or holds more than tensors: it was not opened"
        raise ArtefactError(told, where=path, hint="save the state_dict as .safetensors") from None
    for name in NESTED:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
    size = path.stat().st_size
    if not isinstance(held, dict) or not all(isinstance(name, str) and _plain(value, size) for name, value in held.items()):
        raise ArtefactError("does not hold named tensors alone", where=path, hint="save the state_dict")
    return {name.removeprefix("module."): value.detach() for name, value in held.items()}


def _refuse_compressed(path: Path) -> None:
    """torch stores its archives uncompressed; one that is compressed may grow a thousandfold in memory."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        stored = False
    if not stored:
        raise ArtefactError("is no whole file of torch.save", where=path, hint="get the file again")


def _plain(value: Any, size: int) -> bool:
    """A dense tensor no larger than its file: by its strides one number can stand for a terabyte."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta and value.numel() * value.itemsize <= size
