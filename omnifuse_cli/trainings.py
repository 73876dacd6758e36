"""What `omnifuse train` is asked for, as cells: a run each, with the stage-1 runs that it starts from.

A run's place is told by what decides its outcome: runs/COHORT/TASK/METHOD-MODALITIES/KEY/foldK. Asked again, it is found there; any
other configuration has another KEY.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omnifuse import choices, chosen, config, console, tunings
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, Silent, Task
from omnifuse.workspace import Workspace

GROUP = "group.json"


@dataclass(frozen=True)
class Cell:
    """One run: finished, interrupted, or still to be trained."""

    plan: Plan
    fold: int
    path: Path

    @property
    def method(self) -> str:
        return self.plan.method

    @property
    def modalities(self) -> list[str]:
        return self.plan.modalities

    @property
    def state(self) -> str:
        if (self.path / store.MANIFEST).is_file():
            return "finished"
        return "interrupted" if store.building_folder(self.path).exists() else "to do"

    def train(self, *, device: str, resume: bool, progress=Silent) -> store.Artefact:
        """The finished run; its stage-1 runs are trained first where they are missing."""
        from omnifuse.models import training
        from omnifuse.preprocess import dataset

        plan = self.plan
        starts, weights = {}, plan.weights_of(self.fold)
        for first in plan.stage_one():
            cell = first.cell(self.fold)
            starts[first.modalities[0]] = cell.train(device=device, resume=resume, progress=progress).file("weights.safetensors")
        samples = dataset.open_samples(plan.cohort, plan.features, plan.task.name, self.fold, plan.modalities)
        return training.train(
            samples,
            plan.task,
            {"name": plan.method, **plan.resolved.section("method")},
            {name: {"name": plan.encoders[name], **plan.resolved.section(f"encoder.{name}")} for name in plan.modalities},
            plan.resolved.section("train"),
            fold=self.fold,
            seed=plan.seed,
            run=self.path,
            device=device,
            init=starts,
            resume=resume,
            weights=weights,
            config_yaml=plan.resolved.to_yaml(),
            progress=progress,
        )


@dataclass(frozen=True)
class Plan:
    """A method on a task, over folds."""

    space: Workspace
    cohort: store.Artefact
    features_path: Path
    task: Task
    method: str
    modalities: list[str]
    encoders: dict[str, str]
    folds: list[int]
    init: str
    resolved: config.Resolved
    starting: config.Resolved | None  # of the stage-1 runs; None where the method has none
    weights: dict[str, Any]  # published ones, of encoders that are tuned
    out: Path

    @property
    def seed(self) -> int:
        return self.resolved.values["seed"]

    @cached_property
    def features(self) -> store.Artefact:
        return store.open(self.features_path, "features")

    @property
    def folder(self) -> Path:
        init = "scratch" if self.starting is None else self.init
        held = [self.features.meta["modalities"][name] for name in self.modalities]
        decides = [self.cohort.fingerprint, held, _deciding(self.resolved.values), self.encoders, self.modalities, init]
        if apart := self._apart:
            decides.append(apart)
        return self.out / f"{self.method}-{'+'.join(self.modalities)}" / store.digest(decides)[:10]

    @property
    def _apart(self) -> dict[str, Any]:
        """What was told otherwise for the stage-1 runs than for this one."""
        if self.starting is None or self.init == "scratch":
            return {}
        mine, told = self.resolved.values, self.starting.origins
        others = lambda name, value: told[name] != config.DEFAULT if name.startswith("method.") else value != mine[name]
        return {name: value for name, value in _deciding(self.starting.values).items() if others(name, value)}

    def cell(self, fold: int) -> Cell:
        return Cell(self, fold, self.folder / f"fold{fold}")

    def weights_of(self, fold: int) -> dict[str, Any]:
        """By modality: published weights of encoders that are tuned, and what comes with the features of those that were."""
        from omnifuse.models.weights import end_weights
        from omnifuse.preprocess import dataset

        found = {name: self.weights[name] for name in self.modalities if name in self.weights}
        encoded = [name for name in self.modalities if self.features.meta["modalities"][name]["from"] == dataset.ENCODED]
        for name in encoded:
            if self.resolved.values.get(f"encoder.{name}.start") == TUNED:
                found[name] = end_weights(dataset.open_encoded(self.features, name, fold), name)
        return {name: weights for name, weights in found.items() if weights is not None}

    def cells(self) -> Iterator[Cell]:
        return (self.cell(fold) for fold in self.folds)

    def stage_one(self) -> list[Plan]:
        """A unimodal plan for each modality, from whose runs the encoders start."""
        if self.starting is None or self.init == "scratch":
            return []
        return [self._alone(name) for name in self.modalities]

    def _alone(self, modality: str) -> Plan:
        mine = lambda name: not name.startswith("encoder.") or name.startswith(f"encoder.{modality}.")
        values = {name: value for name, value in self.starting.values.items() if mine(name)}
        resolved = config.Resolved(values, {name: self.starting.origins[name] for name in values})
        return replace(self, method=STAGE_ONE, modalities=[modality], encoders={modality: self.encoders[modality]}, init="scratch",
                       resolved=resolved, starting=None)  # fmt: skip

    def finish(self, runs: list[dict]) -> Path:
        """Writes the group's manifest, where there is more than one run of it, and tells where the runs are."""
        store.write_json(self.folder / GROUP, {"method": self.method, "task": self.task.name, "modalities": self.modalities, "runs": runs})
        return self.folder


STAGE_ONE = "unimodal"
TUNED = "tuned"  # the value of an encoder's option `start`
RAW = "+raw"  # the features that an encoder is tuned on lie beside the others: omnifuse extract --raw
# What does not decide the outcome of a training may change without making another run of it.
INCIDENTAL = {"train.eval_batch_size", "train.log_steps", "train.checkpoint_steps", "train.checkpoint_seconds", "train.tensorboard"}


def _deciding(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in INCIDENTAL}


def plan(
    space: Workspace,
    *,
    cohort: str | None,
    task: str | None,
    method: str,
    modalities: str | None,
    encoders: dict[str, str],
    folds: tuple[str, ...],
    init: str,
    config_file: Path | None,
    sets: tuple[str, ...],
    flags: dict[str, config.Leaf],
    seed: int | None,
    out: Path | None,
    tune_encoder: bool = False,
    tune_layers: int | None = None,
    model_dir: Path | None = None,
    tuned: bool | dict[str, config.Leaf] = False,
) -> Plan:
    """Checks everything before anything is trained.

    Args:
        flags: a layer that wins over all others.
        tuned: True: what `omnifuse tune` found for this method and these modalities; or such a layer.
        tune_encoder: train on what the encoders read, from their published weights.
        tune_layers: only so many of their last layers.

    Raises:
        ConfigError: an unknown name, a fold that the cohort lacks, a configuration that cannot be.
        ArtefactError: no cohort, no features, or nothing was tuned.
    """
    preferred = space.settings.values["task"]
    path, opened = chosen.cohort(space, cohort, {task or preferred} - {None})
    name = chosen.task(opened, task, preferred)
    if tune_encoder and method != STAGE_ONE:
        hint = f"then omnifuse extract --weights MODALITY=RUN for {method}"
        raise ConfigError(f"--tune-encoder belongs to --method {STAGE_ONE}", hint=hint)
    features = chosen.features_path(space, path, name + (RAW if tune_encoder else ""))
    held = store.open(features, "features").meta["modalities"]
    names = choices.modalities_of(modalities, held)
    mine = {modality: encoders.get(modality) or choices.default_encoder(held[modality]) for modality in names}
    for modality in names:
        choices.check_encoder(modality, mine[modality], held[modality])
    if tune_layers is not None:
        if not tune_encoder:
            raise ConfigError("--tune-layers belongs to --tune-encoder")
        sets = (*sets, *(f"encoder.{modality}.tune_layers={tune_layers}" for modality in names))
    layer = tunings.require_best(space, opened, name, method, names) if tuned is True else tuned or {}
    unused = [modality for modality in held if modality not in names]
    resolved = choices.resolve(space, method, mine, config_file, sets, flags, seed, tuned=layer, unused=unused)
    if tuned is True:
        _tell_overruled(method, choices.in_scope(layer, stage_one=False), resolved)
    starting = None
    if config.packaged("methods", method)[1].get("stage1", STAGE_ONE) is not None:
        starting = choices.resolve(space, STAGE_ONE, mine, config_file, sets, flags, seed, stage_one=True, tuned=layer, unused=unused)
    elif any(text.startswith(choices.STAGE1) for text in sets):
        raise ConfigError(f"{method} starts from no stage-1 runs: --set {choices.STAGE1}* sets nothing")
    weights = {modality: found for modality in names if (found := _weights(mine[modality], held[modality], model_dir))}
    known = opened.meta["splits"]["folds"]
    return Plan(space, opened, features, Task.from_json(name, opened.meta["tasks"][name]), method, names, mine, _folds(folds, known), init,
                resolved, starting, weights, chosen.runs_path(space, path, name, out))  # fmt: skip


def _tell_overruled(method: str, layer: dict[str, config.Leaf], resolved: config.Resolved) -> None:
    """What was tuned gives way to what is told, and `--set train.lr` is easily told for the sake of stage 1."""
    found = [name for name, leaf in layer.items() if leaf.where.startswith(tunings.TUNED)]
    lost = [name for name in found if resolved.origins.get(name, "").startswith("--set")]
    if lost:
        _note_once(
            f"{method}: --set wins over what tuning found for {', '.join(lost)}; --set {choices.STAGE1}NAME=VALUE is for stage 1 alone"
        )


@functools.cache
def _note_once(text: str) -> None:
    console.note(text)


def _weights(encoder: str, about: dict[str, Any], model_dir: Path | None):
    """The published weights that an encoder is tuned from: those that its features were extracted for."""
    if about["reads"] in ("series", choices.FOR_FEATURES) or not about["weights"] or about["encoder"]["name"] != encoder:
        return None
    from omnifuse.models import registry
    from omnifuse.models.weights import find_weights

    found = find_weights(registry.find("encoder", encoder), about["weights"]["told"], model_dir)
    if found.digest != about["weights"]["digest"]:
        raise ArtefactError("are other weights than these features were made for", where=found.folder, hint="omnifuse extract --raw")
    return found


def _folds(told: tuple[str, ...], known: list[int]) -> list[int]:
    if "all" in told:
        return list(known)
    folds = []
    for text in told:
        if not text.isdigit() or int(text) not in known:
            raise ConfigError(f"no fold {text!r}", hint=f"all, or {', '.join(map(str, known))}")
        folds.append(int(text))
    return sorted(set(folds))
