"""Lesions of the subtyping clinic: grade, what CT, PET and report show of it as tokens, and P(grade | any set of them), exactly.

Six grades (AAH ... IA3) in order of risk. Given the grade the modalities are independent, so that the posterior is a product:

    CT      log diameter, normal cut off at 5 and 40 mm (easy); solid share, probit of a normal (hard: a core inside ground glass)
    PET     log SUVmax, normal; scanned more often in the higher grades (missing not at random)
    report  density in three words by an ordered probit, spiculation told, denied or not mentioned
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from omnifuse.preprocess.clinic.keyed import stream

GRADES = ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")
PRIOR = np.array([0.07, 0.15, 0.23, 0.22, 0.20, 0.13])
MODALITIES = ("ct", "pet", "rep")
SUBSETS = tuple(chosen for size in (1, 2, 3) for chosen in itertools.combinations(MODALITIES, size))
SMALLEST_MM, LARGEST_MM = 5.0, 40.0
DIAMETER_MM, DIAMETER_SPREAD = np.array([6.5, 8.5, 11.0, 13.5, 18.0, 24.0]), 0.38
SOLID, SOLID_SPREAD = np.array([-1.9, -1.5, -0.8, -0.1, 0.5, 1.1]), 0.8
SUV, SUV_SPREAD = np.array([0.9, 1.1, 1.6, 2.4, 3.6, 5.5]), 0.5
SCANNED = np.array([0.35, 0.40, 0.50, 0.65, 0.75, 0.80])
REPORTED = 0.92
DENSITY_CUTS, DENSITY_SPREAD = np.array([-1.0, 0.4]), 0.9  # pure ground glass, mixed, solid: as the reader sees the solid share
SPICULATED, MENTIONED = np.array([0.05, 0.08, 0.18, 0.38, 0.55, 0.70]), 0.85
PURE, MIXED, DENSE = range(3)
TOLD, DENIED, UNMENTIONED = range(3)


@dataclass(frozen=True)
class Lesion:
    """One lesion and what is shown of it; `noise` multiplies the spreads of CT, PET and report tokens of this patient."""

    patient: int
    grade: int
    noise: np.ndarray  # [3]
    diameter_mm: float
    solid: float  # ndtr of it is the share of the core
    log_suv: float
    density: int
    spiculation: int
    scanned: bool
    reported: bool

    @property
    def present(self) -> tuple[bool, bool, bool]:
        return True, self.scanned, self.reported


def draw_lesion(seed: int, patient: int) -> Lesion:
    """The lesion of a patient, from his own stream."""
    generator = stream(seed, patient, "lesion")
    normal, uniform = generator.standard_normal(6), generator.random(7)
    grade = int(np.searchsorted(np.cumsum(PRIOR), uniform[0]))
    noise = np.exp(0.25 * normal[:3])
    return Lesion(
        patient=patient,
        grade=grade,
        noise=noise,
        diameter_mm=_diameter(grade, noise[0], uniform[1]),
        solid=float(SOLID[grade] + noise[0] * SOLID_SPREAD * normal[3]),
        log_suv=float(np.log(SUV[grade]) + noise[1] * SUV_SPREAD * normal[4]),
        density=int(np.searchsorted(np.cumsum(density_shares(noise[2])[grade]), uniform[2])),
        spiculation=int(np.searchsorted(np.cumsum(spiculation_shares()[grade]), uniform[3])),
        scanned=bool(uniform[4] < SCANNED[grade]),
        reported=bool(uniform[5] < REPORTED),
    )


def _limits(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean log diameter [6], and the normal's share below the smallest and below the largest."""
    mean, spread = np.log(DIAMETER_MM), noise * DIAMETER_SPREAD
    return mean, ndtr((np.log(SMALLEST_MM) - mean) / spread), ndtr((np.log(LARGEST_MM) - mean) / spread)


def _diameter(grade: int, noise: float, uniform: float) -> float:
    mean, low, high = (part[grade] for part in _limits(noise))
    return float(np.clip(np.exp(mean + noise * DIAMETER_SPREAD * ndtri(low + uniform * (high - low))), SMALLEST_MM, LARGEST_MM))


def density_shares(noise: float) -> np.ndarray:
    """[6, 3] P(word | grade)."""
    edges = np.concatenate([[-np.inf], DENSITY_CUTS, [np.inf]])
    return np.diff(ndtr((edges - SOLID[:, None]) / (noise * DENSITY_SPREAD)), axis=1)


def spiculation_shares() -> np.ndarray:
    """[6, 3] P(told, denied, not mentioned | grade)."""
    return np.column_stack([MENTIONED * SPICULATED, MENTIONED * (1 - SPICULATED), np.full(6, 1 - MENTIONED)])


def posterior(lesion: Lesion, chosen: tuple[str, ...]) -> np.ndarray:
    """[6] P(grade | what the modalities of the set show, or that they are absent)."""
    log = np.log(PRIOR)
    if "ct" in chosen:
        mean, low, high = _limits(lesion.noise[0])
        spread = lesion.noise[0] * np.array([DIAMETER_SPREAD, SOLID_SPREAD])
        log = log - 0.5 * ((np.log(lesion.diameter_mm) - mean) / spread[0]) ** 2 - np.log(high - low)
        log = log - 0.5 * ((lesion.solid - SOLID) / spread[1]) ** 2
    if "pet" in chosen:
        log = log + np.log(SCANNED if lesion.scanned else 1 - SCANNED)
        if lesion.scanned:
            log = log - 0.5 * ((lesion.log_suv - np.log(SUV)) / (lesion.noise[1] * SUV_SPREAD)) ** 2
    if "rep" in chosen and lesion.reported:
        log = log + np.log(density_shares(lesion.noise[2])[:, lesion.density]) + np.log(spiculation_shares()[:, lesion.spiculation])
    weight = np.exp(log - log.max())
    return weight / weight.sum()
