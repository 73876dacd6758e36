"""Samples of the four tasks: which stays, until when they are seen, and what is to be told.

| task | seen | label |
|---|---|---|
| mortality | 48 h from intime | died in hospital; only stays still in the unit, in the default mode also alive, at 48 h |
| phenotyping | the whole stay: retrospective | 25 groups of the admission's discharge codes |
| los | 24 h from intime | days in the unit above thresholds; only stays that last longer than what is seen |
| los_remaining | [intime, t) for every hour t from 5 on | hours that remain, in the benchmark's 10 buckets |

Every sample needs at least one value in its window. The compat modes close windows at the end + 1e-6 h and take LOS, which is rounded, as
the length of the stay. Source: scripts/create_*.py of mimic3-benchmarks at ea0314c7.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic import radiology, windows
from omnifuse.preprocess.mimic.grid import EPS, HOUR_US, Grid
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.schema import Task

MORTALITY_HOURS = 48.0
SHORTEST_HOURS = 4.0  # los_remaining begins after them
BUCKET_DAYS = (1, 2, 3, 4, 5, 6, 7, 8, 14)
BUCKETS = ("0-1 d", "1-2 d", "2-3 d", "3-4 d", "4-5 d", "5-6 d", "6-7 d", "7-8 d", "8-14 d", "14+ d")


def describe(options: Options, phenotypes: list[str], linked: tuple[str, ...] = ()) -> dict[str, Task]:
    """The tasks as the manifest tells them.

    Args:
        linked: the modalities beside ehr; a task that leaks through one of them says so in its notes (`leaks`: {modality: reason}).
    """
    days = options.los_thresholds
    if len(days) == 1:
        los = Task("los", "binary", (f"los > {days[0]:g} d",), {"window_hours": options.los_window_hours, "thresholds_days": list(days)})
    else:
        names = [f"<= {days[0]:g} d", *(f"{a:g}-{b:g} d" for a, b in itertools.pairwise(days)), f"> {days[-1]:g} d"]
        los = Task("los", "multiclass", tuple(names), {"window_hours": options.los_window_hours, "thresholds_days": list(days)})
    every = {
        "mortality": Task("mortality", "binary", ("mortality",), {"window_hours": MORTALITY_HOURS}),
        "phenotyping": Task("phenotyping", "multilabel", tuple(phenotypes), {"retrospective": True}),
        "los": los,
        "los_remaining": Task("los_remaining", "multiclass", BUCKETS, {"every_hours": 1.0}),
        radiology.NAME: radiology.TASK,
    }
    return {name: _marked(every[name], linked) for name in options.tasks}


def _marked(task: Task, linked: tuple[str, ...]) -> Task:
    leaks = windows.leaks(task.name, linked)
    return replace(task, notes={**task.notes, "leaks": leaks}) if leaks else task


def longest_window(options: Options) -> float:
    """Hours of a stay that some task looks at: infinite where one needs the whole."""
    hours = {"mortality": MORTALITY_HOURS, "los": options.los_window_hours}
    return max((hours.get(task, np.inf) for task in options.stay_tasks), default=MORTALITY_HOURS)


class Samples:
    """Makes the samples of one range of stays after the other, and counts how many each condition leaves.

    Args:
        diagnoses: hadm_id and a column a phenotype; for phenotyping.
    """

    def __init__(self, options: Options, grid: Grid, diagnoses: pl.DataFrame | None = None):
        self.options, self.grid, self.diagnoses = options, grid, diagnoses
        self.left: dict[str, dict[str, list[int]]] = defaultdict(dict)  # task -> condition -> [stays, patients]
        self._makers: dict[str, Callable] = {
            "mortality": self._mortality, "phenotyping": self._phenotyping, "los": self._los, "los_remaining": self._remaining,
        }  # fmt: skip

    def make(self, task: str, stays: pl.DataFrame, first_hours: np.ndarray) -> pl.DataFrame:
        """Samples of a range, sorted by stay and time.

        Args:
            stays: the range, with comfort_hours (hours from intime to the first order of comfort care; null where none).
            first_hours: [S] time of the first value in the series, infinite where there is none.

        Returns:
            stay (index in the range), sample_id, patient_id, stay_id, prediction_time, prediction_hours, y, and the task's own columns.
        """
        stays = stays.with_columns(pl.Series("first_hours", first_hours), pl.int_range(pl.len()).alias("stay"))
        return self._makers[task](stays)

    def _keep(self, task: str, stays: pl.DataFrame, condition: str, expression: pl.Expr) -> pl.DataFrame:
        kept = stays.filter(expression)
        count = self.left[task].setdefault(condition, [0, 0])
        count[0] += kept["stay_id"].n_unique()
        count[1] += kept["patient_id"].n_unique()
        return kept

    def _seen(self, task: str, stays: pl.DataFrame, end: pl.Expr) -> pl.DataFrame:
        """Stays with a value before the end of the window."""
        before = pl.col("first_hours") < (end + EPS if self.options.is_compat else end)
        stays = self._keep(task, stays, "a value in the window", before)
        return stays

    def _without_comfort(self, task: str, stays: pl.DataFrame) -> pl.DataFrame:
        """Samples before whose end no comfort care was ordered, where that is asked for; phenotyping looks back and takes no notice."""
        if not self.options.exclude_comfort_care:
            return stays
        free = pl.col("comfort_hours").is_null() | (pl.col("comfort_hours") >= pl.col("hours"))
        return self._keep(task, stays, "no comfort care ordered in the window", free)

    def _mortality(self, stays: pl.DataFrame) -> pl.DataFrame:
        least = MORTALITY_HOURS - (EPS if self.options.is_compat else 0.0)
        stays = self._keep("mortality", stays, "in the unit at 48 h", pl.col("los_hours") >= least)
        if not self.options.is_compat:
            alive = pl.col("died_hours").is_null() | (pl.col("died_hours") > MORTALITY_HOURS)
            stays = self._keep("mortality", stays, "alive at 48 h", alive)
        stays = self._seen("mortality", stays, pl.lit(MORTALITY_HOURS)).with_columns(hours=pl.lit(MORTALITY_HOURS))
        stays = self._without_comfort("mortality", stays)
        return _finish(stays, pl.col("stay_id").cast(pl.String), _floats(pl.col("died_in_hospital")))

    def _phenotyping(self, stays: pl.DataFrame) -> pl.DataFrame:
        names = [name for name in self.diagnoses.columns if name not in ("hadm_id", "coded_in")]
        stays = stays.join(self.diagnoses, on="hadm_id", how="left", maintain_order="left")
        if not self.options.is_compat:
            stays = self._keep("phenotyping", stays, "diagnoses coded", pl.col(names[0]).is_not_null())
        if self.options.label_era != "both":
            version = int(self.options.label_era.removeprefix("icd"))
            stays = self._keep("phenotyping", stays, f"coded in {self.options.label_era}", pl.col("coded_in") == version)
        stays = self._seen("phenotyping", stays, pl.col("los_hours")).with_columns(hours=pl.col("los_hours"))
        y = pl.concat_list([pl.col(name).fill_null(0).cast(pl.Float32) for name in names])
        return _finish(stays, pl.col("stay_id").cast(pl.String), y, period_length=pl.col("los_hours"))

    def _los(self, stays: pl.DataFrame) -> pl.DataFrame:
        window, days = self.options.los_window_hours, self.options.los_thresholds
        stays = self._keep("los", stays, f"in the unit longer than {window:g} h", pl.col("los_hours") > window)
        stays = self._seen("los", stays, pl.lit(float(window))).with_columns(hours=pl.lit(float(window)))
        stays = self._without_comfort("los", stays)
        above = pl.sum_horizontal(pl.col("los_hours") > 24.0 * day for day in days)
        return _finish(stays, pl.col("stay_id").cast(pl.String), _floats(above), remaining_hours=pl.col("los_hours") - pl.col("hours"))

    def _remaining(self, stays: pl.DataFrame) -> pl.DataFrame:
        """A sample every hour t > 4 h after the first value; closed at LOS + eps in compat, before outtime in the default mode."""
        stays = self._seen("los_remaining", stays.filter(pl.col("los_hours").is_not_null()), pl.col("los_hours"))
        los = stays["los_hours"].to_numpy()
        stop = np.floor(los + EPS) if self.options.is_compat else np.ceil(los) - 1
        first = np.maximum(np.floor(np.maximum(stays["first_hours"].to_numpy(), SHORTEST_HOURS)) + 1, 1)
        count = np.maximum(stop - first + 1, 0).astype(np.int64)
        repeated = np.repeat(np.arange(stays.height), count)
        within = np.arange(repeated.size) - np.repeat(np.cumsum(count) - count, count)
        samples = stays[repeated].with_columns(hours=pl.Series(first[repeated] + within, dtype=pl.Float64))
        samples = self._without_comfort("los_remaining", samples)
        name = pl.concat_str(pl.col("stay_id"), pl.col("hours").cast(pl.Int64).cast(pl.String).str.zfill(4), separator="_")
        remaining = pl.col("los_hours") - pl.col("hours")
        bucket = pl.sum_horizontal(remaining >= 24.0 * day for day in BUCKET_DAYS)
        return _finish(samples, name, _floats(bucket), period_length=pl.col("hours"), remaining_hours=remaining)


def _floats(expression: pl.Expr) -> pl.Expr:
    return pl.concat_list([expression.cast(pl.Float32)])


def _finish(stays: pl.DataFrame, sample_id: pl.Expr, y: pl.Expr, **columns: pl.Expr) -> pl.DataFrame:
    return stays.select(
        "stay",
        sample_id.alias("sample_id"),
        "patient_id",
        "stay_id",
        (pl.col("intime") + pl.duration(microseconds=(pl.col("hours") * HOUR_US).round().cast(pl.Int64))).alias("prediction_time"),
        pl.col("hours").alias("prediction_hours"),
        y.alias("y"),
        **columns,
    )


def counts(tasks: dict[str, Task], positives: dict[str, tuple[int, np.ndarray]]) -> list[dict[str, Any]]:
    """One entry a label: n samples, and how many have it.

    Args:
        positives: task -> number of samples, and [C] how many have each label (or are of each class).
    """
    return [
        {"task": name, "label": label, "n": positives[name][0], "positive": int(found)}
        for name, task in tasks.items()
        for label, found in zip(task.labels, positives[name][1])
    ]
