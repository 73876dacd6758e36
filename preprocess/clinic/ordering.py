"""Who is examined and when: chances of a stay, and hours of the items of those who are; drawn here, and told to the ceiling.

Missing at random where a chance depends on what the tables show (ventilation, unit), not at random where it depends on the hidden
finding or on severity itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr

from omnifuse.preprocess.clinic.hospital import UNITS, pick
from omnifuse.preprocess.clinic.latent import probit_share
from omnifuse.preprocess.clinic.modality_world import Chance, Hours
from omnifuse.preprocess.clinic.model import SLOTS, Model
from omnifuse.preprocess.clinic.outcome import AXIS, LEVEL, TREND
from omnifuse.preprocess.clinic.world import World

BUSY = ("Medical Intensive Care Unit (MICU)", "Cardiac Vascular Intensive Care Unit (CVICU)", "Coronary Care Unit (CCU)")
LATER_CHANCE, LATER_DAYS = 0.3, 6  # after the window of the design: items a day, and until when


@dataclass(frozen=True)
class Circumstances:
    """What a chance of one stay may depend on beside severity and findings."""

    ventilated: bool
    unit: int  # +1 or -1
    external: bool


def unit_sign(uniform: float) -> int:
    return 1 if pick(UNITS, uniform) in BUSY else -1


class Ordering:
    """A `Chance` with the offset that gives its rate in the whole population, found by quadrature."""

    def __init__(self, world: World, knobs: Chance, finding_share: float):
        self.knobs = knobs
        if knobs.rate in (0.0, 1.0):
            self._offset = np.inf if knobs.rate else -np.inf
            return
        weight, shift = self._population(world, finding_share)
        reach = max(40.0, 10.0 + float(np.abs(shift).max()))
        self._offset = brentq(lambda c: weight @ ndtr(c + shift) - knobs.rate, -reach, reach)

    def _population(self, world: World, finding_share: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights and shifts of every combination of R, ventilation, unit, finding and site."""
        device, normal = world.devices["ventilator"], np.exp(-0.5 * AXIS**2)
        on_air = probit_share(device.rate, device.severity, AXIS)
        busy = sum(share for name, share in UNITS if name in BUSY) / sum(share for _, share in UNITS)
        sides = np.stack(np.meshgrid(AXIS, (0, 1), (1, -1), (0, 1), (0, 1), indexing="ij"), -1).reshape(-1, 5)
        level, ventilated, unit, finding, external = sides.T
        place = np.searchsorted(AXIS, level)
        weight = normal[place] * np.where(ventilated, on_air[place], 1 - on_air[place]) * np.where(unit > 0, busy, 1 - busy)
        weight = weight * np.where(finding, finding_share, 1 - finding_share)
        weight = weight * np.where(external, world.sites.external, 1 - world.sites.external)
        knobs = self.knobs
        shift = knobs.severity * level + knobs.ventilated * ventilated + knobs.unit * unit + knobs.finding * finding
        return weight / weight.sum(), shift + knobs.external * external

    def chance(self, level, finding, around: Circumstances) -> np.ndarray:
        """P(yes); `level` and `finding` broadcast."""
        knobs = self.knobs
        known = knobs.ventilated * around.ventilated + knobs.unit * around.unit + knobs.external * around.external
        return ndtr(self._offset + known + knobs.severity * np.asarray(level, float) + knobs.finding * np.asarray(finding, float))


class Timetable:
    """Hours at which items come within the window of the design, and their likelihood over the grid of (R, D)."""

    def __init__(self, model: Model, knobs: Hours):
        self.model, self.knobs = model, knobs
        self.window = int(model.world.stays.design_hours)
        self._base = logit(np.clip([knobs.first] + [knobs.later] * (self.window - 1), 1e-12, 1 - 1e-12))
        self._clock = np.arange(self.window) * SLOTS
        expected = model.expected_severity(LEVEL, TREND, self._clock[:, None])  # [hours, G]
        self._odds = self._base[:, None] + knobs.severity * expected if knobs.severity else self._base[:, None]
        self.quiet = -np.logaddexp(0, self._odds).sum(0) * np.ones(len(LEVEL))  # [G] log P(none at all)

    def draw(self, generator: np.random.Generator, level: float, trend: float, los_hours: float) -> np.ndarray:
        """Whole minutes since the start of the stay, ascending; at most one item an hour, fewer after the window."""
        expected = self.model.expected_severity(level, trend, self._clock)
        hours = np.flatnonzero(generator.random(self.window) < expit(self._base + self.knobs.severity * expected))
        days = np.arange(LATER_DAYS)
        some = generator.random(LATER_DAYS) < LATER_CHANCE
        later = self.window + days[some] * 24 + generator.integers(0, 24, LATER_DAYS)[some]
        minutes = np.concatenate([hours, later]) * 60
        minutes = minutes + generator.integers(0, 60, self.window + LATER_DAYS)[: len(minutes)]
        return minutes[minutes < los_hours * 60]

    def log_likelihood(self, minutes: np.ndarray) -> np.ndarray:
        """[G] of the items that came within the window."""
        hours = np.asarray(minutes)[np.asarray(minutes) < self.window * 60] // 60
        if not self.knobs.severity:
            return np.zeros(len(LEVEL)) + self._base[hours].sum() + self.quiet
        return self._odds[hours].sum(0) + self.quiet
