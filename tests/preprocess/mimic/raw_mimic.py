"""A hospital of a few stays, charted row by row, written as MIMIC-III or MIMIC-IV tables: for rules that the demos do not exercise."""

from __future__ import annotations

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.options import Options

T0 = datetime(2150, 1, 1, 8)

_III = {
    "PATIENTS": "SUBJECT_ID,GENDER,DOB,DOD",
    "ADMISSIONS": "SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,HOSPITAL_EXPIRE_FLAG",
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,LAST_WARDID,INTIME,OUTTIME,LOS",
    "CHARTEVENTS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,VALUE,VALUENUM,VALUEUOM,WARNING,ERROR",
    "LABEVENTS": "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM",
    "DIAGNOSES_ICD": "SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
    "D_ICD_DIAGNOSES": "ICD9_CODE",
}
_IV = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admit_provider_id,race,hospital_expire_flag",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,itemid,charttime,storetime,value,valuenum,valueuom,warning",
    "hosp/labevents": "subject_id,hadm_id,specimen_id,itemid,charttime,storetime,value,valuenum,valueuom",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/d_icd_diagnoses": "icd_code,icd_version",
}


def at(hours: float) -> datetime:
    return T0 + timedelta(seconds=round(hours * 3600))


class Hospital:
    """Rows as dicts; every field can be overridden. Hours count from the first stay's intime."""

    def __init__(self, version: int = 3):
        self.version = version
        self.tables: dict[str, list[dict]] = {name.split("/")[-1].lower(): [] for name in _IV}

    def stay(self, number: int = 1, *, subject: int | None = None, start: float = 0.0, hours: float = 72.0, died: bool = False, **fields):
        """A patient (once), an admission from 2 h before to 2 h after, and an ICU stay. Returns the ids of its rows."""
        ids = {"subject_id": subject or number, "hadm_id": 1000 + number, "stay_id": 9000 + number}
        discharge = at(start + hours + 2)
        known = {row["subject_id"] for row in self.tables["patients"]}
        calendar = {"dob": "2090-01-01 00:00:00", "anchor_age": 60, "anchor_year": 2150, "anchor_year_group": "2011 - 2013"}
        patient = {"gender": "F", "dod": "", **calendar}
        if ids["subject_id"] not in known:
            self.tables["patients"].append({**ids, **patient, **fields})
        admission = {
            "admittime": at(start - 2),
            "dischtime": discharge,
            "deathtime": discharge if died else "",
            "hospital_expire_flag": int(died),
        }
        self.tables["admissions"].append({**ids, **admission, **fields})
        unit = {"first_careunit": "MICU", "last_careunit": "MICU", "first_wardid": 5, "last_wardid": 5}
        times = {"intime": at(start), "outtime": at(start + hours), "los": f"{hours / 24:.4f}"}
        self.tables["icustays"].append({**ids, **unit, **times, **fields})
        return ids

    def chart(self, ids: dict, hours: float | datetime, item: int, value: object, unit: str = "", **fields) -> None:
        time = hours if isinstance(hours, datetime) else at(hours)
        row = {"itemid": item, "charttime": time, "storetime": "", "value": value, "valueuom": unit, "warning": 0, "error": 0}
        self.tables["chartevents"].append({**ids, **row, **fields})

    def lab(self, ids: dict, hours: float, item: int, value: object, unit: str = "", **fields) -> None:
        row = {"itemid": item, "charttime": at(hours), "storetime": "", "specimen_id": "", "value": value, "valueuom": unit}
        self.tables["labevents"].append({**ids, **row, **fields})

    def diagnose(self, ids: dict, code: str, version: int = 9, *, listed: bool = True) -> None:
        self.tables["diagnoses_icd"].append({**ids, "seq_num": 1, "icd9_code": code, "icd_code": code, "icd_version": version})
        if listed:
            self.tables["d_icd_diagnoses"].append({"icd9_code": code, "icd_code": code, "icd_version": version})

    def write(self, folder: Path, *, shuffle: int | None = None) -> Path:
        """Writes every table as CSV; `shuffle` is the seed of another order of the rows."""
        for name, header in (_III if self.version == 3 else _IV).items():
            columns = header.split(",")
            rows = list(self.tables[name.split("/")[-1].lower()])
            if shuffle is not None:
                random.Random(f"{shuffle}{name}").shuffle(rows)
            path = folder / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as handle:
                writer = csv.writer(handle)
                writer.writerow(columns)
                writer.writerows([row.get(_key(column), "") for column in columns] for row in rows)
        return folder

    def build(self, folder: Path, **options) -> store.Artefact:
        """The cohort of these tables; by default of the task mortality."""
        options = {"tasks": ("mortality",), **options}
        return build_cohort(self.write(folder / "raw"), folder / "cohort", Options(**options))


def _key(column: str) -> str:
    return {"ICUSTAY_ID": "stay_id"}.get(column, column.lower())


def charted(cohort: store.Artefact, variable: str, stay: int = 9001) -> list[tuple[float, str]]:
    """(hours, text) of a variable in the order of events.parquet."""
    rows = cohort.table("events.parquet").filter(pl.col("stay_id") == stay).select("hours", variable).drop_nulls()
    return rows.rows()


def tokens(cohort: store.Artefact, task: str, sample: str):
    """[T, 76] what a model reads of one sample."""
    import numpy as np

    row = cohort.table(f"samples/{task}.parquet").row(by_predicate=pl.col("sample_id") == sample, named=True)
    rows = cohort.array("ehr.npy")[row["ehr_start"] : row["ehr_start"] + row["ehr_length"]]
    if row["ehr_tail"] is None:
        return rows
    return np.concatenate([rows, cohort.array("ehr_tails.npy")[row["ehr_tail"]][None]])
