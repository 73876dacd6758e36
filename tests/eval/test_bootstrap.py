"""The draws: whole patients, within outcome, the same for every model and block size."""

import numpy as np
import pytest
from scipy import stats

from omnifuse.eval import bootstrap
from omnifuse.eval.bootstrap import PatientBootstrap, interval, outcome_strata


def weights(strata, resamples=300, seed=0) -> np.ndarray:
    return np.concatenate(list(PatientBootstrap(np.asarray(strata), resamples, seed).blocks()), axis=1)


def test_every_draw_holds_as_many_patients_of_each_outcome():
    strata = np.array([0] * 40 + [1] * 7 + [-1] * 3)
    drawn = weights(strata)
    assert drawn.shape == (50, 300)
    for value, size in ((0, 40), (1, 7), (-1, 3)):
        assert (drawn[strata == value].sum(0) == size).all()
    assert (drawn == drawn.round()).all() and drawn.min() == 0 and drawn.max() > 2


def test_counts_are_those_of_drawing_with_replacement():
    drawn = weights(np.zeros(20, int), resamples=20_000)
    seen = np.bincount(drawn[3].astype(int), minlength=8)[:5] / 20_000
    np.testing.assert_allclose(seen, stats.binom(20, 1 / 20).pmf(np.arange(5)), atol=0.012)
    assert np.corrcoef(drawn[0], drawn[1])[0, 1] == pytest.approx(-1 / 19, abs=0.03)


def test_draws_depend_on_the_seed_alone(monkeypatch):
    strata = np.array([0] * 30 + [1] * 9)
    reference = weights(strata, 500)
    monkeypatch.setattr(bootstrap, "_MEMORY_CELLS", 7 * len(strata))
    np.testing.assert_array_equal(weights(strata, 500), reference)
    np.testing.assert_array_equal(weights(strata, 100), reference[:, :100])
    assert (weights(strata, 500, seed=1) != reference).any()


def test_stratum_is_the_rarest_label_of_a_patient():
    #            common, rare, lonely
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=float)
    patient = np.array([0, 1, 2, 3, 4, 5, 6, 0])
    found = outcome_strata(y, np.ones_like(y, bool), patient, 7)
    assert found.tolist() == [0, 1, 1, -1, 0, -1, -1]  # patient 5 would be alone, and never vary
    unknown = np.ones_like(y, bool)
    unknown[1, 1] = unknown[2, 1] = False
    assert outcome_strata(y, unknown, patient, 7).tolist() == [0, 0, -1, -1, 0, -1, -1]


def test_interval_is_that_of_bias_corrected_percentiles():
    draws = np.random.default_rng(0).normal(0.8, 0.02, 4001)
    low, high = interval(float(np.median(draws)), draws)
    np.testing.assert_allclose([low, high], np.quantile(draws, [0.025, 0.975]), atol=1e-9)  # no bias: plain percentiles
    point = float(np.quantile(draws, 0.4))
    shift = stats.norm.ppf(((draws < point).sum() + 0.5 * (draws == point).sum()) / len(draws))
    expected = np.quantile(draws, stats.norm.cdf([2 * shift - 1.959963984540054, 2 * shift + 1.959963984540054]))
    np.testing.assert_allclose(interval(point, draws), expected, atol=1e-9)


def test_undefined_draws_are_left_out():
    assert interval(0.5, [np.nan, np.nan]) == (None, None)
    assert interval(0.5, [0.5, np.nan, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize("point", [0.1, 0.9])
def test_draws_on_one_side_of_the_figure_give_no_interval(point):
    """Their bias exceeds their spread; corrected percentiles would be a sliver that does not hold the figure."""
    assert interval(point, np.linspace(0.4, 0.6, 200)) == (None, None)
