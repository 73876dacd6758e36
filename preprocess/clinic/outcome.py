"""Intercept and slope of the outcome by quadrature over the latent state, and the AUROC of known probabilities.

A probability p that is right tells its own AUROC: a stay is a case with weight p and a control with weight 1 - p. This is the AUROC
expected over the coin of the outcome, and it needs no outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from omnifuse.preprocess.clinic.latent import death_risk
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


def probability_in_design(world: World, level, trend, intercept: float, slope: float) -> np.ndarray:
    """P(death | R, D, the stay is long enough): length of stay depends on the outcome, so that selection shifts the odds."""
    risk = death_risk(world, level, trend, intercept, slope)
    cases = risk * stays_long(world, level, True)
    return cases / (cases + (1 - risk) * stays_long(world, level, False))


def find_strength(world: World) -> Strength:
    """The logistic model with the designed prevalence and latent AUROC among the stays of the design.

    Raises:
        ConfigError: no slope reaches that AUROC.
    """
    target, slope = world.outcome.latent_auroc, 0.0
    if target > 0.5:

        def excess(slope: float) -> float:
            return _design(world, _intercept(world, slope), slope)[1] - target

        if excess(0.0) > 0 or excess(60.0) < 0:
            raise ConfigError(f"world {world.name}: no outcome model has latent_auroc {target:g} with these knobs")
        slope = brentq(excess, 0.0, 60.0, xtol=1e-6)
    intercept = _intercept(world, slope)
    return Strength(intercept, slope, *_design(world, intercept, slope))


def _intercept(world: World, slope: float) -> float:
    return brentq(lambda b: _design(world, b, slope, False)[0] - world.outcome.prevalence, -120.0, 120.0, xtol=1e-9)


def _design(world: World, intercept: float, slope: float, with_auroc: bool = True) -> tuple[float, float]:
    """Prevalence and AUROC of P(death | R, D) among the stays of the design, by quadrature."""
    risk = death_risk(world, LEVEL, TREND, intercept, slope)
    cases = PRIOR * risk * stays_long(world, LEVEL, True)
    controls = PRIOR * (1 - risk) * stays_long(world, LEVEL, False)
    prevalence = cases.sum() / (cases.sum() + controls.sum())
    return float(prevalence), (weighted_auroc(risk, cases, controls)[0] if with_auroc else np.nan)


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
