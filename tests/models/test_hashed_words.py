"""Hashed words: what a word is, and that its id depends on it alone."""

import string

import numpy as np
import pytest
import torch

from omnifuse.models.parts.hashed_words import BUCKETS, bucket, pairs, tokenise, words


@pytest.mark.parametrize(
    "text, expected",
    [
        ("No acute PE.", ["no", "acute", "pe", "."]),
        ("右肺上叶磨玻璃结节，约8.5mm", [*"右肺上叶磨玻璃结节", ",", "约", "8", ".", "5mm"]),
        ("ＰＥＴ／ＣＴ　ＳＵＶ５％", ["pet", "/", "ct", "suv5", "%"]),  # full width as ASCII
        ("___ seen by Dr. ___", ["___", "seen", "by", "dr", ".", "___"]),
        ("naïve — Größe", ["naïve", "—", "größe"]),
        ("naïve", ["naïve"]),  # a letter and its accent as two characters
        ("𠮷𠮷", ["𠮷", "𠮷"]),  # an ideograph outside the basic plane
        (" \n\t", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_ids_are_of_the_words_alone():
    first, empty, second = tokenise(["the heart is enlarged", "", "enlarged heart"])
    assert first.dtype == np.int64 and empty.tolist() == []
    assert second.tolist() == [first[3], first[1]]
    assert tokenise(["heart"])[0].tolist() == [bucket("heart")] == [10614]  # of no process, platform or fold


def test_ids_fill_the_table_and_leave_0_to_padding():
    found = np.array([bucket(a + b + c) for a in string.ascii_lowercase for b in string.ascii_lowercase for c in string.ascii_lowercase])
    assert found.min() >= 1 and found.max() < BUCKETS
    expected = 1 - np.exp(-len(found) / (BUCKETS - 1))  # of the buckets are hit by chance
    assert len(set(found)) / (BUCKETS - 1) == pytest.approx(expected, abs=0.01)


def test_a_million_characters_and_a_lone_surrogate():
    assert len(tokenise(["结节 nodule " * 100_000])[0]) == 300_000
    assert len(tokenise(["a\ud800b"])[0]) == 3


def test_a_pair_tells_which_word_stands_first_and_depends_on_nothing_else():
    ids = torch.from_numpy(np.stack(tokenise(["benign not malignant", "malignant not benign", "unlikely not malignant"])))
    found = pairs(ids)
    assert found.shape == ids.shape and found.min() >= 0 and found.max() < BUCKETS
    assert torch.equal(found[:, 0], ids[:, 0])  # before the first there is none
    assert found[0, 2] == found[2, 2]  # "not malignant" in either
    assert len(set(found[:, 1:].flatten().tolist())) == 5
