"""A block of stays beside the tables: what is observed of each, and the films, notes and signals written from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from omnifuse.preprocess.clinic import note_files
from omnifuse.preprocess.clinic.context import Context
from omnifuse.preprocess.clinic.ecg_files import SignalArchive
from omnifuse.preprocess.clinic.film_files import FilmArchive
from omnifuse.preprocess.clinic.hospital import Hospital
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.observe import Seen
from omnifuse.preprocess.clinic.tables import COLUMNS, TableWriter
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.store import Builder

MODALITIES = ("ehr", "cxr", "rep", "dn", "sig")
TABLES = {"cxr": "cxr/", "rep": "note/radiology", "dn": "note/discharge", "sig": "ecg/"}  # what the names of its tables start with


def tables_of(modalities: tuple[str, ...]) -> list[str]:
    """The tables that a clinic with these modalities has."""
    beside = tuple(TABLES.values())
    wanted = tuple(TABLES[name] for name in modalities if name in TABLES)
    return [name for name in COLUMNS if not name.startswith(beside) or name.startswith(wanted)]


@dataclass
class BesideWriter:
    """Writes what the modalities of a block show."""

    world: World
    seed: int
    modalities: tuple[str, ...]
    builder: Builder

    def write(self, writer: TableWriter, people: People, context: Context, hospital: Hospital, seen: list[Seen]) -> None:
        """All stays of a block, patient by patient."""
        films, signals = FilmArchive(self.world, self.seed, self.builder), SignalArchive(self.world, self.seed, self.builder)
        rows: dict[str, list[tuple]] = {note_files.RADIOLOGY: [], note_files.RADIOLOGY_DETAIL: []}
        admitted = dict(hospital.admissions.select("hadm_id", "admittime").iter_rows())
        stays = hospital.icustays.select("subject_id", "hadm_id").rows()
        reports: dict[int, list[note_files.Report]] = {subject: [] for subject in hospital.patients["subject_id"]}
        for stay, one in enumerate(seen):
            (subject, hadm), key = stays[stay], (int(people.patient[people.owner[stay]]), int(people.number[stay]))
            times = exam_times(one, admitted[hadm], hospital.intime[stay])
            if {"cxr", "rep"} & set(self.modalities):
                texts = note_files.write_texts(self.world, self.seed, people, context, stay, one)
                reports[subject] += note_files.chest_reports(hadm, one, times, texts)
            if "cxr" in self.modalities:
                films.add(*key, subject, one, times, texts)
            if "sig" in self.modalities:
                signals.add(*key, subject, one, [hospital.intime[stay] + timedelta(minutes=int(m)) for m in one.signals.minute])
        if "rep" in self.modalities:
            self._number(rows, people, hospital, reports)
        if "dn" in self.modalities:
            rows |= note_files.discharge_rows(self.world, self.seed, people, hospital)
        rows |= films.rows | signals.rows
        for name, found in rows.items():
            if found:
                writer.append(name, pl.DataFrame(found, schema=list(COLUMNS[name]), orient="row", infer_schema_length=None))

    def _number(self, rows: dict, people: People, hospital: Hospital, reports: dict) -> None:
        admissions = hospital.admissions.to_dicts()
        for admission, (row, k, _) in zip(admissions, hospital.admission_keys):
            patient = int(people.patient[row])
            reports[admission["subject_id"]] += note_files.other_reports(self.world, self.seed, patient, k, admission)
        for subject, found in reports.items():
            for name, numbered in note_files.radiology_rows(subject, found).items():
                rows[name] += numbered


def exam_times(seen: Seen, admitted: datetime, intime: datetime) -> list[datetime]:
    """When each exam was; the one before the ICU lies a share of the way back to the admission."""
    back = intime - admitted
    return [
        (intime - back * float(-minute / 1000)).replace(microsecond=0) if before else intime + timedelta(minutes=int(minute))
        for minute, before in zip(seen.exams.minute, seen.exams.before)
    ]


def shown(world: World, seen: Seen) -> np.ndarray:
    """[3] bool: an AP film, a report by exam time, and a signal within the window."""
    exams, window = seen.exams, world.stays.design_hours * 60
    inside = (exams.minute >= 0) & (exams.minute < window)
    film = exams.archived and bool((inside & ~exams.upright).any())
    return np.array([film, inside.any(), (seen.signals.minute < window).any()])
