"""Films, reports, notes and recordings to the stays: one mechanism for all of them.

A row of a source is an item of a stay where it became available in the stay's window, [intime - lookback, outtime). The items table is
sorted by stay, time and id, so that what a sample may see, all that was available before its prediction_time, is one range of it. A
sample takes all of the range, or the last of it.

    attach   rows that have a patient and a time to the stays they fall into, counting the others
    Link     where each stay's items lie, and the range of each sample

What happens at prediction_time itself is not seen; --compat medfuse closes the windows, as MedFuse does. An item that moves behind
prediction_time changes nothing of the sample.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

LAST, ALL = "last", "all"
NO_TIME = "no time"
NO_STAY = "patient without a kept stay"
ELSEWHERE = "of another admission"
OUTSIDE = "available outside of every kept stay"
_WINDOW = ("intime", "outtime", "_admission")


@dataclass
class Counts:
    """What became of the rows of one source: `rows` = sum of `left_out` + `linked`, and `items` = `linked` + `repeated`."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    linked: int = 0
    repeated: int = 0  # a second stay of the patient that overlaps the first
    notes: Counter[str] = field(default_factory=Counter)

    def drop(self, frame: pl.DataFrame, keep: pl.Expr, reason: str) -> pl.DataFrame:
        """The rows that `keep` (null is false), the others counted."""
        kept = frame.filter(keep)
        if lost := frame.height - kept.height:
            self.left_out[reason] += lost
        return kept

    def tally(self, frame: pl.DataFrame, column: str, before: str = "") -> None:
        """Notes how many rows have each value of a column."""
        for value, n in frame.group_by(column).len().iter_rows():
            self.notes[f"{before}{value}"] += n

    def to_json(self) -> dict:
        left, notes = ({name: n for name, n in sorted(counts.items()) if n} for counts in (self.left_out, self.notes))
        return {"rows": self.rows, "left_out": left, "linked": self.linked, "items": self.linked + self.repeated, "notes": notes}


@dataclass(frozen=True)
class Window:
    """When a stay begins and ends for what is linked to it."""

    lookback_hours: float = 0.0
    closed: bool = False

    def holds(self) -> pl.Expr:
        start = pl.col("intime") - timedelta(hours=self.lookback_hours)
        before = pl.col("time") <= pl.col("outtime") if self.closed else pl.col("time") < pl.col("outtime")
        return (pl.col("time") >= start) & before


def attach(rows: pl.DataFrame, stays: pl.DataFrame, window: Window, counts: Counts) -> pl.DataFrame:
    """The rows that became available in a kept stay, with its `stay_id`; a row in two overlapping stays stands twice.

    Args:
        rows: patient_id, time (datetime: from when it is known), perhaps hadm_id (null: not told), and whatever else is kept.
        stays: stay_id, patient_id, hadm_id, intime, outtime.
        counts: of `rows` what is left out; what is returned is not yet counted as linked.
    """
    counts.rows += rows.height
    rows = counts.drop(rows, pl.col("time").is_not_null(), NO_TIME)
    rows = counts.drop(rows, pl.col("patient_id").is_in(stays["patient_id"].unique().implode()), NO_STAY)
    known = stays.select("stay_id", "patient_id", "intime", "outtime", pl.col("hadm_id").alias("_admission"))
    met = rows.with_row_index("_row").join(known, on="patient_id")
    if "hadm_id" in rows.columns:
        same = pl.col("hadm_id").is_null() | (pl.col("hadm_id") == pl.col("_admission"))
        mine = met.filter(same)
        counts.left_out[ELSEWHERE] += rows.height - mine["_row"].n_unique()
        met, before = mine, mine["_row"].n_unique()
    else:
        before = rows.height
    inside = met.filter(window.holds())
    counts.left_out[OUTSIDE] += before - inside["_row"].n_unique()
    return inside.drop(_WINDOW)


def linked(rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
    """Counts what is left of `attach` after its other exclusions as linked."""
    distinct = rows["_row"].n_unique()
    counts.linked += distinct
    counts.repeated += rows.height - distinct
    return rows.drop("_row")


def drop_linked(rows: pl.DataFrame, keep: pl.Expr, reason: str, counts: Counts) -> pl.DataFrame:
    """Leaves out rows of `attach`; one that stands in two stays counts once."""
    kept = rows.filter(keep)
    if lost := rows["_row"].n_unique() - kept["_row"].n_unique():
        counts.left_out[reason] += lost
    return kept


class Link:
    """The ranges of one modality.

    Args:
        items: stay_id and time of every row of the items table, in its order; rows behind those of the stays have no stay_id.
        pick: LAST or ALL of what a sample may see.
        closed: an item at prediction_time is seen.
        whole: tasks whose samples see every item of the stay, whenever it became available.
    """

    def __init__(self, modality: str, items: pl.DataFrame, pick: str, *, closed: bool = False, whole: frozenset[str] = frozenset()):
        self.modality, self.pick, self.closed, self.whole = modality, pick, closed, whole
        mine = items.select("stay_id", "time").with_row_index("item").drop_nulls("stay_id").cast({"item": pl.Int64})
        self._first = mine.group_by("stay_id").agg(pl.col("item").min().alias("_first"), pl.col("item").max().alias("_last"))
        self._items = mine.select("stay_id", "time", pl.col("item").alias("_seen")).rename({"time": "_time"}).sort("_time", "_seen")

    @property
    def columns(self) -> tuple[str, str]:
        return f"{self.modality}_start", f"{self.modality}_length"

    def add(self, samples: pl.DataFrame, task: str) -> pl.DataFrame:
        """`samples` with MODALITY_start (int64) and MODALITY_length (int32); 0 and 0 where nothing is seen.

        Args:
            samples: stay_id and prediction_time.
        """
        if task in self.whole:
            placed = samples.join(self._first, on="stay_id", how="left", maintain_order="left").with_columns(pl.col("_last").alias("_seen"))
        else:
            order = samples.with_row_index("_order").sort("prediction_time", "_order")
            # The last item before prediction_time; of several at one moment the one that stands last.
            on = {"left_on": "prediction_time", "right_on": "_time", "by": "stay_id", "check_sortedness": False}
            placed = order.join_asof(self._items, **on, allow_exact_matches=self.closed).sort("_order").drop("_order")
            placed = placed.join(self._first, on="stay_id", how="left", maintain_order="left")
        start, length = self.columns
        seen = pl.col("_seen")
        if self.pick == LAST:
            told = (seen.fill_null(0).alias(start), seen.is_not_null().cast(pl.Int32).alias(length))
        else:
            first = pl.when(seen.is_not_null()).then("_first").fill_null(0)
            told = (first.alias(start), (seen - pl.col("_first") + 1).fill_null(0).cast(pl.Int32).alias(length))
        return placed.with_columns(told).drop("_first", "_last", "_seen", "_time", strict=False)
