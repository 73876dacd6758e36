"""Rows beside the course: height, weight, a glucose before the ICU, and what must not be taken for a variable's own item.

None of them depends on severity.
"""

from __future__ import annotations

import numpy as np

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.course import Course
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.model import SLOTS
from omnifuse.preprocess.clinic.rows import LAB, Rows
from omnifuse.preprocess.clinic.world import World

WEIGHT = items.ROUNDS.index("weight")
DAILY_WEIGHT_SD_KG = 2.0  # scales, beds and blankets
NO_BREATH_OF_THEIR_OWN = 0.4
POUNDS, CENTIMETRES = 2.20462, 2.54


def add_body(rows: Rows, world: World, seed: int, people: People, stay: int, course: Course, uniform: np.ndarray) -> None:
    """Height in both units and the weights of admission, soon after it; daily weights, which drift with the fluids."""
    missing, who = world.body, people.owner[stay]
    weight = people.weight_kg[who] * (0.97 + 0.06 * uniform[3])
    inches = np.rint(people.height_cm[who] / CENTIMETRES)
    itemids, numbers = [], []
    if uniform[4] >= missing["height"]:
        itemids += [items.HEIGHT_CM, items.HEIGHT_INCH]
        numbers += [inches if uniform[5] < world.faults.height_inches else np.rint(inches * CENTIMETRES), inches]
    if uniform[6] >= missing["admission_weight"]:
        itemids += [items.WEIGHT_ADMISSION, items.WEIGHT_POUNDS]
        numbers += [np.round(weight, 1), np.round(weight * POUNDS, 1)]
    rows.add(stay, [int(uniform[2] * 60)] * len(itemids), itemids, number=numbers)
    if uniform[7] >= missing["daily_weight"]:
        slots = np.flatnonzero(course.visits[WEIGHT])
        generator = stream(seed, int(people.patient[who]), "weight", int(people.number[stay]))
        drift = weight * 0.004 * (uniform[8] - 0.3) * slots / (24 * SLOTS)
        daily = np.round(weight + drift + DAILY_WEIGHT_SD_KG * generator.standard_normal(len(slots)), 1)
        rows.add(stay, slots * 15 + course.minutes[WEIGHT, slots], items.WEIGHT_DAILY, number=daily)


def add_urine(rows: Rows, world: World, seed: int, people: People, stay: int) -> None:
    """pH and glucose of urine; most often there is no glucose, which is reported as a comment and no value."""
    generator = stream(seed, int(people.patient[people.owner[stay]]), "urine", int(people.number[stay]))
    hours = people.los_hours[stay]
    count = int(generator.poisson(world.faults.urine_per_day * hours / 24))
    minute = np.sort(generator.integers(0, max(1, int(hours * 60)), count))
    acid = 5 + generator.integers(0, 7, count) / 2
    sugar = 100.0 * generator.integers(-7, 4, count)
    rows.add(stay, minute, items.URINE_PH, table=LAB, lag="urine", number=acid)
    rows.add(stay, minute, items.URINE_GLUCOSE, table=LAB, lag="urine", number=np.where(sugar > 0, sugar, np.nan))


def add_arrival(rows: Rows, world: World, stay: int, course: Course, uniform: np.ndarray) -> None:
    """A glucose from the hours before the ICU, which no window that starts with the stay may use."""
    if uniform[0] < world.faults.lab_before_icu:
        knobs, natural = world.variables["Glucose"], course.arrival_glucose
        natural = np.exp(min(natural, 30)) if knobs.log else natural
        number = np.rint(np.clip(natural, knobs.low, knobs.high))
        rows.add(stay, [-60 - int(300 * uniform[1])], items.GLUCOSE_SERUM, table=LAB, lag="chemistry", number=number)


def add_spontaneous_breaths(rows: Rows, seed: int, people: People, stay: int, course: Course) -> None:
    """The spontaneous part of the respiratory rate, charted with the ventilator: often 0, and never the respiratory rate."""
    visit = items.ROUNDS.index("ventilator")
    slots = np.flatnonzero(course.visits[visit])
    generator = stream(seed, int(people.patient[people.owner[stay]]), "spontaneous", int(people.number[stay]))
    breaths = np.where(generator.random(len(slots)) < NO_BREATH_OF_THEIR_OWN, 0, generator.integers(8, 30, len(slots)))
    rows.add(stay, slots * 15 + course.minutes[visit, slots], items.SPONTANEOUS_RATE, number=breaths)
