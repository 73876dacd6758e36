"""How long trainings will take: what finished runs of the same method took, else an epoch of it, timed, and what every run costs beside."""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from omnifuse import config, console
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import NumericalError
from omnifuse.trainings import Cell

BEST = 1 / 3  # share of its epochs after which a stage usually is at its best; it ends when its patience has passed too


@dataclass(frozen=True)
class Pace:
    """Seconds that runs of a method take: `training` for each modality, `beside` for start, predictions and files."""

    training: float
    beside: float


@dataclass
class _Call:
    """What one command has timed, and the runs that it has counted: its grids share both."""

    timed: dict[str, Pace] = field(default_factory=dict)
    counted: set[Path] = field(default_factory=set)


def predicted_seconds(missing: Sequence[Cell], known: Sequence[Cell], device: str) -> float:
    """Seconds that the missing runs will take one after the other, without those that were counted before in the same command.

    Args:
        known: cells whose finished runs tell how long theirs took, scaled by the number of modalities.
    """
    call = _this_call()
    fresh = [cell for cell in missing if cell.path not in call.counted]
    call.counted |= {cell.path for cell in fresh}
    took = defaultdict(list)
    for cell in known:
        if cell.state == "finished":
            took[cell.method].append(store.open(cell.path, "run").meta["seconds"] / len(cell.modalities))
    cells = defaultdict(list)
    for cell in fresh:
        cells[cell.method].append(cell)
    for method in cells:
        if method not in took and method not in call.timed:
            call.timed[method] = _timed(max(cells[method], key=lambda cell: len(cell.modalities)), device)
    # The first to be timed imports for all, and a finished run does not say what it cost beside its training: one figure for every method.
    beside = statistics.median_low(pace.beside for pace in call.timed.values()) if call.timed else 0.0
    each = {method: pace.training for method, pace in call.timed.items()} | {name: statistics.median(found) for name, found in took.items()}
    return sum(each[cell.method] * len(cell.modalities) + beside for cell in fresh)


def _this_call() -> _Call:
    context = click.get_current_context(silent=True)
    return context.meta.setdefault(__name__, _Call()) if context else _Call()


def _timed(cell: Cell, device: str) -> Pace:
    """From one training with a single epoch a stage, which is made aside and thrown away."""
    from omnifuse.models import prediction, training  # noqa: F401, torch is not a part of what a run costs

    plan, once = cell.plan, {"train.epochs": 1, "train.tensorboard": False}
    resolved = config.Resolved(plan.resolved.values | once, plan.resolved.origins)
    with tempfile.TemporaryDirectory() as aside, _nothing_promised():
        short = replace(plan, init="scratch", resolved=resolved, out=Path(aside))
        started = time.perf_counter()
        try:
            run = short.cell(cell.fold).train(device=device, resume=False)
        except NumericalError:  # its runs will be lost as early
            return Pace(0.0, time.perf_counter() - started)
        whole, seconds = time.perf_counter() - started, run.meta["seconds"]
        stages = prediction.load_run(run, "cpu")[0].stages()
    done = sum(stage["epochs"] for stage in run.meta["stages"])
    options = plan.resolved.section("train")
    epochs = sum(_epochs(stage, options) for stage in stages) / max(done, 1)
    return Pace(seconds * epochs / len(plan.modalities), whole - seconds)


def _epochs(stage, options: dict) -> float:
    """How many a stage usually has. A trial run, and one that keeps its last epoch, has all of them."""
    least = lambda asked, told: told if asked is None else min(asked, told)
    most, patience = least(stage.epochs, options["epochs"]), least(stage.patience, options["patience"])
    return min(most, BEST * most + patience) if stage.keep == options["keep"] == "best" else most


@contextlib.contextmanager
def _nothing_promised() -> Iterator[None]:
    """Training says, when it is stopped, that the same command goes on from there: not of what is thrown away."""
    from omnifuse.models.interruption import Interrupted

    log = logging.getLogger("omnifuse.models")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except Interrupted as stop:
        console.note(f"stopped by {stop.signal.name} while a training was timed, of which nothing is kept")
        raise
    finally:
        log.setLevel(before)
