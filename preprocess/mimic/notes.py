"""The tables of notes: MIMIC-IV-Note's RADIOLOGY and DISCHARGE, and MIMIC-III's NOTEEVENTS, as one stream of rows.

    MIMIC-IV-Note   note_id, subject_id, hadm_id, charttime, storetime, text
    NOTEEVENTS      CATEGORY tells radiology from discharge summaries; rows with ISERROR are left out; radiology has no STORETIME

A note is available when it was stored; without a storetime after `delay_hours` from its charttime; with a CHARTDATE alone from the end of
that day. None is available before its charttime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic.linking import Counts
from omnifuse.preprocess.tables import Column

DEFAULT_DELAY_HOURS = 12.0
ERROR, ANOTHER_KIND, BAD = "ISERROR is 1", "of another category", "rows that cannot be read, skipped"
FROM_STORETIME, FROM_DELAY, FROM_DATE = "time: storetime", "time: charttime and the delay", "time: end of CHARTDATE"

_ID = {"dtype": pl.Int64, "nullable": False}
_KEYS = (Column("subject_id", **_ID), Column("hadm_id", pl.Int64))
_TIMES = (Column("charttime", pl.String), Column("storetime", pl.String, required=False))
_TEXT = (Column("text", pl.String),)
_NAMED = (Column("note_id", pl.String, nullable=False),)
_EVENTS = (
    Column("note_id", pl.String, nullable=False, aliases=("row_id",)),
    Column("category", pl.String),
    Column("description", pl.String),
    Column("chartdate", pl.String, required=False),
    Column("iserror", pl.String, required=False),
)


@dataclass(frozen=True)
class Notes:
    """One kind of notes in one table. `category` is that of NOTEEVENTS, None for a table of one kind."""

    path: Path
    category: str | None = None

    def rows(self, counts: Counts, delay_hours: float, **options) -> Iterator[pl.DataFrame]:
        """patient_id, hadm_id, item_id, time (of availability), text, description (null in MIMIC-IV), known (by what time)."""
        columns = (*_KEYS, *_TIMES, *_TEXT, *(_EVENTS if self.category else _NAMED))
        for chunk in tables.stream(self.path, list(columns), with_row=True, **options):
            counts.notes[BAD] = chunk.bad
            frame = chunk.frame
            if self.category:
                frame = self._of_category(frame, counts)
            yield self._timed(frame, delay_hours)

    def _of_category(self, frame: pl.DataFrame, counts: Counts) -> pl.DataFrame:
        """NOTEEVENTS pads its categories with blanks."""
        mine = pl.col("category").str.strip_chars().str.to_lowercase() == self.category
        counts.rows += frame.height
        frame = counts.drop(frame, mine, ANOTHER_KIND)
        frame = counts.drop(frame, pl.col("iserror").is_null() | ~pl.col("iserror").is_in(["1", "1.0"]), ERROR)
        counts.rows -= frame.height  # counted when they are attached
        return frame

    def _timed(self, frame: pl.DataFrame, delay_hours: float) -> pl.DataFrame:
        dates = ["charttime", "storetime", *(["chartdate"] if "chartdate" in frame.columns else [])]
        for column in dates:
            frame = tables.parse_datetime(frame, column, self.path)
        late = pl.col("charttime") + timedelta(hours=delay_hours)
        stored = pl.max_horizontal("storetime", "charttime")
        day = pl.col("chartdate").dt.truncate("1d") + timedelta(days=1) if "chartdate" in dates else pl.lit(None, pl.Datetime("us"))
        has = {name: pl.col(name).is_not_null() for name in ("storetime", "charttime")}
        told = pl.when(has["storetime"]).then(stored).when(has["charttime"]).then(late).otherwise(day)
        known = (
            pl.when(has["storetime"])
            .then(pl.lit(FROM_STORETIME))
            .when(has["charttime"])
            .then(pl.lit(FROM_DELAY))
            .otherwise(pl.lit(FROM_DATE))
        )
        description = pl.col("description") if self.category else pl.lit(None, pl.String).alias("description")
        return frame.select(
            pl.col("subject_id").alias("patient_id"),
            "hadm_id",
            pl.col("note_id").alias("item_id"),
            told.alias("time"),
            "text",
            description,
            known.alias("known"),
        )

    def delay_hours(self, patients: pl.Series, **options) -> float | None:
        """The 90th percentile of storetime - charttime over the notes of these patients; None where no note has both.

        Reads the table once more, without its texts.
        """
        columns = [_KEYS[0], *_TIMES, *(_EVENTS if self.category else ())]
        found = []
        for chunk in tables.stream(self.path, columns, with_row=True, **options):
            frame = self._of_category(chunk.frame, Counts()) if self.category else chunk.frame
            frame = frame.filter(pl.col("subject_id").is_in(patients.implode())).drop_nulls(["charttime", "storetime"])
            for column in ("charttime", "storetime"):
                frame = tables.parse_datetime(frame, column, self.path)
            found.append((frame["storetime"] - frame["charttime"]).dt.total_seconds().to_numpy() / 3600.0)
        delays = np.concatenate([*found, np.empty(0)])
        return float(np.quantile(np.maximum(delays, 0.0), 0.9)) if delays.size else None
