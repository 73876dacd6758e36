"""The course of one stay: when each round visits, what it measures, and which level the ordinal variables are at.

Everything lives on quarters of an hour since the first full hour of the stay. What is drawn here is what the bedside measures, before
it is rounded, converted and spoiled by the record (`ehr.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit, ndtr

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People, probit_share
from omnifuse.preprocess.clinic.model import SLOTS, Model

VITALS, GAS, VENTILATOR = (items.ROUNDS.index(name) for name in ("vitals", "gas", "ventilator"))
GLUCOSE = items.MEASURED.index("Glucose")
ARTERIAL_CHARTED, CUFF_BESIDE_LINE = 0.9, 0.4  # rounds with a line that chart it, and that also take the cuff


@dataclass(frozen=True)
class Course:
    """Cells of measured variables and of ordinals, each an array as long as there are cells.

    `round_seen[q]`: the stay has visits of that round; `last_slot[q]`: visits are possible before it.
    """

    severity: np.ndarray  # [slots]
    round_seen: np.ndarray  # [Q] bool
    last_slot: np.ndarray  # [Q]
    visits: np.ndarray  # [Q, slots] bool
    minutes: np.ndarray  # [Q, slots] of the visit within its quarter
    venous: np.ndarray  # [slots] a blood gas there is venous
    venous_saturation: np.ndarray  # [slots] its oxygen saturation, which tells nothing of the arterial one
    arrival_glucose: float  # measured before the ICU, in the units of the variable
    slot: np.ndarray
    reading: np.ndarray  # index into Model.readings
    arterial: np.ndarray  # bool: by arterial line, not by cuff
    value: np.ndarray
    ordinal_slot: tuple[np.ndarray, ...]
    ordinal_level: tuple[np.ndarray, ...]
    variable_seen: np.ndarray  # [K] bool


def simulate(model: Model, seed: int, people: People, stay: int) -> Course:
    """The course of one stay of a block, from its own streams."""
    key = (int(people.patient[people.owner[stay]]), int(people.number[stay]))
    slots = max(1, int(people.los_hours[stay] * SLOTS))
    level, trend = people.level[stay], people.trend[stay]
    severity, values, errors = _processes(model, stream(seed, key[0], "course", key[1]), people, stay, slots)
    generator = stream(seed, key[0], "visits", key[1])
    seen, last, visits = _visits(model, generator, people, stay, slots)
    minutes = _minutes(model, generator, slots)
    variable_seen = generator.random(len(model.mean)) >= np.array(
        [float(probit_share(v.missing, v.missing_severity, level)) for v in _variables(model)]
    )
    venous = generator.random(slots) < model.world.faults.venous_gas
    venous_saturation = 70 + 9 * generator.standard_normal(slots)
    cells = _cells(model, generator, people.arterial_line[stay], visits, variable_seen, values, errors)
    generator = stream(seed, key[0], "ordinals", key[1])
    expected = model.expected_severity(level, trend, np.arange(slots))
    ordinals = [_ordinal(model, name, generator, visits, expected) for name in items.ORDINALS]
    arrival = values[GLUCOSE, 0] + model.error[GLUCOSE] * stream(seed, key[0], "arrival", key[1]).standard_normal()
    return Course(
        severity, seen, last, visits, minutes, venous, venous_saturation, arrival, *cells,
        tuple(slots for slots, _ in ordinals), tuple(levels for _, levels in ordinals), variable_seen,
    )  # fmt: skip


def _variables(model: Model):
    return [model.world.variables[name] for name in items.MEASURED]


def _forget(noise: np.ndarray, hours: float) -> np.ndarray:
    """A stationary Ornstein-Uhlenbeck process of unit variance from unit normals, by quarter of an hour."""
    kept = np.exp(-1 / SLOTS / hours)
    noise[1:] *= np.sqrt(1 - kept**2)
    return lfilter([1.0], [1.0, -kept], noise)


def _processes(model: Model, generator, people: People, stay: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Severity [slots], true values [K, slots], and unit errors for each reading and for the cuff beside a line."""
    count, course = len(model.mean), model.world.severity
    intercept = model.between * generator.standard_normal(count) + (model.shifts * people.liability[stay]).sum(1)
    wander = _forget(generator.standard_normal(slots), course.wander_hours)
    severity = model.expected_severity(people.level[stay], people.trend[stay], np.arange(slots)) + course.wander * wander
    own = np.stack([_forget(generator.standard_normal(slots), hours) for hours in model.hours])  # [K, slots]
    deviation = intercept[:, None] + model.signal[:, None] * severity + model.within[:, None] * own
    errors = generator.standard_normal((len(model.readings) + len(items.ARTERIAL), slots))
    values = model.mean[:, None] + deviation
    for row, other in zip(*np.nonzero(model.mixing - np.eye(count))):
        values[row] += model.mixing[row, other] * deviation[other]
    return severity, values, errors


def _visits(model: Model, generator, people: People, stay: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rounds the stay has at all, until which slot, and when they come."""
    level, trend, clock = people.level[stay], people.trend[stay], np.arange(slots)
    knobs = [model.world.rounds[name] for name in items.ROUNDS]
    seen = generator.random(len(knobs)) >= np.array([float(probit_share(r.missing, r.missing_severity, level)) for r in knobs])
    last = np.full(len(knobs), slots)
    for q, visit in enumerate(knobs):
        if visit.device == "ventilator":
            last[q] = min(slots, int(people.ventilated_hours[stay] * SLOTS))
        elif visit.device == "arterial_line" and not people.arterial_line[stay]:
            last[q] = 0
    odds = model.visit_odds(clock) + model.visit_severity[:, None] * model.expected_severity(level, trend, clock)
    visits = (generator.random((len(knobs), slots)) < expit(odds)) & seen[:, None] & (clock < last[:, None])
    return seen, last, visits


def _minutes(model: Model, generator, slots: int) -> np.ndarray:
    """Minute within the quarter: scheduled visits mostly at the full hour, the others anywhere."""
    anywhere = generator.random((len(items.ROUNDS), slots)) * 15
    on_time = np.array([[model.world.rounds[name].on_the_minute] for name in items.ROUNDS])
    at_hour = (generator.random((len(items.ROUNDS), slots)) < on_time) & (np.arange(slots) % SLOTS == 0)
    return np.where(at_hour, 0, anywhere).astype(np.int16)


def _cells(model: Model, generator, has_line: bool, visits, variable_seen, values, errors) -> tuple[np.ndarray, ...]:
    """slot, reading, by arterial line, measured value: one after the other by reading."""
    names, knobs = items.MEASURED, model.world.variables
    slots = visits.shape[1]
    chosen = generator.random((2, slots))
    line, cuff = has_line & (chosen[0] < ARTERIAL_CHARTED), (chosen[1] < CUFF_BESIDE_LINE) | (not has_line)
    charted = generator.random((len(model.readings), slots))
    found = []
    for r, reading in enumerate(model.readings):
        k = reading.variable
        there = visits[reading.round] & variable_seen[k] & (charted[r] < knobs[names[k]].charted)
        if reading.itemid in items.ARTERIAL:
            beside = len(model.readings) + list(items.ARTERIAL).index(reading.itemid)
            found.append((np.flatnonzero(there & line), r, True, k, beside))
            there = there & (cuff | ~line)
        found.append((np.flatnonzero(there), r, False, k, r))
    slot = np.concatenate([f[0] for f in found])
    value = np.concatenate([values[k, at] + model.error[k] * errors[e, at] for at, _, _, k, e in found])
    reading = np.concatenate([np.full(len(f[0]), f[1], np.int16) for f in found])
    return slot, reading, np.concatenate([np.full(len(f[0]), f[2]) for f in found]), value


def ordinal_shares(model: Model, name: str, expected: np.ndarray) -> np.ndarray:
    """[..., L] probability of each level of a fresh reading at this expected severity."""
    cuts = np.concatenate([[-np.inf], model.cutpoints(name), [np.inf]])
    return np.diff(ndtr(cuts - model.world.ordinals[name].signal * np.asarray(expected)[..., None]), axis=-1)


def _ordinal(model: Model, name: str, generator, visits: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slots and level indices of an ordinal variable: each reading repeats the last one or is drawn anew."""
    at = np.flatnonzero(visits[items.ROUNDS.index(items.ORDINAL_ROUNDS[name])])
    if not len(at):
        return at, at
    knobs = model.world.ordinals[name]
    fresh = model.cutpoints(name).searchsorted(knobs.signal * expected[at] + generator.standard_normal(len(at)))
    kept = np.exp(-np.diff(at, prepend=at[0]) / SLOTS / knobs.hours)
    anew = generator.random(len(at)) >= kept
    anew[0] = True
    return at, fresh[np.maximum.accumulate(np.where(anew, np.arange(len(at)), 0))]
