"""Tests of one difference over folds, and of two AUROCs on one held-out set.

Differences of the folds of a cross-validation are not independent: the training sets overlap. The plain paired t-test takes them as if they
were (paper mode: that is what papers print); the corrected test (Nadeau and Bengio 2003) adds the ratio of test to training patients to
the variance, and the Bayesian form of the same correction (Benavoli et al. 2017) gives the chance that a difference lies above, within or
below a margin that matters. "Does not help" is never read off a large p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

MARGIN = 0.005  # AUROC; smaller differences are declared to be of no use
SURE = 0.95
VERDICTS = ("helps", "equivalent", "harms", "cannot be told")


@dataclass(frozen=True)
class TTest:
    """t statistic, degrees of freedom, two-sided p, and the standard error of the mean difference; None where undefined."""

    t: float | None
    df: int
    p: float | None
    error: float | None


def corrected_t(differences, ratio: float) -> TTest:
    """Nadeau and Bengio's corrected resampled t-test of a mean difference of zero.

        t = mean / (s * sqrt(1 / J + n_test / n_train)),  J - 1 degrees of freedom

    Args:
        differences: [J] one a fold (a pair of training and test set); seeds of one fold are averaged before.
        ratio: n_test / n_train in patients that the weights were trained on; 0 gives the plain paired t-test.

    Returns:
        p = 1 where all differences are zero; undefined with fewer than two folds, or where they are all equal and not zero.
    """
    d = np.asarray(differences, dtype=np.float64)
    count = len(d)
    if count < 2:
        return TTest(None, max(count - 1, 0), None, None)
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return TTest(0.0, count - 1, 1.0, 0.0) if abs(mean) <= 1e-12 else TTest(None, count - 1, None, 0.0)
    error = spread * np.sqrt(1 / count + ratio)
    return TTest(float(mean / error), count - 1, float(2 * stats.t.sf(abs(mean / error), count - 1)), float(error))


def paired_t(differences) -> TTest:
    """The plain paired t-test over folds, as in papers; too sure where training sets overlap."""
    return corrected_t(differences, 0.0)


def correlated_bayes(differences, ratio: float, margin: float = MARGIN) -> dict[str, float] | None:
    """Bayesian correlated t-test: the chances that the true mean difference lies above, within and below +-`margin`.

    The posterior is Student's t around the mean with the corrected standard error: with rho = n_test / (n_test + n_train) the variance
    factor 1/J + rho / (1 - rho) equals that of `corrected_t`.

    Returns:
        `helps`, `equivalent`, `harms`, which sum to 1; None where the standard error is undefined.
    """
    test = corrected_t(differences, ratio)
    mean = float(np.mean(differences)) if len(differences) else 0.0
    if test.p is None:
        return None
    if test.error == 0:
        return {"helps": 0.0, "equivalent": 1.0, "harms": 0.0}
    above = float(stats.t.sf((margin - mean) / test.error, test.df))
    below = float(stats.t.cdf((-margin - mean) / test.error, test.df))
    return {"helps": above, "equivalent": max(0.0, 1 - above - below), "harms": below}


def verdict(chances: dict[str, float] | None, sure: float = SURE) -> str:
    """The outcome that holds at least `sure` of the chances, else "cannot be told"."""
    return next((name for name, chance in (chances or {}).items() if chance >= sure), "cannot be told")


def detectable(differences, ratio: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest true difference that the corrected test would find with the given power, at the spread seen (noncentral t)."""
    test = corrected_t(differences, ratio)
    if not test.error:
        return None
    critical = stats.t.isf(alpha / 2, test.df)

    def missing(shift: float) -> float:
        wrong_side = np.nan_to_num(stats.nct.cdf(-critical, test.df, shift))  # NaN where it is too small to compute
        return stats.nct.sf(critical, test.df, shift) + wrong_side - power

    highest = 1.0
    while missing(highest) < 0:
        highest *= 2
    return float(optimize.brentq(missing, 0.0, highest, xtol=1e-12) * test.error)


def holm(p_values) -> list[float | None]:
    """Holm's step-down adjustment within one family; an undefined test (None) does not count and stays None."""
    known = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True)
class DeLong:
    """Two AUROCs on one test set, their difference (a - b), its standard error, z and two-sided p (None: no variance, yet a difference)."""

    a: float
    b: float
    difference: float
    error: float
    z: float | None
    p: float | None


def delong(y_true, score_a, score_b, patient_id) -> DeLong:
    """DeLong's test (DeLong et al. 1988; by midranks, Sun and Xu 2014) of two models on one held-out set.

    For a single test set with one sample a patient; never for scores pooled over folds, which come from different models. Equal or
    rank-equal scores give p = 1.

    Raises:
        ValueError: a patient has more than one sample (use the patient bootstrap), or there are fewer than two samples of a class.
    """
    y = np.asarray(y_true) == 1
    if len(np.unique(np.asarray(patient_id))) != len(y):
        raise ValueError("DeLong's test takes one sample a patient; resample patients instead")
    m, n = int(y.sum()), int((~y).sum())
    if min(m, n) < 2:
        raise ValueError("DeLong's test needs two positives and two negatives")
    scores = np.stack([score_a, score_b]).astype(np.float64)  # [2, N]
    ranks = stats.rankdata(scores, axis=1)
    above = (ranks[:, y] - stats.rankdata(scores[:, y], axis=1)) / n  # [2, m] share of the negatives below each positive
    below = 1 - (ranks[:, ~y] - stats.rankdata(scores[:, ~y], axis=1)) / m  # [2, n] share of the positives above each negative
    area = above.mean(1)
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ (np.cov(above) / m + np.cov(below) / n) @ contrast)
    difference = float(area[0] - area[1])
    if variance <= 1e-20:
        z, p = (0.0, 1.0) if difference == 0 else (None, None)
        return DeLong(float(area[0]), float(area[1]), difference, 0.0, z, p)
    error = float(np.sqrt(variance))
    return DeLong(float(area[0]), float(area[1]), difference, error, difference / error, float(2 * stats.norm.sf(abs(difference) / error)))
