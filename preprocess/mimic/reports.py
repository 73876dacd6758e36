"""Radiology reports of the stays, from one of three sources.

    note    MIMIC-IV-Note: radiology.csv.gz, and radiology_detail.csv.gz, which names the exam
    note    MIMIC-III: NOTEEVENTS, whose DESCRIPTION names the exam
    tree    MIMIC-CXR: files/p10/p10000032/s50414267.txt, dated by the films' metadata

The tree has no time at which a report was known: it counts from the study's time + `report_delay_hours` (where that is not told, the 90th
percentile of storetime - charttime in the note table at hand, else 12 h). A report is reduced to its sections, its marks are replaced, and
it is cut to `words` words. What is empty then is left out and counted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from omnifuse.preprocess import sections, tables, text
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.mimic import linking
from omnifuse.preprocess.mimic.gathering import Gathered
from omnifuse.preprocess.mimic.linking import Counts, Window
from omnifuse.preprocess.mimic.notes import Notes
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.schema import InputError, Unreadable
from omnifuse.preprocess.tables import Column

CHEST = "chest"
NOT_CHEST, NO_TEXT = "not a chest film", "no text left"
NO_FILE = "no report file"

# A film of the chest, not a CT or an intervention: "CHEST (PORTABLE AP)", "P CHEST (PA & LAT)", "DX CHEST PORT LINE/TUBE PLCMT 1 EXAM".
_CHEST = r"(?i)\b(?:CHEST|CXR)\b"
_OTHER = r"(?i)\b(?:CTA?|MR[IA]?|US|ULTRASOUND|SONO\w*|PET|NM|NUCLEAR|FLUORO\w*|BIOPSY|GUIDANCE|DRAINAGE|ANGIO\w*)\b"
_DETAIL = [Column(name, pl.String, nullable=False) for name in ("note_id", "field_name")] + [Column("field_value", pl.String)]
_TREES = ("", "mimic-cxr-reports")
_BATCH = 2_000
MOST_BYTES = 1 << 22


def is_chest(column: str) -> pl.Expr:
    return (pl.col(column).str.contains(_CHEST) & ~pl.col(column).str.contains(_OTHER)).fill_null(False)


@dataclass(frozen=True)
class NoteReports:
    """`notes` and, for MIMIC-IV-Note, the table that names the exams."""

    notes: Notes
    detail: Path | None

    @property
    def name(self) -> str:
        return "noteevents" if self.notes.category else "radiology"

    def batches(self, stays: pl.DataFrame, window: Window, counts: Counts, options: Options, delay_hours: float, **reading):
        chest = self._chest_notes(stays, options, reading)
        for rows in self.notes.rows(counts, delay_hours, **reading):
            rows = linking.attach(rows, stays, window, counts)
            if options.exams == CHEST:
                keep = is_chest("description") if chest is None else pl.col("item_id").is_in(chest.implode())
                rows = linking.drop_linked(rows, keep, NOT_CHEST, counts)
            yield rows

    def _chest_notes(self, stays: pl.DataFrame, options: Options, reading: dict) -> pl.Series | None:
        """Ids of the notes on chest films; None where NOTEEVENTS says it itself, or all exams count."""
        if options.exams != CHEST or self.notes.category:
            return None
        if self.detail is None:
            hint = "radiology_detail.csv.gz belongs beside it; or take all with --exams all"
            raise InputError("RADIOLOGY_DETAIL is missing, and names the exams", where=self.notes.path.parent, hint=hint)
        found = [pl.Series("note_id", [], pl.String)]
        for chunk in tables.stream(self.detail, _DETAIL, **reading):
            found.append(chunk.frame.filter((pl.col("field_name") == "exam_name") & is_chest("field_value"))["note_id"])
        return pl.concat(found).unique()


@dataclass(frozen=True)
class TreeReports:
    """`studies`: patient_id, study_id, time (of the study) of every study."""

    root: Path
    studies: pl.DataFrame
    name: str = "tree"

    def batches(self, stays: pl.DataFrame, window: Window, counts: Counts, options: Options, delay_hours: float, **_):
        known = pl.col("time") + timedelta(hours=delay_hours)
        rows = self.studies.with_columns(known.alias("time"), pl.format("s{}", "study_id").alias("item_id"))
        rows = linking.attach(rows, stays, window, counts)
        for some in rows.iter_slices(_BATCH):
            texts = [_read(self.root, patient, study) for patient, study in some.select("patient_id", "study_id").iter_rows()]
            some = some.with_columns(
                pl.Series("text", [told for told, _ in texts], pl.String), pl.Series("fault", [fault for _, fault in texts], pl.String)
            )
            for fault in sorted(some["fault"].drop_nulls().unique()):
                some = linking.drop_linked(some, pl.col("fault").is_null() | (pl.col("fault") != fault), fault, counts)
            yield some


def report_path(patient: int, study: int) -> str:
    return f"files/p{str(patient)[:2]}/p{patient}/s{study}.txt"


def _bytes(root: Path, patient: int, study: int) -> bytes:
    """Of a report's file. Raises Unreadable."""
    try:
        with inside(root, report_path(patient, study)).open("rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except OSError:
        raise Unreadable("cannot be read") from None
    if len(data) > MOST_BYTES:
        raise Unreadable("is larger than a report can be")
    return data


def _read(root: Path, patient: int, study: int) -> tuple[str | None, str | None]:
    """The text, or why there is none. MIMIC-CXR's files are ASCII."""
    try:
        return text.decode(_bytes(root, patient, study)), None
    except Unreadable as error:
        return None, NO_FILE if error.reason == "no such file" else f"report {error.reason}"


def content_hash(root: Path, patient: int, study: int) -> str:
    """sha256 of what is read of a report; the reason where nothing can be."""
    try:
        return hashlib.sha256(_bytes(root, patient, study)).hexdigest()
    except Unreadable as error:
        return error.reason


def find_tree(folders: list[Path], studies: pl.DataFrame) -> Path | None:
    """The first folder that holds the report of one of these studies."""
    for folder in folders:
        for place in (folder / name for name in _TREES):
            if (place / "files").is_dir():
                some = studies.select("patient_id", "study_id").iter_rows()
                if any((place / report_path(patient, study)).is_file() for patient, study in some):
                    return place.resolve()
    return None


def link(source, stays: pl.DataFrame, window: Window, gathered: Gathered, options: Options, delay_hours: float, **reading) -> Counts:
    """Gathers the reports of the stays: stay_id, time, item_id, patient_id, section, text."""
    counts = Counts()
    for rows in source.batches(stays, window, counts, options, delay_hours, **reading):
        told = [_prepared(raw, options, counts) for raw in rows["text"]]
        rows = rows.with_columns(pl.Series("text", [t for t, _ in told], pl.String), pl.Series("section", [s for _, s in told], pl.String))
        counts.tally(rows, "section", "section: ")
        rows = linking.drop_linked(rows, pl.col("text") != "", NO_TEXT, counts)
        if "known" in rows.columns:
            counts.tally(rows, "known")
        gathered.append(linking.linked(rows, counts).select("stay_id", "time", "item_id", "patient_id", "section", "text"))
    return counts


def _prepared(raw: str | None, options: Options, counts: Counts) -> tuple[str, str]:
    if raw is None:
        return "", sections.EMPTY
    chosen, section = sections.choose(text.limit(raw, counts.notes), options.sections)
    whole = text.normalise(chosen, counts.notes)
    told = text.cut(whole, options.words)
    counts.notes[f"texts longer than {options.words} words"] += len(told) < len(whole)
    return told, section
