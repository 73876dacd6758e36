"""Cells to numbers and moments: every cell is counted under one reason."""

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess.table import cells

COUNTS = ("present", "missing", "not_a_number", "infinite")


# cells, decimal mark, numbers, counts of COUNTS
@pytest.mark.parametrize("texts, decimal, expected, counts", [
    (["37.2", "1e3", "-.5", "+4"], "point", [37.2, 1000, -0.5, 4], (4, 0, 0, 0)),
    ([None, "1"], "point", [None, 1], (1, 1, 0, 0)),
    (["37,5", "1,234", "10 or more", ">200", "60/min", "NaN", "NA", "1_000", "0x10", "- 5"], "point", [None] * 10, (0, 0, 10, 0)),
    (["inf", "-inf", "Infinity", "1e400", "1e31", "-9e99"], "point", [None] * 6, (0, 0, 0, 6)),
    (["37,5", "1.234,5", "1,2,3", "7"], "comma", [37.5, None, None, 7], (2, 0, 2, 0)),
    (["1.5"], "comma", [None], (0, 0, 1, 0)),
    ([], "point", [], (0, 0, 0, 0)),
    ([], "comma", [], (0, 0, 0, 0)),
])  # fmt: skip
def test_numbers(texts, decimal, expected, counts):
    values, told = cells.numbers(pl.Series(texts, dtype=pl.String), decimal)
    np.testing.assert_array_equal(values, np.array(expected, dtype=float))
    assert tuple(told[name] for name in COUNTS) == counts
    assert told["cells"] == len(texts) == sum(told[name] for name in COUNTS)


def test_categories():
    values, told = cells.categories(pl.Series(["M", None, "Unclear", "F", "m"]), ("F", "M"))
    np.testing.assert_array_equal(values, [1, np.nan, 2, 0, 2])
    assert (told["present"], told["missing"], told["unknown_category"], told["cells"]) == (2, 1, 2, 5)


HOUR = 3_600_000_000


@pytest.mark.parametrize("text, unit, expected", [
    ("0", "days", 0),
    ("-2", "days", -48 * HOUR),
    ("7.5", "days", 180 * HOUR),
    ("1.5", "hours", 1.5 * HOUR),
    ("10 or more", "days", None),
    ("inf", "days", None),
    ("1e25", "days", None),
    ("1970-01-01 01:00:00", "datetime", HOUR),
    ("1970-01-01T01:00:00", "datetime", HOUR),
    ("1970-01-02", "datetime", 24 * HOUR),
    ("January 22, 2020", "datetime", None),
    ("2020", "datetime", None),
    ("3", "datetime", None),
])  # fmt: skip
def test_moments(text, unit, expected):
    assert cells.moments(pl.Series([text, None]), unit).to_list() == [expected, None]


def test_order_reads_what_most_cells_are():
    assert cells.order(pl.Series(["10", "9", "", None])).to_list()[:2] == [10 * 24 * HOUR, 9 * 24 * HOUR]
    dates = cells.order(pl.Series(["2020-01-02", "2020-01-01", "3"])).to_list()
    assert dates[0] > dates[1] and dates[2] is None
