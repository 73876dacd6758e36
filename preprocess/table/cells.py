"""A cell of text to a number or a moment, and every cell that is none, counted by reason.

    present + missing + not_a_number + infinite (+ unknown_category) = cells

A number may have blanks around it. `37,5` and `1,234` are no numbers unless the description says that the comma is the decimal mark: one
cannot be told from the other. Numbers beyond 1e30 do not fit the arithmetic of training and count as infinite.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.schema import InputError

LARGEST = 1e30
HOUR_US = 3_600_000_000
UNIT_US = {"hours": HOUR_US, "days": 24 * HOUR_US}
FORMATS = (*tables.DATETIME_FORMATS, "%Y-%m-%dT%H:%M:%S")
_FURTHEST_US = 1e17  # 3,000 years


def numbers(text: pl.Series, decimal: str = "point") -> tuple[np.ndarray, dict[str, int]]:
    """[n] float64, NaN where there is no usable number, and the counts of cells by reason."""
    given = text.str.replace_all(",", ".", literal=True) if decimal == "comma" else text
    if decimal == "comma":  # 1.234,5 has become 1.234.5, which is no number, and stays one
        given = pl.select(pl.when(~text.str.contains(".", literal=True)).then(given)).to_series() if text.len() else given
    found = given.cast(pl.Float64, strict=False).fill_nan(None)
    infinite = (found.abs() > LARGEST).fill_null(False)
    usable = found.is_not_null() & ~infinite
    counts = {
        "cells": text.len(),
        "present": int(usable.sum()),
        "missing": text.null_count(),
        "not_a_number": int((found.is_null() & text.is_not_null()).sum()),
        "infinite": int(infinite.sum()),
    }
    return found.set(~usable, None).cast(pl.Float64).fill_null(float("nan")).to_numpy(), counts


def categories(text: pl.Series, known: tuple[str, ...]) -> tuple[np.ndarray, dict[str, int]]:
    """[n] float64: the index of each cell's category, len(known) for another one, NaN where missing; and the counts."""
    index = text.replace_strict({name: number for number, name in enumerate(known)}, default=len(known), return_dtype=pl.Float64)
    index = index.set(text.is_null(), None)
    other = int((index == len(known)).sum())
    counts = {
        "cells": text.len(),
        "present": text.len() - text.null_count() - other,
        "missing": text.null_count(),
        "not_a_number": 0,
        "infinite": 0,
        "unknown_category": other,
    }
    return index.fill_null(float("nan")).to_numpy().copy(), counts


def refuse_bad(text: pl.Series, values: np.ndarray, rows: pl.Series, path: Path, column: str) -> None:
    """Raises InputError at the first cell that holds something and yields no number."""
    bad = np.flatnonzero(np.isnan(values) & text.is_not_null().to_numpy())
    if len(bad):
        where, hint = f"{path}:{rows[int(bad[0])]}:{column}", "mend the table, list the text under missing, or on_bad_cell: count"
        raise InputError(f"is no finite number; {len(bad)} cells are none", where=where, hint=hint)


def moments(text: pl.Series, unit: str) -> pl.Series:
    """Int64 microseconds: since 1970 of a date-time, else of the number of hours or days. Null where the cell is neither."""
    if unit == "datetime":
        return tables.try_datetime(text, FORMATS).dt.epoch("us")
    value, _ = numbers(text)
    value = value * UNIT_US[unit]
    value = np.where(np.abs(value) < _FURTHEST_US, value, np.nan)
    return pl.Series(text.name, np.rint(value)).fill_nan(None).cast(pl.Int64)


def order(text: pl.Series) -> pl.Series:
    """Int64 that sorts like the cells: as numbers where more of them read as numbers than as date-times; null where it is neither."""
    as_numbers, as_dates = moments(text, "days"), moments(text, "datetime")
    return as_dates if as_dates.null_count() < as_numbers.null_count() else as_numbers
