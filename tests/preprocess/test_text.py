"""Free text: encodings, marks of de-identification, cutting."""

import time
from collections import Counter

import pytest

from omnifuse.preprocess import text
from omnifuse.preprocess.schema import ConfigError, Unreadable


def normalised(raw: str) -> tuple[str, dict[str, int]]:
    counts: Counter[str] = Counter()
    told = text.normalise(raw, counts)
    return told, {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    "raw, expected, counted",
    [
        ("Dr. ___ was called", "Dr. _ was called", {text.MARKS: 1}),
        ("seen on [**2151-7-16**] by [**Known lastname 123**]", "seen on _ by _", {text.MARKS: 2}),
        ("[**Hospital1 **][**First Name8 (NamePattern2) **]", "_ _", {text.MARKS: 2}),
        ("film of 2151-07-16, again 7/16/2151", "film of _ , again _", {text.DATES: 2}),
        ("in 2012-07-16", "in 2012-07-16", {}),  # no source shifts dates into the past
        ("___ year old woman", "_ year old woman", {text.MARKS: 1}),
        (
            "63 year old man, 91-year-old wife, 45 y/o son, 8yo",
            "_ year old man, _ year old wife, _ year old son, _ year old",
            {text.AGES: 4},
        ),
        ("2 yo-yo effects over 3 years", "_ year old -yo effects over 3 years", {text.AGES: 1}),
        ("a\r\n\tb  c\x00d\x07", "a b c d", {}),
        ("line\n______________________________\nFINAL", "line FINAL", {}),
        ("ＰＥＴ／ＣＴ　３．２％", "PET/CT 3.2%", {}),
        ("[** never closed", "[** never closed", {}),
        ("", "", {}),
    ],
)
def test_marks_become_one_token_each_and_are_counted(raw, expected, counted):
    assert normalised(raw) == (expected, counted)


@pytest.mark.parametrize("raw", ["[**" * 400_000, "_" * 10**6, "[" * 10**6, "1" * 10**6, "3 years " * 200_000, "\n" * 10**6, "a" * 10**6])
def test_a_report_of_a_million_characters_is_cut_and_takes_no_time(raw):
    counts: Counter[str] = Counter()
    start = time.process_time()
    told = text.normalise(raw, counts)
    assert time.process_time() - start < 2
    assert len(told) <= text.MAX_CHARACTERS
    assert counts[text.CUT] == 1


@pytest.mark.parametrize(
    "raw, words, expected",
    [
        ("one two three", 2, "one two"),
        ("one two", 2, "one two"),
        ("one two three", None, "one two three"),
        ("右上肺见结节 5mm", 4, "右上肺见"),  # without blanks between them, characters are words
        ("右上肺 5mm 结节", 4, "右上肺 5mm"),
        ("", 3, ""),
    ],
)
def test_cutting_keeps_whole_words(raw, words, expected):
    assert text.cut(raw, words) == expected
    assert words is None or text.count_words(expected) <= words


@pytest.mark.parametrize("declared", ["gbk", "GB2312", "gb18030", "cp936"])
def test_the_declared_encoding_is_used(declared):
    assert text.decode("右上肺结节，㎡ 镕".encode("gb18030"), declared) == "右上肺结节，㎡ 镕"  # 镕 is not in GB2312


@pytest.mark.parametrize(
    "data, declared",
    [
        ("右上肺结节".encode("gbk"), "utf-8"),
        ("右上肺结节".encode(), "gbk"),  # legal GBK, and nonsense
        (b"\xff\xfe\x00", "utf-8"),
        (b"fibrosis \xe9", "ascii"),
    ],
)
def test_another_encoding_is_refused_and_never_guessed(data, declared):
    with pytest.raises(Unreadable, match="^is not in the declared encoding$"):
        text.decode(data, declared)


def test_a_byte_order_mark_is_no_text():
    assert text.decode(b"\xef\xbb\xbfLungs", "utf-8") == "Lungs"
    assert text.decode(b"Lungs", "gbk") == "Lungs"


def test_an_unknown_encoding_is_a_wrong_option():
    with pytest.raises(ConfigError, match="unknown encoding"):
        text.decode(b"", "klingon")
