"""Speed and memory of training, on one thread of a CPU and generated data of realistic shape.

    python benchmarks/train.py                            all of it
    python benchmarks/train.py --only P6,P8 --shapes mixed --runs 9

P6      a step of our trainer / the same model in a bare loop (target 1.03); and / what its matrix products would take at the speed of one
        product of 1024 x 1024 (target 2)
P8      a step of OmniFuse (DWFuse, imputation, TLA; a pattern drawn for each sample) / a step of concat (target 1.5)
log     CPU time inside logging calls, TensorBoard's included / that of the whole run (target 0.5%)
memory  resident memory over 200 epochs: every 20 epochs, and its slope
table   parameters, peak memory, CPU ms a step and ms a patient predicted, of every method; each in a process of its own

Ratios are of CPU time, of epochs that take turns: medians with their ranges.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import wraps
from pathlib import Path

import numpy as np
import torch
import training_parts as parts
from measure import load
from tqdm import tqdm

from omnifuse.models import cost, registry, training
from omnifuse.models.journal import Journal
from omnifuse.models.options import TrainOptions
from omnifuse.preprocess.schema import ConfigError

ALL = ("P6", "P8", "log", "memory", "table")
QUICK = {"gblend": {"estimate_epochs": 1}}  # the table needs no good weights


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def in_turns(above, below, epochs: int) -> tuple[list[float], list[float], list[float]]:
    """CPU seconds of an epoch of each, taking turns, who begins too; and their ratios. The first epoch warms up."""
    first, second = [], []
    for number in tqdm(range(1, epochs + 2), leave=False):
        pair = [(first, above), (second, below)]
        for seconds, one in pair if number % 2 else reversed(pair):
            seconds.append(parts.cpu_seconds(lambda one=one, number=number: one.epoch(number)))
    return first[1:], second[1:], [a / b for a, b in zip(first[1:], second[1:])]


def step_over_bare(given, method: str) -> None:
    samples, options = parts.make_samples(given.shapes, given.patients), TrainOptions()
    steps = len(samples.part("train").plan(options.batch_size, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        ours = parts.Ours(parts.build(method, samples, given.shapes), samples, options, Path(folder))
        bare = parts.Bare(parts.build(method, samples, given.shapes), samples, options)
        mine, _, ratios = in_turns(ours, bare, given.runs)
        ours.trainer.journal.close()
    floor = [len(samples.part("train")) * bare.flops() / parts.peak_flops() for _ in range(3)]  # of an epoch
    print(f"P6 {method:9s} / bare loop {told(ratios)}; / matrix products {statistics.median(mine) / min(floor):.2f}; "
          f"{1000 * statistics.median(mine) / steps:.0f} ms a step")  # fmt: skip


def omnifuse_over_concat(given) -> None:
    samples, options = parts.make_samples(given.shapes, given.patients), TrainOptions()
    with tempfile.TemporaryDirectory() as folder:
        made = {name: parts.build(name, samples, given.shapes) for name in ("omnifuse", "concat")}
        ours = [parts.Ours(method, samples, options, Path(folder) / name) for name, method in made.items()]
        first, second, ratios = in_turns(*ours, given.runs)
        for one in ours:
            one.trainer.journal.close()
    print(f"P8 omnifuse / concat {told(ratios)}; {statistics.median(first):.2f} and {statistics.median(second):.2f} CPU s an epoch")


def logging_share(given) -> None:
    """A whole run of OmniFuse with the default options."""
    spent = dict.fromkeys(("log", "flush", "curves", "settings", "close"), 0.0)
    for name in spent:
        setattr(Journal, name, timed(getattr(Journal, name), spent, name))
    samples, epochs = parts.make_samples(given.shapes, given.patients), given.epochs
    with tempfile.TemporaryDirectory() as folder:
        whole = parts.cpu_seconds(lambda: fit(samples, given.shapes, "omnifuse", Path(folder) / "run", epochs=epochs, patience=epochs))
    during, after = spent["log"] + spent["flush"], spent["curves"] + spent["settings"] + spent["close"]
    print(f"log {during / whole:.2%} of {whole:.0f} CPU s over {epochs} epochs; curves and settings at the end of a run {after:.2f} CPU s")


def timed(call, spent: dict[str, float], name: str):
    @wraps(call)
    def wrapper(*arguments, **named):
        started = time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            spent[name] += time.process_time() - started

    return wrapper


def fit(samples, shapes: str, name: str, run: Path, **train):
    method = parts.method_config(name, **QUICK.get(name, {}))
    encoders = parts.encoder_configs(shapes, samples.modalities)
    return training.train(samples, samples.task, method, encoders, train, fold=0, seed=parts.SEED, run=run, device="cpu")


def memory_over_epochs(given) -> None:
    """A whole run of OmniFuse on tiny data; its journal says when an epoch ends."""
    resident: list[float] = []
    log = Journal.log

    def note(self, stage, epoch, step, values):
        log(self, stage, epoch, step, values)
        if "lr" in values:
            resident.append(parts.resident_mb())

    Journal.log = note
    try:
        with tempfile.TemporaryDirectory() as folder:
            fit(
                parts.make_samples("tiny", 300),
                "tiny",
                "omnifuse",
                Path(folder) / "run",
                epochs=given.memory_epochs,
                patience=given.memory_epochs,
            )
    finally:
        Journal.log = log
    late = resident[len(resident) // 5 :]
    slope = float(np.polyfit(np.arange(len(late)), late, 1)[0]) * 1024
    print(f"memory {', '.join(f'{mb:.1f}' for mb in resident[::20])}, {resident[-1]:.1f} MB; "
          f"{slope:+.1f} kB an epoch after the first {len(resident) - len(late)}")  # fmt: skip


def one_method(given) -> None:
    """In a process of its own: its figures as JSON."""
    samples = parts.make_samples(given.shapes, given.patients)
    before = cost.peak_memory_mb(torch.device("cpu"))
    try:
        parts.build(given.one, samples, given.shapes)
    except ConfigError:  # it takes one modality
        samples = parts.first_alone(samples)
    with tempfile.TemporaryDirectory() as folder:
        bare = parts.Bare(parts.build(given.one, samples, given.shapes), samples, TrainOptions())
        bare.epoch(1)
        seconds = parts.cpu_seconds(lambda: bare.epoch(2))
        meta = fit(samples, given.shapes, given.one, Path(folder) / "run", epochs=1, tensorboard=False).meta
    steps = len(samples.part("train").plan(TrainOptions().batch_size, seed=1))
    told = {name: meta[name] for name in ("parameters", "peak_memory_mb", "predict_ms_per_patient")}
    print(json.dumps(told | {"before_mb": before, "step_ms": 1000 * seconds / steps}))


def table(given) -> None:
    print("method            parameters   peak MB   above data and torch   CPU ms a step   ms a patient")
    for name in registry.names("method"):
        command = [sys.executable, __file__, "--one", name, "--shapes", given.shapes, "--patients", str(given.patients)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        row = json.loads(said)
        above = row["peak_memory_mb"] - row["before_mb"]
        print(f"{name:17s} {row['parameters']:10,d} {row['peak_memory_mb']:9.0f} {above:22.0f} {row['step_ms']:15.0f} "
              f"{row['predict_ms_per_patient']:14.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ALL), help=f"some of {', '.join(ALL)}")
    parser.add_argument("--shapes", choices=parts.SHAPES, default="lstm")
    parser.add_argument("--patients", type=int, default=1200)
    parser.add_argument("--runs", type=int, default=7, help="epochs that take turns")
    parser.add_argument("--epochs", type=int, default=20, help="of the run whose logging is measured")
    parser.add_argument("--memory-epochs", type=int, default=200)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        one_method(given)
        return
    only = given.only.split(",")
    if "P6" in only:
        step_over_bare(given, "concat")
        step_over_bare(given, "omnifuse")
    for name, measure in {"P8": omnifuse_over_concat, "log": logging_share, "memory": memory_over_epochs, "table": table}.items():
        if name in only:
            measure(given)
    print(f"{given.shapes}, {given.patients} patients, one thread; {load()}")


if __name__ == "__main__":
    main()
