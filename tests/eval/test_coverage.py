"""Simulations: do 95% intervals hold the truth 95 times in 100, and does a test find nothing where nothing is?"""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from omnifuse.eval import metrics, statistics
from omnifuse.eval.bootstrap import PatientBootstrap, interval

FOLDS = 5
SHARED = 0.3  # share of the variance of the noise that the samples of a patient have in common


def cohort(random, patients: int, events: int, distance: float, one_each: bool = False):
    """Patients with one to four samples (or one), each with a calibrated probability; outcomes dealt evenly over the folds."""
    y = np.zeros(patients, int)
    y[:events] = 1
    fold = np.concatenate([random.permutation(np.arange(events) % FOLDS), random.permutation(np.arange(patients - events) % FOLDS)])
    owner = np.repeat(np.arange(patients), random.choice([1] if one_each else [1, 1, 1, 2, 4], patients))
    noise = random.normal(size=patients)[owner] * SHARED**0.5 + random.normal(size=len(owner)) * (1 - SHARED) ** 0.5
    z = distance * y[owner] + noise
    prior = np.log(events / (patients - events))
    return y, fold, owner, 1 / (1 + np.exp(-(distance * (z - distance / 2) + prior)))


def coverage(metric: str, truth: float, patients, events, distance, runs: int, resamples: int, plain=False, **cohorts) -> float:
    """Share of simulated studies whose interval of the mean over folds holds the truth."""
    random, held = np.random.default_rng(0), 0
    for run in range(runs):
        y, fold, owner, score = cohort(random, patients, events, distance, **cohorts)
        scored = []
        for k in range(FOLDS):
            inside = fold[owner] == k
            scored.append(metrics.Scored(y[owner][inside], score[inside], owner[inside], patients))
        point = np.mean([one.compute(only=(metric,))[metric][0] for one in scored])
        blocks = PatientBootstrap(y, resamples, run).blocks()
        draws = np.concatenate([np.nanmean([one.compute(block, (metric,))[metric] for one in scored], axis=0) for block in blocks])
        low, high = np.quantile(draws, [0.025, 0.975]) if plain else interval(point, draws)
        held += low is not None and low <= truth <= high
    return held / runs


def true_auprc(events: int, patients: int, distance: float) -> float:
    random = np.random.default_rng(9)
    y = (random.random(400_000) < events / patients).astype(int)
    return metrics.auprc(y, distance * y + random.normal(size=len(y)))


def test_auroc_intervals_hold_the_truth():
    assert coverage("auroc", norm.cdf(1.2 / 2**0.5), 300, 60, 1.2, runs=120, resamples=200) >= 0.89


@pytest.mark.slow
@pytest.mark.parametrize("patients, events, distance, least", [(600, 120, 1.2, 0.935), (2000, 240, 1.4, 0.935), (100, 17, 1.2, 0.88)])
def test_auroc_coverage(patients, events, distance, least):
    found = coverage("auroc", norm.cdf(distance / 2**0.5), patients, events, distance, runs=1000, resamples=500)
    assert least <= found <= 0.97


@pytest.mark.slow
def test_bias_corrected_percentiles_hold_the_auprc_better():
    """With 24 positives a fold; with more, or with several samples a patient, the two are alike."""
    setting = {"patients": 600, "events": 120, "distance": 1.2, "runs": 400, "resamples": 500, "one_each": True}
    truth = true_auprc(120, 600, 1.2)
    corrected, plain = coverage("auprc", truth, **setting), coverage("auprc", truth, **setting, plain=True)
    assert corrected >= 0.87 and corrected > plain + 0.04


def null_differences(random, size: int = 600) -> np.ndarray:
    """AUROC differences over five folds of two models that are equally good: each sees one of two exchangeable views."""
    latent = random.normal(size=size)
    y = (latent + random.normal(size=size) > 1).astype(int)
    views = [np.stack([latent + random.normal(size=size) * 1.5, *random.normal(size=(5, size))], axis=1) for _ in range(2)]
    fold, found = random.permutation(np.arange(size) % FOLDS), []
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        scores = [LogisticRegression().fit(view[train], y[train]).predict_proba(view[test])[:, 1] for view in views]
        found.append(metrics.auroc(y[test], scores[0]) - metrics.auroc(y[test], scores[1]))
    return np.array(found)


@pytest.mark.slow
def test_the_corrected_test_finds_nothing_where_nothing_is():
    random = np.random.default_rng(1)
    studies = [null_differences(random) for _ in range(500)]
    rejected = np.mean([statistics.corrected_t(d, 0.25).p < 0.05 for d in studies])
    assert rejected <= 0.06
    wrong = np.mean([statistics.verdict(statistics.correlated_bayes(d, 0.25)) in ("helps", "harms") for d in studies])
    assert wrong <= 0.06


@pytest.mark.slow
def test_a_family_of_null_comparisons_is_rarely_starred_after_holm():
    random, any_found = np.random.default_rng(2), 0
    for _ in range(60):
        p = [statistics.corrected_t(null_differences(random), 0.25).p for _ in range(5)]
        any_found += min(statistics.holm(p)) < 0.05
    assert any_found / 60 <= 0.1
