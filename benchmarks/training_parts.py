"""What the benchmark of training measures with: samples of realistic shape, a bare loop, counted FLOPs, our trainer's steps alone.

CPU seconds of the process, on one thread: a machine that others use changes them little, and what a step costs is what it computes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from omnifuse import config
from omnifuse.models import registry
from omnifuse.models.contract import Method
from omnifuse.models.interruption import Interruption
from omnifuse.models.journal import Journal
from omnifuse.models.loop import Trainer
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts import keyed
from omnifuse.models.prediction import Reader
from omnifuse.models.stage_run import StageRun
from omnifuse.models.step import build_optimizer, set_modes
from omnifuse.preprocess import ordering, schema
from omnifuse.preprocess.dataset import Part, Samples
from omnifuse.preprocess.tokens import SERIES, Tokens

# Steps, width and encoder of each modality. `lstm`: three series of 48 hours in steps of two; `mixed`: that, a film of ResNet34's 512
# and a report of 60 word pieces of BERT's 768.
SHAPES = {
    "lstm": {"ehr": (24, 76, "lstm"), "rep": (24, 76, "lstm"), "sig": (24, 76, "lstm")},
    "mixed": {"ehr": (24, 76, "lstm"), "cxr": (1, 512, "embedding"), "rep": (60, 768, "embedding")},
    "tiny": {"ehr": (4, 5, "lstm"), "rep": (4, 5, "lstm"), "sig": (4, 5, "lstm")},
}
SHARES = {"train": 0.6, "val": 0.1, "calib": 0.05, "probe": 0.05, "test": 0.2}
HIDDEN = {"tiny": {"hidden": 12, "dim": 8}}
SEED = 0


def make_samples(shapes: str, patients: int, absent: float = 0.3) -> Samples:
    """Noise with a weak signal; the first modality is always there."""
    random = np.random.default_rng(SEED)
    label = (random.random((patients, 1)) < 0.2).astype(np.float32)
    tokens, present = {}, np.ones((patients, len(SHAPES[shapes])), bool)
    for place, (name, (steps, width, _)) in enumerate(SHAPES[shapes].items()):
        rows = random.standard_normal((patients * steps, width), dtype=np.float32)
        rows[:, 0] += np.repeat(label[:, 0], steps)
        start = np.arange(patients) * steps
        length = np.full(patients, steps)
        if place:
            present[:, place] = random.random(patients) >= absent
            length = np.where(present[:, place], length, 0)
        tokens[name] = Tokens(SERIES, rows, None, start, length, np.full(patients, -1))
    ids = pl.Series([f"s{number:06d}" for number in range(patients)])
    task = schema.Task("death", "binary", ("death",))
    at = np.arange(patients)
    whole = Part("all", task, tokens, ids, ids, label, present, at + 1, ordering.hash_ids(ids), at)
    bounds = np.cumsum([0, *(round(share * patients) for share in SHARES.values())])
    parts = {}
    for name, low, high in zip(SHARES, bounds, bounds[1:]):
        rows = at[low:high]
        parts[name] = Part(name, task, tokens, ids[rows], ids[rows], label[rows], present[rows], rows + 1, whole.hashed[rows], rows)
    dims = {name: width for name, (_, width, _) in SHAPES[shapes].items()}
    return Samples(task, 0, tuple(tokens), parts, dims, dict.fromkeys(SHARES, 0), "generated", shapes)


def first_alone(samples: Samples) -> Samples:
    """Only the first modality, which everybody possesses."""
    name = samples.modalities[0]
    one = lambda part: replace(part, tokens={name: part.tokens[name]}, present=part.present[:, :1])
    return replace(samples, parts={key: one(part) for key, part in samples.parts.items()}, modalities=(name,))


def method_config(name: str, **options) -> dict:
    """The packaged options, as the command line hands them over."""
    fields, _ = config.packaged("methods", name)
    return {"name": name, **{key: field.default for key, field in fields.items()}, **options}


def encoder_configs(shapes: str, modalities: tuple[str, ...]) -> dict[str, dict]:
    return {name: {"name": SHAPES[shapes][name][2], **HIDDEN.get(shapes, {})} for name in modalities}


def build(name: str, samples: Samples, shapes: str, **options) -> Method:
    encoders = encoder_configs(shapes, samples.modalities)
    return registry.build(method_config(name, **options), encoders, samples.dims, samples.task, SEED)


class Steps(Trainer):
    """The trainer's epochs without what follows their last step: validation, mining and the like are no step."""

    def _end_epoch(self, run: StageRun, rate: float) -> None:
        run.close_epoch()


class Ours:
    """Epochs of our trainer, with journal and TensorBoard."""

    def __init__(self, method: Method, samples: Samples, options: TrainOptions, folder: Path):
        reader = Reader(torch.device("cpu"))
        journal = Journal(folder / "history.jsonl", folder / "tb")
        self.trainer = Steps(method, samples, options, SEED, reader, Interruption(), {}, journal)
        self.trainer._saved, self.trainer._saved_at, self.trainer._cost = 0, time.perf_counter(), 0.0
        self.run = StageRun(method.stages()[-1], method, samples, options, reader)
        method.begin_stage(self.trainer._context(self.run, epoch=0))

    def epoch(self, number: int) -> None:
        self.trainer.at.epoch, self.trainer.at.step = number, 0
        self.trainer._run_epoch(self.run)


class Bare:
    """The same model, batches and loss in the shortest loop."""

    def __init__(self, method: Method, samples: Samples, options: TrainOptions):
        self.method, self.options, self.part = method, options, samples.part("train")
        ours = Trainer(method, samples, options, SEED, Reader(torch.device("cpu")), Interruption(), {})
        self.stage = method.stages()[-1]
        self.optimizer = build_optimizer(self.stage, options)
        method.begin_stage(ours._context(StageRun(self.stage, method, samples, options, ours.reader), epoch=0))
        set_modes(method, self.stage, epoch=1)

    def epoch(self, number: int) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for batch in self.part.batches(self.options.batch_size, seed=keyed.number(SEED, 0), epoch=number):
            self.optimizer.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, self.options.clip)
            self.optimizer.step()
            loss.item()

    def loss(self, batch) -> torch.Tensor:
        terms = self.method.loss(self.method(batch), batch, self.stage)
        return sum(term.weight * term.mean for term in terms.values())

    def flops(self) -> float:
        """A sample: of the matrix products of a step, forward and backward, on one batch."""
        batch = next(self.part.batches(self.options.batch_size, seed=1, epoch=1))
        # The fused LSTM of a CPU is no product that torch counts: without it the same products are made one by one.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            self.loss(batch).backward()
        self.optimizer.zero_grad()
        return counter.get_total_flops() / len(batch)


def peak_flops(size: int = 1024, times: int = 3) -> float:
    """Floating-point operations a CPU second of this process at its best in a square float32 product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = min(cpu_seconds(lambda: a @ b) for _ in range(times))
    return 2 * size**3 / best


def cpu_seconds(call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def resident_mb() -> float:
    """Of this process, now."""
    with Path("/proc/self/statm").open() as told:
        return int(told.read().split()[1]) * 4096 / 2**20
