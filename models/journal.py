"""What a training writes down as it goes: every logged number, once, in a file that resume cuts at the checkpoint, and for TensorBoard.

TensorBoard's x-axis is the number of steps done before: step k is logged at k, the end of an epoch after k steps at k. A checkpoint after
k steps is followed by all that is logged at k and later, so that resuming there purges exactly what is logged again. It gets numbers,
curves and settings; no sample id and no value of a patient.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.models.monitoring import roc_points
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ArtefactError

COLUMNS = {"stage": pl.String, "epoch": pl.Int32, "step": pl.Int64, "name": pl.String, "value": pl.Float64}


class Journal:
    """The log of one run.

    Args:
        path: the file of numbers, one JSON list a line.
        tensorboard: folder of the events; None writes none.
        size, step: where to go on: bytes of the file that count, and steps done. What is behind them is dropped.
    """

    def __init__(self, path: Path, tensorboard: Path | None, *, size: int = 0, step: int = 0):
        store.make_folder(path.parent)
        self.path, self._folder, self._events = path, tensorboard, None
        with store.disk_errors(path):
            self._file = path.open("ab")
        if self._file.tell() < size:
            self._file.close()
            raise ArtefactError("is shorter than its checkpoint says", where=path, hint="start over without resuming")
        self._file.truncate(size)
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            with store.disk_errors(tensorboard):
                _number_events(tensorboard)
                self._events = SummaryWriter(str(store.make_folder(tensorboard)), purge_step=step, flush_secs=30)

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """Numbers by name; what is not finite is left out."""
        values = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        with store.disk_errors(self.path):
            for name, value in values.items():
                self._file.write(f"{json.dumps([stage, epoch, step, name, value])}\n".encode())
                if self._events is not None:
                    self._events.add_scalar(f"{stage}/{name}", value, step)

    def flush(self) -> int:
        """Hands everything to the system; the size of the file."""
        with store.disk_errors(self.path):
            self._file.flush()
            if self._events is not None:
                self._events.flush()
            return self._file.tell()

    def curves(self, task: schema.Task, label: np.ndarray, score: np.ndarray, step: int) -> None:
        """Precision-recall and ROC curves of the validation part, of each label that is defined.

        Args:
            label, score: [N, C]; label NaN where unknown, class indices [N, 1] of a multi-class task.
        """
        if self._events is None:
            return
        if task.kind == "multiclass":
            label = (label == np.arange(task.outputs)).astype(np.float32)
        defined = []
        for name, truth, guess in zip(task.labels, label.T, score.T):
            known = ~(np.isnan(truth) | np.isnan(guess))
            if len(np.unique(truth[known])) == 2:
                defined.append((name, truth[known], guess[known]))
        with store.disk_errors(self.path):
            for name, truth, guess in defined:
                self._events.add_pr_curve(f"pr/{name}", truth, guess, step)
            if defined:
                self._events.add_image("roc", _draw_roc(defined), step, dataformats="HWC")

    def settings(self, settings: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        """Hyperparameters beside what they led to, for TensorBoard's table."""
        if self._events is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in _flat(settings).items()}
        with store.disk_errors(self.path):
            for summary in hparams(plain, metrics):
                self._events.file_writer.add_summary(summary)
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()
            _number_events(self._folder)

    def table(self) -> pl.DataFrame:
        """Every number that was logged: stage, epoch, step, name, value."""
        self.flush()
        rows = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _number_events(folder: Path) -> None:
    """Names the files of events by their order. As written they bear seconds, host and process, by which those of one second mix up."""
    for place, path in enumerate(sorted(folder.glob("events.out.tfevents.*"))):
        path.rename(folder / f"events.out.tfevents.0000000000.{place:06d}")


class SilentJournal:
    """The journal of a process that writes nothing."""

    def log(self, *_: object) -> None:
        return None


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _draw_roc(curves: list[tuple[str, np.ndarray, np.ndarray]]) -> np.ndarray:
    """An image [H, W, 3] uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, truth, guess in curves:
        axes.plot(*roc_points(truth, guess), linewidth=1, label=name)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    if len(curves) <= 10:
        axes.legend(fontsize="x-small")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
