"""Which ICU stays are kept, how old the patient is, and whether he or she died in hospital.

    drop stays with a transfer    first and last care unit (in MIMIC-III also ward) equal
    one stay an admission         counted after the transfers were dropped
    adults                        18 years and above

The attrition is that of mimic3-benchmarks (extract_subjects.py). Age and death follow it in the compat modes, faults included; the
default mode repairs both (rules `age` and `mortality`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic.source import MIMIC3, Source
from omnifuse.preprocess.schema import InputError

ADULT_YEARS = 18
OVER_89 = {"mimic-iii": 91.4, "mimic-iv": 91.0}  # the median age of those over 89 in MIMIC-III; MIMIC-IV's own code for them
_HOUR_US = 3_600_000_000
_WINDOW = timedelta(hours=48)


@dataclass
class Cohort:
    """`stays`: a row a kept stay, sorted by patient and stay, with the columns of stays.parquet and `died_hours` (since intime).

    `icustays`: stay_id and intime of every ICU stay.
    """

    stays: pl.DataFrame
    icustays: pl.DataFrame
    attrition: list[dict[str, Any]]
    rules: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


def select(source: Source, *, compat: bool) -> Cohort:
    """Reads ICUSTAYS, ADMISSIONS and PATIENTS and applies the exclusions.

    Args:
        compat: age and death as the benchmarks compute them (for MIMIC-IV as MedFuse does), else by the rules of the default mode.

    Raises:
        InputError: an id that should be unique is not, or nothing is left.
    """
    icustays, admissions, patients = (_read(source, name) for name in ("icustays", "admissions", "patients"))
    rows = {"icustays": icustays.height, "admissions": admissions.height, "patients": patients.height}
    attrition = [_step("stays in ICUSTAYS", icustays)]
    same = pl.col("first_careunit") == pl.col("last_careunit")
    if source.dataset == MIMIC3:
        same &= pl.col("first_wardid") == pl.col("last_wardid")
    stays = icustays.filter(same)
    attrition.append(_step("no transfer: first and last unit equal", stays))
    stays = stays.join(admissions, on=["subject_id", "hadm_id"], how="inner").join(patients, on="subject_id", how="inner")
    attrition.append(_step("admission and patient known", stays))
    stays = stays.filter(pl.len().over("hadm_id") == 1)
    attrition.append(_step("one stay in the admission", stays))
    rules = []
    if not compat:
        stays = stays.filter(pl.col("outtime") > pl.col("intime"))
        attrition.append(_step("outtime after intime", stays))
        everyone = icustays.join(admissions, on=["subject_id", "hadm_id"], how="inner").join(patients, on="subject_id", how="inner")
        rules.append(_disagreements(everyone))
    stays = _with_age(stays, source, compat).filter(pl.col("age") >= ADULT_YEARS)
    attrition.append(_step(f"aged {ADULT_YEARS} or more", stays))
    if stays.is_empty():
        raise InputError("no stay is left after the exclusions", where=source.files["icustays"], hint="; ".join(map(_told, attrition)))
    if not compat:
        rules.append(_age_rule(stays, source))
    return Cohort(_columns(stays, compat), icustays.select("stay_id", "intime"), attrition, rules, rows)


def _read(source: Source, name: str) -> pl.DataFrame:
    """One table with its times parsed; the id it is about must be unique."""
    path = source.files[name]
    frame = source.read(name)
    key = {"icustays": "stay_id", "admissions": "hadm_id", "patients": "subject_id"}[name]
    if repeated := frame.height - frame[key].n_unique():
        raise InputError(f"{repeated} rows repeat a {key} that stands above them", where=path, hint="each may stand there once")
    for column in ("intime", "outtime", "admittime", "dischtime", "deathtime", "dob", "dod"):
        if column in frame.columns:
            frame = tables.parse_datetime(frame, column, path)
    return frame


def _step(step: str, stays: pl.DataFrame, note: str = "") -> dict[str, Any]:
    counts = {"stays": stays["stay_id"].n_unique(), "admissions": stays["hadm_id"].n_unique(), "patients": stays["subject_id"].n_unique()}
    return {"step": step, **counts, "note": note}


def _told(step: dict[str, Any]) -> str:
    return f"{step['step']}: {step['stays']}"


def within(column: str, start: str, end: str) -> pl.Expr:
    """Whether a time lies in a closed interval; an unknown time lies in none."""
    return ((pl.col(start) <= pl.col(column)) & (pl.col(column) <= pl.col(end))).fill_null(False)


# In the benchmarks a patient died in hospital where DOD, which has no hour, or DEATHTIME lies between admission and discharge.
BENCHMARK_DEATH = within("dod", "admittime", "dischtime") | within("deathtime", "admittime", "dischtime")
FLAGGED_DEATH = pl.col("hospital_expire_flag").fill_null(0) == 1


def _with_age(stays: pl.DataFrame, source: Source, compat: bool) -> pl.DataFrame:
    """`age` in years, and `benchmark_age`."""
    if source.dataset == MIMIC3:
        seconds = (stays["intime"] - stays["dob"]).dt.total_microseconds().to_numpy() / 1e6
        benchmark = pl.Series("benchmark_age", seconds / 3600.0 / 24.0 / 365.0, nan_to_null=True)
        benchmark = pl.select(pl.when(benchmark < 0).then(90.0).otherwise(benchmark)).to_series().alias("benchmark_age")
        age = pl.Series("age", seconds / 3600.0 / 24.0 / 365.25, nan_to_null=True)
    else:
        benchmark = stays["anchor_age"].cast(pl.Float64).alias("benchmark_age")
        age = (stays["anchor_age"] + stays["intime"].dt.year() - stays["anchor_year"]).cast(pl.Float64).alias("age")
    if compat:
        return stays.with_columns(benchmark, benchmark.alias("age"))
    return stays.with_columns(benchmark, age).with_columns(
        pl.when(pl.col("age") > 89).then(OVER_89[source.dataset]).otherwise(pl.col("age")).alias("age")
    )


def _age_rule(stays: pl.DataFrame, source: Source) -> dict[str, Any]:
    if source.dataset == MIMIC3:
        changed = stays.filter(pl.col("age") == OVER_89[source.dataset]).height
        what = f"stays over 89, whose date of birth is shifted by 300 years: one band, {OVER_89[source.dataset]} years"
    else:
        changed = stays.filter((pl.col("age") - pl.col("benchmark_age")).abs() > 0).height
        what = "stays whose age at admission is not anchor_age: anchor_age + year of intime - anchor_year; over 89 one band"
    return {"rule": "age", "changed": changed, "what": what}


def _disagreements(stays: pl.DataFrame) -> dict[str, Any]:
    """Counted over every admission with an ICU stay, kept or not."""
    admissions = stays.unique("hadm_id")
    differ = admissions.filter(BENCHMARK_DEATH != FLAGGED_DEATH).height
    early = (pl.col("deathtime") - pl.col("intime") <= _WINDOW) & (pl.col("outtime") - pl.col("intime") >= _WINDOW)
    what = (
        f"of {admissions.height} admissions: HOSPITAL_EXPIRE_FLAG disagrees with DOD (which has no hour) or DEATHTIME, and decides; "
        f"{stays.filter(early).height} of {stays.height} ICU stays are in the unit at 48 h by OUTTIME and dead by DEATHTIME"
    )
    return {"rule": "mortality", "changed": differ, "what": what}


def _columns(stays: pl.DataFrame, compat: bool) -> pl.DataFrame:
    """The columns of stays.parquet, in the order of patient and stay. In compat a length of stay is LOS, which is rounded."""
    outside = pl.lit(None, pl.String).alias("anchor_year_group")
    between = (pl.col("outtime") - pl.col("intime")).dt.total_microseconds() / _HOUR_US
    return stays.select(
        "stay_id",
        pl.col("subject_id").alias("patient_id"),
        "hadm_id",
        pl.col("intime").cast(pl.Datetime("us")),
        pl.col("outtime").cast(pl.Datetime("us")),
        (24.0 * pl.col("los") if compat else between).alias("los_hours"),
        "age",
        pl.col("gender").alias("sex"),
        pl.col("last_careunit").alias("unit"),
        pl.col("anchor_year_group") if "anchor_year_group" in stays.columns else outside,
        (BENCHMARK_DEATH if compat else FLAGGED_DEATH).alias("died_in_hospital"),
        ((pl.col("deathtime") - pl.col("intime")).dt.total_microseconds() / _HOUR_US).alias("died_hours"),
    ).sort("patient_id", "stay_id")
