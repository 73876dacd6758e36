"""Date-times of tables: read as text, parsed here once the rows are filtered, for parsing costs more than reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from omnifuse.preprocess.schema import InputError

# MIMIC's, then MIMIC's dates, then those of a spreadsheet (month first), then those of a database with fractions of a second.
DATETIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S%.f")
_SAMPLE = datetime(2000, 11, 22, 13, 14, 15)


def parse_datetime(frame: pl.DataFrame, column: str, path: Path, formats: Sequence[str] = DATETIME_FORMATS) -> pl.DataFrame:
    """Turns a text column into Datetime("us"), without a time zone: hospital clocks as they were.

    Args:
        frame: with the column "row" of `stream(..., with_row=True)`, a message names the row.
        formats: tried one after the other on what is left; ISO ones are strict to the digit.

    Missing data:
        Null stays null.

    Raises:
        InputError: a text fits none of the formats. It names the first such row, never the text.
    """
    text = frame[column]
    parsed = try_datetime(text, formats)
    wrong = (parsed.is_null() & text.is_not_null()).arg_true()
    if len(wrong):
        row = f":{frame['row'][wrong[0]]}" if "row" in frame.columns else ""
        raise InputError("is no date-time", where=f"{path}{row}:{column}", hint="2130-02-04 04:00:00, 2130-02-04 or 2/4/2130 4:00")
    return frame.with_columns(parsed)


def try_datetime(text: pl.Series, formats: Sequence[str] = DATETIME_FORMATS) -> pl.Series:
    """Datetime("us") of each text, null where it is null or fits none of the formats."""
    if text.dtype != pl.String:
        return text.cast(pl.Datetime("us"))
    parsed = _parse(text, formats[0])
    for format in formats[1:]:
        if parsed.null_count() == text.null_count():
            break
        left = text.set(parsed.is_not_null(), None)
        parsed = parsed.fill_null(_parse(left, format))
    return parsed


def _parse(text: pl.Series, format: str) -> pl.Series:
    """Null where the text does not fit."""
    parsed = text.str.strptime(pl.Datetime("us"), format, strict=False)
    # The parser takes second 60 for the next minute, a year 30 for the year 30, and one digit or a blank where two digits stand.
    wrong = text.str.ends_with(":60")
    if not format.startswith("%Y"):
        wrong |= parsed.dt.year() < 1000
    elif format.endswith("%.f"):
        point = len(_SAMPLE.strftime(format.removesuffix("%.f")))
        wrong |= (text.str.slice(point, 1) != ".") | (text.str.slice(point - 3, 3) == ":60")
    else:
        wrong |= text.str.len_bytes() != len(_SAMPLE.strftime(format))
    return parsed.set(wrong.fill_null(False), None) if wrong.any() else parsed
