"""Frozen split lists: files of the past that say which patient was test, so that numbers can be compared.

    header    `patient_id` or `subject_id`, `part` and perhaps `fold`; parts of schema.PARTS, also `validate` and `validation`
    flags     mimic3-benchmarks and MedFuse: two lists without a header, named testset* and valset*, of rows `subject,flag`;
              1 is test (or val), 0 is not. Read as if they had a header, the first subject of each would be lost
    folder    one that holds such a testset* and valset*

Plain or gzip, UTF-8. Patient ids are kept as text: compared as text with one cohort and as integers with another they are the same, while
lists read as integers against ids read as text match nobody and say nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from omnifuse.preprocess.schema import PARTS, InputError, nearest

SPELLINGS = {**{part: part for part in PARTS}, "validate": "val", "validation": "val"}
FLAGGED = {"testset": "test", "valset": "val"}
IDS = ("patient_id", "subject_id")


def read_frozen(paths: list[Path]) -> pl.DataFrame:
    """Reads split lists into one table.

    Returns:
        `patient_id` text, `part` text, and `fold` int8 where a list has that column; one row a patient (and fold).

    Raises:
        InputError: a file is missing or broken, a row is not of its form, or patients are listed under two parts.
    """
    rows: list[tuple[str, str, int | None]] = []
    for path in _files(paths):
        rows += _read(path)
    table = pl.DataFrame(rows, schema={"patient_id": pl.String, "part": pl.String, "fold": pl.Int8}, orient="row").unique()
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


def _read(path: Path) -> list[tuple[str, str, int | None]]:
    """Rows of (patient, part or "rest", fold)."""
    lines = _lines(path)
    if not lines:
        raise InputError("is empty", where=path)
    header = [name.strip().lower() for name in lines[0][1]]
    if any(name in header for name in (*IDS, "part")):
        return [_by_header(path, number, row, header) for number, row in lines[1:]]
    if meaning := _flag_meaning(path):
        return [_by_flag(path, number, row, meaning) for number, row in lines]
    raise InputError(
        "has no header row with patient_id (or subject_id) and part",
        where=path,
        hint="lists without a header are read where they are named testset*.csv and valset*.csv",
    )


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        why = "the checksum is wrong" if isinstance(error, gzip.BadGzipFile) else "cannot be read"
        raise InputError(why, where=path) from None
    except (EOFError, zlib.error):
        raise InputError("the file looks cut off", where=path, hint="copy it again") from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=path) from None
    except csv.Error:
        raise InputError("is no CSV: a quote is left open or misplaced", where=path) from None


def _by_flag(path: Path, number: int, row: list[str], meaning: str) -> tuple[str, str, None]:
    fields = [field.strip() for field in row]
    if len(fields) != 2 or not fields[0] or fields[1] not in ("0", "1"):
        raise InputError("is not a subject and a flag 0 or 1", where=f"{path}:{number}")
    return fields[0], meaning if fields[1] == "1" else "rest", None


def _by_header(path: Path, number: int, row: list[str], header: list[str]) -> tuple[str, str, int | None]:
    ids = [name for name in IDS if name in header]
    if len(ids) != 1 or "part" not in header:
        raise InputError("needs the columns patient_id (or subject_id) and part", where=path)
    if len(row) != len(header):
        raise InputError(f"{len(row)} fields instead of {len(header)}", where=f"{path}:{number}")
    fields = dict(zip(header, (field.strip() for field in row)))
    part = SPELLINGS.get(fields["part"].lower())
    if part is None:
        raise InputError("the part is unknown", where=f"{path}:{number}", hint=nearest("", PARTS))
    if not fields[ids[0]]:
        raise InputError("the patient id is empty", where=f"{path}:{number}")
    fold = fields.get("fold")
    if fold is not None and not (fold.isascii() and fold.isdigit() and int(fold) <= 127):
        raise InputError("the fold is no number from 0 to 127", where=f"{path}:{number}")
    return fields[ids[0]], part, None if fold is None else int(fold)
