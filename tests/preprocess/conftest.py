"""A small ICU cohort with events, samples of every MIMIC task, and the awkward cases of exporting it."""

import datetime
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess import splits, store

RULES = json.loads((files("omnifuse.preprocess.mimic") / "resources/discretizer_config.json").read_text())
VARIABLES = RULES["id_to_channel"]
PHENOTYPES = [f"phenotype {number}" for number in range(25)]
INTIME = datetime.datetime(2150, 1, 1, 8, 30)
SCHEMA = {"stay_id": pl.Int64, "hours": pl.Float64, **dict.fromkeys(VARIABLES, pl.String)}


def header() -> list[str]:
    columns = []
    for name in VARIABLES:
        columns += [f"{name}->{value}" for value in RULES["possible_values"][name]] or [name]
    return columns + [f"mask->{name}" for name in VARIABLES]


def build(path: Path, *, patients: int = 60, compat: str = "mimic3-benchmarks", text_ids: bool = False, seed: int = 0) -> store.Artefact:
    """Every third patient has two stays; stay 1 has no events; sample labels are random, some unknown."""
    random = np.random.default_rng(seed)
    stays = _stays(random, patients)
    if text_ids:
        stays = stays.with_columns(pl.col("patient_id").cast(pl.String).str.pad_start(9, "p"))
    events = _events(random, stays)
    bins = (stays["los_hours"].to_numpy() / 2).astype(int) + 1
    starts = np.concatenate([[0], np.cumsum(bins)[:-1]])
    rows = random.normal(5, 3, (bins.sum(), 76)).astype(np.float32)
    tasks, samples, tails = _samples(random, stays, bins, starts)
    parts = splits.make_parts(stays.select("patient_id", pl.col("died_in_hospital").cast(pl.Int8).alias("outcome")))
    continuous = [number for number, name in enumerate(header()) if "->" not in name]
    with store.create(path, "cohort", fingerprint=f"{patients}{compat}{text_ids}{seed}") as out:
        store.write_parquet(out.path("stays.parquet"), stays)
        store.write_parquet(out.path("events.parquet"), events)
        store.write_npy(out.path("ehr.npy"), rows)
        store.write_npy(out.path("ehr_tails.npy"), random.normal(-9, 1, (tails, 76)).astype(np.float32))
        store.write_parquet(out.path("parts.parquet"), parts.table)
        for name, table in samples.items():
            store.write_parquet(out.path(f"samples/{name}.parquet"), table)
        out.meta |= {
            "compat": compat,
            "step_hours": 2.0,
            "tasks": tasks,
            "modalities": {"ehr": {"kind": "series", "columns": header(), "continuous": continuous}},
            "splits": parts.meta,
        }
    return store.open(path, "cohort")


def _stays(random, patients: int) -> pl.DataFrame:
    rows = []
    for number in range(patients):
        stays = 2 if number % 3 == 0 else 1
        for visit in range(stays):
            los = float(np.round(random.uniform(30, 90), 4)) if (number, visit) != (0, 1) else 60.0
            # The later of two stays has the smaller id: episodes are numbered by time, not by id.
            stay = 30_000 + 10 * number + (stays - visit)
            intime = INTIME + datetime.timedelta(days=100 * visit + number)
            rows.append((stay, 10_000 + number, 20_000 + stay, intime, intime + datetime.timedelta(hours=los), los, number % 4 == 0))
    columns = ["stay_id", "patient_id", "hadm_id", "intime", "outtime", "los_hours", "died_in_hospital"]
    return pl.DataFrame(rows, schema=columns, orient="row").sort("stay_id")


def _events(random, stays: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for stay, los in stays.select("stay_id", "los_hours").iter_rows():
        hours = np.sort(np.round(random.uniform(-3, los + 2, random.integers(5, 30)), 6)).tolist()
        if stay == stays["stay_id"][0]:  # on every border of the windows
            hours = [-0.5, -5e-7, 0.0, 5e-7, 2.0, 47.9999, 48.0, 48.0 + 5e-7, 49.0, los, los + 5e-7, los + 0.1]
            hours.sort()
        if stay == stays["stay_id"][1]:
            continue
        for hour in hours:
            charted = random.random(len(VARIABLES)) < 0.3
            rows.append((stay, hour, *(_text(random, name) if there else None for name, there in zip(VARIABLES, charted))))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _text(random, name: str) -> str:
    if known := RULES["possible_values"][name]:
        return str(random.choice(known))
    return str(random.choice(["118", "36.6", "7", f"{random.uniform(1, 200):.3f}"]))


def _samples(random, stays: pl.DataFrame, bins: np.ndarray, starts: np.ndarray) -> tuple[dict, dict, int]:
    at = dict(zip(stays["stay_id"], zip(bins.tolist(), starts.tolist())))
    tasks = {
        "mortality": {"kind": "binary", "labels": ["mortality"], "window_hours": 48},
        "phenotyping": {"kind": "multilabel", "labels": PHENOTYPES},
        "los": {"kind": "binary", "labels": ["los"], "window_hours": 24},
        "los_remaining": {"kind": "multiclass", "labels": [f"bucket {number}" for number in range(10)]},
    }
    rows: dict[str, list] = {task: [] for task in tasks}
    tails = 0
    for stay, patient, intime, los, died in stays.select("stay_id", "patient_id", "intime", "los_hours", "died_in_hospital").iter_rows():
        length, start = at[stay]

        def add(task, hours, y, rows_read, tail=None, suffix="", remaining=None, stay=stay, patient=patient, intime=intime, start=start):
            time = intime + datetime.timedelta(hours=hours)
            rows[task].append((f"{stay}{suffix}", patient, stay, time, hours, y, start, rows_read, tail, hours, remaining))

        if los >= 48:
            add("mortality", 48.0, [None if stay % 7 == 0 else float(died)], 24)
        add("phenotyping", los, random.integers(0, 2, 25).astype(float).tolist(), length)
        add("los", 24.0, [float(los > 60)], 12)
        for hour in range(5, int(los) + 1):
            add("los_remaining", float(hour), [float(hour % 10)], hour // 2, tails if hour % 2 else None, f"_{hour:04d}", los - hour)
            tails += hour % 2
    columns = ["sample_id", "patient_id", "stay_id", "prediction_time", "prediction_hours", "y", "ehr_start", "ehr_length", "ehr_tail"]
    kinds = {"y": pl.List(pl.Float32), "ehr_length": pl.Int32, "ehr_tail": pl.Int64, "remaining_hours": pl.Float64}
    tables = {
        task: pl.DataFrame(row, schema=[*columns, "period_length", "remaining_hours"], schema_overrides=kinds, orient="row").sort(
            "patient_id", "sample_id"
        )
        for task, row in rows.items()
    }
    tables = {task: table if task == "los_remaining" else table.drop("remaining_hours") for task, table in tables.items()}
    return {task: {**about, "samples": tables[task].height} for task, about in tasks.items()}, tables, tails


@pytest.fixture(scope="session")
def icu(tmp_path_factory):
    """Builds (once for the same options) and opens a cohort."""
    built: dict[tuple, store.Artefact] = {}

    def make(**options) -> store.Artefact:
        key = tuple(sorted(options.items()))
        if key not in built:
            built[key] = build(tmp_path_factory.mktemp("icu") / "cohort", **options)
        return built[key]

    return make
