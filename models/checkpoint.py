"""Checkpoints: numbered pairs of a safetensors file and a JSON sidecar with its sha256, and `latest`, which names the newest.

Everything is written beside its place, synced and renamed; the sidecar follows its tensors, `latest` follows both. Reading starts at the
newest pair and falls back to an older one that is whole. Writing runs in a thread of its own: the training waits only while the tensors
are copied, and an error of the disk is raised at the next save.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError

KEPT = 2


@dataclass
class Checkpoint:
    """`tensors` by name; `state`, a JSON value; `skipped` names newer checkpoints that are broken."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    skipped: list[str]


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        return self._writer is not None and self._writer.is_alive()

    def save(self, number: int, tensors: dict[str, Tensor], state: dict[str, Any], *, sync: tuple[Path, ...] = ()) -> None:
        """Copies the tensors and starts to write them as checkpoint `number`.

        Args:
            sync: files that have to be on disk before this checkpoint counts.
        """
        self.wait()
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous().numpy() for name, tensor in tensors.items()}
        self._writer = threading.Thread(target=self._write, args=(f"{number:012d}", copies, copy.deepcopy(state), sync))
        self._writer.start()

    def wait(self) -> None:
        """Until the last save is on disk. Raises what went wrong in it."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, name: str, arrays: dict[str, Any], state: dict[str, Any], sync: tuple[Path, ...]) -> None:
        try:
            for path in sync:
                store.sync_file(path)
            tensors = self.folder / f"{name}.safetensors"
            store.write_safetensors(tensors, arrays)
            body = {"sha256": store.sha256(tensors), "state": state}
            store.write_json(tensors.with_suffix(".json"), {**body, "self": store.digest(body)})
            store.write_json(self.folder / "latest", {"name": name})
            names = self._names()
            for old in [*names[: names.index(name)], *names[names.index(name) + KEPT :]]:  # a broken newer one was gone back from
                self._remove(old)
        except BaseException as error:
            self._error = error

    def _remove(self, name: str) -> None:
        for suffix in (".json", ".safetensors"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)

    def _names(self) -> list[str]:
        """Newest first."""
        return sorted((path.stem for path in self.folder.glob("*.json")), reverse=True)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None."""
        names = self._names()
        with contextlib.suppress(ArtefactError, KeyError, TypeError):
            named = store.read_json(self.folder / "latest")["name"]
            names.sort(key=lambda name: name != named)
        skipped: list[str] = []
        for name in names:
            try:
                tensors, state = self._read(name)
                return Checkpoint(tensors, state, skipped)
            except ArtefactError:
                skipped.append(name)
        return None

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        from safetensors.torch import load

        path = self.folder / f"{name}.safetensors"
        body = store.read_json(path.with_suffix(".json"))
        if not isinstance(body, dict) or body.pop("self", None) != store.digest(body):
            raise ArtefactError("was altered since it was written", where=path.with_suffix(".json"))
        if not path.is_file() or store.sha256(path) != body["sha256"]:
            raise ArtefactError("is missing or was altered since it was written", where=path)
        return load(path.read_bytes()), body["state"]

    def clear(self) -> None:
        """Removes all of them."""
        for name in [*self._names(), *(path.stem for path in self.folder.glob("*.safetensors"))]:
            self._remove(name)
        (self.folder / "latest").unlink(missing_ok=True)


def differences(saved: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, one line each: `train.lr was 0.0002, is 0.001`."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        lines = []
        for key in sorted({*saved, *wanted}):
            lines += differences(saved.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        return lines
    return [] if saved == wanted else [f"{name} was {saved}, is {wanted}"]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state, `number of the parameter/name`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{place}/{name}": value
        for place, p in enumerate(parameters)
        for name, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        place, _, key = name.partition("/")
        p = parameters[int(place)]
        optimizer.state[p][key] = value.clone() if key == "step" else value.to(p.device, copy=True)
