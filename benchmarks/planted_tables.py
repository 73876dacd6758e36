"""The MIMIC-IV demo's stays, tiled, with the planted outcome in the place of their own.

A planted patient is one real stay of the kind that task mortality takes (48 hours or more, one unit, alone in its admission), under new
ids. Which values are there, and when, stays as charted, so that missingness tells nothing of death. At dose 0 every row is the demo's
but for ids and outcome. Written are the tables that preprocessing reads, in MIMIC-IV's layout; of CHARTEVENTS the items that it reads.
The demo's own outcome is gone from them; lengths of stay and diagnoses remain, which know nothing of ours.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from planted import HIDDEN, HOURS, PREVALENCE, SEES, SHOWN, SUBJECT, Carrier, designed_auroc, intercept

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.mimic.rules import CRR_ITEMS
from omnifuse.preprocess.mimic.variables import items

CHART, LABS, CODES = "icu/chartevents", "hosp/labevents", "hosp/diagnoses_icd"


@dataclass(frozen=True)
class Demo:
    """Rows of the real stays, all of them text but `source`, the index of the stay. `sd` of each carrier over their first 48 hours."""

    folder: Path
    stays: pl.DataFrame
    admissions: pl.DataFrame
    patients: pl.DataFrame
    tables: dict[str, pl.DataFrame]
    sd: dict[str, float]


def read_demo(folder: Path) -> Demo:
    """The stays that task mortality takes, and their rows; of CHARTEVENTS those of the 17 variables."""
    read = lambda name: pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False)
    icu, admissions = read("icu/icustays"), read("hosp/admissions")
    when = lambda name: pl.col(name).str.to_datetime()
    fit = icu.filter(pl.col("first_careunit") == pl.col("last_careunit")).filter(pl.len().over("hadm_id") == 1)
    fit = fit.join(admissions.select("hadm_id", "deathtime"), on="hadm_id").filter(
        when("outtime") - when("intime") >= pl.duration(hours=HOURS),
        (when("deathtime") - when("intime") > pl.duration(hours=HOURS)).fill_null(True),
    )
    stays = fit.drop("deathtime").sort("subject_id", "stay_id").with_columns(source=pl.int_range(pl.len()))
    of_stay, of_admission = stays.select("stay_id", "source"), stays.select("hadm_id", "source")
    keys = {CHART: of_stay, LABS: of_admission, CODES: of_admission}
    tables = {name: read(name).join(key, on=key.columns[0], how="inner", maintain_order="left") for name, key in keys.items()}
    wanted = [str(item) for item in (*items()["itemid"], *CRR_ITEMS)]
    tables[CHART] = tables[CHART].filter(pl.col("itemid").is_in(wanted))
    patients = stays.select("subject_id", "source").join(read("hosp/patients"), on="subject_id", maintain_order="left")
    own = of_admission.join(admissions, on="hadm_id", maintain_order="left")
    chart = tables[CHART].join(stays.select("source", "intime"), on="source", maintain_order="left")
    early = chart.filter(when("charttime") < when("intime") + pl.duration(hours=HOURS))
    return Demo(folder, stays, own, patients, tables, {name: _sd(early, carrier) for name, carrier in SHOWN.items()})


def _sd(chart: pl.DataFrame, carrier: Carrier) -> float:
    values = chart.filter(pl.col("itemid").is_in([str(item) for item in carrier.items]))["valuenum"].cast(pl.Float64)
    return float(values.filter(values.is_between(carrier.low, carrier.high)).std() or 0.0)


# --- planting ---------------------------------------------------------------------------------------------------------


def shift_chart(chart: pl.DataFrame, truth: pl.DataFrame, sd: dict[str, float], dose: float, seed: int) -> pl.DataFrame:
    """Chart rows of some planted patients (`source`: a row of `truth`), the carriers moved; at dose 0 the rows as they are.

    A value keeps its decimals: it is rounded up or down by chance, so that also a shift smaller than the unit is kept in the mean.
    """
    if dose == 0:
        return chart
    item, row = chart["itemid"].cast(pl.Int64).to_numpy(), chart["source"].to_numpy()
    value = chart["valuenum"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    unit = 10.0 ** -chart["value"].str.split(".").list.get(1, null_on_oob=True).str.len_chars().fill_null(0).cast(pl.Int64).to_numpy()
    chance = np.empty(chart.height)
    for patient, source in truth.select(pl.col("subject_id") - SUBJECT, "source").iter_rows():
        mine = np.flatnonzero(row == source)
        chance[mine] = stream(seed, patient, "planted rounding").random(mine.size)
    moved = value.copy()
    place = np.zeros(int(truth["source"].max()) + 1, np.int64)
    place[truth["source"].to_numpy()] = np.arange(truth.height)
    for name, carrier in SHOWN.items():
        mine = np.isin(item, carrier.items) & (value >= carrier.low) & (value <= carrier.high)
        by = dose * carrier.step * sd[name] * truth[carrier.hidden].to_numpy()[place[row[mine]]]
        # 1e-6: what a text holds as 98.7 stands a hair below or above 987 tenths
        rounded = np.floor((value[mine] + by) / unit[mine] + chance[mine] + 1e-6) * unit[mine]
        moved[mine] = np.clip(rounded, carrier.low, carrier.high)
    whole = pl.col("_moved").round(0).cast(pl.Int64).cast(pl.String)
    text = pl.when(pl.col("_unit") == 1).then(whole).otherwise(pl.col("_moved").round(4).cast(pl.String))
    changed = pl.Series(np.isfinite(value) & (moved != value))
    told = chart.with_columns(_moved=pl.Series(np.nan_to_num(moved)), _unit=pl.Series(unit), _changed=changed)
    return told.with_columns(pl.when("_changed").then(text).otherwise(name).alias(name) for name in ("value", "valuenum")).drop(
        "_moved", "_unit", "_changed"
    )


def renamed(rows: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Rows with the ids of the planted patients in the place of the real ones."""
    ids = [name for name in ("subject_id", "hadm_id", "stay_id") if name in rows.columns]
    new = truth.select("source", *(pl.col(name).cast(pl.String).alias(f"new_{name}") for name in ids))
    met = rows.join(new, on="source", how="inner", maintain_order="left")
    return met.with_columns(pl.col(f"new_{name}").alias(name) for name in ids).select(rows.drop("source").columns)


def with_outcome(demo: Demo, truth: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Admissions and patients (with `source`) of one round, who die as planted: at the end of the admission."""
    told = demo.admissions.join(truth.select("source", "died"), on="source", maintain_order="left").join(
        demo.stays.select("source", "outtime"), on="source", maintain_order="left"
    )
    died, end = pl.col("died"), pl.max_horizontal("dischtime", "outtime")  # ISO texts sort as times do
    told = told.with_columns(dischtime=end, deathtime=pl.when(died).then(end), hospital_expire_flag=died.cast(pl.Int8).cast(pl.String))
    was = pl.col("discharge_location").replace("DIED", "HOME").fill_null("HOME")
    told = told.with_columns(discharge_location=pl.when(died).then(pl.lit("DIED")).otherwise(was))
    dates = told.select("source", _dod=pl.col("deathtime").str.slice(0, 10))
    patients = demo.patients.join(dates, on="source", maintain_order="left").with_columns(dod="_dod").drop("_dod")
    return told.select(demo.admissions.columns), patients.select(demo.patients.columns)


def write_bench(demo: Demo, out: Path, truth: pl.DataFrame, dose: float, seed: int, draw: Callable[[Path, pl.DataFrame], None]) -> None:
    """Writes out/raw and out/truth, whole or not at all; what stands there already is left.

    Args:
        draw: writes the films of the planted patients below a folder; `truth` has intime (text) beside.
    """
    if (out / "raw").is_dir():
        return
    made = out / "raw.partial"
    shutil.rmtree(made, ignore_errors=True)
    for name in ("hosp", "icu"):
        (made / name).mkdir(parents=True)
    names = ("hosp/patients", "hosp/admissions", "icu/icustays", *demo.tables)
    with _writers(made, names) as writers:
        for told in truth.iter_slices(demo.stays.height):  # rounds, in each of which a real stay stands once
            admissions, patients = with_outcome(demo, told)
            tables = {"hosp/patients": patients, "hosp/admissions": admissions, "icu/icustays": demo.stays, **demo.tables}
            tables[CHART] = shift_chart(tables[CHART].filter(pl.col("source") <= told["source"].max()), told, demo.sd, dose, seed)
            for name, rows in tables.items():
                writers[name](renamed(rows, told))
    draw(made / "cxr", truth.join(demo.stays.select("source", "intime"), on="source", maintain_order="left"))
    _write_truth(demo, out / "truth", truth, dose, seed)
    os.replace(made, out / "raw")


@contextmanager
def _writers(folder: Path, names) -> Iterator[dict[str, Callable[[pl.DataFrame], None]]]:
    """name -> a function that appends rows to its .csv.gz. Without name and time in the header: equal rows, equal bytes."""
    files = {name: gzip.GzipFile("", "wb", 1, (folder / f"{name}.csv.gz").open("wb"), mtime=0) for name in names}

    def append(name: str) -> Callable[[pl.DataFrame], None]:
        return lambda rows: files[name].write(rows.write_csv(include_header=files[name].tell() == 0).encode()) and None

    try:
        yield {name: append(name) for name in names}
    finally:
        for file in files.values():
            raw = file.fileobj
            file.close()
            raw.close()


def _write_truth(demo: Demo, folder: Path, truth: pl.DataFrame, dose: float, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    real = demo.stays.select("source", source_stay="stay_id")
    truth.join(real, on="source", maintain_order="left").write_parquet(folder / "stays.parquet")
    share = float(truth["has_film"].mean())
    design = {
        "seed": seed,
        "dose": dose,
        "patients": truth.height,
        "real_stays": demo.stays.height,
        "log_odds": HIDDEN,
        "intercept": intercept(),
        "prevalence": PREVALENCE,
        "film_share": share,
        "carriers": {name: {**asdict(carrier), "sd": demo.sd[name]} for name, carrier in SHOWN.items()},
        "auroc": {**{sees: designed_auroc(sees=sees) for sees in SEES}, "present": designed_auroc(share)},
    }
    store.write_json(folder / "design.json", design)
