"""Discharge notes: what the admission was, written after its end. They tell the outcome and the diagnoses in words: a leak by design.

Present conditions stand in the history (chronic ones) or in the hospital course; absent ones are sometimes ruled out by name.
"""

from __future__ import annotations

import numpy as np

SERVICES = ("MEDICINE", "SURGERY", "CARDIOTHORACIC", "NEUROLOGY")
RULED_OUT, REMEMBERED = 0.06, 0.03  # absent conditions that are denied, or named as a relative's or as long past
PRESENT = (
    "The course was complicated by {}.",
    "{} was treated during this admission.",
    "Workup was consistent with {}.",
)
ABSENT = ("There was no evidence of {}.", "{} was ruled out.", "Initial concern for {} was not confirmed.")
LONG_AGO = ("Family history of {}.", "Remote {} in the past, resolved.")
LENGTHS = ("brief", "long")


def spoken(condition: str) -> str:
    """A phenotype's name as a note would say it: without its classification's remarks."""
    return condition.split(";")[0].split("(")[0].strip().lower()


def write_discharge(
    conditions: list[str], chronic: list[bool], present: np.ndarray, *, died: bool, male: bool, home: str, generator: np.random.Generator
) -> str:
    """The text of one note, with MIMIC's headers and de-identification marks."""

    def pick(options) -> str:
        return options[int(generator.integers(len(options)))]

    named = {c: spoken(condition) for c, condition in enumerate(conditions)}
    past = [named[c] for c in named if present[c] and chronic[c]]
    course = [_capital(pick(PRESENT).format(named[c])) for c in named if present[c] and not chronic[c]]
    uniform = generator.random(len(conditions))
    for c, name in named.items():
        if not present[c] and uniform[c] < RULED_OUT:
            course.append(_capital(pick(ABSENT).format(name)))
        elif not present[c] and uniform[c] < RULED_OUT + REMEMBERED:
            course.append(_capital(pick(LONG_AGO).format(name)))
    course = [course[i] for i in generator.permutation(len(course))] or ["The course was uneventful."]
    end = "The patient expired." if died else "The patient improved and was discharged in stable condition."
    diagnosis = [_capital(named[c]) for c in named if present[c]][:6] or ["Observation"]
    return "\n".join(
        [
            " ", "Name:  ___                     Unit No:   ___", " ", "Admission Date:  ___              Discharge Date:   ___", " ",
            f"Date of Birth:  ___             Sex:   {'M' if male else 'F'}", " ", f"Service: {pick(SERVICES)}", " ",
            "Allergies: ", "No Known Allergies / Adverse Drug Reactions", " ", "Attending: ___.", " ",
            "Chief Complaint:", "Transfer to the intensive care unit", " ",
            "History of Present Illness:", f"___ year old {'man' if male else 'woman'} admitted after a {pick(LENGTHS)} illness.", " ",
            "Past Medical History:", ", ".join(past) or "None.", " ",
            "Brief Hospital Course:", " ".join([*course, end]), " ",
            "Discharge Disposition:", "Expired" if died else home.capitalize(), " ",
            "Discharge Diagnosis:", "\n".join(diagnosis), " ",
            "Followup Instructions:", "___", "",
        ]
    )  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
