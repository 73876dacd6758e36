"""What one stay's chest exams, films, reports and signals show, as tokens: numbers and statements that the renderers draw and write.

Everything in a film, a text or a signal that depends on the patient's state comes from here, so that the ceiling can be told exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnifuse.preprocess.clinic import statements
from omnifuse.preprocess.clinic.context import Context, draw_marks
from omnifuse.preprocess.clinic.findings import EFFUSION, FILM, REPORT, SIGNAL, shares
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.modality_world import CARRIERS
from omnifuse.preprocess.clinic.model import Model
from omnifuse.preprocess.clinic.ordering import Circumstances, Ordering, Timetable, unit_sign
from omnifuse.preprocess.clinic.readings import MOST, Spread, draw_tokens

CXR, REP, SIG = range(3)
REDUNDANT, UNIQUE, FLUID = range(3)  # columns of film tokens; signals have the first two


@dataclass(frozen=True)
class Exams:
    """Chest exams of a stay by time; `minute` counts from the start of the stay, `before` marks the one from before it, if any.

    `film` holds tokens of every exam, whether or not its film is in the archive.
    """

    minute: np.ndarray  # [n]; NaN-free: of the exam before the ICU a share of the way from admission, times -1000
    before: np.ndarray  # [n] bool
    upright: np.ndarray  # [n] bool: PA and lateral, not AP
    archived: bool
    film: np.ndarray  # [n, 3] redundant, unique, fluid
    blurred: np.ndarray  # [n] bool: the film shows none of them
    statements: np.ndarray  # [n, 3] effusion, own finding, grade
    cut: np.ndarray  # [n] bool: the text ends before any statement
    copied: np.ndarray  # [n] bool: the text is the last one's
    delay: np.ndarray  # [n] minutes until the report is known


@dataclass(frozen=True)
class Signals:
    minute: np.ndarray
    token: np.ndarray  # [n, 2] redundant, unique
    lost: np.ndarray  # [n] bool


@dataclass(frozen=True)
class Seen:
    """All that one stay shows beside the tables."""

    around: Circumstances
    noise: np.ndarray  # [3]
    marks: np.ndarray  # [3] bool
    exams: Exams
    signals: Signals


class Observer:
    """Draws what stays show; built once for a world."""

    def __init__(self, model: Model, seed: int):
        world, share = model.world, shares(model.world)
        self.model, self.seed = model, seed
        self.exam_ordered = Ordering(world, world.exam.ordered, share[EFFUSION])
        self.film_archived = Ordering(world, world.film.archived, share[FILM])
        self.signal_ordered = Ordering(world, world.signal.ordered, share[SIGNAL])
        self.exam_hours, self.signal_hours = Timetable(model, world.exam.hours), Timetable(model, world.signal.hours)
        self.film_spread = Spread(world.film.between, world.film.within)
        self.signal_spread = Spread(world.signal.between, world.signal.within)

    def observe(self, people: People, context: Context, stay: int) -> Seen:
        """One stay of a block, from its own streams."""
        owner = people.owner[stay]
        external = bool(context.external[owner])
        around = Circumstances(bool(people.ventilated_hours[stay] > 0), unit_sign(people.unit[stay]), external)
        key = (int(people.patient[owner]), int(people.number[stay]))
        marks = draw_marks(self.model.world, self.seed, *key, bool(people.died[stay]), external)
        exams = self._exams(people, stay, around, context.noise[owner], context.corrupt[owner])
        signals = self._signals(people, stay, around, context.noise[owner, SIG], context.corrupt[owner, SIG])
        return Seen(around, context.noise[owner], marks, exams, signals)

    def _generator(self, people: People, stay: int, purpose: str) -> np.random.Generator:
        return stream(self.seed, int(people.patient[people.owner[stay]]), purpose, int(people.number[stay]))

    def _exams(self, people: People, stay: int, around: Circumstances, noise: np.ndarray, corrupt: np.ndarray) -> Exams:
        knobs, generator = self.model.world.exam, self._generator(people, stay, "exam")
        level, findings, uniform = people.level[stay], people.findings[stay], generator.random(4)
        ordered = uniform[0] < self.exam_ordered.chance(level, findings[EFFUSION], around)
        minute = self.exam_hours.draw(generator, level, people.trend[stay], people.los_hours[stay])[: MOST - 1]
        minute = minute if ordered else minute[:0]
        early = bool(uniform[1] < knobs.before) and not people.returned[stay]
        minute = np.concatenate([[-1000 * uniform[2]] if early else [], minute])
        count, chance = len(minute), generator.random((4, MOST))
        lag = np.exp(np.log(knobs.report_minutes) + knobs.report_spread * generator.standard_normal(MOST))
        lag = np.where(chance[2] < knobs.late, 1440 + 12 * lag, np.minimum(lag, 1440))
        before = minute < 0
        film, blurred = self._films(people, stay, noise[CXR], corrupt[CXR], before)
        told = self._reports(people, stay, noise[REP], corrupt[REP], before)
        archived = uniform[3] < self.film_archived.chance(0.0, findings[FILM], around)
        return Exams(minute, before, chance[0][:count] < knobs.upright, bool(archived), film, blurred, *told, lag[:count])

    def _films(self, people: People, stay: int, noise: float, corrupt: float, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and which films are blurred; a film from before the ICU knows nothing of the stay."""
        knobs, generator, findings = self.model.world.film, self._generator(people, stay, "film"), people.findings[stay]
        effects = np.array([knobs.redundant * people.level[stay], knobs.unique * findings[FILM], knobs.effusion * findings[EFFUSION]])
        tokens = draw_tokens(generator, self.film_spread, noise, effects, len(before))
        if before.any():
            blank = knobs.unique * (generator.random() < shares(self.model.world)[FILM])
            fluid = knobs.effusion * (generator.random() < shares(self.model.world)[EFFUSION])
            tokens[0] = np.array([0.0, blank, fluid]) + noise * generator.standard_normal(3)
        return tokens, generator.random(MOST)[: len(before)] < corrupt

    def _reports(self, people: People, stay: int, noise: float, corrupt: float, before: np.ndarray) -> tuple[np.ndarray, ...]:
        """Statements, which texts are cut, which are copies of the last whole one."""
        knobs, generator, findings = self.model.world.report, self._generator(people, stay, "report"), people.findings[stay]
        count, base = len(before), shares(self.model.world)
        uniform, keep, fresh = generator.random((3, MOST)), generator.random((MOST, 3)), generator.random((MOST, 3))
        cut, copied = uniform[0][:count] < corrupt, uniform[1][:count] < knobs.copied
        told = np.full((count, 3), statements.SILENT)
        told[:, statements.GRADE] = statements.SILENT_GRADE
        whole = np.flatnonzero(~cut & ~before)
        copied = copied & ~cut & ~before
        copied[whole[:1]] = False
        true = (bool(findings[EFFUSION]), bool(findings[REPORT]))
        told[whole] = statements.draw_statements(knobs, noise, people.level[stay], true, keep[whole], copied[whole], fresh[whole])
        if before.any() and not cut[0]:
            other = (bool(uniform[2, 0] < base[EFFUSION]), bool(uniform[2, 1] < base[REPORT]))
            told[:1] = statements.draw_statements(knobs, noise, 0.0, other, keep[:1], copied[:1], fresh[:1])
        return told, cut, copied

    def _signals(self, people: People, stay: int, around: Circumstances, noise: float, corrupt: float) -> Signals:
        knobs, generator, findings = self.model.world.signal, self._generator(people, stay, "signal"), people.findings[stay]
        ordered = generator.random() < self.signal_ordered.chance(people.level[stay], findings[SIGNAL], around)
        minute = self.signal_hours.draw(generator, people.level[stay], people.trend[stay], people.los_hours[stay])[:MOST]
        minute = minute if ordered else minute[:0]
        effects = np.array([knobs.redundant * people.level[stay], knobs.unique * findings[SIGNAL]])
        tokens = draw_tokens(generator, self.signal_spread, noise, effects, len(minute))
        return Signals(minute, tokens, generator.random(MOST)[: len(minute)] < corrupt)


def easy_first(kind: str, unique_in: str) -> tuple[int, int]:
    """Columns of the tokens that the easy and the hard carrier show."""
    return (UNIQUE, REDUNDANT) if unique_in == CARRIERS[kind][0] else (REDUNDANT, UNIQUE)
