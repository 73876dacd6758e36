"""What a run will be: everything that decides its outcome, checked, and its fingerprint."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from omnifuse.models import registry
from omnifuse.models.contract import Method
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts import class_weights
from omnifuse.models.weights import Weights
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, InputError, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One training. `init` holds, for some modalities, the weights of a stage-1 run to start the encoder from; `weights` published ones."""

    samples: Any
    task: schema.Task
    method: dict[str, Any]
    encoders: dict[str, dict[str, Any]]
    options: TrainOptions
    fold: int
    seed: int
    init: dict[str, dict[str, Tensor]]
    weights: dict[str, Weights]

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be gone on from, as JSON."""
        return {
            "method": self.method, "encoder": self.encoders, "train": self.options.outcome, "task": self.task.name,
            "modalities": list(self.samples.modalities), "fold": self.fold, "seed": self.seed, "cohort": self.samples.cohort,
            "features": self.samples.features, "init": {name: _digest(tensors) for name, tensors in self.init.items()},
            "weights": {name: found.digest for name, found in self.weights.items()},
        }  # fmt: skip

    @property
    def fingerprint(self) -> str:
        return store.digest(self.identity)

    def build(self) -> Method:
        """The method over its encoders, on the CPU."""
        method = registry.build(self.method, self.encoders, self.samples.dims, self.task, self.seed)
        if self.options.class_weight == "balanced":
            method.class_weight = class_weights.balanced(self.samples.part("train").label, self.task.kind, self.task.outputs)
        for modality, found in self.weights.items():
            method.encoders[modality].load(found)
            if found.task == self.task.name:
                method.take_head(found.head())
        for modality, tensors in self.init.items():
            method.start_from(modality, tensors)
        return method


def make_plan(
    samples: Any,
    task: schema.Task,
    method_config: dict[str, Any],
    encoder_configs: dict[str, dict[str, Any]],
    train_config: dict[str, Any],
    *,
    fold: int,
    seed: int,
    init: dict[str, Path | dict[str, Tensor]] | None = None,
    weights: dict[str, Weights] | None = None,
) -> Plan:
    """Checks what `train` is given.

    Raises:
        ConfigError: an unknown option, a modality without an encoder, samples of another fold or task, an init for no modality.
    """
    fields = TrainOptions.__dataclass_fields__
    for name in train_config:
        if name not in fields:
            raise ConfigError(f"no option train.{name}", hint=nearest(name, fields))
    if (samples.task, samples.fold) != (task, fold):
        raise ConfigError(f"these are samples of {samples.task.name}, fold {samples.fold}, not of {task.name}, fold {fold}")
    for name in init or {}:
        if name not in samples.modalities:
            raise ConfigError(
                f"an encoder to start from is given for {name}, which is not trained on", hint=nearest(name, samples.modalities)
            )
    for name in samples.modalities:
        if name not in encoder_configs:
            raise ConfigError(
                f"modality {name} has no encoder", hint=f"--encoder {name}=NAME; known: {', '.join(registry.names('encoder'))}"
            )
    weights = weights or {}
    shaped = {name: {"architecture": found.architecture} for name, found in weights.items() if found.architecture}
    encoders = {name: {**encoder_configs[name], **shaped.get(name, {})} for name in samples.modalities}
    taken = {name: source if isinstance(source, dict) else _read_weights(source) for name, source in (init or {}).items()}
    return Plan(samples, task, method_config, encoders, TrainOptions(**train_config), fold, seed, taken, weights)


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(Path(path).read_bytes())
    except (OSError, SafetensorError):
        raise ArtefactError("is missing or holds no weights", where=path, hint="train the unimodal run again") from None


def _digest(tensors: dict[str, Tensor]) -> str:
    """sha256 of names, shapes and values."""
    from safetensors.torch import save

    return hashlib.sha256(save({name: tensor.contiguous() for name, tensor in sorted(tensors.items())})).hexdigest()


def require_learnable(samples: Any) -> None:
    """Raises InputError where the training part is empty or its labels never differ; a label that never differs among others is told."""
    part, task = samples.part("train"), samples.task
    where = f"samples/{task.name}.parquet"
    if not len(part):
        raise InputError(f"the part train of fold {samples.fold} has no sample with any of {', '.join(samples.modalities)}", where=where)
    varies = [len(np.unique(column[~np.isnan(column)])) > 1 for column in part.label.T]
    if not any(varies):
        raise InputError(f"every training sample of fold {samples.fold} has the same label: nothing can be learnt", where=where)
    if task.kind == "multilabel" and (constant := [name for name, varied in zip(task.labels, varies) if not varied]):
        log.warning("%d of %d labels never differ in the training part: %s", len(constant), task.outputs, ", ".join(constant))
