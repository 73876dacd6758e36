"""Every metric against scikit-learn, scipy and a plain re-derivation, on random cases with ties, weights and one class."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from omnifuse.eval import metrics
from omnifuse.eval.multiclass import ScoredClasses

CLOSE = {"rtol": 0, "atol": 1e-9}


def cases(count: int, seed: int = 0):
    """Random labels, scores and weights: few or many samples, no or heavy ties, constant scores, rare positives, perfect scores."""
    random = np.random.default_rng(seed)
    for number in range(count):
        size = int(random.choice([2, 3, 5, 17, 60, 150]))
        y = (random.random(size) < random.choice([0.1, 0.5, 0.9])).astype(int)
        y[:2] = 0, 1
        score = [
            random.random(size),
            random.integers(0, 4, size) / 3,  # ties, with exact 0 and 1
            np.full(size, 0.3),
            np.clip(y + random.normal(size=size) / 3, 0, 1),
            y.astype(float),
            random.random(size).astype(np.float32).astype(float),
        ][number % 6]
        weight = random.integers(0, 4, size).astype(float) if number % 2 else None
        if weight is not None:
            weight[:2] = 1
        yield y, score, weight


def pairwise_auroc(y, score, weight) -> float:
    weight = np.ones(len(y)) if weight is None else weight
    pairs = np.outer(weight[y == 1], weight[y == 0])
    positive, negative = score[y == 1][:, None], score[y == 0][None, :]
    return (pairs * ((positive > negative) + 0.5 * (positive == negative))).sum() / pairs.sum()


def stepwise_precision(y, score, weight) -> float:
    weight = np.ones(len(y)) if weight is None else weight
    found, recall_before, positives = 0.0, 0.0, (weight * y).sum()
    for threshold in sorted(set(score), reverse=True):
        flagged = score >= threshold
        recall = (weight * y)[flagged].sum() / positives
        if weight[flagged].sum():
            found += (recall - recall_before) * (weight * y)[flagged].sum() / weight[flagged].sum()
        recall_before = recall
    return found


@pytest.mark.parametrize("count", [90, pytest.param(1000, marks=pytest.mark.slow)])
def test_metrics_equal_scikit_learn_and_a_plain_derivation(count):
    for y, score, weight in cases(count):
        w = np.ones(len(y)) if weight is None else weight
        np.testing.assert_allclose(metrics.auroc(y, score, weight), sk.roc_auc_score(y, score, sample_weight=weight), **CLOSE)
        np.testing.assert_allclose(metrics.auroc(y, score, weight), pairwise_auroc(y, score, weight), **CLOSE)
        np.testing.assert_allclose(metrics.auprc(y, score, weight), sk.average_precision_score(y, score, sample_weight=weight), **CLOSE)
        np.testing.assert_allclose(metrics.auprc(y, score, weight), stepwise_precision(y, score, weight), **CLOSE)
        np.testing.assert_allclose(metrics.brier(y, score, weight), sk.brier_score_loss(y, score, sample_weight=weight), **CLOSE)
        np.testing.assert_allclose(metrics.brier(y, score, weight), sum(w * (score - y) ** 2) / sum(w), **CLOSE)
        np.testing.assert_allclose(metrics.log_loss(y, score, weight), sk.log_loss(y, score, sample_weight=weight, labels=[0, 1]), **CLOSE)
        kept = np.clip(score, np.finfo(float).eps, 1 - np.finfo(float).eps)
        plain = -sum(w * np.log(np.where(y == 1, kept, 1 - kept))) / sum(w)
        np.testing.assert_allclose(metrics.log_loss(y, score, weight), plain, **CLOSE)
        if weight is None:
            u = stats.mannwhitneyu(score[y == 1], score[y == 0]).statistic
            np.testing.assert_allclose(metrics.auroc(y, score), u / (y.sum() * (len(y) - y.sum())), **CLOSE)


def test_brier_skill_is_nought_for_the_prevalence_and_one_for_the_truth():
    for y, score, weight in cases(60):
        share = np.average(y, weights=weight)
        constant = np.full(len(y), share)
        np.testing.assert_allclose(metrics.brier_skill(y, constant, weight), 0, **CLOSE)
        np.testing.assert_allclose(metrics.brier_skill(y, y.astype(float), weight), 1, **CLOSE)
        reference = sk.brier_score_loss(y, constant, sample_weight=weight)
        expected = 1 - sk.brier_score_loss(y, score, sample_weight=weight) / reference
        np.testing.assert_allclose(metrics.brier_skill(y, score, weight), expected, **CLOSE)


@pytest.mark.parametrize("name", metrics.BINARY)
@pytest.mark.parametrize(
    "y, weight",
    [([0, 0, 0], None), ([1, 1], None), ([], None), ([0], None), ([0, 1, 0], [1.0, 0.0, 1.0])],
    ids=["no positives", "no negatives", "empty", "one sample", "the positive weighs nothing"],
)
def test_a_label_without_both_outcomes_has_no_value(name, y, weight):
    assert getattr(metrics, name)(y, np.linspace(0.2, 0.7, len(y)), weight) is None


@pytest.mark.parametrize(
    "y, reason",
    [([], "no labelled samples"), ([0, 0], "no positives"), ([1, 1], "no negatives"), ([0, 1], None)],
)
def test_the_reason_is_told(y, reason):
    assert metrics.Scored(y, np.full(len(y), 0.5)).reason == reason


def test_draws_equal_naive_resampling():
    """The presorted sums under patient counts equal scikit-learn on the repeated rows, draw by draw."""
    random = np.random.default_rng(4)
    patient = np.sort(random.integers(0, 40, 90))
    y = (random.random(90) < 0.3).astype(int)
    score = np.round(random.random(90) * 0.6 + 0.3 * y, 1)
    scored = metrics.Scored(y, score, patient, 40)
    counts = random.multinomial(40, np.full(40, 1 / 40), size=50).T.astype(float)  # [40, 50]
    values = scored.compute(counts)
    for draw in range(50):
        rows = np.repeat(np.arange(90), counts[patient, draw].astype(int))
        np.testing.assert_allclose(values["auroc"][draw], sk.roc_auc_score(y[rows], score[rows]), **CLOSE)
        np.testing.assert_allclose(values["auprc"][draw], sk.average_precision_score(y[rows], score[rows]), **CLOSE)
        np.testing.assert_allclose(values["brier"][draw], sk.brier_score_loss(y[rows], score[rows]), **CLOSE)
        np.testing.assert_allclose(values["log_loss"][draw], sk.log_loss(y[rows], score[rows]), **CLOSE)
        np.testing.assert_allclose(values["ece"][draw], metrics.ece(y[rows], score[rows]), **CLOSE)


def test_all_classes_at_once_equal_scikit_learn_and_a_plain_derivation():
    random = np.random.default_rng(2)
    for number in range(60):
        size, classes = int(random.choice([2, 9, 80])), int(random.choice([2, 3, 10]))
        truth = random.integers(0, classes, size)
        score = random.dirichlet(np.ones(classes), size)
        weight = random.integers(0, 3, size).astype(float) if number % 2 else None
        if weight is not None:
            weight[0] = 1
        w = np.ones(size) if weight is None else weight
        found = ScoredClasses(np.eye(classes)[truth], score).compute(None if weight is None else weight[:, None])
        labels = np.arange(classes)
        guess = score.argmax(1)
        np.testing.assert_allclose(found["accuracy"][0], sk.accuracy_score(truth, guess, sample_weight=weight), **CLOSE)
        np.testing.assert_allclose(found["log_loss"][0], sk.log_loss(truth, score, sample_weight=weight, labels=labels), **CLOSE)
        plain = sum(w[i] * sum((score[i, c] - (truth[i] == c)) ** 2 for c in range(classes)) for i in range(size)) / w.sum()
        np.testing.assert_allclose(found["brier"][0], plain, **CLOSE)
        if np.isfinite(found["kappa"][0]):
            expected = sk.cohen_kappa_score(truth, guess, weights="quadratic", labels=labels, sample_weight=weight)
            np.testing.assert_allclose(found["kappa"][0], expected, **CLOSE)
            cost = (truth - guess) ** 2.0
            by_chance = sum(w[i] * w[j] * (truth[i] - guess[j]) ** 2.0 for i in range(size) for j in range(size)) / w.sum()
            np.testing.assert_allclose(found["kappa"][0], 1 - (w * cost).sum() / by_chance, **CLOSE)


def test_kappa_without_disagreement_by_chance_has_no_value():
    found = ScoredClasses([[1, 0], [1, 0]], [[0.9, 0.1], [0.6, 0.4]]).compute()
    assert np.isnan(found["kappa"][0]) and found["accuracy"][0] == 1
