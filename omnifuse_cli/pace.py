"""How long trainings will take: what finished runs of the same method took, else an epoch of it, timed."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.trainings import Cell

TYPICAL = 0.5  # share of its epochs after which a training usually has stopped early


def predicted_seconds(missing: Sequence[Cell], known: Sequence[Cell], device: str) -> float:
    """Seconds that the missing runs will take one after the other.

    Args:
        known: cells whose finished runs tell how long theirs took, scaled by the number of modalities.
    """
    took = defaultdict(list)
    for cell in known:
        if cell.state == "finished":
            took[cell.method].append(store.open(cell.path, "run").meta["seconds"] / len(cell.modalities))
    total = 0.0
    for method in {cell.method for cell in missing}:
        cells = [cell for cell in missing if cell.method == method]
        each = took.get(method) or [_timed(max(cells, key=lambda cell: len(cell.modalities)), device)]
        total += statistics.median(each) * sum(len(cell.modalities) for cell in cells)
    return total


def _timed(cell: Cell, device: str) -> float:
    """Seconds a modality of one training, from its first epoch, which is trained aside and thrown away."""
    plan, once = cell.plan, {"train.epochs": 1, "train.tensorboard": False}
    resolved = config.Resolved(plan.resolved.values | once, plan.resolved.origins)
    with tempfile.TemporaryDirectory() as aside:
        short = replace(plan, init="scratch", resolved=resolved, out=Path(aside))
        seconds = short.cell(cell.fold).train(device=device, resume=False).meta["seconds"]
    return TYPICAL * plan.resolved.values["train.epochs"] * seconds / len(plan.modalities)
