"""P(grade | what any set of CT, PET and report shows of a lesion), exactly: the ceiling of each modality and of each fusion.

    P(grade | set) ~ P(grade) sum over inflammation of P(inflammation) times the product over the modalities of the set of
        content   density of the tokens given grade and inflammation; 1 where the scan or report is absent or corrupt
        presence  P(there, or not there | grade): missingness informs
        mark      P(a mark without meaning | grade) at the internal site; left out at the external one

Quality and site of the patient are known to every set. Corruption depends on quality alone and tells nothing.
"""

from __future__ import annotations

import itertools

import numpy as np

from omnifuse.preprocess.clinic.lung_tokens import (
    INVASIVE,
    Lesions,
    density_shares,
    diameter_limits,
    diameter_means,
    inflammation_shares,
    solid_means,
    spiculation_shares,
    suv_means,
    unswap,
)
from omnifuse.preprocess.clinic.lung_world import GRADES, MODALITIES, Lung
from omnifuse.preprocess.clinic.outcome import weighted_auroc

SUBSETS = tuple(chosen for size in (1, 2, 3) for chosen in itertools.combinations(MODALITIES, size))


def column(chosen: tuple[str, ...]) -> str:
    return "_".join(("p", *chosen))


def posteriors(lung: Lung, lesions: Lesions) -> dict[str, np.ndarray]:
    """[n, 6] of every set, by its column."""
    told = log_likelihoods(lung, lesions)
    prior = np.log(np.array(lung.grades)) + _log(np.array([1 - lung.inflamed, lung.inflamed]))[:, None]  # [2, 6]
    return {column(chosen): _normalised(prior + sum(told[name] for name in chosen)) for chosen in SUBSETS}


def _normalised(log: np.ndarray) -> np.ndarray:
    """[n, 6] from [n, 2, 6]."""
    weight = np.exp(log - log.max((1, 2), keepdims=True)).sum(1)
    return weight / weight.sum(1, keepdims=True)


def log_likelihoods(lung: Lung, lesions: Lesions) -> dict[str, np.ndarray]:
    """[n, 2, 6] of each modality, up to a constant of the lesion: content where there is any, presence, mark."""
    content = {"ct": _ct(lung, lesions)[:, None, :], "pet": _pet(lung, lesions), "rep": _report(lung, lesions)}
    always = np.ones(len(GRADES))
    presence = {"ct": always, "pet": np.array(lung.pet.scanned), "rep": np.array(lung.report.written)}
    out = {}
    for m, name in enumerate(MODALITIES):
        there = lesions.present[:, m]
        shows = (there & ~lesions.corrupt[:, m])[:, None, None]
        had = np.where(there[:, None], presence[name], 1 - presence[name])
        out[name] = np.where(shows, content[name], 0.0) + (_log(had) + there[:, None] * mark_log_odds(lung, lesions, m))[:, None, :]
    return out


def mark_log_odds(lung: Lung, lesions: Lesions, m: int) -> np.ndarray:
    """[n, 6] log P(mark as it is | grade) of one modality; 0 at the external site."""
    tie = lung.qualities[m].spurious
    lean = np.where(np.arange(len(GRADES)) >= INVASIVE, tie, -tie)
    shown = np.where(lesions.marks[:, m, None], 1 + lean, 1 - lean)
    return np.where(lesions.external[:, None], 0.0, np.log(shown))


def _log(share: np.ndarray) -> np.ndarray:
    return np.log(np.clip(share, 1e-300, None))


def _ct(lung: Lung, lesions: Lesions) -> np.ndarray:
    diameter, solid = lesions.diameter_mm, lesions.solid
    if lung.ct.swapped:
        diameter, solid = unswap(diameter, solid)
    low, high = diameter_limits(lung, lesions.noise[:, 0])
    spread = lesions.noise[:, :1] * np.array([lung.ct.diameter_spread, lung.ct.solid_spread])  # [n, 2]
    size = -0.5 * ((np.log(diameter)[:, None] - diameter_means(lung)) / spread[:, :1]) ** 2 - np.log(high - low)
    return size - 0.5 * ((solid[:, None] - solid_means(lung)) / spread[:, 1:]) ** 2


def _pet(lung: Lung, lesions: Lesions) -> np.ndarray:
    spread = (lesions.noise[:, 1] * lung.pet.suv_spread)[:, None, None]
    return -0.5 * ((lesions.log_suv[:, None, None] - suv_means(lung)) / spread) ** 2


def _report(lung: Lung, lesions: Lesions) -> np.ndarray:
    at, noise = np.arange(len(lesions)), lesions.noise[:, 2]
    density = _log(density_shares(lung, noise)[at, :, lesions.density])
    margin = _log(spiculation_shares(lung)[:, lesions.spiculation].T)
    if not lung.inflamed:  # reports do not speak of it
        return (density + margin)[:, None, :]
    told = inflammation_shares(lung, noise)
    states = _log(np.where(lesions.inflammation_told[:, None], told, 1 - told))  # [n, 2]
    return (density + margin)[:, None, :] + states[:, :, None]


def macro_auroc(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean over the grades of one-against-rest AUROC, and its standard error by the influence function.

    Args:
        score: [n, 6].
        truth: [n, 6] one-hot grades, or true probabilities: then the AUROC expected over the grades that could have been drawn.

    Missing data: (nan, nan) where a grade has no case.
    """
    aurocs, influence = [], np.zeros(len(score))
    for g in range(truth.shape[1]):
        case, control = truth[:, g], 1 - truth[:, g]
        if case.sum() <= 0 or control.sum() <= 0:
            return float("nan"), float("nan")
        auroc, beats, beaten = weighted_auroc(score[:, g], case, control)
        influence += case * (beats - auroc) / case.mean() + control * (beaten - auroc) / control.mean()
        aurocs.append(auroc)
    return float(np.mean(aurocs)), float(np.sqrt((influence**2).sum()) / len(score) / len(aurocs))


def entropy_bits(p: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    return -(p * np.log2(np.clip(p, 1e-300, None))).sum(-1)


def information_bits(p: np.ndarray) -> float:
    """Mutual information of grade and what `p` [n, 6] was told by, from the spread of p."""
    return float(entropy_bits(p.mean(0)) - entropy_bits(p).mean()) if len(p) else 0.0
