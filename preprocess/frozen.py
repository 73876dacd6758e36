"""Frozen split lists: files of the past that say which patient was test, so that numbers can be compared.

    header    a table with `patient_id` or `subject_id`, `part` and perhaps `fold`; parts of schema.PARTS, also `validate`, `validation`
    flags     mimic3-benchmarks and MedFuse: two lists without a header, named testset* and valset*, of rows `subject,flag`;
              1 is test (or val), 0 is not. Read as if they had a header, the first subject of each would be lost
    folder    one that holds such a testset* and valset*

Patient ids are kept as text: compared as text with one cohort and as integers with another they are the same, while
lists read as integers against ids read as text match nobody and say nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.schema import PARTS, InputError
from omnifuse.preprocess.tables.source import open_text

SPELLINGS = {**{part: part for part in PARTS}, "validate": "val", "validation": "val"}
FLAGGED = {"testset": "test", "valset": "val"}
IDS = ("patient_id", "subject_id")
SCHEMA = {"patient_id": pl.String, "part": pl.String, "fold": pl.Int8}
NO_HEADER = "lists without a header are read where they are named testset*.csv and valset*.csv"


def read_frozen(paths: list[Path]) -> pl.DataFrame:
    """Reads split lists into one table.

    Returns:
        `patient_id` text, `part` text, and `fold` int8 where a list has that column; one row a patient (and fold).

    Raises:
        InputError: a file is missing or broken, a row is not of its form, or patients are listed under two parts.
    """
    table = pl.concat([_read(path) for path in _files(paths)] or [pl.DataFrame(schema=SCHEMA)]).unique()
    if table.is_empty():
        raise InputError("the split lists name no patient", where=", ".join(str(path) for path in paths))
    if (unfolded := table["fold"].null_count()) and unfolded < table.height:
        raise InputError("one split list has a column fold and another has none", where=", ".join(str(path) for path in paths))
    table = _without_contradiction(table, paths).sort("fold", "patient_id")
    return table.drop("fold") if unfolded else table


def _without_contradiction(table: pl.DataFrame, paths: list[Path]) -> pl.DataFrame:
    """One row a fold and patient. A flag 0 says only what a patient is not, so that a part named elsewhere overrules it."""
    keys = ["fold", "patient_id"]
    named = table.filter(pl.col("part") != "rest").unique()
    twice = named.group_by(keys).len().filter(pl.col("len") > 1).height
    if twice:
        people = table.select(keys).n_unique()
        raise InputError(f"{twice} of {people} patients are listed with different parts", where=", ".join(str(path) for path in paths))
    rest = table.filter(pl.col("part") == "rest").join(named, on=keys, how="anti", nulls_equal=True)
    return pl.concat([named, rest.with_columns(part=pl.lit("train"))])


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        lists = sorted(file for file in path.iterdir() if _flag_meaning(file))
        for name in FLAGGED:
            found = [file for file in lists if file.name.lower().startswith(name)]
            if len(found) != 1:
                raise InputError(f"holds {len(found)} files {name}*.csv instead of 1", where=path, hint="give the two files themselves")
        yield from lists


def _flag_meaning(path: Path) -> str | None:
    name = path.name.lower()
    if not name.endswith((".csv", ".csv.gz")):
        return None
    return next((part for prefix, part in FLAGGED.items() if name.startswith(prefix)), None)


def _read(path: Path) -> pl.DataFrame:
    """patient_id, part (or "rest": not this list's part), fold."""
    meaning = _flag_meaning(path)
    lines = _lines(path) if meaning else []
    if lines and not {*IDS, "part"} & {name.strip().lower() for name in lines[0][1]}:
        rows = [_by_flag(path, number, row, meaning) for number, row in lines]
        return pl.DataFrame(rows, schema=SCHEMA, orient="row")
    names = tables.header(path)
    if "part" not in names or len({*IDS} & {*names}) != 1:
        raise InputError("needs the columns patient_id (or subject_id) and part", where=path, hint=NO_HEADER)
    columns = [
        tables.Column("patient_id", pl.String, nullable=False, aliases=("subject_id",)),
        tables.Column("part", pl.String, nullable=False),
        tables.Column("fold", pl.Int64, required=False, nullable=False),
    ]
    return _with_parts(path, tables.read(path, columns, with_row=True))


def _with_parts(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    part = pl.col("part").str.strip_chars().str.to_lowercase().replace_strict(SPELLINGS, default=None)
    table = table.with_columns(pl.col("patient_id").str.strip_chars(), part.alias("part"))
    for column, what in (("part", f"the part is none of {', '.join(SPELLINGS)}"), ("fold", "the fold is no number from 0 to 126")):
        wrong = pl.col("part").is_null() if column == "part" else ~pl.col("fold").is_between(0, 126)
        if (rows := table.filter(wrong)).height:
            raise InputError(what, where=f"{path}:{rows['row'][0]}")
    return table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty: the one reader of tables needs a header, and these lists have none."""
    try:
        with open_text(path) as source:
            text = b"".join(iter(lambda: source.read(1 << 20), b""))
        reader = csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        return [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=path) from None
    except csv.Error:
        raise InputError("is no CSV: a quote is left open or misplaced", where=path) from None


def _by_flag(path: Path, number: int, row: list[str], meaning: str) -> tuple[str, str, None]:
    fields = [field.strip() for field in row]
    if len(fields) != 2 or not fields[0] or fields[1] not in ("0", "1"):
        raise InputError("is not a subject and a flag 0 or 1", where=f"{path}:{number}")
    return fields[0], meaning if fields[1] == "1" else "rest", None
