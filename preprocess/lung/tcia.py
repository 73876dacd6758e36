"""A manifest from TCIA's Lung-PET-CT-Dx, as the NBIA Data Retriever leaves it: folders of series, metadata.csv, and the annotations.

One row a patient: the CT series that the annotations name most, and the PET of the same study where there is one, else of the study with
most PET images. Where a study has several PET series (fused images are filed as PET too), its folder is named, and the series is chosen
by content. The letter in the patient's id is the histology (Lung_Dx-A0001: A adenocarcinoma, B small cell, E large cell, G squamous
cell). The collection has neither reports nor dates that could be compared: both stay empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from omnifuse.preprocess import store, tables
from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.schema import InputError, Silent, Unreadable

METADATA = "metadata.csv"
PATIENT = re.compile(r"Lung_Dx-([ABEG])(\d{4})")
COLUMNS = (
    tables.Column("subject id", pl.String, nullable=False),
    tables.Column("study uid", pl.String),
    tables.Column("modality", pl.String, nullable=False),
    tables.Column("number of images", pl.Int64),
    tables.Column("file location", pl.String, nullable=False),
)
FIELDS = ("patient_id", "lesion_id", "ct_series", "pet_series", "histology", "lesion_file")


def write_manifest(folder: Path, out: Path, progress=Silent) -> int:
    """Writes the manifest (0600); its paths are relative to `folder`. Returns the number of rows.

    Raises:
        InputError: no metadata.csv, no annotations, or no patient of this collection in it.
    """
    annotations = find_annotations(folder)
    metadata = _read_metadata(folder)
    with progress("find annotated series", metadata["subject id"].n_unique(), "patient") as bar:
        rows = list(_patients(metadata, annotations, folder, bar))
    if not rows:
        raise InputError("names no patient of Lung-PET-CT-Dx with a CT", where=folder / METADATA)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(rows)
    store.write_text(out, text.getvalue())
    return len(rows)


def find_annotations(folder: Path) -> dict[str, Path]:
    """Patient (A0001) -> folder of its XML files, wherever the annotations were unpacked below `folder`."""
    found = {path.name.upper(): path for path in sorted(folder.rglob("*")) if re.fullmatch(r"[ABEGabeg]\d{4}", path.name) and path.is_dir()}
    if not found:
        hint = "unpack the annotations' zip, with a folder A0001 and so on, below this folder"
        raise InputError("holds no annotations", where=folder, hint=hint)
    return found


def _read_metadata(folder: Path) -> pl.DataFrame:
    path = folder / METADATA
    if not path.is_file():
        raise InputError("is missing", where=path, hint="the NBIA Data Retriever writes it beside the collection's folder")
    return tables.read(path, COLUMNS, with_row=True).with_columns(pl.col("file location").str.replace_all("\\", "/", literal=True))


def _patients(metadata: pl.DataFrame, annotations: dict[str, Path], folder: Path, bar) -> Iterator[tuple]:
    """FIELDS of each patient with a CT; subjects of another collection are passed over."""
    for (subject,), series in metadata.group_by("subject id", maintain_order=True):
        bar.update(1)
        known = PATIENT.fullmatch(subject)
        if known is None:
            continue
        boxes = annotations.get(f"{known[1]}{known[2]}")
        named = {path.stem for path in boxes.glob("*.xml")} if boxes else set()
        ct = _annotated(series.filter(pl.col("modality") == "CT"), named, folder)
        if ct is not None:
            pet = _pet_folder(series.filter(pl.col("modality") == "PT"), ct["study uid"])
            lesion = boxes.relative_to(folder).as_posix() if boxes and named else None
            yield subject, "1", _relative(ct["file location"]), pet, known[1], lesion


def _pet_folder(series: pl.DataFrame, study: str | None) -> str | None:
    if series.is_empty():
        return None
    order = series.with_columns(
        same=(pl.col("study uid") == study).fill_null(False), total=pl.col("number of images").sum().over("study uid")
    )
    chosen = order.sort("same", "total", "study uid", descending=True, nulls_last=True)["study uid"][0]
    places = [_relative(told) for told in series.filter(pl.col("study uid").eq_missing(pl.lit(chosen)))["file location"]]
    parents = {place.rpartition("/")[0] for place in places}
    return places[0] if len(places) == 1 or len(parents) > 1 else parents.pop()


def _annotated(series: pl.DataFrame, named: set[str], folder: Path) -> dict | None:
    """The CT series that holds most of the annotated instances; the largest where none does."""
    if series.is_empty():
        return None
    rows = sorted(series.iter_rows(named=True), key=lambda row: (-(row["number of images"] or 0), row["file location"]))
    hits = [_count_named(folder / _relative(row["file location"]), named) if named and len(rows) > 1 else 0 for row in rows]
    return rows[max(range(len(rows)), key=lambda place: (hits[place], -place))]


def _count_named(folder: Path, named: set[str]) -> int:
    count = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            count += str(reading.read_header(path).get("SOPInstanceUID")) in named
        except Unreadable:
            continue
    return count


def _relative(location: str) -> str:
    """NBIA writes ./Lung-PET-CT-Dx/..."""
    return location.removeprefix("./").rstrip("/")
