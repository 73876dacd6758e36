"""Whole processes measured by the operating system: wall and CPU seconds and peak memory of a command and its children."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    peak_mb: float
    output: str


def run(command: list[str], folder: str | None = None) -> Cost:
    """Runs a command to its end; raises where it fails, with the end of what it printed."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    wall = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{' '.join(command[:6])} ... left with {process.returncode}:\n{output.decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output.decode())


def median(costs: list[Cost], name: str) -> float:
    return statistics.median(getattr(cost, name) for cost in costs)


def ratios(above: list[Cost], below: list[Cost], name: str = "wall") -> tuple[float, float, float]:
    """Smallest, median and largest ratio of runs paired in time."""
    pairs = [getattr(a, name) / getattr(b, name) for a, b in zip(above, below)]
    return min(pairs), statistics.median(pairs), max(pairs)


def load() -> str:
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
