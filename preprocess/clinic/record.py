"""From measured cells to rows: items, units, texts and rounding, as MetaVision and the laboratory write them.

A block of stays at a time. The rows of a stay, and what is drawn for each of them, do not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.course import GAS, Course
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.model import SLOTS, Model
from omnifuse.preprocess.clinic.rows import LAB, LAGS, Rows, text_codes
from omnifuse.preprocess.clinic.sundries import add_arrival, add_body, add_spontaneous_breaths, add_urine

TEMPERATURE, PH, SATURATION = (items.MEASURED.index(name) for name in ("Temperature", "pH", "Oxygen saturation"))
LAB_LAG = {items.GLUCOSE_SERUM: LAGS.index("chemistry"), items.PH_BLOOD: LAGS.index("gas"), items.SATURATION: LAGS.index("gas")}
VENOUS_BELOW = 0.04  # pH of venous under that of arterial blood
DRAWS = 6  # uniforms of a row: store time, value fault, its kind, warning, duplicate, link to the admission


@dataclass(frozen=True)
class Cells:
    """The measured cells of a block, flat and by stay: value as measured and, in the same units, as rounded by the device."""

    stay: np.ndarray
    slot: np.ndarray
    minute: np.ndarray  # since the first full hour
    variable: np.ndarray
    itemid: np.ndarray
    venous: np.ndarray
    measured: np.ndarray
    rounded: np.ndarray

    @property
    def of_the_course(self) -> np.ndarray:
        """False for the oxygen saturation of venous blood, which is not the variable of that name."""
        return ~(self.venous & (self.variable == SATURATION))


def gather(model: Model, courses: list[Course]) -> Cells:
    """All measured cells of a block."""
    round_of, variable_of, item_of = np.array([(r.round, r.variable, r.itemid) for r in model.readings]).T
    reading, slot = (np.concatenate([getattr(course, name) for course in courses]) for name in ("reading", "slot"))
    variable, item = variable_of[reading], item_of[reading]
    venous = np.concatenate([course.venous[course.slot] for course in courses]) & (round_of[reading] == GAS)
    other_blood = np.concatenate([course.venous_saturation[course.slot] for course in courses])
    value = np.where(venous & (variable == SATURATION), other_blood, np.concatenate([course.value for course in courses]))
    arterial = np.concatenate([course.arterial for course in courses])
    for cuff, line in items.ARTERIAL.items():
        item = np.where(arterial & (item == cuff), line, item)
    minute = slot * 15 + np.concatenate([course.minutes[round_of[course.reading], course.slot] for course in courses])
    stay = np.repeat(np.arange(len(courses)), [len(course.slot) for course in courses])
    return Cells(stay, slot, minute, variable, item, venous, value, _rounded(model, variable, value))


def _rounded(model: Model, variable: np.ndarray, value: np.ndarray) -> np.ndarray:
    out = value.copy()
    for k, name in enumerate(items.MEASURED):
        knobs, mine = model.world.variables[name], variable == k
        natural = np.exp(np.minimum(value[mine], 30)) if knobs.log else value[mine]
        natural = np.clip(np.round(natural, knobs.decimals), knobs.low, knobs.high)
        out[mine] = np.log(natural) if knobs.log else natural
    return out


def rows_of(model: Model, seed: int, people: People, courses: list[Course], cells: Cells) -> pl.DataFrame:
    """Every row of a block before its faults, in the columns of `rows.COLUMNS`."""
    uniform = np.array([_stream_of(seed, people, stay, "body").random(11) for stay in range(len(courses))])
    rows = Rows()
    _add_measured(rows, model, cells, uniform[:, 0] < model.world.faults.celsius_stay)
    _add_coma(rows, model, people, courses)
    _add_oxygen_and_refill(rows, model, courses, uniform[:, 1] < 0.98)
    for stay, course in enumerate(courses):
        add_body(rows, model.world, seed, people, stay, course, uniform[stay])
        add_urine(rows, model.world, seed, people, stay)
        add_spontaneous_breaths(rows, seed, people, stay, course)
        add_arrival(rows, model.world, stay, course, uniform[stay, 9:])
    return rows.frame()


def row_draws(seed: int, people: People, rows: pl.DataFrame) -> np.ndarray:
    """[rows, DRAWS] uniforms, each stay's from its own stream."""
    counts = np.bincount(rows["stay"].to_numpy(), minlength=len(people.owner))
    return np.concatenate([_stream_of(seed, people, stay, "record").random((count, DRAWS)) for stay, count in enumerate(counts)])


def _stream_of(seed: int, people: People, stay: int, purpose: str):
    return stream(seed, int(people.patient[people.owner[stay]]), purpose, int(people.number[stay]))


def _add_measured(rows: Rows, model: Model, cells: Cells, celsius: np.ndarray) -> None:
    """Numbers as charted or reported, the laboratory's copies in the chart, and the specimen type of a blood gas."""
    number = cells.rounded.copy()
    for k, name in enumerate(items.MEASURED):
        if model.world.variables[name].log:
            number[cells.variable == k] = np.rint(np.exp(number[cells.variable == k]))
    number -= VENOUS_BELOW * ((cells.variable == PH) & cells.venous)
    warm = cells.variable == TEMPERATURE
    in_celsius = warm & celsius[cells.stay]
    number = np.round(np.where(warm & ~in_celsius, number * 1.8 + 32, number), 2)
    number[warm] = np.round(number[warm], 1)
    item = np.where(in_celsius, items.TEMPERATURE_C, cells.itemid)
    lag = np.zeros(len(item), np.int8)
    for itemid, code in LAB_LAG.items():
        lag[item == itemid] = code
    rows.add(cells.stay, cells.minute, item, table=np.where(lag > 0, LAB, 0), lag=lag, number=number)
    for source, copy in items.CHARTED_COPIES.items():
        mine = item == source
        copied = np.where(cells.venous[mine], items.VENOUS_PH, copy)
        rows.add(cells.stay[mine], cells.minute[mine], copied, lag=lag[mine], number=number[mine])
    gas = item == items.PH_BLOOD
    specimen = np.where(cells.venous[gas], *text_codes(["VEN.", "ART."]))
    rows.add(cells.stay[gas], cells.minute[gas], items.SPECIMEN, table=LAB, lag="gas", text=specimen)


def _readings(courses: list[Course], ordinal: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stay, slot, minute and level of every reading of an ordinal variable."""
    which, visit = items.ORDINALS.index(ordinal), items.ROUNDS.index(items.ORDINAL_ROUNDS[ordinal])
    slot = np.concatenate([course.ordinal_slot[which] for course in courses])
    minute = slot * 15 + np.concatenate([course.minutes[visit, course.ordinal_slot[which]] for course in courses])
    stay = np.repeat(np.arange(len(courses)), [len(course.ordinal_slot[which]) for course in courses])
    return stay, slot, minute, np.concatenate([course.ordinal_level[which] for course in courses])


def _add_coma(rows: Rows, model: Model, people: People, courses: list[Course]) -> None:
    """Eye, verbal and motor score of an assessment; a ventilated patient cannot answer."""
    stay, slot, minute, level = _readings(courses, items.COMA)
    scores = np.array([items.coma_scores(text) for text in model.world.ordinals[items.COMA].levels])
    tube = slot < (people.ventilated_hours * SLOTS).astype(int)[stay]
    kinds = ((items.EYE, items.EYE_TEXTS), (items.VERBAL, items.VERBAL_TEXTS), (items.MOTOR, items.MOTOR_TEXTS))
    for part, (itemid, texts) in enumerate(kinds):
        number, text = scores[level, part].astype(float), text_codes(texts[score] for score in scores[:, part])[level]
        if itemid == items.VERBAL:  # MetaVision gives No Response-ETT the number of No Response
            number, text = np.where(tube, 1, number), np.where(tube, text_codes([items.INTUBATED]), text)
        rows.add(stay, minute, itemid, number=number, text=text)


def _add_oxygen_and_refill(rows: Rows, model: Model, courses: list[Course], both_hands: np.ndarray) -> None:
    """Inspired oxygen as a percentage; capillary refill of the right hand and, in most stays, of the left."""
    stay, _, minute, level = _readings(courses, items.OXYGEN)
    percent = np.array([float(text) for text in model.world.ordinals[items.OXYGEN].levels])
    rows.add(stay, minute, items.FIO2, number=percent[level])
    stay, _, minute, level = _readings(courses, items.REFILL)
    text = text_codes(model.world.ordinals[items.REFILL].levels)[level]
    rows.add(stay, minute, items.REFILL_RIGHT, text=text)
    left = both_hands[stay]
    rows.add(stay[left], minute[left], items.REFILL_LEFT, text=text[left])


def store_lag(lag: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Whole minutes from charttime to storetime, log-normal by kind."""
    median, spread = np.array(list(items.STORE_MINUTES.values())).T
    return np.minimum(np.rint(median[lag] * np.exp(spread[lag] * normal)), 2880).astype(np.int64)
