"""The stages of a method, epoch by epoch and step by step, with checkpoints: the trainer proper. It knows no method by name.

An epoch: steps; a checkpoint; `after_epoch`; validation; early stopping. A checkpoint is only ever taken after a step, so that what
follows the last step of an epoch is repeated as a whole where it was cut off. Nothing random has a state: every draw is keyed by
(seed, number of the stage, epoch, and step or sample), so that a checkpoint holds no generator.
"""

from __future__ import annotations

import logging
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from omnifuse.models import numerics
from omnifuse.models.checkpoint import Checkpoint, Checkpoints
from omnifuse.models.context import TrainContext
from omnifuse.models.contract import Method
from omnifuse.models.interruption import Interrupted, Interruption
from omnifuse.models.journal import Journal, SilentJournal
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts import keyed
from omnifuse.models.prediction import Reader
from omnifuse.models.stage_run import StageRun
from omnifuse.models.step import Broken, Stepped, set_modes
from omnifuse.preprocess import schema
from omnifuse.preprocess.schema import ConfigError

log = logging.getLogger(__name__)
SAVING_SHARE = 0.02  # of the time; where epochs are short, not every one of them is saved


@dataclass
class Place:
    """Where a training stands: `stage` from 0, `epoch` from 1, `step` done in it, `total` done in all."""

    stage: int = 0
    epoch: int = 1
    step: int = 0
    total: int = 0


@dataclass
class Clock:
    """Seconds: in all, waiting for data, and stalled by checkpoints."""

    total: float = 0.0
    waiting: float = 0.0
    saving: float = 0.0


@dataclass
class Trainer:
    """Trains `method` on `samples`. `identity` is what a checkpoint must agree with to be gone on from; `checkpoints` None saves none."""

    method: Method
    samples: Any
    options: TrainOptions
    seed: int
    reader: Reader
    interruption: Interruption
    identity: dict[str, Any]
    journal: Journal | SilentJournal = field(default_factory=SilentJournal)
    checkpoints: Checkpoints | None = None
    bar: Any = field(default_factory=schema.Silent)
    at: Place = field(default_factory=Place)
    clock: Clock = field(default_factory=Clock)
    chosen: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        self.reader = replace(self.reader, watch=self._watch)

    def most_steps(self) -> int:
        """Steps of all stages, if none of them stops early."""
        runs = [StageRun(stage, self.method, self.samples, self.options, self.reader) for stage in self.method.stages()]
        size = self.options.batch_size * self.reader.processes.world
        return sum(run.epochs * -(-len(run.part) // size) for run in runs)

    def run(self, checkpoint: Checkpoint | None = None) -> None:
        """All stages, from the start or from a checkpoint."""
        started = time.perf_counter()
        if checkpoint is not None:
            self.at, self.chosen = Place(**checkpoint.state["at"]), checkpoint.state["chosen"]
            self.clock = Clock(**checkpoint.state["clock"])
        self._saved, self._saved_at, self._cost = self.at.total, started, 0.0
        self._before, self._started = self.clock.total, started
        try:
            stages = self.method.stages()
            while self.at.stage < len(stages):
                self._run_stage(StageRun(stages[self.at.stage], self.method, self.samples, self.options, self.reader), checkpoint)
                self.at, checkpoint = Place(self.at.stage + 1, total=self.at.total), None
        finally:
            self.clock.total = self._before + time.perf_counter() - started
            if self.checkpoints is not None:
                self.checkpoints.wait()

    def _run_stage(self, run: StageRun, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            run.restore(checkpoint.tensors, checkpoint.state["stage"])
        else:
            self.method.begin_stage(self._context(run, epoch=0))
            run.begin()
            if not run.epochs:
                self._judge_start(run)
        nobody = not len(run.part)
        if nobody:
            log.warning("stage %s: nobody in the part %s has what it learns from, it is left out", run.stage.name, run.stage.part)
        while not nobody and self.at.epoch <= run.epochs and not run.stop.stop:
            self._run_epoch(run)
            self.at.epoch, self.at.step = self.at.epoch + 1, 0
        self.chosen.append(run.end(self.at.epoch - 1))
        self.method.end_stage(self._context(run, epoch=self.at.epoch - 1))

    def _judge_start(self, run: StageRun) -> None:
        """Of a stage in which nothing is trained: what it starts from is its epoch 0."""
        metrics, traces = run.validate()
        self.journal.log(run.stage.name, 0, self.at.total, {**metrics, **traces})
        run.judge(metrics, epoch=0)

    def _run_epoch(self, run: StageRun) -> None:
        set_modes(self.method, run.stage, self.at.epoch)
        rate = self.options.rate(self.at.epoch, run.epochs)
        processes = self.reader.processes
        if len(run.part) < processes.world:
            raise ConfigError(f"{len(run.part)} samples for {processes.world} processes", hint="train with fewer")
        keys = {"seed": keyed.number(self.seed, self.at.stage), "epoch": self.at.epoch, "start": self.at.step}
        batches = run.part.batches(self.options.batch_size, **keys, rank=processes.rank, world=processes.world)
        while (batch := self._next(batches)) is not None:
            stepped = self._step(run, batch.to(self.reader.device), rate)
            self._note(run, stepped)
            if stepped.stop:
                self._save_and_stop(run)
            if self._due():
                self._save(run)
        if self._told_to_stop and self.at.total > self._saved:
            self._save_and_stop(run)
        if self.at.total > self._saved and self._affordable():
            self._save(run)
        self._end_epoch(run, rate)

    def _next(self, batches) -> Any:
        started = time.perf_counter()
        batch = next(batches, None)
        self.clock.waiting += time.perf_counter() - started
        return batch

    def _step(self, run: StageRun, batch, rate: float) -> Stepped:
        stage, at = run.stage, self.at
        # Libraries' own dropout draws from torch's generator: let that too be a function of the place, not of the past.
        torch.manual_seed(keyed.number(self.seed, at.stage, at.epoch, at.step, self.reader.processes.rank))
        try:
            stepped = run.stepper.step(batch, self._context(run, epoch=at.epoch), rate, self.interruption.received is not None)
        except Broken as broken:
            when = f"stage {stage.name}, epoch {at.epoch}, step {at.step + 1}"
            about = {"task": self.samples.task.name, "rows": run.part.row, "salt": self.samples.features, "when": when}
            raise numerics.explain(self.method, batch, stage, broken.terms, **about) from None
        at.step, at.total = at.step + 1, at.total + 1
        return stepped

    def _note(self, run: StageRun, stepped: Stepped) -> None:
        run.add(stepped)
        if (self.at.total - 1) % self.options.log_steps == 0:
            means = {f"step/{name}": value / count for name, (value, count) in stepped.terms.items() if count}
            self._log(run, {**means, "step/loss": stepped.total}, self.at.total - 1)
        self.bar.update(1)

    def _end_epoch(self, run: StageRun, rate: float) -> None:
        context = self._context(run, epoch=self.at.epoch)
        self.method.after_epoch(context)
        metrics, traces = run.validate()
        metrics |= context.metrics
        traces |= {f"trace/{name}": value for name, value in context.traces.items()}
        self._log(run, {**run.close_epoch(), "lr": self.options.lr * rate, **metrics, **traces}, self.at.total)
        run.judge(metrics, self.at.epoch)

    def _log(self, run: StageRun, values: dict[str, float], step: int) -> None:
        self.journal.log(run.stage.name, self.at.epoch, step, values)

    def _context(self, run: StageRun, epoch: int) -> TrainContext:
        return TrainContext(self.method, self.samples, self.reader, run.stage, self.seed, epoch, self.at.total)

    def _due(self) -> bool:
        every, seconds = self.options.checkpoint_steps, self.options.checkpoint_seconds
        return (every > 0 and self.at.total - self._saved >= every) or (seconds > 0 and time.perf_counter() - self._saved_at >= seconds)

    def _affordable(self) -> bool:
        """Whether a save at the end of an epoch keeps to its share of the time."""
        busy = self.checkpoints is not None and self.checkpoints.busy
        return not busy and self._cost <= SAVING_SHARE * (time.perf_counter() - self._saved_at)

    def _save(self, run: StageRun, *, wait: bool = False) -> None:
        if self.checkpoints is None:
            return
        started = time.perf_counter()
        clock = Clock(self._before + started - self._started, self.clock.waiting, self.clock.saving)
        state = {
            "identity": self.identity, "at": vars(self.at), "chosen": self.chosen, "stage": run.state(),
            "journal": self.journal.flush(), "clock": vars(clock),
        }  # fmt: skip
        self.checkpoints.save(self.at.total, run.tensors(), state, sync=(self.journal.path,))
        if wait:
            self.checkpoints.wait()
        self._saved, self._saved_at = self.at.total, time.perf_counter()
        self._cost = self._saved_at - started
        self.clock.saving += self._cost

    @property
    def _told_to_stop(self) -> bool:
        """Between steps. Many processes stop together, in a step."""
        return self.interruption.received is not None and self.reader.processes.world == 1

    def _save_and_stop(self, run: StageRun) -> None:
        self._save(run, wait=True)
        self._stop()

    def _watch(self) -> None:
        """Stops an evaluation: what follows the last checkpoint is done again later."""
        if self._told_to_stop:
            self._stop()

    def _stop(self) -> None:
        stop = Interrupted(self.interruption.received or signal.SIGTERM)
        if self.checkpoints is not None:
            self.checkpoints.wait()
            log.warning("stopped by %s; the same command goes on from step %d", stop.signal.name, self._saved)
        raise stop
