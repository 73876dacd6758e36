"""Parquet with the promises of the CSV reader: columns by name in any case, strict types, memory that does not grow with the file.

Rows are taken in slices: a row group of a billion equal values is a few kB in the file and gigabytes at once. Date-times that are typed in
the file come out as text, like those of a CSV, so that callers treat both alike. A number that is not finite, or not whole where whole
numbers are asked for, makes a bad row; so does text that does not read as a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables.block import EMPTY, NOT_FINITE, NOT_OF_TYPE
from omnifuse.preprocess.tables.columns import Column, Layout, locate
from omnifuse.preprocess.tables.parsed import Fault, Parsed
from omnifuse.preprocess.tables.source import open_regular

SLICE_ROWS = 1 << 18


def names(path: Path) -> tuple[str, ...]:
    """The column names, as they are written."""
    return tuple(_schema(path))


def blocks(path: Path, columns: Sequence[Column], most: int) -> Iterator[tuple[Parsed, int]]:
    """Slices of rows, and for each its share of the file's bytes.

    Raises:
        InputError: no sound Parquet file, a column is missing or of a type that cannot hold what is asked.
    """
    schema = _schema(path)
    layout = locate([name.lower() for name in schema], columns, path)
    selection = _selection(layout, schema, path)
    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    rows = _collect(scan.select(pl.len()), path).item()
    size, told = path.stat().st_size, 0
    for start in range(0, rows, SLICE_ROWS):
        frame = _collect(scan.slice(start, SLICE_ROWS).select(selection), path)
        reached = size * min(rows, start + SLICE_ROWS) // rows
        yield _judge(frame, layout, most), reached - told
        told = reached


def _schema(path: Path) -> dict[str, pl.DataType]:
    open_regular(path).close()
    if path.stat().st_size == 0:
        raise InputError("is empty: it has 0 bytes", where=path, hint="download it again")
    return dict(_collect(pl.scan_parquet(path, glob=False, hive_partitioning=False).head(0), path).schema)


def _collect(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):  # its reader panics over some damaged pages
        raise InputError("is no sound Parquet file", where=path, hint="write or download it again") from None


def _selection(layout: Layout, schema: dict[str, pl.DataType], path: Path) -> list[pl.Expr]:
    """For each column its value, null where bad, under its name, and under "name?" whether it is bad."""
    written = list(schema.items())
    selection = []
    for column, place in zip(layout.columns, layout.places):
        if place is None:
            selection += [pl.lit(None, dtype=column.dtype).alias(column.name), pl.lit(False).alias(f"{column.name}?")]
            continue
        name, dtype = written[place]
        value = _convert(pl.col(name), dtype, column)
        if value is None:
            raise InputError(f"column {column.name} holds {dtype}, not {column.dtype}", where=path, hint="write it with another type")
        given = pl.col(name).is_not_null()
        if dtype == pl.String:
            given &= pl.col(name) != ""
        selection += [value.alias(column.name), (given & value.is_null()).alias(f"{column.name}?")]
    return selection


def _convert(raw: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr | None:
    """The value as asked, null where it is bad; None where the type of the file cannot hold it."""
    if isinstance(dtype, pl.Categorical | pl.Enum):
        raw, dtype = raw.cast(pl.String), pl.String()
    if column.dtype == pl.String:
        return _text(raw, dtype)
    if dtype != pl.String and not dtype.is_numeric():
        return None
    value = raw.cast(column.dtype, strict=False)
    if column.dtype == pl.Float64:
        return pl.when(value.is_finite()).then(value)
    if dtype.is_float() or dtype.is_decimal():
        # A cast to whole numbers cuts off what stands behind the point.
        return pl.when(value.cast(pl.Float64) == raw.cast(pl.Float64)).then(value)
    return value


def _text(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if dtype == pl.String:
        return pl.when(raw != "").then(raw)
    if dtype == pl.Date:
        return raw.dt.strftime("%Y-%m-%d")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return raw.dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    return raw.cast(pl.String) if dtype.is_numeric() or dtype == pl.Boolean else None  # true, false


def _judge(frame: pl.DataFrame, layout: Layout, most: int) -> Parsed:
    """Splits a slice into sound and bad rows."""
    faults: dict[int, Fault] = {}
    for column in layout.columns:
        reason = NOT_FINITE if column.dtype == pl.Float64 else NOT_OF_TYPE[column.dtype]
        for record in frame[f"{column.name}?"].arg_true():
            faults.setdefault(record, Fault(record, reason, column.name))
        if not column.nullable:
            for record in (frame[column.name].is_null() & ~frame[f"{column.name}?"]).arg_true():
                faults.setdefault(record, Fault(record, EMPTY, column.name))
    values = frame.select(column.name for column in layout.columns)
    if not faults:
        return Parsed(frame.height, values)
    found = tuple(faults[record] for record in sorted(faults))[: most + 1]
    if len(found) > most:
        return Parsed(frame.height, None, None, found)
    kept = np.setdiff1d(np.arange(frame.height), [fault.record for fault in found])
    return Parsed(frame.height, values[kept], kept, found)
