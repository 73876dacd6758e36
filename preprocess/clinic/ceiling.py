"""P(death | what the first hours show of a stay), exactly: the best that any method can do on the EHR of this world.

The outcome depends on two numbers, R and D, and on four findings that leave no mark here (`latent.py`; they are summed out). Everything
in the tables depends on R and D in a form that can be written down:

    measured values   Gaussian given R and D: intercepts, liabilities, wandering severity, Ornstein-Uhlenbeck noise and measurement
                      error are integrated out by the Cholesky factor of their covariance
    ordinals          a reading repeats the last one with exp(-gap / hours), else it is a probit draw at that hour's expected severity
    pattern           which rounds, variables and devices the stay has, and every quarter of an hour with and without a visit

The product is summed over a grid of (R, D) by the trapezoid rule. The stay is known to have lasted the hours of the design, which also
tells something of R and of the outcome.

What is conditioned on is what the bedside measured, by charttime, before rounding, device limits and faults: never less than the tables
hold, so that `measured` is an upper bound for any method on the series alone; `charted` is the same formula fed with the rounded values
(a method that any reader of the tables could use, gross faults apart), so that the true ceiling lies between the two. Age and the other
stays of a patient are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.course import Course, ordinal_shares
from omnifuse.preprocess.clinic.latent import People, probit_share
from omnifuse.preprocess.clinic.model import SLOTS, Model
from omnifuse.preprocess.clinic.outcome import LEVEL, TREND, Strength, build_grid

SOURCES = ("measured", "charted", "values", "ordinals", "pattern")


@dataclass(frozen=True)
class Window:
    """What a stay shows before the end of the window; `slot` and `variable` name the measured values."""

    slots: int
    slot: np.ndarray
    variable: np.ndarray
    measured: np.ndarray
    rounded: np.ndarray


class Ceiling:
    """The posterior of one world; built once, asked stay by stay."""

    def __init__(self, model: Model, strength: Strength):
        self.model = model
        world, slots = model.world, int(model.world.stays.design_hours * SLOTS)
        clock = np.arange(slots)
        self._rise = 1 - np.exp(-clock / SLOTS / world.severity.trend_hours)
        self._kernels = np.exp(-clock / SLOTS / np.array([[world.severity.wander_hours], *([h] for h in model.hours)]))  # [1 + K, slots]
        expected = model.expected_severity(LEVEL, TREND, clock[:, None])  # [slots, G]
        self._quiet = [self._cumulated(q, expected) for q in range(len(items.ROUNDS))]
        self._levels = [np.moveaxis(ordinal_shares(model, name, expected), 2, 1) for name in items.ORDINALS]  # [slots, L, G]
        self._prepare_values()
        self.case, self.control = build_grid(world).weights(world, strength.intercept, strength.slope)  # [G, 16]
        self._case, self._control = self.case.sum(1), self.control.sum(1)

    def _cumulated(self, q: int, expected: np.ndarray) -> np.ndarray | None:
        """[slots + 1, G] log P(no visit at all before a slot), up to what does not depend on R and D; None where nothing does."""
        if self.model.visit_severity[q] == 0:
            return None
        odds = self.model.visit_odds(np.arange(len(expected)))[q][:, None] + self.model.visit_severity[q] * expected
        return np.vstack([np.zeros(len(LEVEL)), -np.cumsum(np.logaddexp(0, odds), axis=0)])

    def _prepare_values(self) -> None:
        """Loadings on R and D, and covariance of the intercepts given R, for each variable."""
        model, course = self.model, self.model.world.severity
        liabilities, on_level = model.loadings[2:], model.loadings[2:] @ model.loadings[0]
        left = liabilities @ liabilities.T - np.outer(on_level, on_level)
        self._on_level = model.mixing @ (model.signal * course.level + model.shifts @ on_level)
        self._on_trend = model.total_signal * course.trend
        own = np.diag(model.between**2) + model.shifts @ left @ model.shifts.T
        self._intercept = model.mixing @ own @ model.mixing.T
        self._tells = (np.abs(model.mixing) @ (np.abs(model.signal) + np.abs(model.shifts @ on_level))) > 0

    def probabilities(self, people: People, stay: int, course: Course, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """P(death | ...) of one stay from each of SOURCES; [G] likelihood of all that is measured and charted, its largest 1."""
        measured, charted = self._values(window)
        ordinals = sum(self._ordinal(i, course, window.slots) for i in range(len(items.ORDINALS)))
        pattern = self._pattern(people, stay, course, window.slots)
        sources = (measured + ordinals + pattern, charted + ordinals + pattern, measured, ordinals, pattern)
        weights = [np.exp(source - source.max()) for source in sources]
        return np.array([1 / (1 + (self._control @ weight) / (self._case @ weight)) for weight in weights]), weights[0]

    def _values(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """[G] log likelihood of the measured and of the rounded values, up to a constant."""
        use = self._tells[window.variable]
        if not use.any():
            return np.zeros(len(LEVEL)), np.zeros(len(LEVEL))
        order = np.argsort(window.variable[use], kind="stable")
        variable, slot = window.variable[use][order], window.slot[use][order]
        loading = np.column_stack([self._on_level[variable], self._on_trend[variable] * self._rise[slot]])  # [N, 2]
        values = np.column_stack([window.measured[use][order], window.rounded[use][order]]) - self.model.mean[variable][:, None]
        factor = cho_factor(self.covariance(variable, slot), lower=True, overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, loading, check_finite=False)
        information, score = loading.T @ solved, values.T @ solved  # [2, 2], [2 kinds, 2]
        nodes = np.stack([LEVEL, TREND])
        penalty = 0.5 * np.einsum("ig,ij,jg->g", nodes, information, nodes)
        return tuple(score @ nodes - penalty)

    def covariance(self, variable: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """[N, N] of measured values given R and D; `variable` must be sorted."""
        model, course = self.model, self.model.world.severity
        lag = np.abs(slot[:, None] - slot[None, :])
        wander = course.wander * model.total_signal
        total = self._intercept[np.ix_(variable, variable)] + np.outer(wander[variable], wander[variable]) * np.take(self._kernels[0], lag)
        for k in range(len(model.mean)):
            with_k = np.flatnonzero(model.mixing[variable, k])
            if len(with_k):
                weight = model.mixing[variable[with_k], k] * model.within[k]
                total[_square(with_k)] += np.outer(weight, weight) * np.take(self._kernels[1 + k], lag[_square(with_k)])
        total[np.diag_indices_from(total)] += model.error[variable] ** 2
        return total

    def _ordinal(self, which: int, course: Course, slots: int) -> np.ndarray:
        """[G] log likelihood of the readings of an ordinal variable."""
        inside = course.ordinal_slot[which] < slots
        at, level = course.ordinal_slot[which][inside], course.ordinal_level[which][inside]
        if not len(at):
            return np.zeros(len(LEVEL))
        fresh = self._levels[which][at, level]  # [n, G]
        kept = np.exp(-np.diff(at, prepend=at[0]) / SLOTS / self.model.world.ordinals[items.ORDINALS[which]].hours)
        kept[0] = 0.0
        same = kept * (level == np.roll(level, 1))
        return np.log(same[:, None] + (1 - kept[:, None]) * fresh).sum(0)

    def _pattern(self, people: People, stay: int, course: Course, slots: int) -> np.ndarray:
        """[G] log likelihood of what the stay has at all, and of the times of its visits."""
        model, world, total = self.model, self.model.world, np.zeros(len(LEVEL))
        for q, name in enumerate(items.ROUNDS):
            knobs, seen = world.rounds[name], course.round_seen[q]
            if knobs.device is None or course.last_slot[q] > 0:
                total += _yes_or_no(knobs.missing, knobs.missing_severity, not seen)
            until = min(slots, course.last_slot[q])
            if seen and self._quiet[q] is not None and until > 0:
                at = np.flatnonzero(course.visits[q, :until])
                rise = world.severity.trend * self._rise[at].sum()
                total += self._quiet[q][until] + model.visit_severity[q] * (world.severity.level * LEVEL * len(at) + TREND * rise)
        for k, name in enumerate(items.MEASURED):
            knobs = world.variables[name]
            total += _yes_or_no(knobs.missing, knobs.missing_severity, not course.variable_seen[k])
        line, ventilator = world.devices["arterial_line"], world.devices["ventilator"]
        total += _yes_or_no(line.rate, line.severity, people.arterial_line[stay])
        return total + _yes_or_no(ventilator.rate, ventilator.severity, people.ventilated_hours[stay] > 0)


def _square(index: np.ndarray):
    """Rows and columns of a matrix: as a slice where they are neighbours, which is several times faster."""
    if index[-1] - index[0] + 1 == len(index):
        return (slice(index[0], index[-1] + 1),) * 2
    return np.ix_(index, index)


def _yes_or_no(rate: float, slope: float, yes: bool) -> np.ndarray | float:
    """[G] log P of a stay-level yes or no; 0 where it tells nothing of R."""
    if slope == 0 or rate in (0.0, 1.0):
        return 0.0
    share = probit_share(rate, slope, LEVEL)
    return np.log(np.clip(share if yes else 1 - share, 1e-300, None))
