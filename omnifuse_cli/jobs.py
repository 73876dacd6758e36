"""Many runs, one after the other or several at once, each told as it ends.

Of several at once each is a process with one thread of torch. Interrupted, all stop; what they had saved is gone on from when the same
command is given again. A process whose parent was killed saves and stops too, so that it holds no run locked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omnifuse.preprocess.schema import NumericalError, Silent
from omnifuse.trainings import Cell

WATCH_SECONDS = 1.0
FOLLOWER = "ends with its parent"


@dataclass(frozen=True)
class Outcome:
    """What a run came to on what it monitored; `reason` tells why there is no value."""

    monitor: str = ""
    value: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    reason: str = ""


def each(function: Callable, arguments: Sequence[tuple], jobs: int) -> Iterator[tuple[int, Any]]:
    """The place of each call among `arguments` and its result, in the order in which they end."""
    if jobs == 1 or len(arguments) < 2:
        yield from ((place, function(*told)) for place, told in enumerate(arguments))
        return
    from joblib import Parallel, delayed, parallel_config

    with _signals_raise(), parallel_config("loky", n_jobs=min(jobs, len(arguments)), inner_max_num_threads=1):
        calls = (delayed(_alone)(place, function, told, os.getpid()) for place, told in enumerate(arguments))
        with contextlib.closing(Parallel(return_as="generator_unordered")(calls)) as ended:
            yield from ended


def train_all(cells: Sequence[Cell], *, device: str, jobs: int, progress=Silent) -> Iterator[tuple[Cell, Outcome]]:
    """Each cell with its outcome, in the order in which they end. NaN and infinity are an outcome; any other error ends it all."""
    shown = (progress,) if jobs == 1 or len(cells) < 2 else ()
    for place, outcome in each(attempt, [(cell, device, *shown) for cell in cells], jobs):
        yield cells[place], outcome


def attempt(cell: Cell, device: str, progress=Silent) -> Outcome:
    """Trains a cell, or finds it trained."""
    try:
        run = cell.train(device=device, resume=True, progress=progress)
    except NumericalError as error:
        return Outcome(reason=str(error))
    best = run.meta["best"] or {}
    value = best.get("value")
    if value is None and best:  # kept for another reason than its value
        value = _logged(run, best)
    reason = "" if value is not None else "nothing was monitored"
    return Outcome(best.get("monitor", ""), value, best.get("epoch"), run.meta["seconds"], reason)


def _logged(run, kept: dict) -> float | None:
    """What was monitored at the epoch that was kept."""
    rows = run.table("history.parquet")
    rows = rows.filter((rows["stage"] == kept["stage"]) & (rows["name"] == kept["monitor"]) & (rows["epoch"] == kept["epoch"]))
    return rows["value"][-1] if len(rows) else None


def _alone(place: int, function: Callable, told: tuple, parent: int) -> tuple[int, Any]:
    """In a process of its own."""
    import torch

    torch.set_num_threads(1)
    if FOLLOWER not in (thread.name for thread in threading.enumerate()):
        threading.Thread(target=_follow, args=(parent,), name=FOLLOWER, daemon=True).start()
    return place, function(*told)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end this process as SIGINT does, by an exception, so that no child outlives it."""
    from omnifuse.models.interruption import Interrupted

    def stop(number: int, _: object) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
