"""Bins, calibration errors and lines against plain loops, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from omnifuse.eval import calibration, metrics


def loop_ece(y, score, weight, bins: int = 15) -> float:
    """The textbook's sum, bin by bin; the last bin is closed."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = (score >= low) & ((score < high) | ((b == bins - 1) & (score <= high)))
        if weight[inside].sum():
            observed, predicted = (np.average(values[inside], weights=weight[inside]) for values in (y, score))
            total += weight[inside].sum() / weight.sum() * abs(observed - predicted)
    return total


def random_case(random):
    size = int(random.choice([2, 10, 200]))
    y = (random.random(size) < 0.4).astype(float)
    y[:2] = 0, 1
    score = random.choice([random.random(size), np.clip(random.normal(0.9, 0.2, size), 0, 1), np.round(random.random(size), 1)])
    return y, score, random.integers(1, 4, size).astype(float)


def test_ece_equals_a_loop_and_scipy():
    random = np.random.default_rng(0)
    for _ in range(100):
        y, score, weight = random_case(random)
        np.testing.assert_allclose(metrics.ece(y, score, weight), loop_ece(y, score, weight), rtol=0, atol=1e-9)
        gaps = stats.binned_statistic(score, y - score, "sum", bins=np.linspace(0, 1, 16)).statistic
        np.testing.assert_allclose(metrics.ece(y, score), np.abs(gaps).sum() / len(y), rtol=0, atol=1e-9)
        np.testing.assert_allclose(calibration.compute_ece(y, score, calibration.width_edges()), metrics.ece(y, score), rtol=0, atol=1e-9)


def test_ece_of_equal_mass_equals_a_loop():
    random = np.random.default_rng(1)
    for _ in range(100):
        y, score, _ = random_case(random)
        edges = sorted(set(np.quantile(score, [b / 15 for b in range(16)])))
        total = 0.0
        for b in range(max(len(edges) - 1, 1)):
            last = b >= len(edges) - 2
            inside = (score >= edges[b]) & (np.ones(len(score), bool) if last else score < edges[b + 1])
            total += abs((y - score)[inside].sum()) / len(y)
        np.testing.assert_allclose(metrics.ece_mass(y, score), total, rtol=0, atol=1e-9)


def test_a_probability_of_one_is_counted():
    """torchmetrics puts it into a bin of its own, which it then drops."""
    y, score = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert metrics.ece(y, score) == pytest.approx((abs(1 - 3) + abs(1 - 0)) / 4)


def test_reliability_equals_scikit_learn_and_hides_small_bins():
    random = np.random.default_rng(2)
    score = random.random(3000)
    y = (random.random(3000) < score).astype(int)
    found = calibration.reliability(y, score)
    observed, predicted = calibration_curve(y, score, n_bins=15, strategy="quantile")
    np.testing.assert_allclose(found.predicted, predicted, atol=1e-9)
    np.testing.assert_allclose(found.observed, observed, atol=1e-9)
    assert found.count.sum() == 3000 and found.hidden == 0
    lumpy = np.concatenate([np.full(200, 0.1), np.linspace(0.5, 0.9, 10)])
    few = calibration.reliability((random.random(210) < lumpy).astype(int), lumpy)
    assert (few.count >= calibration.MIN_BIN).all() and few.count.sum() + few.hidden == 210
    assert len(calibration.reliability([0, 1], [0.2, 0.8]).count) == 0


def test_wilson_interval_equals_scipy():
    for positive, count in ((0, 11), (3, 11), (40, 40), (7, 300)):
        expected = stats.binomtest(positive, count).proportion_ci(0.95, "wilson")
        low, high = calibration.wilson([positive], [count])
        np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], rtol=0, atol=1e-9)


def test_calibration_line_equals_scikit_learn_and_solves_the_score_equations():
    random = np.random.default_rng(3)
    for slope, shift in ((0.5, 0.0), (1.0, 0.7), (2.0, -0.4)):
        x = random.normal(size=800)
        y = (random.random(800) < expit(slope * x + shift)).astype(int)
        found = calibration.calibration_line(y, expit(x))
        reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], y)
        assert found["slope"] == pytest.approx(reference.coef_[0, 0], abs=1e-5)
        root = optimize.brentq(lambda a, x=x, y=y: (y - expit(x + a)).sum(), -10, 10, xtol=1e-13)
        assert found["in_the_large"] == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize(
    "y, score",
    [([0, 0, 0], [0.1, 0.2, 0.3]), ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), ([0, 1, 0, 1], [0.3] * 4)],
    ids=["one class", "separated", "constant"],
)
def test_a_line_without_a_maximum_has_no_slope(y, score):
    assert calibration.calibration_line(y, score)["slope"] is None


def test_perfect_probabilities_lie_in_their_null_range_and_others_do_not():
    random = np.random.default_rng(5)
    score = expit(random.normal(size=400))
    edges, generator = calibration.width_edges(), np.random.default_rng(0)
    null = calibration.null_ece(score, edges, 400, generator)
    drawn = [calibration.compute_ece(random.random(400) < score, score, edges) for _ in range(400)]
    inside = np.mean([np.quantile(null, 0.025) <= value <= np.quantile(null, 0.975) for value in drawn])
    assert 0.9 <= inside <= 0.99
    assert null.mean() > 0.02  # an ECE of small samples is not 0, however good the probabilities
    far = calibration.compute_ece(random.random(400) < expit(3 * logit(score)), score, edges)
    assert far > null.max()
