"""Notes in the layout of MIMIC-IV-Note 2.2: radiology and discharge, each with its table of details.

A radiology report is charted when the exam was and stored when it was known; a discharge note is charted on the day of discharge and
stored days after it. Reports of other exams (head, abdomen) stand between those of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from omnifuse.preprocess.clinic import templates
from omnifuse.preprocess.clinic.coding import present
from omnifuse.preprocess.clinic.context import Context
from omnifuse.preprocess.clinic.discharge import write_discharge
from omnifuse.preprocess.clinic.hospital import Hospital
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.observe import REP, Seen
from omnifuse.preprocess.clinic.report_text import Text, as_note, copy_report, write_report
from omnifuse.preprocess.clinic.world import World

RADIOLOGY, RADIOLOGY_DETAIL, DISCHARGE, DISCHARGE_DETAIL = (
    f"note/{name}" for name in ("radiology", "radiology_detail", "discharge", "discharge_detail")
)


@dataclass(frozen=True)
class Report:
    """A radiology report before it has its number."""

    hadm: int
    charted: datetime
    stored: datetime
    exam: str
    text: str


def write_texts(world: World, seed: int, people: People, context: Context, stay: int, seen: Seen) -> list[Text]:
    """The reports of one stay's chest exams, in their order."""
    owner, number = people.owner[stay], int(people.number[stay])
    patient, texts, last = int(people.patient[owner]), [], None
    for j in range(len(seen.exams.minute)):
        text = write_report(
            world.report, seen.exams.statements[j], cut=bool(seen.exams.cut[j]), mark=bool(seen.marks[REP]),
            family=int(context.family[owner]), upright=bool(seen.exams.upright[j]), male=bool(people.male[owner]),
            noise=float(context.noise[owner, REP]), generator=stream(seed, patient, f"words {j}", number),
        )  # fmt: skip
        if seen.exams.copied[j] and last is not None:
            text = copy_report(last, text)
        if not seen.exams.cut[j] and not seen.exams.before[j]:
            last = text
        texts.append(text)
    return texts


def chest_reports(hadm: int, seen: Seen, times: list[datetime], texts: list[Text]) -> list[Report]:
    delays = [timedelta(minutes=int(minutes)) for minutes in seen.exams.delay]
    return [Report(hadm, time, time + delay, text.examination, as_note(text)) for time, delay, text in zip(times, delays, texts)]


def other_reports(world: World, seed: int, patient: int, k: int, admission: dict) -> list[Report]:
    """Reports of exams of other parts of the body, at any time of an admission."""
    generator = stream(seed, patient, "other exams", k)
    minutes = (admission["dischtime"] - admission["admittime"]).total_seconds() / 60
    found = []
    for _ in range(int(generator.poisson(world.exam.other * minutes / 1440))):
        exam, *sentences = templates.OTHER_EXAMS[int(generator.integers(len(templates.OTHER_EXAMS)))]
        time = admission["admittime"] + timedelta(minutes=int(generator.random() * minutes))
        parts = Text(exam, "___ year old patient", "None.", sentences[1], sentences[0])
        delay = timedelta(minutes=int(20 + generator.exponential(world.exam.report_minutes)))
        found.append(Report(admission["hadm_id"], time, time + delay, exam, as_note(parts)))
    return found


def radiology_rows(subject: int, reports: list[Report]) -> dict[str, list[tuple]]:
    """Rows of a patient's radiology notes and their details, numbered by time."""
    rows: dict[str, list[tuple]] = {RADIOLOGY: [], RADIOLOGY_DETAIL: []}
    for number, report in enumerate(sorted(reports, key=lambda one: (one.charted, one.exam)), 1):
        name = f"{subject}-RR-{number}"
        rows[RADIOLOGY].append((name, subject, report.hadm, "RR", number, report.charted, report.stored, report.text))
        rows[RADIOLOGY_DETAIL].append((name, subject, "exam_name", report.exam, 1))
    return rows


def discharge_rows(world: World, seed: int, people: People, hospital: Hospital) -> dict[str, list[tuple]]:
    """Rows of the discharge notes of a block."""
    rows: dict[str, list[tuple]] = {DISCHARGE: [], DISCHARGE_DETAIL: []}
    names = list(world.conditions)
    chronic = [condition.chronic for condition in world.conditions.values()]
    admissions = hospital.admissions.select("subject_id", "hadm_id", "dischtime", "discharge_location", "hospital_expire_flag").rows()
    for (subject, hadm, left, home, died), (row, k, stay) in zip(admissions, hospital.admission_keys):
        generator = stream(seed, int(people.patient[row]), "discharge note", k)
        if generator.random() >= world.discharge.rate:
            continue
        true = present(world, people.liability[stay] if stay >= 0 else people.chronic_liability[row])
        text = write_discharge(
            names, chronic, np.asarray(true), died=bool(died), male=bool(people.male[row]), home=home, generator=generator
        )
        name, day = f"{subject}-DS-{k + 1}", left.replace(hour=0, minute=0, second=0)
        stored = left + timedelta(minutes=int(60 + generator.exponential(2 * 1440)))
        rows[DISCHARGE].append((name, subject, hadm, "DS", k + 1, day, stored, text))
        rows[DISCHARGE_DETAIL].append((name, subject, "author", "___", 1))
    return rows
