"""One run: a method trained on one task, fold and seed, written as the run artefact of docs/artefacts.md.

    run = train(samples, task, {"name": "concat"}, {"ehr": {"name": "lstm"}}, {}, fold=0, seed=0, run=Path("runs/x/fold0"))

It is built beside its place and swapped in when it is finished; until then the folder `.NAME.building` holds TensorBoard's events and
the checkpoints, and the same call goes on from the newest one that is whole.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from omnifuse.models import cost, modality_weights
from omnifuse.models.checkpoint import Checkpoint, Checkpoints, differences
from omnifuse.models.distributed import Processes, choose_device, processes
from omnifuse.models.interruption import Interruption
from omnifuse.models.journal import Journal, SilentJournal
from omnifuse.models.loop import Trainer
from omnifuse.models.parts.heads import probabilities
from omnifuse.models.plan import Plan, make_plan, require_learnable
from omnifuse.models.prediction import FINAL, Predicted, Reader, predict, tabulate
from omnifuse.models.weights import TOKENISER, VOCABULARY, Weights
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ConfigError, ResourceError

log = logging.getLogger(__name__)
PREDICTED = ("val", "calib", "probe", "test")


def train(
    samples: Any,
    task: schema.Task,
    method_config: dict[str, Any],
    encoder_configs: dict[str, dict[str, Any]],
    train_config: dict[str, Any],
    *,
    fold: int,
    seed: int,
    run: Path,
    device: str = "auto",
    init: dict[str, Path | dict[str, Tensor]] | None = None,
    resume: bool = True,
    weights: dict[str, Weights] | None = None,
    config_yaml: str | None = None,
    progress: Callable = schema.Silent,
) -> store.Artefact:
    """Trains one method; a finished run of the same fingerprint is left as it is.

    Args:
        samples: of `dataset.open_samples`.
        method_config, encoder_configs: `name` and options; encoders by modality.
        train_config: options of TrainOptions that differ from its defaults.
        init: for some modalities the weights.safetensors of a `unimodal` run (or its tensors) to start the encoder from.
        weights: published weights that some encoders start from.
        resume: go on with what an interrupted run left; else start over.
        config_yaml: the resolved configuration with the origin of each value, kept in the run.

    Raises:
        ConfigError: a configuration that cannot be, or another one than that of the run to go on with.
        InputError: nothing to learn from.
        NumericalError: NaN or infinity; the last checkpoint is kept.
        ResourceError: disk or memory does not suffice.
        Interrupted: a signal; a checkpoint was saved.
    """
    plan = make_plan(samples, task, method_config, encoder_configs, train_config, fold=fold, seed=seed, init=init, weights=weights)
    if (made := store.current(run, "run", plan.fingerprint)) is not None:
        return made
    require_learnable(samples)
    where = choose_device(device)
    with processes(where) as group, Interruption() as interruption, torch.random.fork_rng(devices=[]), _memory_errors(plan):
        cost.begin(where)
        trainer = _make_trainer(plan, group, where, interruption)
        if group.main:
            with store.create(run, "run", fingerprint=plan.fingerprint, keep_partial=True) as building:
                _run(plan, building, trainer, resume, config_yaml, progress)
        else:
            _assist(plan, store.building_folder(run), trainer, resume)
        group.wait()
    return store.open(run, "run")


@contextlib.contextmanager
def _memory_errors(plan: Plan) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # also torch.OutOfMemoryError; on the CPU it has no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        hint = f"--set train.batch_size={max(plan.options.batch_size // 2, 1)}"
        raise ResourceError("out of memory while training", hint=hint) from None


def _make_trainer(plan: Plan, group: Processes, device: torch.device, interruption: Interruption) -> Trainer:
    amp = plan.options.amp == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    reader = Reader(device, plan.options.eval_batch_size, amp, group)
    return Trainer(plan.build().to(device), plan.samples, plan.options, plan.seed, reader, interruption, plan.identity)


def _run(plan: Plan, building: store.Builder, trainer: Trainer, resume: bool, config_yaml: str | None, progress: Callable) -> None:
    """Fills the folder of the run: what the main process does."""
    folder = building.folder
    trainer.checkpoints = Checkpoints(folder / "scratch" / "checkpoint")
    found = _find_checkpoint(plan, trainer.checkpoints) if resume else None
    if found is None:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    trainer.reader.processes.wait()  # the others may read the checkpoints now
    at = {"size": found.state["journal"], "step": found.state["at"]["total"]} if found else {}
    trainer.journal = Journal(folder / "scratch" / "history.jsonl", folder / "tb" if plan.options.tensorboard else None, **at)
    try:
        with progress(f"train {plan.method['name']} fold {plan.fold}", trainer.most_steps(), "step") as trainer.bar:
            trainer.bar.update(at.get("step", 0))
            trainer.run(found)
        said = _predict(plan, trainer)
        store.write_text(building.path("config.yaml"), config_yaml or json.dumps(plan.identity, indent=1) + "\n")
        _write(plan, building, trainer, said)
    finally:
        trainer.journal.close()


def _assist(plan: Plan, folder: Path, trainer: Trainer, resume: bool) -> None:
    """What every other process does: the same steps, nothing written."""
    trainer.reader.processes.wait()
    found = Checkpoints(folder / "scratch" / "checkpoint").load() if resume else None
    trainer.journal, trainer.bar = SilentJournal(), schema.Silent()
    trainer.run(found)
    _predict(plan, trainer)


def _find_checkpoint(plan: Plan, checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint to go on from. Raises ConfigError where it belongs to another configuration."""
    found = checkpoints.load()
    if found is None:
        return None
    if found.skipped:
        log.warning("checkpoint %s is broken: going back to step %d", ", ".join(found.skipped), found.state["at"]["total"])
    if changed := differences(found.state["identity"], json.loads(json.dumps(plan.identity))):
        raise ConfigError(
            f"the interrupted run had another configuration: {'; '.join(changed)}",
            where=checkpoints.folder.parents[1],
            hint="give the same configuration, or start over",
        )
    return found


@dataclass
class _Said:
    """What the trained method says: by part, what each modality weighs in it, and the milliseconds a patient of the test part takes."""

    parts: dict[str, Predicted]
    weights: pl.DataFrame | None
    ms_per_patient: float | None


def _predict(plan: Plan, trainer: Trainer) -> _Said:
    parts = {name: part for name in PREDICTED if len(part := plan.samples.part(name))}
    said, weights, watch = {}, [], cost.Stopwatch()
    for name, part in parts.items():
        listener = modality_weights.WeightsOfModalities(part)
        with watch():
            said[name] = predict(trainer.method, part, trainer.reader, listener)
        if name in modality_weights.PARTS:
            weights.append(listener.table(trainer.reader))
    told = [table for table in weights if table is not None]
    # The test part comes last, when everything is warm.
    ms = 1000 * watch.seconds / parts["test"].patient_id.n_unique() if "test" in parts else None
    return _Said(said, pl.concat(told) if told else None, ms)


def _write(plan: Plan, building: store.Builder, trainer: Trainer, said: _Said) -> None:
    """Weights, history, traces, predictions, the last of TensorBoard, and what the manifest keeps."""
    method, journal, samples, step = trainer.method, trainer.journal, plan.samples, trainer.at.total
    weights = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in method.state_dict().items()}
    store.write_safetensors(building.path("weights.safetensors"), weights)
    for name, found in plan.weights.items():
        for file in filter(found.has, TOKENISER):  # so that a tuned encoder can read other texts
            store.write_text(building.path(f"{VOCABULARY}/{name}/{file}"), found.file(file).read_text(encoding="utf-8"))
    history, traced = journal.table(), pl.col("name").str.starts_with("trace/")
    store.write_parquet(building.path("history.parquet"), history.filter(~traced))
    traces = history.filter(traced).with_columns(pl.col("name").str.strip_prefix("trace/"))
    store.write_parquet(building.path("traces.parquet"), traces.drop("step"))
    same = {"run_id": plan.fingerprint[:16], "method": plan.method["name"], "seed": plan.seed, "fold": plan.fold}
    tables = [tabulate(samples.part(name), value, plan.task, **same) for name, value in said.parts.items()]
    store.write_parquet(building.path("predictions/full.parquet"), pl.concat(tables))
    if said.weights is not None:
        store.write_parquet(building.path(modality_weights.FILE), said.weights)
    if "val" in said.parts:
        score = probabilities(torch.from_numpy(said.parts["val"].logits[FINAL]), plan.task.kind).numpy()
        journal.curves(plan.task, samples.part("val").label, score, step)
    best = {f"best/{stage['stage']}/{stage['monitor']}": stage["value"] for stage in trainer.chosen if stage["value"] is not None}
    settings = {"method": plan.method, "encoder": plan.encoders, "train": plan.options.outcome, "fold": plan.fold, "seed": plan.seed}
    journal.settings(settings, best, step)
    building.meta |= {
        "method": plan.method["name"], "task": plan.task.name, "modalities": list(samples.modalities), "fold": plan.fold,
        "seed": plan.seed, "cohort": samples.cohort, "features": samples.features, "best": trainer.chosen[-1] if trainer.chosen else None,
        "stages": trainer.chosen, **cost.count_parameters(method), "excluded": samples.excluded,
        "seconds": round(trainer.clock.total, 3), "clock": {name: round(value, 3) for name, value in vars(trainer.clock).items()},
        "built": {"method": plan.method, "encoders": plan.encoders, "dims": samples.dims, "task": plan.task.to_json()},
        "init": plan.identity["init"], "environment": _environment(trainer), "predict_ms_per_patient": _rounded(said.ms_per_patient),
        "peak_memory_mb": _rounded(cost.peak_memory_mb(trainer.reader.device)),
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _environment(trainer: Trainer) -> dict[str, Any]:
    return {
        "omnifuse": version("omnifuse"), "torch": torch.__version__, "python": platform.python_version(),
        "device": trainer.reader.device.type, "threads": torch.get_num_threads(), "processes": trainer.reader.processes.world,
    }  # fmt: skip
