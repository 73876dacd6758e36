"""Recordings (WFDB) of the stays: the 12-lead ECGs of MIMIC-IV-ECG, or the matched waveforms of MIMIC-III and MIMIC-IV.

    ECG         record_list.csv: subject_id, study_id, ecg_time, path; ten seconds each
    waveforms   RECORDS-waveforms or RECORDS, a path a line; begin and length from the first line of each header

The cart's clock is set by hand and not synchronised with the hospital's: an ECG counts as known `signal_tolerance_hours` after the time it
tells, so that a clock that is slow by less lets nothing in from behind prediction_time; so does one from as long before the stay. A
waveform runs for days: it is cut into pieces of an hour, each known at its end, and a piece belongs to a stay that holds it whole.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.mimic import linking
from omnifuse.preprocess.mimic.linking import Counts, Window
from omnifuse.preprocess.schema import InputError, Unreadable
from omnifuse.preprocess.tables import Column

ECG_SECONDS = 10.0
PIECE_SECONDS = 3600.0
NO_FILE, BEFORE = "no header file", "begins before the stay"
UNDATED = "header tells no begin or length"
CLOCK = (
    "the clocks of ECG carts are not synchronised with the hospital's: an ECG counts as known {:g} h after the time it tells "
    "(signal_tolerance_hours)"
)

_LISTS = ("RECORDS-waveforms", "RECORDS")
_PATIENT = re.compile(r"(?:^|/)p(\d{5,})/")
_ECG = [
    Column("subject_id", pl.Int64, nullable=False),
    Column("study_id", pl.Int64, nullable=False),
    Column("ecg_time", pl.String),
    Column("path", pl.String, nullable=False),
]
_HEADER_BYTES = 4096


@dataclass(frozen=True)
class Recordings:
    """The folder, and the table or list of its records."""

    root: Path
    list: Path
    is_ecg: bool

    @cached_property
    def records(self) -> pl.DataFrame:
        """patient_id, path (without suffix), and of ECGs `begin`."""
        if not self.is_ecg:
            return _listed(self.list)
        rows = tables.parse_datetime(tables.read(self.list, _ECG, with_row=True), "ecg_time", self.list)
        return rows.select(pl.col("subject_id").alias("patient_id"), "path", pl.col("ecg_time").alias("begin"))

    def on_disk(self, patients: pl.Series) -> pl.DataFrame:
        """path, and sha256 of the header (null where there is none) of these patients' records."""
        paths = self.records.filter(pl.col("patient_id").is_in(patients.implode()))["path"].unique().sort()
        return pl.DataFrame({"path": paths, "header": [_hash(self.root, path) for path in paths]}, schema_overrides={"header": pl.String})


def detect(root: Path) -> Recordings:
    """Raises InputError where the folder holds no list of records."""
    root = Path(root)
    if not root.is_dir():
        raise InputError("is no folder", where=root, hint="give the folder of MIMIC-IV-ECG or of the matched waveforms")
    if table := tables.find(root, "record_list", below=("",)):
        return Recordings(root.resolve(), table, True)
    for name in _LISTS:
        if (root / name).is_file():
            return Recordings(root.resolve(), root / name, False)
    raise InputError("holds no record_list.csv, RECORDS-waveforms or RECORDS", where=root)


def _listed(path: Path) -> pl.DataFrame:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    names = [line for line in lines if line and not line.endswith("/")]
    if not names:
        raise InputError("names no record", where=path, hint="RECORDS-waveforms of the matched subset does")
    owners = [_PATIENT.findall(name) for name in names]
    if missing := sum(1 for owner in owners if not owner):
        raise InputError(f"{missing} of {len(names)} records lie in no folder of a patient", where=path, hint="p00/p000020/...")
    return pl.DataFrame({"patient_id": [int(owner[-1]) for owner in owners], "path": names}).unique(maintain_order=True)


def _hash(root: Path, path: str) -> str | None:
    try:
        return hashlib.sha256(_head(root, path)).hexdigest()
    except (Unreadable, OSError):
        return None


def _head(root: Path, path: str) -> bytes:
    with inside(root, f"{path}.hea").open("rb") as handle:
        return handle.read(_HEADER_BYTES)


def read_begin(head: bytes) -> tuple[datetime, float] | None:
    """Begin and seconds by the record line of a WFDB header: `name[/segments] signals rate[/...] samples time date`."""
    lines = [line for line in head.decode("latin-1").splitlines() if line.strip() and not line.startswith("#")]
    fields = lines[0].split() if lines else []
    if len(fields) < 6:
        return None
    try:
        rate, samples = float(re.split(r"[/(]", fields[2])[0]), int(fields[3])
        clock, _, fraction = fields[4].partition(".")
        begin = datetime.strptime(f"{fields[5]} {clock}", "%d/%m/%Y %H:%M:%S")
        begin += timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        return None
    return (begin, samples / rate) if rate > 0 and samples > 0 else None


def link(
    recordings: Recordings, disk: pl.DataFrame, stays: pl.DataFrame, window: Window, tolerance_hours: float
) -> tuple[pl.DataFrame, Counts]:
    """The items of sig: path, start_s, length_s, patient_id, stay_id, time (from when it is known), sorted by stay and time."""
    counts = Counts()
    rows = _ecgs(recordings, tolerance_hours) if recordings.is_ecg else _pieces(recordings, disk, stays, counts)
    found = linking.attach(rows, stays, window, counts)
    if not recordings.is_ecg:
        starts = stays.select("stay_id", (pl.col("intime") - timedelta(hours=window.lookback_hours)).alias("_start"))
        found = found.join(starts, on="stay_id", how="left", maintain_order="left")
        found = linking.drop_linked(found, pl.col("begin") >= pl.col("_start"), BEFORE, counts)
    found = found.join(disk, on="path", how="left", maintain_order="left")
    found = linking.drop_linked(found, pl.col("header").is_not_null(), NO_FILE, counts)
    items = linking.linked(found, counts).select("path", "start_s", "length_s", "patient_id", "stay_id", "time")
    return items.sort("stay_id", "time", "path", "start_s"), counts


def _ecgs(recordings: Recordings, tolerance_hours: float) -> pl.DataFrame:
    known = pl.col("begin") + timedelta(hours=tolerance_hours)
    return recordings.records.with_columns(known.alias("time"), pl.lit(0.0).alias("start_s"), pl.lit(ECG_SECONDS).alias("length_s"))


def _pieces(recordings: Recordings, disk: pl.DataFrame, stays: pl.DataFrame, counts: Counts) -> pl.DataFrame:
    """Pieces of the records of these patients. Records of others, and those without a header or a date, have none, and are counted."""
    mine = recordings.records.filter(pl.col("patient_id").is_in(stays["patient_id"].unique().implode()))
    here = mine.join(disk.drop_nulls("header"), on="path", maintain_order="left")
    rows = []
    for patient, path in here.select("patient_id", "path").iter_rows():
        told = read_begin(_head(recordings.root, path))
        if told is None:
            counts.notes[f"records: {UNDATED}"] += 1
            continue
        begin, seconds = told
        for number in range(int(-(-seconds // PIECE_SECONDS))):
            start = number * PIECE_SECONDS
            rows.append((patient, path, begin + timedelta(seconds=start), start, min(PIECE_SECONDS, seconds - start)))
    counts.notes["records"] += recordings.records.height
    counts.notes[f"records: {linking.NO_STAY}"] += recordings.records.height - mine.height
    counts.notes[f"records: {NO_FILE}"] += mine.height - here.height
    kinds = {"patient_id": pl.Int64, "path": pl.String, "begin": pl.Datetime("us"), "start_s": pl.Float64, "length_s": pl.Float64}
    pieces = pl.DataFrame(rows, schema=kinds, orient="row")
    return pieces.with_columns((pl.col("begin") + pl.duration(microseconds=(pl.col("length_s") * 1e6).cast(pl.Int64))).alias("time"))
