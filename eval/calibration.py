"""Calibration: do 30 of 100 patients with a predicted risk of 30% have the outcome?

ECE = sum over bins of |observed share - mean predicted probability| * share of the samples in the bin (Naeini et al. 2015), here for the
probability of the outcome itself, not for the confidence of the predicted class (netcal and torchmetrics mix the two). 15 bins; each is
closed below and open above, the last closed on both sides, so that a probability of exactly 1 is counted. Equal width is the headline,
because papers report it; equal mass (quantiles of the scores) stands beside it, because with rare outcomes most samples fall into one or
two bins of equal width.

A small test set shows an ECE above zero even for perfect probabilities: `null_ece` says how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit

BINS = 15
_CELLS = 2**21  # drawn outcomes at once
MIN_BIN = 11  # a point of the reliability curve stands on at least so many samples


def width_edges(bins: int = BINS) -> np.ndarray:
    """[bins + 1] edges of equal width on [0, 1]."""
    return np.linspace(0.0, 1.0, bins + 1)


def mass_edges(score, bins: int = BINS) -> np.ndarray:
    """Edges at the quantiles of the scores, each once: where many scores are equal there are fewer bins."""
    score = np.asarray(score, dtype=np.float64)
    if len(score) == 0:
        return np.array([0.0, 1.0])
    return np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))


def assign(score, edges) -> np.ndarray:
    """[N] the bin of each score; below the first and above the last edge it is the first and the last bin."""
    return np.clip(np.searchsorted(edges, score, side="right") - 1, 0, max(len(edges) - 2, 0))


def gap_matrix(y_true, y_score, edges, row, rows: int) -> sparse.csr_array:
    """[bins, R] sum of (outcome - probability) by bin and weight: its product with weights [R, B], in absolute value, is ECE times N."""
    return sparse.coo_array((y_true - y_score, (assign(y_score, edges), row)), shape=(max(len(edges) - 1, 1), rows)).tocsr()


def compute_ece(y_true, y_score, edges) -> float:
    """Expected calibration error with the given bins; NaN without samples."""
    y, score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    gaps = np.bincount(assign(score, edges), y - score, max(len(edges) - 1, 1))
    return float(np.abs(gaps).sum() / len(y)) if len(y) else float("nan")


@dataclass(frozen=True)
class Reliability:
    """Points of a reliability curve, one a bin that holds at least `MIN_BIN` samples.

    predicted, observed: [P] mean probability and share of positives. low, high: [P] Wilson interval of the share. count: [P] samples.
    hidden: samples in bins that are too small to show.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    hidden: int


def reliability(y_true, y_score, bins: int = BINS, min_count: int = MIN_BIN) -> Reliability:
    """Reliability curve over bins of equal mass; fewer bins where there are too few samples for `bins` bins of `min_count`."""
    y, score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    edges = mass_edges(score, max(1, min(bins, len(y) // min_count)))
    which, size = assign(score, edges), max(len(edges) - 1, 1)
    count = np.bincount(which, minlength=size)
    shown = count >= min_count
    n = count[shown]
    observed, predicted = np.bincount(which, y, size)[shown] / n, np.bincount(which, score, size)[shown] / n
    low, high = wilson(observed * n, n)
    return Reliability(predicted, observed, low, high, n, int(count[~shown].sum()))


def wilson(positive, count, z: float = 1.959963984540054) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of a share."""
    positive, count = np.asarray(positive, dtype=np.float64), np.asarray(count, dtype=np.float64)
    share, spread = positive / count, z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def calibration_line(y_true, y_score, steps: int = 100) -> dict[str, float | None]:
    """Calibration-in-the-large and slope: logistic regression of the outcome on the logit of the probability (Cox 1958).

    Returns:
        `in_the_large`: the intercept with the slope held at 1; above 0 where risks are predicted too low. `slope`: below 1 where the
        predictions are too extreme. None where the likelihood has no maximum (one class, constant scores, perfectly separated).
    """
    y = np.asarray(y_true, dtype=np.float64)
    x = logit(np.clip(np.asarray(y_score, dtype=np.float64), 1e-12, 1 - 1e-12))
    if not 0 < y.sum() < len(y):
        return {"in_the_large": None, "slope": None}
    large = _newton(np.ones((len(y), 1)), y, offset=x, steps=steps)
    positive, negative = x[y == 1], x[y == 0]
    overlap = positive.min() < negative.max() and negative.min() < positive.max()
    line = _newton(np.stack([np.ones(len(y)), x], axis=1), y, offset=0.0, steps=steps) if overlap and np.ptp(x) > 0 else None
    return {"in_the_large": None if large is None else float(large[0]), "slope": None if line is None else float(line[1])}


def _newton(design, y, offset, steps: int) -> np.ndarray | None:
    """Maximum-likelihood logistic regression with step halving; None where it does not converge."""
    beta = np.zeros(design.shape[1])

    def loss(beta):
        eta = design @ beta + offset
        return np.sum(np.logaddexp(0, eta) - y * eta)

    for _ in range(steps):
        p = expit(design @ beta + offset)
        score = design.T @ (y - p)
        if np.abs(score).max() < 1e-10 * len(y):
            return beta
        try:
            step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]), score)
        except np.linalg.LinAlgError:
            return None
        while loss(beta + step) > loss(beta) + 1e-12 and np.abs(step).max() > 1e-14:
            step = step / 2
        beta = beta + step
    return None


def null_ece(y_score, edges, draws: int, generator: np.random.Generator) -> np.ndarray:
    """[draws] the ECE that perfectly calibrated probabilities would show on these very samples: outcomes are drawn from the scores.

    An ECE inside their range is no evidence of miscalibration; in small test sets the range lies well above zero.
    """
    score = np.asarray(y_score, dtype=np.float64)
    count = len(score)
    bins = sparse.coo_array((np.ones(count), (assign(score, edges), np.arange(count))), shape=(max(len(edges) - 1, 1), count)).tocsr()
    found, at_once = [], max(1, _CELLS // max(count, 1))
    for start in range(0, draws, at_once):
        outcome = generator.random((min(at_once, draws - start), count)) < score  # [b, N]
        found.append(np.abs(bins @ (outcome - score).T).sum(0) / max(count, 1))
    return np.concatenate(found)
