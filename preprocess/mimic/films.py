"""The films of MIMIC-CXR-JPG, or of MIMIC-CXR as DICOM beside the same tables.

    mimic-cxr-2.0.0-metadata.csv.gz   a row a film: dicom_id, study_id, subject_id, ViewPosition, StudyDate, StudyTime
    mimic-cxr-2.0.0-split.csv.gz      the published parts, kept as a column (ours are by patient and fold)
    mimic-cxr-2.0.0-chexpert.csv.gz   14 labels a study: 1, 0, -1 (uncertain) or empty (not mentioned)
    files/p10/p10000032/s50414267/DICOM_ID.jpg (or .dcm)

A film is available at its study's time. StudyTime is written as a number, so that leading zeros are lost and fractions trail: 93014.531 is
9:30:14. Which views count is the pairing; `medfuse` is that of its published code: AP films, the last one before prediction_time.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic import linking
from omnifuse.preprocess.mimic.linking import Counts, Window
from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables import Column

PAIRINGS: dict[str, tuple[str, ...] | None] = {"medfuse": ("AP",), "frontal": ("AP", "PA"), "any-view": None}
CHEXPERT = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity",
    "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
SUFFIXES = (".jpg", ".dcm")
MISSING, EMPTY, BAD_NAME = "no file", "file is empty", "dicom_id is no file name"

_TABLES = ("metadata", "split", "chexpert")
_NAME = re.compile(r"mimic-cxr-[\d.]+-(metadata|split|chexpert)\.(?:csv|csv\.gz|parquet)")
_SAFE = r"^[0-9A-Za-z_-]{1,128}$"
_ID = {"dtype": pl.Int64, "nullable": False}
_COLUMNS = {
    "metadata": (
        Column("dicom_id", pl.String, nullable=False),
        Column("subject_id", **_ID),
        Column("study_id", **_ID),
        Column("viewposition", pl.String),
        Column("studydate", pl.String),
        Column("studytime", pl.String),
    ),
    "split": (Column("dicom_id", pl.String, nullable=False), Column("split", pl.String)),
    "chexpert": (Column("study_id", **_ID), *(Column(name.lower(), pl.Float64) for name in CHEXPERT)),
}


@dataclass(frozen=True)
class Films:
    """The folder and its tables. `table` has a row a film: patient_id, study_id, dicom_id, time, view, split, chexpert, stem."""

    root: Path
    files: dict[str, Path]

    @cached_property
    def table(self) -> pl.DataFrame:
        told = _metadata(self.files["metadata"])
        if "split" in self.files:
            split = tables.read(self.files["split"], list(_COLUMNS["split"]))
            told = told.join(split.unique("dicom_id"), on="dicom_id", how="left", maintain_order="left")
        else:
            told = told.with_columns(pl.lit(None, pl.String).alias("split"))
        return _with_chexpert(told, self.files.get("chexpert"))

    def on_disk(self, patients: pl.Series | None) -> pl.DataFrame:
        """dicom_id, path (relative, null where there is none) and bytes of the films of these patients, or of all."""
        rows = self.table if patients is None else self.table.filter(pl.col("patient_id").is_in(patients.implode()))
        rows = rows.sort("dicom_id").select("dicom_id", "stem")
        found = [_stat(self.root, stem) for stem in rows["stem"]]
        schema = {"path": pl.String, "bytes": pl.Int64}
        return rows.drop("stem").hstack(pl.DataFrame(found, schema=schema, orient="row"))


def detect(root: Path) -> Films:
    """Finds the tables.

    Raises:
        InputError: no folder, no metadata, or a table twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError("is no folder", where=root, hint="give the folder of MIMIC-CXR-JPG: its tables, and files/ below it")
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if match := _NAME.fullmatch(path.name.lower()):
            if match[1] in files:
                raise InputError(f"holds the table {match[1]} twice: {files[match[1]].name} and {path.name}", where=root, hint="keep one")
            files[match[1]] = path
    if "metadata" not in files:
        raise InputError("holds no mimic-cxr-2.0.0-metadata.csv.gz", where=root, hint="it comes with MIMIC-CXR-JPG, and dates the films")
    return Films(root.resolve(), files)


def _metadata(path: Path) -> pl.DataFrame:
    rows = tables.read(path, list(_COLUMNS["metadata"]))
    if twice := rows.height - rows["dicom_id"].n_unique():
        raise InputError(f"{twice} rows repeat a dicom_id that stands above them", where=path, hint="each may stand there once")
    folder = pl.format("files/p{}/p{}/s{}/", pl.col("subject_id").cast(pl.String).str.slice(0, 2), "subject_id", "study_id")
    stem = pl.when(pl.col("dicom_id").str.contains(_SAFE)).then(folder + pl.col("dicom_id"))
    return rows.select(
        pl.col("subject_id").alias("patient_id"),
        "study_id",
        "dicom_id",
        study_time().alias("time"),
        pl.col("viewposition").str.to_uppercase().alias("view"),
        stem.alias("stem"),
    )


def study_time() -> pl.Expr:
    """StudyDate and StudyTime as one moment; null where either is missing or none."""
    clock = pl.col("studytime").str.split(".").list.first().str.zfill(6)
    return (pl.col("studydate").str.split(".").list.first() + clock).str.strptime(pl.Datetime("us"), "%Y%m%d%H%M%S", strict=False)


def _with_chexpert(films: pl.DataFrame, path: Path | None) -> pl.DataFrame:
    """`chexpert`: 14 numbers in the order of CHEXPERT, null where not mentioned; the whole list null where the study has no row."""
    kind = pl.List(pl.Float32)
    if path is None:
        return films.with_columns(pl.lit(None, kind).alias("chexpert"))
    labels = tables.read(path, list(_COLUMNS["chexpert"]))
    if twice := labels.height - labels["study_id"].n_unique():
        raise InputError(f"{twice} rows repeat a study_id that stands above them", where=path, hint="each may stand there once")
    if wrong := labels.filter(~pl.all_horizontal(pl.col(name.lower()).fill_null(0.0).is_in([-1.0, 0.0, 1.0]) for name in CHEXPERT)).height:
        raise InputError(f"{wrong} rows hold a label that is none of 1, 0, -1 and empty", where=path)
    labels = labels.select("study_id", pl.concat_list(name.lower() for name in CHEXPERT).cast(kind).alias("chexpert"))
    return films.join(labels, on="study_id", how="left", maintain_order="left")


def _stat(root: Path, stem: str | None) -> tuple[str | None, int | None]:
    for suffix in SUFFIXES if stem is not None else ():
        try:
            return stem + suffix, os.stat(f"{root}/{stem}{suffix}").st_size  # pathlib would take five times as long
        except OSError:
            continue
    return None, None


def link(
    films: Films, disk: pl.DataFrame, stays: pl.DataFrame, window: Window, pairing: str, *, others: bool
) -> tuple[pl.DataFrame, Counts]:
    """The items of cxr: the films of the stays, sorted by stay and time, and behind them, with `others`, all that are on the disk.

    Args:
        disk: of `Films.on_disk`, at least for the patients of the stays.
        others: films that no stay sees are items too, without a stay_id: for the task radiology.
    """
    counts = Counts()
    found = linking.attach(films.table, stays, window, counts)
    if (views := PAIRINGS[pairing]) is not None:
        keep = pl.col("view").is_in(list(views)).fill_null(False)
        found = linking.drop_linked(found, keep, f"view is not {' or '.join(views)}", counts)
    found = found.join(disk, on="dicom_id", how="left")
    found = linking.drop_linked(found, pl.col("stem").is_not_null(), BAD_NAME, counts)
    found = linking.drop_linked(found, pl.col("path").is_not_null(), MISSING, counts)
    found = linking.drop_linked(found, pl.col("bytes") > 0, EMPTY, counts)
    found = _columns(linking.linked(found, counts)).sort("stay_id", "time", "dicom_id")
    if not others:
        return found, counts
    rest = films.table.join(found, on="dicom_id", how="anti").join(disk, on="dicom_id").filter(pl.col("bytes") > 0)
    rest = _columns(rest.with_columns(pl.lit(None, pl.Int64).alias("stay_id"))).sort("patient_id", "time", "dicom_id")
    return pl.concat([found, rest]), counts


def _columns(films: pl.DataFrame) -> pl.DataFrame:
    return films.select("path", "dicom_id", "study_id", "patient_id", "stay_id", "time", "view", "split", "chexpert")
