"""What chooses an epoch: macro AUROC over the labels that are defined, and early stopping."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from omnifuse.models.monitoring import EarlyStop, compute_auroc

NAN = float("nan")
AUROC = [
    ([[0.1], [0.4], [0.35], [0.8]], [[0], [0], [1], [1]], 0.75, 1),
    ([[0.1], [0.4], [0.35], [0.8]], [[0], [0], [0], [0]], None, 0),  # never 0 or 0.5 where it is not defined
    ([[0.1, 0.9], [0.4, 0.2]], [[0, 1], [1, NAN]], 1.0, 1),  # one label of two is defined
    ([[0.1], [0.4], [NAN]], [[0], [1], [0]], 1.0, 1),  # a head that does not speak is not counted
    ([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]], [[0], [1], [0]], 1.0, 2),  # class 2 does not occur
]


@pytest.mark.parametrize("score, label, expected, defined", AUROC)
def test_auroc_is_the_mean_over_the_labels_that_are_defined(score, label, expected, defined):
    value, found, _ = compute_auroc(np.array(score), np.array(label, dtype=float))
    assert (value, found) == (expected, defined)


@pytest.mark.parametrize("values", [3, 20, 10_000])
def test_auroc_is_scikit_learns_with_few_and_many_ties(values):
    random = np.random.default_rng(0)
    label, score = random.integers(0, 2, (500, 1)).astype(float), random.integers(0, values, (500, 1)).astype(np.float32)
    assert compute_auroc(score, label)[0] == pytest.approx(roc_auc_score(label[:, 0], score[:, 0]), abs=1e-12)


@pytest.mark.parametrize(
    "values, larger, best_epoch, stopped_after",
    [
        ([0.5, 0.6, 0.6, 0.55], True, 2, 4),  # equal is not better
        ([0.5, 0.4, 0.45, 0.3, 0.35, 0.36], False, 4, 6),
        ([None, None, None], True, 3, None),  # nothing to compare: the newest
    ],
)
def test_early_stopping(values, larger, best_epoch, stopped_after):
    stop, stopped = EarlyStop(2, larger), None
    for epoch, value in enumerate(values, 1):
        stop.update(value, epoch)
        stopped = stopped or (epoch if stop.stop else None)
    assert (stop.best_epoch, stopped) == (best_epoch, stopped_after)
