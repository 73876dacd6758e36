"""What a run costs: peak memory, and the time of a prediction.

Memory is that of the device: on CUDA what torch had allocated at most, on a CPU the largest resident size that the process ever had, with
the interpreter, torch, and whatever it did before this run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def begin(device: torch.device) -> None:
    """Forgets the peak of what ran before, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


class Stopwatch:
    """Wall seconds of a block."""

    seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - started
