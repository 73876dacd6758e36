"""Raw MIMIC tables: which release this is, where each table lies, and what columns are read from it.

    MIMIC-III   one folder, ICUSTAYS with ICUSTAY_ID, ages from a shifted date of birth
    MIMIC-IV    hosp/ and icu/ (core/ before 2.0, ethnicity instead of race), ICUSTAYS with stay_id, ages from anchor_age

Headers may be upper or lower case, files .csv, .csv.gz or .parquet. The release is told by the tables themselves: the folder's name says
nothing. OUTPUTEVENTS holds none of the 17 variables and is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables import Column

MIMIC3, MIMIC4 = "mimic-iii", "mimic-iv"
EVENT_TABLES = ("chartevents", "labevents")
_NAMES = ("patients", "admissions", "icustays", *EVENT_TABLES, "diagnoses_icd", "d_icd_diagnoses")

# What no task can do without, and what a task needs beside it.
SERIES_TABLES = ("patients", "admissions", "icustays", *EVENT_TABLES)
TASK_TABLES = {"phenotyping": ("diagnoses_icd",)}

# Rows of the full releases, by rows of ICUSTAYS: a shorter event table was cut off or filtered.
# Source: PhysioNet's descriptions and row counts in MIT-LCP/mimic-code.
KNOWN_ROWS = {
    (MIMIC3, 61_532): ("1.4", {"chartevents": 330_712_483, "labevents": 27_854_055}),
    (MIMIC4, 76_540): ("1.0", {"chartevents": 329_499_788, "labevents": 122_103_667}),
    (MIMIC4, 94_458): ("3.1", {"chartevents": 432_997_491}),
}

_ID = {"dtype": pl.Int64, "nullable": False}
_KEYS = (Column("subject_id", **_ID), Column("hadm_id", **_ID))
_STAY = Column("stay_id", aliases=("icustay_id",), **_ID)


def _text(*names: str, **options) -> tuple[Column, ...]:
    return tuple(Column(name, pl.String, **options) for name in names)


_UNITS = _text("first_careunit", "last_careunit")
_TIMES = (*_text("intime", nullable=False), *_text("outtime"))
_ADMISSION = (*_KEYS, *_text("admittime", nullable=False), *_text("dischtime", "deathtime"), Column("hospital_expire_flag", pl.Int64))
COLUMNS: dict[str, dict[str, tuple[Column, ...]]] = {
    MIMIC3: {
        "patients": (_KEYS[0], *_text("gender", "dob", "dod")),
        "admissions": _ADMISSION,
        "icustays": (*_KEYS, _STAY, *_UNITS, *_text("first_wardid", "last_wardid"), *_TIMES, Column("los", pl.Float64)),
        "diagnoses_icd": (*_KEYS, Column("icd_code", pl.String, aliases=("icd9_code",))),
        "d_icd_diagnoses": (Column("icd_code", pl.String, aliases=("icd9_code",)),),
    },
    MIMIC4: {
        "patients": (
            _KEYS[0],
            *_text("gender", "dod"),
            Column("anchor_age", pl.Int64),
            Column("anchor_year", pl.Int64),
            *_text("anchor_year_group", required=False),
        ),
        "admissions": _ADMISSION,
        "icustays": (*_KEYS, _STAY, *_UNITS, *_TIMES, Column("los", pl.Float64)),
        "diagnoses_icd": (*_KEYS, Column("icd_code", pl.String), Column("icd_version", pl.Int64)),
        "d_icd_diagnoses": (Column("icd_code", pl.String),),
    },
}


@dataclass(frozen=True)
class Source:
    """Raw tables of one release. `files` maps the lower-case name of a table to its file; `units` counts ICUSTAYS."""

    folder: Path
    dataset: str
    version: str
    files: dict[str, Path] = field(default_factory=dict)

    def read(self, table: str) -> pl.DataFrame:
        """One of the small tables, columns as in COLUMNS."""
        return tables.read(self.files[table], list(COLUMNS[self.dataset][table]))

    def name(self, table: str) -> str:
        """The file of a table as the manifest names it: relative to the folder."""
        return self.files[table].relative_to(self.folder).as_posix()


def detect(folder: Path) -> Source:
    """Finds the tables and tells the release.

    Raises:
        InputError: no folder, no ICUSTAYS, or one without a stay id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("is no folder", where=folder, hint="give the folder that holds the MIMIC tables")
    files = {name: path for name in _NAMES if (path := tables.find(folder, name))}
    if "icustays" not in files:
        raise InputError("holds no ICUSTAYS table", where=folder, hint="give the folder that holds hosp/ and icu/, or MIMIC-III's tables")
    header = tables.header(files["icustays"])
    if "icustay_id" in header:
        return Source(folder, MIMIC3, "1.4", files)
    if "stay_id" in header:
        return Source(folder, MIMIC4, _version_of_mimic4(files), files)
    raise InputError("has neither ICUSTAY_ID (MIMIC-III) nor stay_id (MIMIC-IV)", where=files["icustays"])


def _version_of_mimic4(files: dict[str, Path]) -> str:
    """1.0 has core/ or ethnicity; 2.2 brought the providers; 3 brought the years 2020 to 2022."""
    if "admissions" not in files or "patients" not in files:
        return "unknown"
    header = tables.header(files["admissions"])
    if files["admissions"].parent.name.lower() == "core" or "race" not in header:
        return "1.0"
    if "anchor_year_group" in tables.header(files["patients"]):
        years = tables.read(files["patients"], list(_text("anchor_year_group")))["anchor_year_group"]
        if years.str.starts_with("2020").any():
            return "3.1"
    return "2.2" if "admit_provider_id" in header else "2.0"


def require(source: Source, tasks: Iterable[str]) -> None:
    """Raises InputError naming the first table that is missing and a task that needs it."""
    for task in tasks:
        for table in (*SERIES_TABLES, *TASK_TABLES.get(task, ())):
            if table not in source.files:
                raise InputError(f"{table.upper()} is missing; the task {task} needs it", where=source.folder)


def truncation_warnings(source: Source, rows: dict[str, int]) -> list[str]:
    """One line a table that has fewer rows than its release, where ICUSTAYS says that it is the whole release."""
    known = KNOWN_ROWS.get((source.dataset, rows.get("icustays", 0)))
    if known is None:
        return []
    version, totals = known
    return [
        f"{source.name(table)} has {rows[table]:,} rows, {source.dataset} {version} has {total:,}: it was cut off or filtered"
        for table, total in totals.items()
        if rows.get(table, 0) < total
    ]
