"""The published layouts, and the writer that appends blocks of patients to them.

Source: MIMIC-IV v2.2 (unchanged in 3.1 for these tables), MIMIC-CXR-JPG 2.0.0, MIMIC-IV-Note 2.2, MIMIC-IV-ECG 1.0.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

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
    "cxr/mimic-cxr-2.0.0-metadata": (
        "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate",
        "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
    "cxr/mimic-cxr-2.0.0-split": ("dicom_id", "study_id", "subject_id", "split"),
    "cxr/mimic-cxr-2.0.0-chexpert": (
        "subject_id", "study_id", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
        "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax",
        "Support Devices",
    ),
    "note/radiology": ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"),
    "note/radiology_detail": ("note_id", "subject_id", "field_name", "field_value", "field_ordinal"),
    "note/discharge": ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"),
    "note/discharge_detail": ("note_id", "subject_id", "field_name", "field_value", "field_ordinal"),
    "ecg/record_list": ("subject_id", "study_id", "file_name", "ecg_time", "path"),
}
PLAIN = ("ecg/record_list",)  # published without compression
# fmt: on


class TableWriter:
    """Tables as growing .csv.gz files, a gzip member for each piece; equal rows give equal bytes (no time and no name in the headers).

    `told` is what `state` gave before a run was interrupted: what was written after it is cut off.
    """

    def __init__(self, builder: Builder, stack: ExitStack, names: Iterable[str] = COLUMNS, told: Mapping[str, Any] | None = None):
        self.rows = dict(told["rows"]) if told else dict.fromkeys(names, 0)
        self._files = {}
        for name in self.rows:
            self._files[name] = stack.enter_context(builder.path(file_name(name)).open("r+b" if told else "wb"))
            if told:
                self._files[name].truncate(told["bytes"][file_name(name)])
                self._files[name].seek(0, os.SEEK_END)
            else:
                self._write(name, ",".join(COLUMNS[name]) + "\n")

    def _write(self, name: str, text: str) -> None:
        data = text.encode()
        if name not in PLAIN:
            member = io.BytesIO()
            with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=member, mtime=0) as packed:
                packed.write(data)
            data = member.getvalue()
        self._files[name].write(data)

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Adds rows; the frame must hold the columns of the table, in any order."""
        if len(frame):
            self._write(name, frame.select(COLUMNS[name]).write_csv(None, include_header=False, datetime_format="%Y-%m-%d %H:%M:%S"))
            self.rows[name] += len(frame)

    def state(self) -> dict[str, Any]:
        """Rows and bytes of each table that are safe with the system."""
        for handle in self._files.values():
            handle.flush()
        return {"rows": dict(self.rows), "bytes": {file_name(name): handle.tell() for name, handle in self._files.items()}}


def file_name(name: str) -> str:
    """The path of a table below the raw folder."""
    return f"{name}.csv" if name in PLAIN else f"{name}.csv.gz"


@contextmanager
def writing(builder: Builder, names: Iterable[str] = COLUMNS, told: Mapping[str, Any] | None = None) -> Iterator[TableWriter]:
    with ExitStack() as stack:
        yield TableWriter(builder, stack, names, told)


def number_text(column: str) -> pl.Expr:
    """A number as the tables print it: no trailing ".0"."""
    return pl.col(column).cast(pl.String).str.strip_suffix(".0")
