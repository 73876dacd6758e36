"""The leak audit: a column that tells the label by itself is named, noise and plain signal are not."""

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess.table import leaks

RANDOM = np.random.default_rng(0)
Y = RANDOM.integers(0, 2, 400).astype(float)
NOISE = RANDOM.normal(size=400)
NAN = np.nan


def audit(values, is_number=True, y=Y, kind="binary", labels=("death",)):
    lists = pl.Series([[value] if np.ndim(value) == 0 else list(value) for value in y])
    return leaks.audit({"m: column": (np.asarray(values, float), is_number)}, lists, kind, labels)


FOUND = {
    "the label": (Y, True),
    "its opposite": (5 - Y, True),
    "nearly": (Y + 0.3 * NOISE, True),
    "a code of it": (np.where(Y == 1, 3.0, 7.0), False),
    "many codes of it": (Y * 20 + RANDOM.integers(0, 20, 400), False),
    "filled only with it": (np.where(Y == 1, NOISE, NAN), True),
    "filled only without it": (np.where(Y == 0, NOISE, NAN), True),
}
INNOCENT = {
    "noise": (NOISE, True),
    "signal": (Y + 1.5 * NOISE, True),
    "one category": (np.zeros(400), False),
    "a category each": (np.arange(400.0), False),
    "random categories": (RANDOM.integers(0, 50, 400).astype(float), False),
    "nothing": (np.full(400, NAN), True),
    "few": (np.where(np.arange(400) < 15, Y, NAN), True),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_leak_is_named(name):
    told = audit(*FOUND[name])
    assert len(told) == 1 and "m: column" in told[0] and "death" in told[0]


@pytest.mark.parametrize("name", INNOCENT)
def test_no_false_alarm(name):
    assert audit(*INNOCENT[name]) == []


def test_one_class_against_the_rest():
    y = np.arange(400) % 3
    assert "label b" in audit((y == 1) * 1.0, y=y.astype(float), kind="multiclass", labels=("a", "b", "c"))[0]


def test_unknown_labels_are_passed_over():
    y = [(NAN, value) for value in Y]
    assert "label second" in audit(Y, y=y, kind="multilabel", labels=("first", "second"))[0]


def test_a_category_is_judged_by_the_others_in_it():
    share = leaks._others_share(np.array([0.0, 0, 0, 1, 1, 2]), np.array([1.0, 1, 0, 1, 0, 1]))
    assert share.tolist() == [0.5, 0.5, 1, 0, 1, 0.5]  # alone: a half
