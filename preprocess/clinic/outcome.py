"""Intercept and slope of the outcome by quadrature over the latent state, and the AUROC of known probabilities.

A probability p that is right tells its own AUROC: a stay is a case with weight p and a control with weight 1 - p. This is the AUROC
expected over the coin of the outcome, and it needs no outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from omnifuse.preprocess.clinic.findings import STATES, state_prior
from omnifuse.preprocess.clinic.latent import death_risk, outcome_score
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.schema import ConfigError

AXIS = np.linspace(-4.8, 4.8, 49)  # quadrature by the trapezoid rule, which is exact to 1e-6 for a normal at this spacing
LEVEL, TREND = (a.ravel() for a in np.meshgrid(AXIS, AXIS, indexing="ij"))
PRIOR = np.exp(-0.5 * (LEVEL**2 + TREND**2))
PRIOR /= PRIOR.sum()


@dataclass(frozen=True)
class Strength:
    """The outcome model that meets the designed prevalence and AUROC."""

    intercept: float
    slope: float
    prevalence: float
    latent_auroc: float


def stays_long(world: World, level: np.ndarray, died: bool) -> np.ndarray:
    """P(the stay lasts at least the hours of the design | R, outcome)."""
    stays = world.stays
    mean = np.log(stays.median_hours) + stays.severity * level + stays.death * died
    return ndtr((mean - np.log(stays.design_hours)) / stays.spread)


def probability_in_design(world: World, level, trend, findings, intercept: float, slope: float) -> np.ndarray:
    """P(death | R, D, findings, the stay is long enough): length of stay depends on the outcome, so that selection shifts the odds."""
    risk = death_risk(world, outcome_score(world, level, trend, findings), intercept, slope)
    cases = risk * stays_long(world, level, True)
    return cases / (cases + (1 - risk) * stays_long(world, level, False))


RAREST = 1e-6  # share of stays that are long enough, below which nothing can be designed


@dataclass(frozen=True)
class Grid:
    """Weights of every (R, D) and state of the findings, [G, 16], for those who die and those who do not, in stays of the design."""

    score: np.ndarray
    prior: np.ndarray
    long_if_died: np.ndarray
    long_if_not: np.ndarray

    def weights(self, world: World, intercept: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
        risk = death_risk(world, self.score, intercept, slope)
        return self.prior * risk * self.long_if_died, self.prior * (1 - risk) * self.long_if_not


def build_grid(world: World) -> Grid:
    score = outcome_score(world, LEVEL[:, None], TREND[:, None], STATES)
    long = [stays_long(world, LEVEL, died)[:, None] for died in (True, False)]
    return Grid(score, PRIOR[:, None] * state_prior(world), *long)


def find_strength(world: World) -> Strength:
    """The logistic model with the designed prevalence and latent AUROC among the stays of the design.

    Raises:
        ConfigError: no slope reaches that AUROC, no intercept that prevalence, or hardly a stay is of the design.
    """
    target, slope, grid = world.outcome.latent_auroc, 0.0, build_grid(world)
    longest = max((grid.prior * long).sum() for long in (grid.long_if_died, grid.long_if_not)) / grid.prior.sum()
    if not longest > RAREST:
        hours = world.stays.design_hours
        raise ConfigError(f"world {world.name}: hardly a stay lasts {hours:g} hours (stays.median_hours, spread and design_hours)")
    if target > 0.5:

        def excess(slope: float) -> float:
            return _design(world, grid, _intercept(world, grid, slope), slope)[1] - target

        if excess(0.0) > 0 or excess(60.0) < 0:
            raise ConfigError(f"world {world.name}: no outcome model has latent_auroc {target:g} with these knobs")
        slope = brentq(excess, 0.0, 60.0, xtol=1e-6)
    intercept = _intercept(world, grid, slope)
    return Strength(intercept, slope, *_design(world, grid, intercept, slope))


def _intercept(world: World, grid: Grid, slope: float) -> float:
    excess = lambda b: _design(world, grid, b, slope, False)[0] - world.outcome.prevalence
    for reach in (120.0, 120.0 + 2 * slope * float(np.abs(grid.score).max())):
        with np.errstate(invalid="ignore"):
            low, high = excess(-reach), excess(reach)
        if low <= 0 <= high:
            return brentq(excess, -reach, reach, xtol=1e-9)
    raise ConfigError(f"world {world.name}: no outcome model has prevalence {world.outcome.prevalence:g} with these knobs")


def _design(world: World, grid: Grid, intercept: float, slope: float, with_auroc: bool = True) -> tuple[float, float]:
    """Prevalence and AUROC of P(death | latent state) among the stays of the design, by quadrature."""
    cases, controls = grid.weights(world, intercept, slope)
    prevalence = cases.sum() / (cases.sum() + controls.sum())
    if not with_auroc:
        return float(prevalence), np.nan
    return float(prevalence), weighted_auroc(slope * grid.score.ravel(), cases.ravel(), controls.ravel())[0]


def weighted_auroc(score: np.ndarray, cases: np.ndarray, controls: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC with weights of case and control, ties counted half.

    Returns:
        The AUROC; for each element the weighted share of controls it beats, and of cases that beat it.
    """
    values, place = np.unique(np.round(score, 12), return_inverse=True)
    case, control = (np.bincount(place, weights, len(values)) for weights in (cases, controls))
    below = (np.cumsum(control) - 0.5 * control) / control.sum()
    above = 1 - (np.cumsum(case) - 0.5 * case) / case.sum()
    beats, beaten = below[place], above[place]
    return float(np.average(beats, weights=cases)), beats, beaten


def auroc_with_error(score: np.ndarray, truth: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """AUROC and its standard error by the influence function, summed by patient.

    Args:
        truth: the outcome as 0 or 1, or a true probability: then the AUROC expected over the coin.
        cluster: the patient of each element.

    Missing data: (nan, nan) where there are no cases or no controls.

    Source: DeLong et al. 1988 for 0 and 1 and unclustered data; Obuchowski 1997 for clusters.
    """
    truth = np.asarray(truth, float)
    if truth.sum() <= 0 or (1 - truth).sum() <= 0:
        return float("nan"), float("nan")
    auroc, beats, beaten = weighted_auroc(score, truth, 1 - truth)
    influence = truth * (beats - auroc) / truth.mean() + (1 - truth) * (beaten - auroc) / (1 - truth).mean()
    _, place = np.unique(cluster, return_inverse=True)
    sums = np.bincount(place, influence)
    return auroc, float(np.sqrt(np.sum(sums**2)) / len(truth))
