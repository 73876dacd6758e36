"""What is asked of a table, and where its header holds it."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess.schema import ConfigError, InputError

DTYPES = (pl.Int64, pl.Float64, pl.String)
# A name that may be shown. Where the header line is missing, the "names" are a patient's values.
_NAME = re.compile(r"[a-z_][a-z0-9_ .()-]{0,63}")
_VALUE = re.compile(r"[-+.]?\d")


@dataclass(frozen=True)
class Column:
    """A column to read.

    Args:
        name: canonical, lower case; the case in the file does not matter.
        dtype: pl.Int64, pl.Float64 or pl.String. Date-times are text here: parse them after filtering, with `parse_datetime`.
        required: the table must have it; else an absent one is read as nulls.
        nullable: an empty field is null; else it makes a bad row.
        aliases: other names, in order, tried where the canonical one is absent.
    """

    name: str
    dtype: Any
    required: bool = True
    nullable: bool = True
    aliases: tuple[str, ...] = ()

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ConfigError(f"column {self.name}: dtype {self.dtype} is none of {', '.join(map(str, DTYPES))}")


@dataclass(frozen=True)
class Layout:
    """The asked columns of one file: `places` gives the position of each, None for an absent optional one; `width` counts all columns."""

    columns: tuple[Column, ...]
    places: tuple[int | None, ...]
    width: int

    @cached_property
    def present(self) -> tuple[tuple[Column, int], ...]:
        return tuple((column, place) for column, place in zip(self.columns, self.places) if place is not None)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """A type for every column of the file, named by position: real headers hold anything."""
        asked = {place: column.dtype for column, place in self.present}
        return {str(place): asked.get(place, pl.String) for place in range(self.width)}

    @cached_property
    def empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema={column.name: column.dtype for column in self.columns})

    @cached_property
    def selection(self) -> list[pl.Expr]:
        return [
            pl.lit(None, dtype=column.dtype).alias(column.name) if place is None else pl.col(str(place)).alias(column.name)
            for column, place in zip(self.columns, self.places)
        ]


def split_header(line: bytes, path: Path) -> tuple[str, ...]:
    """The names of a CSV header, in lower case.

    Raises:
        InputError: it is blank, not UTF-8, or its quotes do not close.
    """
    try:
        fields = next(csv.reader([line.decode("utf-8")], strict=True), [])
    except UnicodeDecodeError as error:
        where, hint = f"{path}:1", "declare the encoding or convert the file"
        raise InputError(f"the header is not UTF-8 at byte {error.start}", where=where, hint=hint) from None
    except csv.Error:
        raise InputError("the quotes of the header do not close", where=f"{path}:1") from None
    names = tuple(field.strip().lower() for field in fields)
    if not any(names):
        raise InputError("the header is blank", where=f"{path}:1", hint="the first line must name the columns")
    return names


def locate(names: Sequence[str], columns: Sequence[Column], path: Path) -> Layout:
    """Finds the asked columns among the lower-case names of a header, in any order.

    Raises:
        InputError: a required column is missing (the nearest name is told), two columns have one name, or none of the columns is there.
    """
    known = {name for column in columns for name in (column.name, *column.aliases)}
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in first:
            told = f"columns {first[name] + 1} and {place + 1} have the same name" + (f", {name}" if name in known else "")
            raise InputError(told, where=f"{path}:1", hint="rename or remove one")
        first[name] = place
    places = []
    for column in columns:
        place = next((first[name] for name in (column.name, *column.aliases) if name in first), None)
        if place is None and column.required:
            raise InputError(f"column {column.name} is missing", where=f"{path}:1", hint=_nearest(column, names))
        places.append(place)
    if all(place is None for place in places):
        raise InputError("has none of the columns asked for", where=path, hint=", ".join(column.name for column in columns))
    return Layout(tuple(columns), tuple(places), len(names))


def _nearest(column: Column, names: Sequence[str]) -> str:
    if any(_VALUE.match(name) for name in names):
        return "the first line looks like data: is the header missing?"
    near = [match for name in (column.name, *column.aliases) for match in difflib.get_close_matches(name, names, n=1)]
    return f"the nearest is {near[0]}" if near and _NAME.fullmatch(near[0]) else f"none of the {len(names)} columns has a similar name"
