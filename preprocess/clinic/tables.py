"""The published layout of MIMIC-IV v2.2 (unchanged in 3.1 for these tables), and the writer that appends blocks of patients to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import polars as pl
from isal import igzip

from omnifuse.preprocess.store import Builder

# fmt: off
COLUMNS = {
    "hosp/patients": ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"),
    "hosp/admissions": (
        "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "admit_provider_id", "admission_location",
        "discharge_location", "insurance", "language", "marital_status", "race", "edregtime", "edouttime", "hospital_expire_flag",
    ),
    "hosp/diagnoses_icd": ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
    "hosp/d_icd_diagnoses": ("icd_code", "icd_version", "long_title"),
    "hosp/labevents": (
        "labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id", "charttime", "storetime", "value",
        "valuenum", "valueuom", "ref_range_lower", "ref_range_upper", "flag", "priority", "comments",
    ),
    "hosp/d_labitems": ("itemid", "label", "fluid", "category"),
    "icu/icustays": ("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime", "los"),
    "icu/chartevents": (
        "subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime", "storetime", "itemid", "value", "valuenum", "valueuom",
        "warning",
    ),
    "icu/d_items": (
        "itemid", "label", "abbreviation", "linksto", "category", "unitname", "param_type", "lownormalvalue", "highnormalvalue",
    ),
}
# fmt: on


class TableWriter:
    """The nine tables as growing .csv.gz files; equal rows give equal bytes (no time and no name in the gzip header)."""

    def __init__(self, builder: Builder, stack: ExitStack):
        self.rows = dict.fromkeys(COLUMNS, 0)
        self._files = {}
        for name, columns in COLUMNS.items():
            raw = stack.enter_context(builder.path(f"{name}.csv.gz").open("wb"))
            packed = stack.enter_context(igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0))
            packed.write((",".join(columns) + "\n").encode())
            self._files[name] = packed

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Adds rows; the frame must hold the columns of the table, in any order."""
        text = frame.select(COLUMNS[name]).write_csv(None, include_header=False, datetime_format="%Y-%m-%d %H:%M:%S")
        self._files[name].write(text.encode())
        self.rows[name] += len(frame)


@contextmanager
def writing(builder: Builder) -> Iterator[TableWriter]:
    with ExitStack() as stack:
        yield TableWriter(builder, stack)


def number_text(column: str) -> pl.Expr:
    """A number as the tables print it: no trailing ".0"."""
    return pl.col(column).cast(pl.String).str.strip_suffix(".0")
