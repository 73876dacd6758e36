"""Numbers that films and signals carry: Gaussian given R or a finding, with a part that stays with the stay and one of each item.

    token[j, k] = effect_k + noise * (between * B_k + within * E_jk)

`effect` is redundant * R for one carrier, unique * finding for another; `noise` is the patient's quality. Items that are corrupted show
no token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST = 32  # items of a stay that get numbers of their own, drawn in one go so that each item's do not depend on how many follow


@dataclass(frozen=True)
class Spread:
    between: float
    within: float


def draw_tokens(generator: np.random.Generator, spread: Spread, noise: float, effects: np.ndarray, count: int) -> np.ndarray:
    """[count, K] tokens of a stay; `effects` [K]."""
    stay = generator.standard_normal(len(effects))
    own = generator.standard_normal((MOST, len(effects)))[:count]
    return effects + noise * (spread.between * stay + spread.within * own)


def log_likelihood(tokens: np.ndarray, spread: Spread, noise: float, effect: np.ndarray) -> np.ndarray | float:
    """log density of one carrier's tokens [n], up to a constant, for each value of `effect`.

    Equal correlation between the items: their mean is all that matters.
    """
    if not len(tokens):
        return 0.0
    variance = noise**2 * (spread.between**2 + spread.within**2 / len(tokens))
    return -0.5 * (tokens.mean() - np.asarray(effect, float)) ** 2 / variance
