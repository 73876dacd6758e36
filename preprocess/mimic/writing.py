"""Writes the series and the samples of a cohort, one range of stays after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic.audit import label_counts
from omnifuse.preprocess.mimic.benchmark_series import benchmark_episodes
from omnifuse.preprocess.mimic.grid import hours_since, to_us
from omnifuse.preprocess.mimic.labels import MORTALITY_HOURS, Samples, longest_window
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.linking import Link
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.scratch import Scratch
from omnifuse.preprocess.mimic.series import default_episodes
from omnifuse.preprocess.mimic.spool import ArraySpool, TableSpool
from omnifuse.preprocess.mimic.timeseries import Episodes, Tokens, columns_of
from omnifuse.preprocess.mimic.variables import COLUMNS
from omnifuse.preprocess.schema import Task
from omnifuse.preprocess.store import Builder

_NEVER = np.iinfo(np.int64).max
_BLOCK = 65_536  # rows of 76 columns made at once


class Writer:
    """ehr.npy, ehr_tails.npy, events.parquet and samples/TASK.parquet.

    Attributes:
        bins, observed: number of bins written, and [17] how many of them hold a value of each channel.
    """

    def __init__(
        self,
        builder: Builder,
        stays: pl.DataFrame,
        samples: Samples,
        tasks: dict[str, Task],
        ledger: Ledger,
        options: Options,
        links: Sequence[Link] = (),
    ):
        self._links = links
        self._builder, self._stays, self._samples, self._ledger, self._options = builder, stays, samples, ledger, options
        self._grid = samples.grid
        self._ehr = ArraySpool(builder.path("ehr.npy"), len(COLUMNS))
        self._tails = ArraySpool(builder.path("ehr_tails.npy"), len(COLUMNS))
        folder = builder.scratch("spool").parent
        self._events = TableSpool(folder, "series")
        self._tables = {task: TableSpool(folder, f"samples-{task}") for task in options.stay_tasks}
        self._tasks = tasks
        self._counts = {name: np.zeros(tasks[name].outputs, dtype=np.int64) for name in self._tables}
        self._window = longest_window(options)
        self.bins, self.observed = 0, np.zeros(17, dtype=np.int64)

    def write(self, scratch: Scratch, progress) -> None:
        """Reads the scratch back by ranges that hold whole patients."""
        patient = self._stays["patient_id"].to_numpy()
        borders = np.append(np.flatnonzero(np.diff(patient, prepend=-1)), patient.size)
        with progress("series", patient.size, "stay") as bar:
            for start, stop in scratch.ranges(borders):
                self._range(scratch.read(start, stop), self._stays[start:stop], start)
                bar.update(stop - start)

    def _range(self, events: pl.DataFrame, stays: pl.DataFrame, start: int) -> None:
        if self._options.is_compat:
            episodes = benchmark_episodes(events, stays, start, self._ledger)
        else:
            episodes = default_episodes(events, stays, start, self._ledger, lookback_hours=self._options.lookback_hours)
        self._events.append(episodes.frame(stays["stay_id"]))
        for code, texts in enumerate(episodes.texts):
            charted = episodes.stay[texts.is_not_null().to_numpy()]
            self._ledger.stays[code] += int(charted.size and 1 + np.count_nonzero(charted[1:] != charted[:-1]))
        end = np.minimum(stays["los_hours"].to_numpy().astype(np.float64), self._window)
        tokens = Tokens(episodes, self._grid, end)
        begin = self._ehr.rows + np.cumsum(tokens.lengths) - tokens.lengths
        values, observed = tokens.bins()
        for block in range(0, len(values), _BLOCK):
            self._ehr.append(columns_of(values[block : block + _BLOCK], observed[block : block + _BLOCK]))
        self.bins += len(observed)
        self.observed += observed.sum(0)
        first = np.where(tokens.first_since == _NEVER, np.inf, hours_since(tokens.first_since))
        for task in self._tables:
            frame = self._placed(self._samples.make(task, stays, first), tokens, begin, end)
            for link in self._links:
                frame = link.add(frame, task)
            if task == "mortality" and not self._options.is_compat:
                self._count_border(episodes, frame["stay"].to_numpy())
            self._counts[task] += label_counts(frame["y"], self._tasks[task])
            self._tables[task].append(frame.drop("stay").sort("patient_id", "sample_id"))

    def _placed(self, samples: pl.DataFrame, tokens: Tokens, begin: np.ndarray, end: np.ndarray) -> pl.DataFrame:
        """With ehr_start, ehr_length and ehr_tail; writes the tails."""
        stay, hours = samples["stay"].to_numpy(), samples["prediction_hours"].to_numpy()
        full, unfinished = self._grid.cut(hours)
        whole = hours >= end[stay]  # the series ends with the window: its last row is the tail already
        length = np.where(whole, tokens.lengths[stay], full)
        rows = np.flatnonzero(unfinished & ~whole)
        tail = np.full(stay.size, -1)
        tail[rows] = self._tails.rows + np.arange(rows.size)
        for block in range(0, rows.size, _BLOCK):
            some = rows[block : block + _BLOCK]
            self._tails.append(columns_of(*tokens.tails(stay[some], full[some], hours[some])))
        return samples.with_columns(
            pl.Series("ehr_start", begin[stay], dtype=pl.Int64),
            pl.Series("ehr_length", length, dtype=pl.Int32),
            pl.Series("ehr_tail", tail, dtype=pl.Int64).replace(-1, None),
        )

    def _count_border(self, episodes: Episodes, stay: np.ndarray) -> None:
        """Values at exactly 48 h, which the benchmark's closed window holds."""
        rows = (episodes.since == to_us(MORTALITY_HOURS)) & np.isin(episodes.stay, stay)
        self._ledger.change("window", np.count_nonzero(~np.isnan(episodes.values[rows])))

    def finish(self) -> dict[str, tuple[int, np.ndarray]]:
        """Closes every file. Returns for each task its number of samples, and [C] how many have each label."""
        self._ehr.close()
        self._tails.close()
        if not self._tails.rows:
            self._builder.path("ehr_tails.npy").unlink()
        self._events.finish(self._builder.path("events.parquet"))
        for task, table in self._tables.items():
            table.finish(self._builder.path(f"samples/{task}.parquet"))
        return {task: (table.rows, self._counts[task]) for task, table in self._tables.items()}
