"""A small hospital in MIMIC-IV's layout, written cell by cell: what the tests of bad input break, one cell or byte at a time."""

from __future__ import annotations

import gzip
import random
from datetime import datetime, timedelta
from pathlib import Path

CANARY = "Zq7CanaryZq7"  # stands in a text cell of every table that has one: it may never be printed

HEADERS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,"
    "discharge_location,insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,valuenum,valueuom,"
    "ref_range_lower,ref_range_upper,flag,priority,comments",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning",
}
VITALS = {220045: (85, 12, "bpm"), 220179: (120, 15, "mmHg"), 220180: (60, 8, "mmHg"), 220181: (78, 9, "mmHg"), 220210: (18, 4, "insp/min"),
          220277: (97, 2, "%"), 223761: (98.4, 0.7, "°F")}  # fmt: skip


def tables(patients: int = 60, seed: int = 0) -> dict[str, list[list[str]]]:
    """Rows of each table, without the header. A third of the patients die, and their pulse is faster."""
    draw = random.Random(seed)
    rows: dict[str, list[list[str]]] = {name: [] for name in HEADERS}
    for number in range(patients):
        _patient(rows, 10_000_000 + 97 * number, draw, dies=number % 3 == 0)
    return rows


def _patient(rows: dict[str, list[list[str]]], subject: int, draw: random.Random, dies: bool) -> None:
    hadm, stay = subject + 10_000_000, subject + 20_000_000
    admitted = datetime(2150, 1, 1) + timedelta(minutes=draw.randrange(10**6))
    intime, hours = admitted + timedelta(hours=2), draw.uniform(50, 240)
    outtime = intime + timedelta(hours=hours)
    died = str(outtime) if dies else ""
    rows["hosp/patients"].append([str(subject), draw.choice("FM"), str(draw.randrange(20, 90)), "2150", "2011 - 2013", ""])
    rows["hosp/admissions"].append([str(subject), str(hadm), str(admitted), str(outtime), died, "URGENT", CANARY, "CLINIC REFERRAL", "HOME",
                                    "Medicare", "ENGLISH", "SINGLE", "WHITE", "", "", str(int(dies))])  # fmt: skip
    rows["hosp/diagnoses_icd"] += [[str(subject), str(hadm), "1", "4019" if dies else "I10", "9" if dies else "10"]]
    rows["icu/icustays"].append([str(subject), str(hadm), str(stay), "MICU", "MICU", str(intime), str(outtime), f"{hours / 24:.6f}"])
    for hour in range(int(hours)):
        at = intime + timedelta(hours=hour, minutes=draw.randrange(50))
        for item, (mean, spread, unit) in VITALS.items():
            value = f"{draw.gauss(mean + 15 * dies * (item == 220045), spread):.1f}"
            times = [str(at), str(at + timedelta(minutes=5))]
            rows["icu/chartevents"].append([str(subject), str(hadm), str(stay), "", *times, str(item), value, value, unit, "0"])
        rows["icu/chartevents"].append([str(subject), str(hadm), str(stay), "", *times, "999999", CANARY, "", "", "0"])
    at = intime + timedelta(hours=5)
    rows["hosp/labevents"].append([str(subject * 10), str(subject), str(hadm), "1", "50931", "", str(at), str(at + timedelta(hours=1)),
                                   "131", "131", "mg/dL", "", "", "", "ROUTINE", CANARY])  # fmt: skip


def text(name: str, rows: list[list[str]]) -> str:
    return "\n".join([HEADERS[name], *(",".join(row) for row in rows)]) + "\n"


def write(folder: Path, rows: dict[str, list[list[str]]]) -> Path:
    for name, table in rows.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text(name, table).encode(), mtime=0))
    return folder
