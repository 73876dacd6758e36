"""Pretrained weights: where they are looked for, and what is read of them. Offline unless downloading is allowed.

    weights = find_weights(ResNet34, "imagenet", model_dir=Path("models"))      # None for "none"
    encoder = ResNet34([1, 224, 224])                                           # architecture=weights.architecture where it has it
    encoder.load(weights)                                                       # weights.tensors() by the names of their file

What an encoder's `published` names is a `TorchFile` (torchvision) or a `Hub` repository (transformers). A user's own file or folder is
told by its path. The encoder that a `unimodal` run has tuned comes by `run_weights`.

No pickle: safetensors, or a .pth read with `weights_only=True` (tensor_files.py). Configurations are JSON; one with `auto_map` (code of
its own) is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from omnifuse.models.published import CONFIG, TOKENISER, WEIGHTS, Hub, TorchFile
from omnifuse.models.tensor_files import SUFFIXES, read_tensors, require_suffix
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, nearest

if TYPE_CHECKING:
    from omnifuse.models.encoding import Encoder

__all__ = ["END", "TOKENISER", "Hub", "TorchFile", "Weights", "end_weights", "find_weights", "run_weights"]

RUN_WEIGHTS = "weights.safetensors"
VOCABULARY = "vocabulary"  # of a run: the tokeniser's files of the networks that it tuned, by modality
# Of a configuration: names of classes and labels, and what tells transformers how to load.
NOT_SHAPE = ("architectures", "id2label", "label2id", "transformers_version", "torch_dtype", "dtype", "quantization_config")


END = "end.safetensors"  # beside the features of a tuned encoder: what its run had after them, by the names of the run


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Args:
        told: what was asked for: a published name, a file, a folder, a run.
        folder: that holds the files.
        files: what is read of it, by name.
        digest: sha256 over names and bytes of the files: what features are keyed by.
        architecture: what the files say of the network's shape; the constructor's option of that name.
        modality: whose encoder of a run this is; None of published weights. The run keeps the tokeniser's files too.
        encoder: `name` and options of that run's encoder.
        task: that the run was trained on.
    """

    told: str
    folder: Path
    files: tuple[str, ...]
    digest: str
    architecture: dict[str, Any] = field(default_factory=dict)
    modality: str | None = None
    encoder: dict[str, Any] | None = None
    task: str | None = None

    @property
    def native(self) -> bool:
        """The tensors are the state_dict of an encoder of ours, projection and all."""
        return self.modality is not None

    @property
    def path(self) -> Path:
        """The file that holds the tensors."""
        return self.folder / next(name for name in self.files if Path(name).suffix in SUFFIXES)

    def has(self, name: str) -> bool:
        return self._named(name) in self.files

    def file(self, name: str) -> Path:
        """One of the files, by its published name."""
        return self.folder / self._named(name)

    def _named(self, name: str) -> str:
        return f"{VOCABULARY}/{self.modality}/{name}" if self.native else name

    def tensors(self) -> dict[str, Tensor]:
        """By the names of the file; of a run those of the encoder. Raises ArtefactError where the file is broken or doctored."""
        tensors = read_tensors(self.path)
        return _under(f"encoders.{self.modality}.", tensors) if self.native else tensors

    def head(self) -> dict[str, Tensor]:
        """Of a run, what stands after its encoder."""
        return _under("head.", read_tensors(self.path)) if self.native else {}


def find_weights(encoder: type[Encoder], told: str, model_dir: Path | None = None, allow_download: bool = False) -> Weights | None:
    """The weights that `--weights` told; None for `none`. Reads no tensor yet.

    Args:
        told: `none`, a name that the encoder has published, a file, or a folder in the layout of transformers.
        model_dir: where to look first, and where a download is put.
        allow_download: else the network is never touched.

    Raises:
        ConfigError: an unknown name; absent; or a network that brings code of its own.
        ArtefactError: a file is not what its name says it is.
        ResourceError: the download failed.
    """
    if told == "none":
        return None
    if told in encoder.published:
        return _of_published(encoder, told, model_dir, allow_download)
    path = Path(told).expanduser()
    if path.is_dir():
        return _of_folder(told, path)
    if path.is_file():
        require_suffix(path)
        return _weights(told, path.parent, (path.name,))
    known = ["none", *encoder.published]
    raise ConfigError(f"{_name(encoder)} has no weights {told!r}", hint=f"{nearest(told, known)}; or an existing file or folder")


def run_weights(path: Path, modality: str) -> Weights:
    """The encoder of one modality that a run has trained, as the encoder's own state_dict; `.encoder` tells how to build it.

    Args:
        path: the run, or its weights.safetensors.

    Raises:
        ArtefactError: no finished run, or it was altered.
        ConfigError: it has no such modality.
    """
    run = store.open(path.parent if path.name == RUN_WEIGHTS else path, "run")
    encoders = run.meta["built"]["encoders"]
    if modality not in encoders:
        raise ConfigError(f"this run has no modality {modality!r}", where=path, hint=nearest(modality, encoders))
    file, described = run.file(RUN_WEIGHTS), encoders[modality]
    words = tuple(name for name in run.files if name.startswith(f"{VOCABULARY}/{modality}/"))
    files = (file.name, *words)
    digest = store.digest({"modality": modality} | {name: store.sha256(run.file(name)) for name in files})
    return Weights(str(path), run.folder, files, digest, described.get("architecture") or {}, modality, described, run.meta["task"])


def end_weights(features: store.Artefact, modality: str) -> Weights | None:
    """What stood after these features in the run that tuned their encoder; None where no run has.

    Args:
        features: an `encoded` artefact.
    """
    if not features.has(END):
        return None
    digest = store.digest({"modality": modality, END: features.files[END]["sha256"]})
    end = features.meta["end"]
    return Weights(features.meta["weights"]["told"], features.folder, (END,), digest, end["architecture"], modality, task=end["task"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _name(encoder: type[Encoder]) -> str:
    return encoder.__module__.rpartition(".")[2]


def _weights(told: str, folder: Path, files: tuple[str, ...]) -> Weights:
    digest = store.digest({name: store.sha256(folder / name) for name in files})
    return Weights(told, folder, files, digest, _architecture(folder / CONFIG) if CONFIG in files else {})


def _of_folder(told: str, folder: Path) -> Weights:
    """A folder as transformers writes it: configuration, weights, perhaps a tokeniser."""
    if (folder / store.MANIFEST).is_file():
        raise ConfigError("holds an artefact, not a published network", where=folder)
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None or not (folder / CONFIG).is_file():
        raise ConfigError(f"has to hold {CONFIG} and {' or '.join(WEIGHTS)}", where=folder)
    return _weights(told, folder, (CONFIG, weights, *(name for name in TOKENISER if (folder / name).is_file())))


def _architecture(path: Path) -> dict[str, Any]:
    """What a configuration says of the network's shape; nothing that would tell transformers what code to fetch or run."""
    try:
        config = store.read_json(path)
        text = json.dumps(config)
    except RecursionError:
        config = None
    if not isinstance(config, dict):
        raise ArtefactError("is no configuration of a network", where=path)
    if '"auto_map"' in text:
        raise ConfigError("has auto_map: the network brings code of its own, which is not run", where=path, hint="take a built-in network")
    return {key: value for key, value in config.items() if key not in NOT_SHAPE and not key.startswith("_") and "implementation" not in key}


def _of_published(encoder: type[Encoder], told: str, model_dir: Path | None, allow_download: bool) -> Weights:
    source = encoder.published[told]
    folder = source.find(model_dir)
    if folder is None and allow_download:
        source.fetch(model_dir)
        folder = source.find(model_dir)
    if folder is None:
        places = " or ".join(map(str, source.places(model_dir)))
        raise ConfigError(
            f"no weights {told} for {_name(encoder)}: {', '.join(source.files)} not in {places}",
            hint="put them there, name their folder with --model-dir, or --allow-download",
        )
    weights = _weights(told, folder, source.files + tuple(name for name in source.optional if (folder / name).is_file()))
    if isinstance(source, TorchFile) and source.prefix and not store.sha256(weights.path).startswith(source.prefix):
        raise ArtefactError("is not the file of that name (its sha256 is another)", where=weights.path, hint="get the file again")
    return weights
