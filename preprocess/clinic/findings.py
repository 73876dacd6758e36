"""The hidden findings of a stay: four coins beside R and D, drawn from a stream of their own."""

from __future__ import annotations

import itertools

import numpy as np

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.world import World

FINDINGS = ("film", "report", "signal", "effusion")
FILM, REPORT, SIGNAL, EFFUSION = range(4)
STATES = np.array(list(itertools.product((0, 1), repeat=len(FINDINGS))), bool)  # [16, 4] every combination


def shares(world: World) -> np.ndarray:
    """[4] P(finding)."""
    return np.array([getattr(world.findings, name) for name in FINDINGS])


def state_prior(world: World) -> np.ndarray:
    """[16] P(state)."""
    share = shares(world)
    return np.where(STATES, share, 1 - share).prod(1)


def draw_findings(world: World, seed: int, patient: int, number: int) -> np.ndarray:
    """[4] bool of one stay."""
    return stream(seed, patient, "findings", number).random(len(FINDINGS)) < shares(world)


def standardised(world: World, findings: np.ndarray) -> np.ndarray:
    """[..., 4] findings with mean 0 and variance 1."""
    share = shares(world)
    return (np.asarray(findings, float) - share) / np.sqrt(share * (1 - share))
