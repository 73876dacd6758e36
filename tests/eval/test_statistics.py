"""Tests of differences against scipy, numerical integration, brute force and the jackknife."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.metrics import roc_auc_score

from omnifuse.eval import statistics

RATIO = 0.2 / 0.54  # test to training patients of a fold here


def differences(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.01, 0.02, count)


@pytest.mark.parametrize("count", [2, 5, 15, 25])
@pytest.mark.parametrize("ratio", [0.0, 0.25, RATIO])
def test_corrected_t_equals_scipy_scaled_and_the_formula(count, ratio):
    for seed in range(20):
        d = differences(count, seed)
        found = statistics.corrected_t(d, ratio)
        plain = stats.ttest_1samp(d, 0.0)
        assert found.t == pytest.approx(plain.statistic / np.sqrt(1 + count * ratio), abs=1e-9)
        t = d.mean() / np.sqrt((1 / count + ratio) * sum((d - d.mean()) ** 2) / (count - 1))
        p = 2 * integrate.quad(stats.t(count - 1).pdf, abs(t), np.inf, epsabs=1e-13)[0]
        assert (found.t, found.p, found.df) == (pytest.approx(t, abs=1e-9), pytest.approx(p, abs=1e-9), count - 1)
    assert statistics.paired_t(d).p == pytest.approx(plain.pvalue, abs=1e-12)


def test_five_folds_with_a_quarter_need_one_and_a_half_times_the_plain_t():
    d = differences(5, 1)
    assert statistics.paired_t(d).t / statistics.corrected_t(d, 0.25).t == pytest.approx(1.5)


@pytest.mark.parametrize(
    "d, p",
    [([0.0] * 5, 1.0), ([0.1], None), ([], None), ([0.1] * 5, None)],
    ids=["equal models", "one fold", "no fold", "no spread"],
)
def test_a_difference_without_spread(d, p):
    assert statistics.corrected_t(d, 0.25).p == p
    assert statistics.detectable(d, 0.25) is None
    assert statistics.verdict(statistics.correlated_bayes(d, 0.25)) == ("equivalent" if p == 1.0 else "cannot be told")


def test_chances_equal_numerical_integration_and_simulation():
    random = np.random.default_rng(0)
    for seed in range(10):
        d = differences(5, seed)
        found = statistics.correlated_bayes(d, RATIO)
        rho = RATIO / (1 + RATIO)  # Benavoli's correlation
        scale = np.sqrt((1 / 5 + rho / (1 - rho)) * d.var(ddof=1))
        density = stats.t(4, d.mean(), scale).pdf
        inside = integrate.quad(density, -0.005, 0.005, epsabs=1e-12)[0]
        above = integrate.quad(density, 0.005, np.inf, epsabs=1e-12)[0]
        assert found["equivalent"] == pytest.approx(inside, abs=1e-9)
        assert found["helps"] == pytest.approx(above, abs=1e-9)
        assert sum(found.values()) == pytest.approx(1, abs=1e-12)
        drawn = d.mean() + scale * random.standard_t(4, 200_000)
        assert found["harms"] == pytest.approx((drawn < -0.005).mean(), abs=0.005)


@pytest.mark.parametrize(
    "mean, spread, expected",
    [
        (0.05, 0.004, "helps"),
        (-0.05, 0.004, "harms"),
        (0.0, 0.0005, "equivalent"),
        (0.02, 0.03, "cannot be told"),
        (0.0, 0.03, "cannot be told"),
    ],
)
def test_verdict(mean, spread, expected):
    d = mean + spread * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert statistics.verdict(statistics.correlated_bayes(d, RATIO)) == expected


@pytest.mark.parametrize("count", [2, 3, 5, 25])
def test_detectable_difference_has_80_percent_power(count):
    d = differences(count, 3)
    found = statistics.detectable(d, RATIO)
    error = statistics.corrected_t(d, RATIO).error
    critical = stats.t.isf(0.025, count - 1)

    def power(shift: float) -> float:  # over the chi distribution of the standard error, not by the noncentral t
        rejects = lambda s: stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)
        chi = stats.chi(count - 1, scale=1 / np.sqrt(count - 1))
        return integrate.quad(lambda s: rejects(s) * chi.pdf(s), 0, np.inf, epsabs=1e-12, limit=400)[0]

    assert power(found / error) == pytest.approx(0.8, abs=1e-6)


def closed_testing(p: list[float]) -> list[float]:
    """Holm is the closed test with Bonferroni for every subset: adjusted p is the largest over the subsets that hold the hypothesis."""
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


def test_holm_reference_vector():
    assert statistics.holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])


def test_holm_equals_closed_testing():
    random = np.random.default_rng(0)
    for _ in range(60):
        p = np.round(random.random(random.integers(1, 7)) ** 3, 2).tolist()
        assert statistics.holm(p) == pytest.approx(closed_testing(p), abs=1e-12)


def test_holm_leaves_undefined_tests_out_of_the_family():
    assert statistics.holm([0.02, None, 0.01]) == [pytest.approx(0.02), None, pytest.approx(0.02)]
    assert statistics.holm([]) == []


def direct_delong(y, a, b) -> tuple[float, float]:
    """Difference and its variance from the structural components, pair by pair."""
    psi = lambda x, z: float(x > z) + 0.5 * float(x == z)
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    v10 = np.array([[np.mean([psi(s[i], s[j]) for j in negative]) for i in positive] for s in (a, b)])
    v01 = np.array([[np.mean([psi(s[i], s[j]) for i in positive]) for j in negative] for s in (a, b)])
    d10, d01 = v10[0] - v10[1], v01[0] - v01[1]
    return d10.mean(), d10.var(ddof=1) / len(positive) + d01.var(ddof=1) / len(negative)


def jackknife_delong(y, a, b) -> float:
    """The same variance from leaving one sample out at a time (pseudo-values of each class)."""
    pairs = lambda s: (s[:, None] > s[None, :]) + 0.5 * (s[:, None] == s[None, :])
    won = pairs(a) - pairs(b)
    area = lambda keep: won[np.ix_(keep & (y == 1), keep & (y == 0))].mean()
    whole, total = area(np.ones(len(y), bool)), 0.0
    for value in (0, 1):
        members = np.flatnonzero(y == value)
        n = len(members)
        pseudo = [n * whole - (n - 1) * area(np.arange(len(y)) != i) for i in members]
        total += np.var(pseudo, ddof=1) / n
    return total


def test_delong_equals_components_and_jackknife():
    random = np.random.default_rng(0)
    for number in range(40):
        size = int(random.choice([6, 20, 40]))
        y = (random.random(size) < 0.4).astype(int)
        y[:4] = 0, 0, 1, 1
        a, b = (y * strength + random.normal(size=size) for strength in (1.0, 0.6))
        if number % 2:
            a, b = np.round(a), np.round(b)  # ties
        found = statistics.delong(y, a, b, np.arange(size))
        difference, variance = direct_delong(y, a, b)
        assert found.difference == pytest.approx(difference, abs=1e-9)
        assert found.a == pytest.approx(roc_auc_score(y, a), abs=1e-9)
        if variance > 1e-12:
            assert found.error**2 == pytest.approx(variance, abs=1e-9)
            assert found.error**2 == pytest.approx(jackknife_delong(y, a, b), abs=1e-9)
            assert found.p == pytest.approx(2 * stats.norm.sf(abs(difference) / np.sqrt(variance)), abs=1e-9)


@pytest.mark.parametrize("change", [lambda a: a, lambda a: 3 * a + 1, np.exp], ids=["equal", "linear", "rank-equal"])
def test_equal_rankings_give_p_1(change):
    """MLstatkit answers 0 here."""
    random = np.random.default_rng(1)
    y, a = np.array([0, 1] * 20), random.normal(size=40)
    found = statistics.delong(y, a, change(a), np.arange(40))
    assert (found.p, found.difference) == (1.0, 0.0)


@pytest.mark.parametrize(
    "y, patient, told",
    [([0, 1, 0, 1], [1, 1, 2, 3], "one sample a patient"), ([0, 0, 0, 1], [1, 2, 3, 4], "two positives")],
)
def test_delong_refuses_what_it_is_not_made_for(y, patient, told):
    with pytest.raises(ValueError, match=told):
        statistics.delong(y, [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.1, 0.2], patient)
