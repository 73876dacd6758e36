"""Patients, admissions and ICU stays on a calendar of their own, with MIMIC's shifted years.

Order and gaps of admissions come from the patient's stream; a fatal admission is always the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import RETURN, People

MOST_PATIENTS = 500_000
YEAR_GROUPS = ((2008, 0.30), (2011, 0.27), (2014, 0.23), (2017, 0.20))
UNITS = (
    ("Medical Intensive Care Unit (MICU)", 0.21),
    ("Surgical Intensive Care Unit (SICU)", 0.21),
    ("Cardiac Vascular Intensive Care Unit (CVICU)", 0.18),
    ("Medical/Surgical Intensive Care Unit (MICU/SICU)", 0.17),
    ("Trauma SICU (TSICU)", 0.12),
    ("Coronary Care Unit (CCU)", 0.09),
    ("Neuro Surgical Intensive Care Unit (Neuro SICU)", 0.02),
)
TYPES = (("EW EMER.", 0.5), ("URGENT", 0.18), ("OBSERVATION ADMIT", 0.16), ("SURGICAL SAME DAY ADMISSION", 0.10), ("ELECTIVE", 0.06))
PLACES = (("EMERGENCY ROOM", 0.5), ("PHYSICIAN REFERRAL", 0.27), ("TRANSFER FROM HOSPITAL", 0.18), ("CLINIC REFERRAL", 0.05))
HOMES = (("HOME HEALTH CARE", 0.35), ("HOME", 0.33), ("SKILLED NURSING FACILITY", 0.18), ("REHAB", 0.08), ("HOSPICE", 0.06))
INSURANCES = (("Other", 0.52), ("Medicare", 0.38), ("Medicaid", 0.10))
MARRIAGES = (("MARRIED", 0.42), ("SINGLE", 0.32), ("WIDOWED", 0.16), ("DIVORCED", 0.10))
RACES = (("WHITE", 0.66), ("BLACK/AFRICAN AMERICAN", 0.14), ("UNKNOWN", 0.09), ("HISPANIC/LATINO - PUERTO RICAN", 0.05), ("OTHER", 0.06))


def pick(table: tuple[tuple, ...], uniform: float):
    """The entry of (value, share) pairs at this quantile."""
    cumulated = np.cumsum([share for _, share in table])
    return table[int(np.searchsorted(cumulated / cumulated[-1], uniform, side="right"))][0]


def scramble(number: int, base: int) -> int:
    """A one-to-one map of 0 ... 9,999,990 onto ids, so that ids tell no order."""
    return base + number * 7_368_787 % 9_999_991


@dataclass(frozen=True)
class Hospital:
    """Frames of one block; `intime` and `outtime` are datetimes by stay row, `admission_of` the row of its admission."""

    patients: pl.DataFrame
    admissions: pl.DataFrame
    icustays: pl.DataFrame  # sorted as People: row i is stay i
    intime: list[datetime]
    outtime: list[datetime]
    admission_keys: list[tuple[int, int, int]]  # patient row, admission number, stay row (-1: ward only)


def admit(seed: int, people: People) -> Hospital:
    """Places the admissions of a block of patients in time."""
    patients, admissions, keys = [], [], []
    stays: list[dict | None] = [None] * len(people.owner)
    for row, patient in enumerate(people.patient):
        generator = stream(seed, int(patient), "calendar")
        own = np.flatnonzero((people.owner == row) & ~people.returned)
        person, clock = _person(people, row, generator)
        for k, stay in enumerate(_order(generator, people, own, int(people.ward_admissions[row]))):
            clock = clock if k == 0 else clock + timedelta(minutes=int(generator.exponential(180 * 1440)) + 2880)
            admission, clock = _admission(generator, people, row, int(stay), k, clock, person, stays)
            admissions.append(admission)
            keys.append((row, k, int(stay)))
        if admissions[-1]["hospital_expire_flag"]:
            person["dod"] = clock.date()
        elif generator.random() < 0.12:  # MIMIC-IV tells deaths up to a year after the last discharge
            person["dod"] = (clock + timedelta(days=float(generator.uniform(5, 365)))).date()
        patients.append(person)
    frame = pl.DataFrame(stays)
    schema = {"dod": pl.Date}
    return Hospital(
        pl.DataFrame(patients, schema_overrides=schema), _admission_frame(admissions), frame, frame["intime"].to_list(),
        frame["outtime"].to_list(), keys,
    )  # fmt: skip


def _person(people: People, row: int, generator) -> tuple[dict, datetime]:
    patient = int(people.patient[row])
    year = int(generator.integers(2110, 2190))
    first = pick(YEAR_GROUPS, generator.random())
    person = {
        "subject_id": 10_000_000 + 19 * patient + int(generator.integers(19)),
        "gender": "M" if people.male[row] else "F",
        "anchor_age": int(people.age[row]),
        "anchor_year": year,
        "anchor_year_group": f"{first} - {first + 2}",
        "dod": None,
    }
    return person, datetime(year, 1, 1) + timedelta(minutes=int(generator.integers(360 * 1440)))


def _order(generator, people: People, own: np.ndarray, ward: int) -> list[int]:
    """Stay rows in their order with admissions to the ward (-1) between them; after a fatal stay comes none."""
    places = np.sort(generator.integers(0, len(own) + (not people.died[own[-1]]), ward))
    return [int(entry) for entry in np.insert(own, places, -1)]


def _admission(generator, people: People, row: int, stay: int, k: int, start: datetime, person: dict, stays: list):
    """One admission and the ICU stays in it; returns its row and the time it ends."""
    hadm = scramble(int(people.patient[row]) * 16 + k, 20_000_000)
    uniform = generator.random(7)
    end, died = start + timedelta(minutes=int(60 * np.exp(np.log(60) + 0.9 * generator.standard_normal()))), False
    if stay >= 0:
        into = start + timedelta(minutes=int(60 * min(96.0, np.exp(np.log(4) + 1.2 * generator.standard_normal()))))
        end = into + timedelta(hours=float(people.los_hours[stay]))
        stays[stay] = _icustay(people, row, stay, hadm, person, into, end)
        back = _return_of(people, stay)
        if back is not None:
            into = end + timedelta(hours=float(generator.uniform(8, 72)))
            end = into + timedelta(hours=float(people.los_hours[back]))
            stays[back] = _icustay(people, row, back, hadm, person, into, end)
        died, last = bool(people.died[stay]), stay if back is None else back
        if not people.died_in_icu[last]:
            end += timedelta(minutes=int(60 * np.exp(np.log(60) + 0.9 * generator.standard_normal())))
    place = pick(PLACES, uniform[1])
    arrived = start - timedelta(minutes=int(60 + 400 * uniform[6])) if place == "EMERGENCY ROOM" else None
    return {
        "subject_id": person["subject_id"], "hadm_id": hadm, "admittime": _to_minute(start), "dischtime": _to_minute(end),
        "deathtime": _to_minute(end) if died else None, "admission_type": pick(TYPES, uniform[0]),
        "admit_provider_id": f"P{int(generator.integers(10, 99))}{'ABCDEFGHJK'[int(generator.integers(10))]}",
        "admission_location": place, "discharge_location": "DIED" if died else pick(HOMES, uniform[2]),
        "insurance": pick(INSURANCES, uniform[3]), "language": "ENGLISH" if uniform[4] < 0.92 else "?",
        "marital_status": pick(MARRIAGES, (uniform[4] * 12.5) % 1), "race": pick(RACES, uniform[5]),
        "edregtime": _to_minute(arrived) if arrived else None,
        "edouttime": _to_minute(start + timedelta(minutes=40)) if arrived else None, "hospital_expire_flag": int(died),
    }, end  # fmt: skip


def _to_minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def _return_of(people: People, stay: int) -> int | None:
    if not people.second_stay[stay]:
        return None
    same = (people.owner == people.owner[stay]) & (people.number == people.number[stay] + RETURN)
    return int(np.flatnonzero(same)[0])


def _icustay(people: People, row: int, stay: int, hadm: int, person: dict, into: datetime, out: datetime) -> dict:
    first = pick(UNITS, people.unit[stay])
    others = [name for name, _ in UNITS if name != first]
    into, out = into.replace(microsecond=0), out.replace(microsecond=0)
    return {
        "subject_id": person["subject_id"],
        "hadm_id": hadm,
        "stay_id": scramble(int(people.patient[row]) * 16 + int(people.number[stay]), 30_000_000),
        "first_careunit": first,
        "last_careunit": others[int(people.unit[stay] * 1e6) % len(others)] if people.transfer[stay] else first,
        "intime": into,
        "outtime": out,
        "los": (out - into).total_seconds() / 86400,
    }


def _admission_frame(rows: list[dict]) -> pl.DataFrame:
    times = dict.fromkeys(("admittime", "dischtime", "deathtime", "edregtime", "edouttime"), pl.Datetime)
    return pl.DataFrame(rows, schema_overrides=times, infer_schema_length=None)
