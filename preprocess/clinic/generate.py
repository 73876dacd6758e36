"""Composes the clinic: people, calendar, courses, tables, films, notes, signals, truth; block by block of patients, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import items, truth
from omnifuse.preprocess.clinic.blocks import forget_unless_begun, read_journal, write_journal
from omnifuse.preprocess.clinic.ceiling import SOURCES, Ceiling, Window
from omnifuse.preprocess.clinic.coding import diagnose
from omnifuse.preprocess.clinic.context import draw_context
from omnifuse.preprocess.clinic.course import Course, simulate
from omnifuse.preprocess.clinic.faults import Counter, chartevents, labevents, spoil
from omnifuse.preprocess.clinic.hospital import MOST_PATIENTS, Hospital, admit
from omnifuse.preprocess.clinic.joint import COLUMNS, JointCeiling
from omnifuse.preprocess.clinic.latent import People, draw_people
from omnifuse.preprocess.clinic.modalities import MODALITIES, BesideWriter, tables_of
from omnifuse.preprocess.clinic.modality_truth import ModalityTruth
from omnifuse.preprocess.clinic.model import Model, build_model
from omnifuse.preprocess.clinic.observe import Observer, Seen
from omnifuse.preprocess.clinic.outcome import Strength, find_strength
from omnifuse.preprocess.clinic.record import Cells, gather, row_draws, rows_of
from omnifuse.preprocess.clinic.tables import TableWriter, writing
from omnifuse.preprocess.clinic.worldfile import read_world
from omnifuse.preprocess.schema import ConfigError, LockedError, Silent, nearest

KIND, TRUTH = "clinic", "clinic_truth"
GENERATOR = 2  # to be raised with every change that alters a number: clinics made before are then made anew
BLOCK = 100  # patients
BYTES_A_PATIENT = 110_000  # all files and the truth, 87,000 in the default world; TABLES of it for the tables alone
TABLES = 20_000
LAYOUT = "mimic-iv 2.2, mimic-cxr-jpg 2.0.0, mimic-iv-note 2.2, mimic-iv-ecg 1.0"
CEILINGS = 20_000  # stays of the design with a ceiling; beyond, it is left out for time


def truth_path(raw: Path) -> Path:
    """The folder of the truth: beside the raw tables, so that nothing that walks them meets it."""
    raw = Path(raw).absolute()
    return raw.with_name(f"{raw.name}-truth")


def generate(
    raw: Path,
    *,
    patients: int,
    seed: int = 0,
    world: str | Path = "default",
    modalities: tuple[str, ...] = MODALITIES,
    progress: Callable[..., Any] = Silent,
) -> dict[str, Any]:
    """Writes the files of a synthetic clinic to `raw` (hosp, icu, cxr, note, ecg), and the truth to `raw`-truth.

    The same patients, seed, world and modalities give the same bytes; where they are already there, nothing is written. A patient is
    the same whatever the number of patients and whichever modalities are written. The same call after an interrupted one goes on with it.

    Args:
        modalities: of `ehr` (which is always written), `cxr`, `rep`, `dn`, `sig`.

    Returns:
        A summary: folders, counts of patients, stays, stays in the design and deaths among them, rows by table, AUROC by source.

    Raises:
        ConfigError: a bad knob or number, or a folder that holds something else.
        ResourceError: the disk is too small.
    """
    raw = Path(raw).absolute()
    if not 1 <= patients <= MOST_PATIENTS:
        raise ConfigError(f"{patients} patients: from 1 to {MOST_PATIENTS} can be made", hint="choose another --patients")
    if not 0 <= seed < 2**63:
        raise ConfigError("the seed must not be negative", hint="choose another --seed")
    for name in modalities:
        if name not in MODALITIES:
            raise ConfigError(f"no modality {name!r}", hint=nearest(name, MODALITIES))
    written = tuple(name for name in MODALITIES if name in modalities or name == "ehr")
    knobs = read_world(world)
    key = {"patients": patients, "seed": seed, "knobs": knobs.fingerprint, "generator": GENERATOR, "modalities": written}
    fingerprint = store.digest(key)
    done, told = store.current(raw, KIND, fingerprint), store.current(truth_path(raw), TRUTH, fingerprint)
    if done and told:
        return {**told.meta["summary"], "raw": str(raw), "truth": str(truth_path(raw)), "written": False}
    store.require_free(raw, patients * (BYTES_A_PATIENT if len(written) > 1 else TABLES))
    notice = {"synthetic": "made by omnifuse, no patient", "layout": LAYOUT, "patients": patients, "modalities": written}
    try:
        with (
            threadpool_limits(1),  # many small Cholesky factors: threads only wait for each other, 8 times slower on a busy machine
            store.create(raw, KIND, fingerprint=fingerprint, meta=notice, keep_partial=True, alone=True) as tables,
            store.create(truth_path(raw), TRUTH, fingerprint=fingerprint, keep_partial=True, alone=True) as beside,
        ):
            told = read_journal(tables, beside, fingerprint)
            clinic = Clinic(build_model(knobs), seed, find_strength(knobs), written, fingerprint)
            summary = clinic.write(patients, tables, beside, progress, told)
            beside.meta["summary"] = summary
    except LockedError:
        raise
    except BaseException:
        forget_unless_begun(raw, truth_path(raw))
        raise
    return {**summary, "raw": str(raw), "truth": str(truth_path(raw)), "written": True}


@dataclass
class Clinic:
    """One clinic while it is written."""

    model: Model
    seed: int
    strength: Strength
    modalities: tuple[str, ...] = MODALITIES
    fingerprint: str = ""

    def write(
        self, patients: int, tables: store.Builder, beside: store.Builder, progress: Callable[..., Any], told: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """All files and the truth; returns the summary. `told` is the journal of an interrupted run."""
        world, counter, left, start = self.model.world, Counter(), CEILINGS, 0
        if told:
            counter, left, start = Counter(told["labevent"], told["specimen"]), told["left"], told["next"]
        ceiling, observer = Ceiling(self.model, self.strength), Observer(self.model, self.seed)
        joint = JointCeiling(observer, ceiling.case, ceiling.control)
        truths, more = truth.TruthWriter(self.model, self.strength, beside), ModalityTruth(world, beside)
        archive = BesideWriter(world, self.seed, self.modalities, tables)
        with writing(tables, tables_of(self.modalities), told) as writer, progress("patients", patients, "patient") as bar:
            if start:
                bar.update(start)
            else:
                write_dictionaries(writer)
            for first in range(start, patients, BLOCK):
                block = np.arange(first, min(first + BLOCK, patients))
                people = draw_people(world, self.seed, block, self.strength.intercept, self.strength.slope)
                context, hospital = draw_context(world, self.seed, block), admit(self.seed, people)
                courses = [simulate(self.model, self.seed, people, stay) for stay in range(len(people.owner))]
                seen = [observer.observe(people, context, stay) for stay in range(len(people.owner))]
                cells = gather(self.model, courses)
                self._write_tables(writer, people, hospital, courses, cells, counter)
                archive.write(writer, people, context, hospital, seen)
                known, beyond = self.ceilings(ceiling, joint, people, hospital, courses, cells, seen, left)
                left -= int(np.isfinite(known[:, 0]).sum())
                truths.add(first, people, hospital, courses, known)
                more.add(first, people, context, hospital, seen, beyond)
                counted = {"next": first + len(block), "left": left, "labevent": counter.labevent, "specimen": counter.specimen}
                write_journal(tables, self.fingerprint, counted | writer.state())
                bar.update(len(block))
        stays, design = truths.finish(self.seed, patients, more)
        return self._summary(patients, stays, writer, design)

    def _write_tables(self, writer: TableWriter, people, hospital: Hospital, courses, cells: Cells, counter: Counter) -> None:
        writer.append("hosp/patients", hospital.patients)
        writer.append("hosp/admissions", hospital.admissions)
        writer.append("icu/icustays", hospital.icustays)
        writer.append("hosp/diagnoses_icd", diagnose(self.model.world, self.seed, people, hospital))
        rows = rows_of(self.model, self.seed, people, courses, cells)
        rows = spoil(self.model.world.faults, rows, row_draws(self.seed, people, rows))
        keys = hospital.icustays.select("subject_id", "hadm_id", "stay_id", "outtime").with_columns(
            stay=pl.int_range(pl.len(), dtype=pl.Int64), start=pl.Series([first_hour(t) for t in hospital.intime])
        )
        writer.append("icu/chartevents", chartevents(rows, keys))
        writer.append("hosp/labevents", labevents(rows, keys, counter))

    def ceilings(
        self, ceiling: Ceiling, joint: JointCeiling, people: People, hospital: Hospital, courses: list[Course], cells: Cells,
        seen: list[Seen], left: int,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """[S, SOURCES] of the tables and [S, COLUMNS] of all modalities, for at most `left` stays of the design; NaN for the others."""
        found, beyond = np.full((len(courses), len(SOURCES)), np.nan), np.full((len(courses), len(COLUMNS)), np.nan)
        bounds = np.searchsorted(cells.stay, np.arange(len(courses) + 1))
        usable = cells.of_the_course
        for stay in np.flatnonzero(people.design(self.model.world))[:left]:
            slots = window_slots(hospital.intime[stay], self.model.world.stays.design_hours)
            mine = np.arange(bounds[stay], bounds[stay + 1])
            mine = mine[(cells.slot[mine] < slots) & usable[mine]]
            window = Window(slots, cells.slot[mine], cells.variable[mine], cells.measured[mine], cells.rounded[mine])
            found[stay], tables = ceiling.probabilities(people, stay, courses[stay], window)
            beyond[stay] = joint.probabilities(seen[stay], tables)
        return found, beyond

    def _summary(self, patients: int, stays: pl.DataFrame, writer: TableWriter, design: dict) -> dict[str, Any]:
        kept = stays.filter("design")
        return {
            "patients": patients,
            "stays": len(stays),
            "design_stays": len(kept),
            "design_deaths": int(kept["died"].sum()),
            "rows": dict(writer.rows),
            "auroc": design["auroc"],
            "auroc_by_set": design["modalities"]["auroc"],
            "world": self.model.world.name,
            "seed": self.seed,
        }


def first_hour(intime: datetime) -> datetime:
    """The first full hour of a stay, where its clock of quarters starts."""
    floor = intime.replace(minute=0, second=0)
    return floor if floor == intime else floor + timedelta(hours=1)


def window_slots(intime: datetime, hours: float) -> int:
    """Quarters of an hour that begin before the window ends."""
    minutes = hours * 60 - (first_hour(intime) - intime).total_seconds() / 60
    return int(np.ceil(minutes / 15))


def write_dictionaries(writer: TableWriter) -> None:
    """d_items, d_labitems and d_icd_diagnoses: the items and codes that the clinic uses."""
    chart = pl.DataFrame([vars(item) for item in items.CHART_ITEMS]).with_columns(
        linksto=pl.lit("chartevents"), lownormalvalue=pl.lit(None, pl.Float64), highnormalvalue=pl.lit(None, pl.Float64)
    )
    writer.append("icu/d_items", chart.sort("itemid"))
    lab = pl.DataFrame([row[:4] for row in items.LAB_ITEMS], schema=["itemid", "label", "fluid", "category"], orient="row")
    writer.append("hosp/d_labitems", lab)
    codes = pl.DataFrame(
        [(c.code, c.version, c.title) for c in items.codes()], schema=["icd_code", "icd_version", "long_title"], orient="row"
    )
    writer.append("hosp/d_icd_diagnoses", codes.sort("icd_version", "icd_code"))
