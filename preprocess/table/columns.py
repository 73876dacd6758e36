"""Cells of a sample's rows to one vector: numbers, one-hot categories, and a mask a column.

    columns   the numbers and `NAME->CATEGORY` in the order of the description, then `mask->NAME` of each
    missing   a number that is missing is NaN (`gaps` of the modality's meta): the normaliser passes over it, a batch holds 0, the mean
    several   rows of one sample: column by column the last (or first) cell that holds something, by the order column; of several at one
              moment the greatest, so that no order of the file decides

Categories that are not listed are those that stand in the rows of enough patients, the others share `NAME->other`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.assembly import Modality as Written
from omnifuse.preprocess.table import cells
from omnifuse.preprocess.table.description import Modality

OTHER = "other"
MAX_CATEGORIES = 30
BAD = {
    "not_a_number": "no numbers: they count as missing",
    "infinite": "infinite: they count as missing",
    "unknown_category": "of a category that is not listed, or rare: they count as other",
}


@dataclass
class Made:
    """A modality as it is written, where each sample's rows stand in it, and what the audit tells.

    Attributes:
        start, length: [N] of every sample.
        single: name -> ([N] float64, is it a number), what leaks.py looks at: NaN where missing.
    """

    written: Written
    start: np.ndarray
    length: np.ndarray
    audit: list[dict[str, Any]]
    warnings: list[str]
    single: dict[str, tuple[np.ndarray, bool]]


def build(rows: pl.DataFrame, told: Modality, samples: pl.DataFrame, path: Path) -> Made:
    """The vectors of a `columns` modality.

    Args:
        rows: of the modality, with sample, since and row.
        samples: sample and patient_id of all N samples.

    Raises:
        InputError: a cell is no number, and on_bad_cell is error.
    """
    when = _when(rows, told)
    audit, single, blocks, names, masks, numeric = [], {}, [], [], [], []
    known = {name: texts or _found(rows, name, samples, told.own["min_patients"]) for name, texts in told.own["categorical"].items()}
    for column in (*told.own["numeric"], *known):
        is_number = column not in known
        if is_number:
            values, counts = cells.numbers(rows[column], told.own["decimal"])
            if told.own["on_bad_cell"] == "error":
                cells.refuse_bad(rows[column], values, rows["Row"], path, column)
        else:
            values, counts = cells.categories(rows[column], known[column])
        picked, several = _pick(rows["Sample"], when, values, samples.height, told.take)
        there = ~np.isnan(picked)
        audit.append({"modality": told.name, "column": column, **counts, "samples": int(there.sum()), "several_values": several})
        single[column] = (picked, is_number)
        masks.append(there)
        if is_number:
            numeric.append(sum(block.shape[1] for block in blocks))
            blocks.append(picked[:, None])
            names.append(column)
        else:
            blocks.append((picked[:, None] == np.arange(len(known[column]) + 1)).astype(np.float64))
            names += [f"{column}->{text}" for text in (*known[column], OTHER)]
    warnings = column_warnings(audit, bool(told.order or told.time))
    if told.order and (unread := when.null_count()):
        warnings.append(f"{told.name}: the order column is empty, or neither number nor date-time, in {unread:,} rows: the last choice")
    masks = np.stack(masks, axis=1)
    present = masks.any(1)
    written = np.concatenate([*blocks, masks], axis=1)[present].astype(np.float32)
    names += [f"mask->{column}" for column in (*told.own["numeric"], *known)]
    meta = {"kind": "vector", "columns": names, "continuous": numeric, "gaps": True}
    start = np.where(present, np.cumsum(present) - 1, 0)
    return Made(Written(meta, rows=written), start, present.astype(np.int64), audit, warnings, single)


def _when(rows: pl.DataFrame, told: Modality) -> pl.Series:
    """Int64 that orders a sample's rows; all alike where nothing does."""
    if told.order:
        return cells.order(rows[told.order])
    return rows["Since"]


def _found(rows: pl.DataFrame, column: str, samples: pl.DataFrame, least: int) -> tuple[str, ...]:
    """The categories of at least `least` patients: the most frequent ones, by name."""
    held = rows.select("Sample", column).drop_nulls().join(samples.select("Sample", "Patient_id"), on="Sample")
    counts = held.group_by(column).agg(pl.col("Patient_id").n_unique().alias("patients")).filter(pl.col("patients") >= least)
    most = counts.sort(["patients", column], descending=[True, False]).head(MAX_CATEGORIES)
    return tuple(sorted(most[column].to_list()))


def _pick(sample: pl.Series, when: pl.Series, values: np.ndarray, count: int, take: str) -> tuple[np.ndarray, int]:
    """[N] one value a sample, NaN where it has none; and how many samples had several at the moment that counts."""
    frame = pl.DataFrame({"Sample": sample, "when": when, "value": values}).filter(pl.col("value").is_not_nan())
    # What has no order is the last choice of both.
    bounds = np.iinfo(np.int64)
    frame = frame.with_columns(pl.col("when").fill_null(bounds.min if take == "last" else bounds.max))
    moment = pl.col("when").max() if take == "last" else pl.col("when").min()
    frame = frame.filter(pl.col("when") == moment.over("Sample"))
    picked = frame.group_by("Sample").agg(pl.col("value").max(), (pl.col("value").n_unique() > 1).alias("several"))
    out = np.full(count, np.nan)
    out[picked["Sample"].to_numpy()] = picked["value"].to_numpy()
    return out, int(picked["several"].sum())


def column_warnings(audit: list[dict[str, Any]], ordered: bool) -> list[str]:
    """What a reader of the audit must not overlook."""
    told = []
    for row in audit:
        name = f"{row['modality']}: column {row['column']}"
        if not row["samples"]:
            told.append(f"{name} holds nothing that can be used")
        for reason, text in BAD.items():
            if row.get(reason):
                told.append(f"{name}: {row[reason]:,} of {row['cells'] - row['missing']:,} cells are {text}")
        if row.get("several_values"):
            why = "at one moment" if ordered else "and no order column tells which is the last"
            told.append(f"{name}: {row['several_values']:,} samples have several values {why}: the greatest counts")
    return told
