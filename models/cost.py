"""What a run costs: parameters, peak memory, and the time of a prediction.

Memory is that of the device: on CUDA what torch had allocated at most, on a CPU the largest resident size that the process ever had, with
the interpreter, torch, and whatever it did before this run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from omnifuse.models.contract import Method


def count_parameters(method: Method) -> dict[str, int]:
    """All that the method holds, and those of them that learn in one of its stages: no frozen teacher, no network that is kept as it is."""
    learn = {id(p): p.numel() for stage in method.stages() for group in stage.groups for p in group.parameters}
    return {"parameters": sum(p.numel() for p in method.parameters()), "parameters_learnable": sum(learn.values())}


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
