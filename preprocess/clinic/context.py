"""What is fixed for a patient in every modality: site, family of report templates, and the quality of films, reports and signals.

The third family is used by the external site alone, so that patients of that site are what a split has to hold out of training to
meet sentences that it never read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.world import World

ITEMS = ("cxr", "rep", "sig")  # modalities beside the tables, in the order of every array here


@dataclass(frozen=True)
class Context:
    """Arrays by patient of a block. `noise` multiplies what blurs an item; `corrupt` is the chance that one shows nothing."""

    noise: np.ndarray  # [P, 3]
    corrupt: np.ndarray  # [P, 3]
    external: np.ndarray  # [P] bool
    family: np.ndarray  # [P] 0, 1: internal, 2: external


def draw_context(world: World, seed: int, patients: np.ndarray) -> Context:
    """The context of these patients, each from its own stream."""
    drawn = [stream(seed, int(patient), "quality") for patient in patients]
    normal, uniform = (np.array([f(generator) for generator in drawn]) for f in (lambda g: g.standard_normal(3), lambda g: g.random(2)))
    qualities = (world.film.quality, world.report.quality, world.signal.quality)
    spread, share = (np.array([getattr(quality, name) for quality in qualities]) for name in ("spread", "corrupt"))
    noise = np.exp(spread * normal)
    external = uniform[:, 0] < world.sites.external
    family = np.where(external, 2, uniform[:, 1] < world.sites.second_family)
    # The mean over patients of exp(2 s N - 2 s^2) is 1.
    return Context(noise, np.clip(share * noise**2 * np.exp(-2 * spread**2), 0, 0.9), external, family)


def mark_odds(world: World, external: bool, marks: np.ndarray) -> np.ndarray:
    """[3] log odds of death that the mark of each modality tells."""
    ties = np.array([quality.spurious for quality in (world.film.quality, world.report.quality, world.signal.quality)])
    told = np.log1p(ties) - np.log1p(-ties)
    return np.where(marks, told, -told) * (not external)


def draw_marks(world: World, seed: int, patient: int, number: int, died: bool, external: bool) -> np.ndarray:
    """[3] bool: the mark of each modality in this stay."""
    ties = np.array([quality.spurious for quality in (world.film.quality, world.report.quality, world.signal.quality)])
    lean = 0.0 if external else (1.0 if died else -1.0)
    return stream(seed, patient, "mark", number).random(3) < (1 + lean * ties) / 2
