"""A world as arrays: what both the simulation and the posterior need to know of it, in one order of variables and rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit, ndtri

from omnifuse.preprocess.clinic import items, latent
from omnifuse.preprocess.clinic.world import World

SLOTS = 4  # an hour: the latent processes live on quarters of an hour


@dataclass(frozen=True)
class Reading:
    """A variable read in a round under an item."""

    variable: int
    round: int
    itemid: int


@dataclass(frozen=True)
class Model:
    """K variables, C conditions, Q rounds, in the order of `items`; units are those of the variable (log where it is logarithmic)."""

    world: World
    loadings: np.ndarray  # [2 + C, 4 + C]
    mean: np.ndarray  # [K]
    signal: np.ndarray  # [K] a variable's own, before `mixing`
    between: np.ndarray
    within: np.ndarray
    hours: np.ndarray
    error: np.ndarray
    shifts: np.ndarray  # [K, C]
    mixing: np.ndarray  # [K, K] identity plus `follows`
    readings: tuple[Reading, ...]
    visit_logit: np.ndarray  # [Q, slots of a day or two] periodic log odds of a visit
    visit_severity: np.ndarray  # [Q]

    @property
    def total_signal(self) -> np.ndarray:
        """[K] change of each variable per unit of severity."""
        return self.mixing @ self.signal

    def expected_severity(self, level, trend, slots) -> np.ndarray:
        """Severity without its wandering, at these slots: what charting and ordinals follow."""
        course = self.world.severity
        return course.level * level + course.trend * trend * (1 - np.exp(-slots / SLOTS / course.trend_hours))

    def visit_odds(self, slots: np.ndarray) -> np.ndarray:
        """[Q, len(slots)] log odds of a visit at severity 0."""
        return self.visit_logit[:, slots % self.visit_logit.shape[1]]

    def cutpoints(self, ordinal: str) -> np.ndarray:
        """Thresholds of the probit: shares hold for a mixed population after a day."""
        knobs, course = self.world.ordinals[ordinal], self.world.severity
        day = course.trend * (1 - np.exp(-24 / course.trend_hours))
        spread = np.sqrt(1 + knobs.signal**2 * (course.level**2 + day**2))
        return ndtri(np.clip(np.cumsum(knobs.shares)[:-1], 1e-12, 1 - 1e-12)) * spread


def build_model(world: World) -> Model:
    variables = [world.variables[name] for name in items.MEASURED]
    rounds = [world.rounds[name] for name in items.ROUNDS]
    mixing = np.eye(len(variables))
    for row, variable in enumerate(variables):
        for other, weight in variable.follows.items():
            mixing[row, items.MEASURED.index(other)] = weight
    conditions = list(world.conditions.values())
    shifts = np.array([[condition.shifts.get(name, 0.0) for condition in conditions] for name in items.MEASURED])
    return Model(
        world=world,
        loadings=latent.loadings(world),
        mean=np.array([v.mean for v in variables]),
        signal=np.array([v.signal for v in variables]),
        between=np.array([v.sd_between for v in variables]),
        within=np.array([v.sd_within for v in variables]),
        hours=np.array([v.hours for v in variables]),
        error=np.array([v.sd_error for v in variables]),
        shifts=shifts,
        mixing=mixing,
        readings=tuple(
            Reading(items.MEASURED.index(variable), items.ROUNDS.index(name), itemid) for (variable, name), itemid in items.READINGS.items()
        ),
        visit_logit=np.array([_periodic(visit) for visit in rounds]),
        visit_severity=np.array([visit.severity for visit in rounds]),
    )


def _periodic(visit) -> np.ndarray:
    """Log odds for the slots of two days: scheduled visits at multiples of the interval, which is rounded to quarters of an hour."""
    slots = np.arange(48 * SLOTS)
    scheduled = slots % max(1, round(visit.every_hours * SLOTS)) == 0
    return logit(np.clip(np.where(scheduled, visit.scheduled, visit.between), 1e-12, 1 - 1e-12))
