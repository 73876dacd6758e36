"""How the runs of a report's model learned: loss and AUROC by epoch, from the history that each run kept."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from omnifuse.eval import figures
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.store import Artefact

MOST_STAGES = 3
PLOTS = (("Loss", ("train/loss", "val/loss")), ("AUROC", ("train/auroc", "val/auroc")))


def draw_histories(runs: Sequence[Artefact], mark: str = "") -> list[tuple[figures.Drawing, str, str]]:
    """A drawing, its title and caption for each stage of training and each of loss and AUROC that was logged.

    Args:
        mark: stands behind the name of what was logged.
    """
    histories = [run.table("history.parquet") for run in runs if run.has("history.parquet")]
    if not histories:
        return []
    stages = histories[0]["stage"].unique(maintain_order=True).to_list()
    found = []
    for number, stage in enumerate(stages[:MOST_STAGES]):
        for what, names in PLOTS:
            lines = {plain(name.replace("/", ", ")): _lines(histories, stage, name) for name in names}
            lines = {name: runs for name, runs in lines.items() if runs}
            if lines:
                title = what if len(stages) == 1 else f"{what}, stage {plain(stage)}"
                caption = f"{len(histories)} runs (thin), their mean (bold)." if len(histories) > 1 else "One run."
                drawing = figures.draw_training(f"training_{number}_{what.lower()}", title, lines, f"{what} {mark}".strip())
                found.append((drawing, title, caption))
    return found


def _lines(histories: Sequence[pl.DataFrame], stage: str, name: str) -> list[tuple[list[float], list[float]]]:
    """Epochs and values of each run that logged the number."""
    found = []
    for history in histories:
        rows = history.filter((pl.col("stage") == stage) & (pl.col("name") == name)).sort("epoch", "step")
        rows = rows.group_by("epoch", maintain_order=True).agg(pl.col("value").last())
        if len(rows):
            found.append((rows["epoch"].to_list(), rows["value"].to_list()))
    return found
