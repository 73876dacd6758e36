"""What lies beside the tables of the EHR: which folder holds what, and what a cohort made with it is fingerprinted by.

    --cxr      MIMIC-CXR-JPG or MIMIC-CXR: films; the report tree may lie there too
    --notes    MIMIC-IV-Note, MIMIC-III's NOTEEVENTS, or MIMIC-CXR's report tree
    --signals  MIMIC-IV-ECG or the matched waveforms

Fingerprint: the content of every table read (metadata, split, CheXpert, notes, lists of records), of the report files and headers of
recordings of patients with an ICU stay, and path and size of their films (of all films, for the task radiology): 377,110 films are not read
to learn whether a cohort is current.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess import store, tables
from omnifuse.preprocess.mimic import films, radiology, recordings, reports, windows
from omnifuse.preprocess.mimic.notes import Notes
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.source import MIMIC3, Source
from omnifuse.preprocess.schema import ConfigError, InputError

_FLAGS = {"cxr": "--cxr", "rep": "--notes", "dn": "--notes", "sig": "--signals"}
_RADIOLOGY, _DISCHARGE = "radiology", "discharge summary"


@dataclass(frozen=True)
class Folders:
    """Where the modalities beside the EHR lie; none is needed."""

    cxr: Path | None = None
    notes: Path | None = None
    signals: Path | None = None


@dataclass
class Sources:
    """What was found of the modalities that are wanted. `patients`: those with an ICU stay."""

    options: Options
    patients: pl.Series
    films: films.Films | None = None
    reports: Any = None  # reports.NoteReports or reports.TreeReports
    radiology_notes: Notes | None = None  # by which the delay of reports is measured
    discharge: Notes | None = None
    recordings: recordings.Recordings | None = None
    tables: dict[str, Path] = field(default_factory=dict)  # by the name that the manifest gives
    warnings: list[str] = field(default_factory=list)

    @property
    def modalities(self) -> tuple[str, ...]:
        found = {"cxr": self.films, "rep": self.reports, "dn": self.discharge, "sig": self.recordings}
        return tuple(name for name in windows.MODALITIES if found[name] is not None)

    @cached_property
    def films_on_disk(self) -> pl.DataFrame:
        return self.films.on_disk(None if radiology.NAME in self.options.tasks else self.patients)

    @cached_property
    def records_on_disk(self) -> pl.DataFrame:
        return self.recordings.on_disk(self.patients)

    def places(self) -> dict[str, str]:
        """The folder of the files of each modality that has some."""
        found = {"cxr": self.films, "sig": self.recordings}
        return {name: str(source.root) for name, source in found.items() if source is not None}

    def hashes(self, progress) -> dict[str, str]:
        """What the fingerprint holds of each table and each tree of files."""
        total = sum(path.stat().st_size for path in self.tables.values())
        told = {}
        with progress("check linked tables", total, "B") as bar:
            for name, path in sorted(self.tables.items()):
                told[name] = store.sha256(path)
                bar.update(path.stat().st_size)
        for name, rows in self._trees().items():
            digest = hashlib.sha256()
            for row in rows:
                digest.update(f"{row}\n".encode())
            told[name] = digest.hexdigest()
        return told

    def _trees(self) -> dict[str, Iterable[tuple]]:
        """What is told of every file that is read, tree by tree."""
        told: dict[str, Iterable[tuple]] = {}
        if self.films is not None:
            told["cxr/files"] = self.films_on_disk.iter_rows()
        if isinstance(self.reports, reports.TreeReports):
            told["rep/files"] = self._report_rows()
        if self.recordings is not None:
            told["sig/files"] = self.records_on_disk.iter_rows()
        return told

    def _report_rows(self) -> Iterator[tuple]:
        mine = self.reports.studies.filter(pl.col("patient_id").is_in(self.patients.implode())).sort("study_id")
        for patient, study in mine.select("patient_id", "study_id").iter_rows():
            yield study, reports.content_hash(self.reports.root, patient, study)


def find(folders: Folders, source: Source, options: Options) -> Sources:
    """What the folders hold of what is wanted.

    Raises:
        ConfigError: a modality or task whose folder is not given, or films of other patients than the tables'.
        InputError: a folder that holds nothing of its kind.
    """
    _check(folders, source, options)
    anything = any((folders.cxr, folders.notes, folders.signals))
    patients = source.read("icustays")["subject_id"].unique().sort() if anything else pl.Series([], dtype=pl.Int64)
    found = Sources(options, patients)
    wanted = options.modalities or windows.MODALITIES
    everything = films.detect(folders.cxr) if folders.cxr is not None else None
    if everything is not None and ("cxr" in wanted or radiology.NAME in options.tasks):
        found.films = everything
        found.tables |= {f"cxr/{path.name}": path for path in everything.files.values()}
    if radiology.NAME in options.tasks and "chexpert" not in everything.files:
        raise InputError("holds no mimic-cxr-2.0.0-chexpert.csv.gz; the task radiology needs it", where=folders.cxr)
    if folders.notes is not None:
        _find_notes(found, folders, wanted)
    if "rep" in wanted and found.reports is None and (folders.notes is not None or folders.cxr is not None):
        _find_tree(found, folders, everything, needed=folders.notes is not None and "dn" not in found.modalities)
    if folders.signals is not None and "sig" in wanted:
        found.recordings = recordings.detect(folders.signals)
        found.tables[f"sig/{found.recordings.list.name}"] = found.recordings.list
    _require_named(found, options)
    return found


def _check(folders: Folders, source: Source, options: Options) -> None:
    given = {"cxr": folders.cxr, "rep": folders.notes or folders.cxr, "dn": folders.notes, "sig": folders.signals}
    for name in options.modalities:
        if given[name] is None:
            raise ConfigError(f"modality {name} needs {_FLAGS[name]} DIR")
    if radiology.NAME in options.tasks and folders.cxr is None:
        raise ConfigError("the task radiology needs --cxr DIR")
    if folders.cxr is not None and source.dataset == MIMIC3:
        raise ConfigError("MIMIC-CXR's patients are those of MIMIC-IV, and these are tables of MIMIC-III, whose ids mean other people")


def _find_notes(found: Sources, folders: Folders, wanted: tuple[str, ...]) -> None:
    """The tables of notes."""
    if not folders.notes.is_dir():
        raise InputError("is no folder", where=folders.notes, hint="give the folder of MIMIC-IV-Note, NOTEEVENTS or the report tree")
    options, paths = found.options, {}
    for name in ("radiology", "radiology_detail", "discharge", "noteevents"):
        if path := tables.find(folders.notes, name, below=("", "note")):
            paths[name] = path
    events = paths.get("noteevents")
    rep = Notes(paths["radiology"]) if "radiology" in paths else Notes(events, _RADIOLOGY) if events else None
    dn = Notes(paths["discharge"]) if "discharge" in paths else Notes(events, _DISCHARGE) if events else None
    used = set()
    if rep is not None and "rep" in wanted:
        found.radiology_notes = rep
        used.add(rep.path)
        if options.report_source != "tree":
            found.reports = reports.NoteReports(rep, paths.get("radiology_detail"))
            used |= {paths["radiology_detail"]} if options.exams == reports.CHEST and "radiology_detail" in paths else set()
    if dn is not None and "dn" in wanted:
        if options.allow_leak:
            found.discharge = dn
            used.add(dn.path)
        else:
            reason = windows.LEAKS[next(iter(options.stay_tasks), "mortality")]["dn"]
            found.warnings.append(f"discharge notes are left out: {reason} (--allow-leak links them, marked as leaking)")
    found.tables |= {f"notes/{path.name}": path for path in used}


def _find_tree(found: Sources, folders: Folders, everything: films.Films | None, *, needed: bool) -> None:
    """MIMIC-CXR's report files, whose studies are dated by the films' metadata."""
    metadata = everything or _metadata_beside(folders.notes)
    root = None
    if metadata is not None and found.options.report_source != "note":
        studies = metadata.table.group_by("patient_id", "study_id").agg(pl.col("time").min()).sort("study_id")
        mine = studies.filter(pl.col("patient_id").is_in(found.patients.implode()))
        root = reports.find_tree([folder for folder in (folders.notes, folders.cxr) if folder is not None], mine)
    if root is None:
        if needed or "rep" in found.options.modalities:
            hint = "radiology.csv.gz, NOTEEVENTS.csv.gz, or files/p10/... of MIMIC-CXR with --cxr, whose metadata dates them"
            raise InputError("holds no radiology reports", where=folders.notes or folders.cxr, hint="; ".join([*found.warnings, hint]))
        return
    found.reports = reports.TreeReports(root, studies)
    found.tables[f"cxr/{metadata.files['metadata'].name}"] = metadata.files["metadata"]


def _metadata_beside(folder: Path | None) -> films.Films | None:
    try:
        return films.detect(folder) if folder is not None else None
    except InputError:
        return None


def _require_named(found: Sources, options: Options) -> None:
    for name in options.modalities:
        if name not in found.modalities and not (name == "dn" and not options.allow_leak):
            raise InputError(f"nothing of modality {name} was found", hint=f"look into the folder of {_FLAGS[name]}")
