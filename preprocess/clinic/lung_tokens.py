"""Lesions of the subtyping clinic: grade, and what CT, PET and report show of it as tokens. The ceiling of them: `lung_ceiling.py`.

    CT      log diameter, normal cut off at 5 and 40 mm; solid share, probit of a normal
    PET     log SUVmax, normal; turned in inflamed lesions
    report  density in three words by an ordered probit, spiculation told, denied or not mentioned, inflammation told or denied

A patient's quality multiplies the spreads of his tokens; a corrupt scan or report shows none of them, and can be told by that.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.lung_world import LARGEST_MM, SMALLEST_MM, Lung

PURE, MIXED, DENSE = range(3)
TOLD, DENIED, UNMENTIONED = range(3)
INVASIVE = 3  # the first invasive grade, IA1
CORE, CORE_RANGE = -2.2, 4.0  # of a core that shows a diameter, in probits


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
    inflamed: bool
    inflammation_told: bool
    scanned: bool
    reported: bool
    corrupt: np.ndarray  # [3] bool
    external: bool
    marks: np.ndarray  # [3] bool: a mark without medical meaning

    @property
    def present(self) -> tuple[bool, bool, bool]:
        return True, self.scanned, self.reported


@dataclass(frozen=True)
class Lesions:
    """The fields of `Lesion` as arrays over n lesions; `noise`, `corrupt` and `marks` are [n, 3]."""

    patient: np.ndarray
    grade: np.ndarray
    noise: np.ndarray
    diameter_mm: np.ndarray
    solid: np.ndarray
    log_suv: np.ndarray
    density: np.ndarray
    spiculation: np.ndarray
    inflamed: np.ndarray
    inflammation_told: np.ndarray
    scanned: np.ndarray
    reported: np.ndarray
    corrupt: np.ndarray
    external: np.ndarray
    marks: np.ndarray

    def __len__(self) -> int:
        return len(self.patient)

    def one(self, i: int) -> Lesion:
        columns = {field.name: getattr(self, field.name)[i] for field in dataclasses.fields(self)}
        return Lesion(**{name: value if isinstance(value, np.ndarray) else value.item() for name, value in columns.items()})

    @property
    def present(self) -> np.ndarray:
        """[n, 3]"""
        return np.column_stack([np.ones(len(self), bool), self.scanned, self.reported])


def draw_lesions(lung: Lung, seed: int, patients: np.ndarray) -> Lesions:
    """The lesions of these patients, each from his own streams."""
    first = [stream(seed, int(patient), "lesion") for patient in patients]
    normal = np.array([generator.standard_normal(6) for generator in first])
    uniform = np.array([generator.random(7) for generator in first])
    more = np.array([stream(seed, int(patient), "lesion quality").random(9) for patient in patients])
    return make_lesions(lung, np.asarray(patients), normal, uniform, more)


def sample_lesions(lung: Lung, count: int, seed: int = 0) -> Lesions:
    """Lesions of nobody, from one stream: for figures of a world as such."""
    generator = stream(seed, 0, "lung design")
    numbers = generator.standard_normal((count, 6)), generator.random((count, 7)), generator.random((count, 9))
    return make_lesions(lung, np.arange(count), *numbers)


def make_lesions(lung: Lung, patients: np.ndarray, normal: np.ndarray, uniform: np.ndarray, more: np.ndarray) -> Lesions:
    """From [n, 6] normals and [n, 7], [n, 9] uniforms."""
    grade = np.searchsorted(np.cumsum(lung.grades)[:-1], uniform[:, 0])
    spread, share, tie = (np.array([getattr(q, name) for q in lung.qualities]) for name in ("spread", "corrupt", "spurious"))
    noise, external, inflamed = np.exp(spread * normal[:, :3]), more[:, 3] < lung.external, more[:, 7] < lung.inflamed
    lean = np.where(external, 0.0, np.where(grade >= INVASIVE, 1.0, -1.0))[:, None]
    own = np.arange(len(grade)), grade
    told = inflammation_shares(lung, noise[:, 2])[np.arange(len(grade)), inflamed.astype(int)]
    main = _diameter(lung, grade, noise[:, 0], uniform[:, 1])
    second = solid_means(lung)[grade] + noise[:, 0] * lung.ct.solid_spread * normal[:, 3]
    if lung.ct.swapped:
        main, second = swap(main, second)
    return Lesions(
        patient=patients,
        grade=grade,
        noise=noise,
        diameter_mm=main,
        solid=second,
        log_suv=suv_means(lung)[inflamed.astype(int), grade] + noise[:, 1] * lung.pet.suv_spread * normal[:, 4],
        density=_pick(density_shares(lung, noise[:, 2])[own], uniform[:, 2]),
        spiculation=_pick(spiculation_shares(lung)[grade], uniform[:, 3]),
        inflamed=inflamed,
        inflammation_told=more[:, 8] < told,
        scanned=uniform[:, 4] < np.array(lung.pet.scanned)[grade],
        reported=uniform[:, 5] < np.array(lung.report.written)[grade],
        # The mean over patients of exp(2 s N - 2 s^2) is 1.
        corrupt=more[:, :3] < np.clip(share * noise**2 * np.exp(-2 * spread**2), 0, 0.9),
        external=external,
        marks=(more[:, 4:7] < (1 + lean * tie) / 2) & (tie != 0),
    )


def _pick(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """[n] the answer that each uniform falls on; `shares` [n, K]."""
    return (np.cumsum(shares, 1)[:, :-1] < uniform[:, None]).sum(1)


def apart(means: np.ndarray, strength: float) -> np.ndarray:
    """Means by grade, their distances from the middle times `strength`."""
    return means if strength == 1 else means.mean() + strength * (means - means.mean())


def diameter_means(lung: Lung) -> np.ndarray:
    """[6] of the log."""
    return apart(np.log(np.array(lung.ct.diameter_mm)), lung.ct.strength)


def solid_means(lung: Lung) -> np.ndarray:
    return apart(np.array(lung.ct.solid), lung.ct.strength)


def suv_means(lung: Lung) -> np.ndarray:
    """[2, 6] of the log, without and with inflammation."""
    plain = apart(np.log(np.array(lung.pet.suv)), lung.pet.strength)
    return np.stack([plain, apart(plain, 1 - 2 * lung.pet.turn)])


def density_shares(lung: Lung, noise: np.ndarray) -> np.ndarray:
    """[n, 6, 3] P(word | grade)."""
    edges = np.concatenate([[-np.inf], lung.report.density_cuts, [np.inf]])
    means = apart(np.array(lung.report.density), lung.report.strength)
    scaled = (edges - means[:, None]) / (np.asarray(noise)[:, None, None] * lung.report.density_spread)
    return np.diff(ndtr(scaled), axis=-1)


def spiculation_shares(lung: Lung) -> np.ndarray:
    """[6, 3] P(told, denied, not mentioned | grade)."""
    said, told = lung.report.mentioned, np.array(lung.report.spiculated)
    if lung.report.strength != 1:
        told = expit(apart(logit(told), lung.report.strength))
    return np.column_stack([said * told, said * (1 - told), np.full(len(told), 1 - said)])


def inflammation_shares(lung: Lung, noise: np.ndarray) -> np.ndarray:
    """[n, 2] P(told | none, inflamed)."""
    right = ndtr(ndtri(lung.report.inflammation_right) / np.asarray(noise))
    return np.stack([1 - right, right], -1)


def diameter_limits(lung: Lung, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, 6] the normal's share below the smallest and below the largest diameter."""
    spread = np.asarray(noise)[:, None] * lung.ct.diameter_spread
    return tuple(ndtr((np.log(edge) - diameter_means(lung)) / spread) for edge in (SMALLEST_MM, LARGEST_MM))


def _diameter(lung: Lung, grade: np.ndarray, noise: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    low, high = (part[np.arange(len(grade)), grade] for part in diameter_limits(lung, noise))
    away = ndtri(low + uniform * (high - low))
    return np.clip(np.exp(diameter_means(lung)[grade] + noise * lung.ct.diameter_spread * away), SMALLEST_MM, LARGEST_MM)


def swap(diameter: np.ndarray, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The diameter that shows a solid share, and the core that shows a diameter; both maps are one to one."""
    share = np.log(np.asarray(diameter) / SMALLEST_MM) / np.log(LARGEST_MM / SMALLEST_MM)
    shown = SMALLEST_MM * np.exp(np.log(LARGEST_MM / SMALLEST_MM) * expit(np.asarray(solid) + 0.35))
    return shown, CORE + CORE_RANGE * share


def unswap(diameter: np.ndarray, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `swap` was given."""
    share = np.log(np.asarray(diameter) / SMALLEST_MM) / np.log(LARGEST_MM / SMALLEST_MM)
    first = SMALLEST_MM * np.exp(np.log(LARGEST_MM / SMALLEST_MM) * (np.asarray(solid) - CORE) / CORE_RANGE)
    return first, logit(np.clip(share, 1e-15, 1 - 1e-15)) - 0.35
