"""The manifest: a table with one row a lesion, checked as a whole before any file of a patient is opened.

    patient_id       text; all lesions of a patient share folds
    lesion_id        text; 1 where the column is absent
    ct_series        folder below the root with the DICOM files of a CT, or of a study
    pet_series       the same of a PET
    report           a text file below the root, or the text itself
    subtype          AAH AIS MIA IA1 IA2 IA3
    histology        A B E G (adenocarcinoma, small cell, large cell, squamous cell), for --classes histology
    exam_date, report_date, pathology_date
    lesion_xyz_mm    three numbers: the lesion's middle in patient coordinates; or lesion_file, lesion_segment (see lesions.py)

An empty cell, or an absent column, is a missing modality. A cell of `report` that ends in .txt, or is one ASCII word with a slash, is a
path. Errors name the file and the row, never a cell.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path, PureWindowsPath

import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import InputError, Unreadable

SUBTYPES = ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")  # in order of risk
HISTOLOGIES = {"A": "adenocarcinoma", "B": "small cell", "E": "large cell", "G": "squamous cell"}
DATES = ("exam_date", "report_date", "pathology_date")
PATHS = ("ct_series", "pet_series", "lesion_file")
OPTIONAL = ("lesion_id", *PATHS, "report", "subtype", "histology", *DATES, "lesion_xyz_mm")
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y/%m/%d", "%Y%m%d")


def read_manifest(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """The rows in order of patient and lesion, with `row` (of the file).

    Returns:
        patient_id, lesion_id, ct_series, pet_series, lesion_file, report, subtype, histology (text, null where missing), the three dates
        (datetime), lesion_segment (int64), lesion_xyz_mm (list of three float64), row.

    Raises:
        InputError: the file or a row is bad.
    """
    columns = [tables.Column("patient_id", pl.String, nullable=False)]
    columns += [tables.Column(name, pl.String, required=False) for name in OPTIONAL]
    columns.append(tables.Column("lesion_segment", pl.Int64, required=False))
    frame = tables.read(path, columns, with_row=True, encoding=encoding)
    if frame.is_empty():
        raise InputError("the manifest has no row", where=path)
    stripped = pl.col(pl.String).str.strip_chars()
    frame = frame.with_columns(pl.when(stripped != "").then(stripped).name.keep())
    frame = frame.with_columns(pl.col("lesion_id").fill_null("1"), pl.col("subtype", "histology").str.to_uppercase())
    _require(frame, pl.col("patient_id").is_not_null(), "the patient id is blank", path, "patient_id")
    for column, known in (("subtype", SUBTYPES), ("histology", tuple(HISTOLOGIES))):
        fits = pl.col(column).is_null() | pl.col(column).is_in(known)
        _require(frame, fits, f"the {column} is none of {', '.join(known)}", path, column)
    for column in DATES:
        frame = tables.parse_datetime(frame, column, path, DATE_FORMATS)
        years = pl.col(column).is_null() | pl.col(column).dt.year().is_between(1900, date.today().year + 200)
        _require(frame, years, "the date lies outside of 1900 and the coming two centuries", path, column)
    frame = _with_points(frame, path)
    _require_distinct(frame, path)
    return frame.sort("patient_id", "lesion_id", "row")


def _require(frame: pl.DataFrame, fits: pl.Expr, what: str, path: Path, column: str) -> None:
    wrong = frame.filter(~fits)
    if wrong.height:
        raise InputError(what, where=f"{path}:{wrong['row'][0]}:{column}")


def _with_points(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """lesion_xyz_mm as three numbers."""
    text = pl.col("lesion_xyz_mm").str.strip_chars("()[] ").str.replace_all(r"[\s;,]+", " ").str.split(" ")
    points = text.list.eval(pl.element().cast(pl.Float64, strict=False))
    frame = frame.with_columns(points.alias("lesion_xyz_mm"))
    numbers = pl.col("lesion_xyz_mm")
    good = (numbers.list.len() == 3) & numbers.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    near = numbers.list.eval(pl.element().abs() < 1e5).list.all()
    _require(frame, numbers.is_null() | (good & near), "is not three numbers in millimetres", path, "lesion_xyz_mm")
    return frame


def _require_distinct(frame: pl.DataFrame, path: Path) -> None:
    twice = frame.filter(pl.struct("patient_id", "lesion_id").is_duplicated()).sort("row")
    if twice.height:
        told = f"{twice.height} rows share patient_id and lesion_id with another"
        raise InputError(told, where=f"{path}:{twice['row'][1]}", hint="give each lesion of a patient its own lesion_id")


def is_path(report: str) -> bool:
    """Whether a cell of `report` names a file instead of being the text."""
    bare = not re.search(r"\s", report)
    return (
        len(report) < 1024
        and "\n" not in report
        and (report.lower().endswith(".txt") or (bare and report.isascii() and bool(re.search(r"[/\\]", report))))
    )


def require_below(root: Path, frame: pl.DataFrame, path: Path) -> None:
    """Every path of the manifest is there, below the root, before anything is opened.

    Raises:
        InputError: one leaves the root, also through a link, or is not there; file:row:column, without the path.
    """
    for row in frame.iter_rows(named=True):
        for column in (*PATHS, "report"):
            told = row[column]
            if told is None or (column == "report" and not is_path(told)):
                continue
            try:
                if column == "report":
                    inside(root, told)
                else:
                    require_inside(root, told)
            except Unreadable as error:
                hint = (
                    "paths are relative to --root, the manifest's folder by default" if error.reason == "no such file or folder" else None
                )
                raise InputError(error.reason, where=f"{path}:{row['row']}:{column}", hint=hint) from None


def require_inside(root: Path, name: str) -> Path:
    """A folder or regular file below `root`. Raises Unreadable as preprocess/inside.py does for files."""
    if not name or "\0" in name or len(name) > 4096:
        raise Unreadable("the path is empty, too long or holds a NUL")
    windows = PureWindowsPath(name)
    if Path(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise Unreadable("the path leaves the data folder")
    root = Path(root).resolve()
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise Unreadable("no such file or folder") from None
    if not path.is_relative_to(root):
        raise Unreadable("the path leaves the data folder through a link")
    return path if path.is_dir() else inside(root, name)
