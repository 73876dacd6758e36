"""Parquet with the promises of the CSV reader, and the date-times of both."""

import datetime as dt
import subprocess
import sys

import polars as pl
import pytest

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables import Column, header, parquet, parse_datetime, read, stream

CANARY = "zqxcanary"
INT, FLOAT, TEXT = (Column("x", dtype) for dtype in (pl.Int64, pl.Float64, pl.String))
AT = dt.datetime(2130, 2, 4, 4, 5)


@pytest.fixture
def table(tmp_path):
    def write(values, name: str = "t.parquet", column: str = "X", **options):
        path = tmp_path / name
        frame = values if isinstance(values, pl.DataFrame) else pl.DataFrame({column: values, "other": range(len(values))})
        frame.write_parquet(path, **options)
        return path

    return write


LEGAL = {
    "small integers": (pl.Series([1, None, -3], dtype=pl.Int8), INT, [1, None, -3]),
    "whole floats": (pl.Series([1.0, None, -3.0]), INT, [1, None, -3]),
    "text of integers": (pl.Series(["1", "", "-3"]), INT, [1, None, -3]),
    "decimals": (pl.Series(["1.50", None], dtype=pl.String).cast(pl.Decimal(10, 2)), FLOAT, [1.5, None]),
    "integers as floats": (pl.Series([1, None]), FLOAT, [1.0, None]),
    "text of floats": (pl.Series(["1.5", "", "-3"]), FLOAT, [1.5, None, -3.0]),
    "text": (pl.Series(["a", "", None, "None"]), TEXT, ["a", None, None, "None"]),
    "categories": (pl.Series(["a", None], dtype=pl.Categorical), TEXT, ["a", None]),
    "integers as text": (pl.Series([1, None]), TEXT, ["1", None]),
    "date-times as text": (pl.Series([AT, None]), TEXT, ["2130-02-04 04:05:00", None]),
    "fractions of a second": (pl.Series([AT.replace(microsecond=500_000)]), TEXT, ["2130-02-04 04:05:00.500"]),
    "dates as text": (pl.Series([AT.date(), None]), TEXT, ["2130-02-04", None]),
}


@pytest.mark.parametrize("name", LEGAL)
def test_types_are_cast_without_loss(name, table):
    values, column, expected = LEGAL[name]
    frame = read(table(values), [column])
    assert frame.to_dict(as_series=False) == {"x": expected}
    assert frame.schema["x"] == column.dtype


BAD_VALUES = {
    "fraction where whole numbers are asked for": (pl.Series([1.0, 1.5]), INT, "is no whole number"),
    "too large": (pl.Series([1, 2**63], dtype=pl.UInt64), INT, "is no whole number"),
    "float beyond whole numbers": (pl.Series([1.0, 1e30]), INT, "is no whole number"),
    "NaN as a whole number": (pl.Series([1.0, float("nan")]), INT, "is no whole number"),
    "text": (pl.Series(["1", CANARY]), INT, "is no whole number"),
    "text as a number": (pl.Series(["1", CANARY]), FLOAT, "is no finite number"),
    "NaN": (pl.Series([1.0, float("nan")]), FLOAT, "is no finite number"),
    "infinity": (pl.Series([1.0, float("-inf")]), FLOAT, "is no finite number"),
    "empty": (pl.Series([1, None]), Column("x", pl.Int64, nullable=False), "is empty"),
    "empty text": (pl.Series(["a", ""]), Column("x", pl.String, nullable=False), "is empty"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_is_one_line_or_counted(name, table):
    values, column, says = BAD_VALUES[name]
    path = table(pl.concat([values, values[:1]]))
    with pytest.raises(InputError) as caught:
        read(path, [column])
    assert str(caught.value) == f"{path}:2:x: {says}"
    chunk = list(stream(path, [column], on_bad_row="skip", max_bad=1, with_row=True))[-1]
    assert (chunk.frame["row"].to_list(), chunk.bad, chunk.first_row) == ([1, 3], 1, 1)


WRONG_TYPES = {
    "bool": (pl.Series([True]), INT),
    "date-time as a number": (pl.Series([AT]), FLOAT),
    "bytes as text": (pl.Series([b"\xb0"]), TEXT),
    "list": (pl.Series([[1]]), INT),
    "time zone": (pl.Series([AT]).dt.replace_time_zone("UTC"), TEXT),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_type_that_cannot_hold_what_is_asked_is_told(name, table):
    values, column = WRONG_TYPES[name]
    path = table(values)
    with pytest.raises(InputError, match="column x holds"):
        read(path, [column])


def test_names_follow_the_rules_of_a_csv_header(table):
    path = table(pl.DataFrame({"ICUSTAY_ID": [1], "Other": [2]}))
    stay = Column("stay_id", pl.Int64, aliases=("icustay_id",))
    absent = Column("warning", pl.Int64, required=False)
    assert read(path, [absent, stay]).to_dicts() == [{"warning": None, "stay_id": 1}]
    assert header(path) == ("icustay_id", "other")
    with pytest.raises(InputError, match="column itemid is missing"):
        read(path, [Column("itemid", pl.Int64)])
    with pytest.raises(InputError, match="columns 1 and 2 have the same name, x"):
        read(table(pl.DataFrame({"x": [1], "X": [2]})), [INT])


BROKEN = {
    "0 bytes": (lambda content: b"", "is empty"),
    "text": (lambda content: b"itemid,value\n1,zqxcanary\n", "is no sound Parquet file"),
    "cut off": (lambda content: content[:-20], "is no sound Parquet file"),
    "head cut off": (lambda content: content[20:], "is no sound Parquet file"),
    "pages overwritten": (lambda content: content[:4] + b"\xff" * 200 + content[204:], "is no sound Parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(name, table, capfd):
    path = table([f"{CANARY}{number}" for number in range(1000)])
    harm, says = BROKEN[name]
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError, match=says) as caught:
        read(path, [TEXT])
    assert CANARY not in str(caught.value) + capfd.readouterr().err


def test_slices_come_in_order_with_their_rows(table, monkeypatch):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 7)
    path = table(list(range(100)), row_group_size=13)
    chunks = list(stream(path, [INT], with_row=True))
    assert [chunk.first_row for chunk in chunks] == list(range(1, 101, 7))
    assert pl.concat([chunk.frame for chunk in chunks]).rows() == [(number, number + 1) for number in range(100)]


BOMB = """
import resource, sys
import polars as pl
from omnifuse.preprocess.tables import Column, stream
path, rows = sys.argv[1], 60_000_000
pl.LazyFrame({"x": [7]}).select(pl.col("x").repeat_by(rows).explode()).collect().write_parquet(path, row_group_size=rows)
"""
READ = """
import resource, sys
from omnifuse.preprocess.tables import Column, stream
import polars as pl
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(chunk.frame.height for chunk in stream(sys.argv[1], [Column("x", pl.Int64)]))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_row_group_of_equal_values_does_not_fill_memory(tmp_path):
    """60 million rows in some kB: 480 MB at once."""
    path = str(tmp_path / "t.parquet")
    subprocess.run([sys.executable, "-c", BOMB, path], check=True)
    done = subprocess.run([sys.executable, "-c", READ, path], check=True, capture_output=True, text=True)
    rows, growth = map(int, done.stdout.split())
    assert rows == 60_000_000
    assert growth < 200_000, "kB"


# --- date-times -------------------------------------------------------------------------------------------------------

TIMES = {
    "2130-02-04 04:05:06": dt.datetime(2130, 2, 4, 4, 5, 6),
    "2130-02-04": dt.datetime(2130, 2, 4),
    "2/4/2130 4:05": AT,
    "02/04/2130 04:05": AT,
    "2130-02-04 04:05:00.25": AT.replace(microsecond=250_000),
    "2000-02-29 23:59:59": dt.datetime(2000, 2, 29, 23, 59, 59),
    None: None,
}


def test_every_format_of_the_tables_is_parsed_even_mixed():
    frame = parse_datetime(pl.DataFrame({"t": list(TIMES)}), "t", "t.csv")
    assert frame["t"].to_list() == list(TIMES.values())
    assert frame.schema["t"] == pl.Datetime("us")
    for text, expected in TIMES.items():
        alone = parse_datetime(pl.DataFrame({"t": [text, None]}, schema={"t": pl.String}), "t", "t.csv")
        assert alone["t"].to_list() == [expected, None]


NO_TIMES = [
    *("2130-02-30", "2100-02-29 00:00:00", "2130-13-01 00:00:00", "2130-02-04 24:00:00", "2130-02-04 23:59:60", "2130-02-04 23:60:00"),
    *("2130-2-4 04:05:06", "2130-02-04 04:05", "2130-02-04T04:05:06", "2130-02-04 04:05:06 ", " 2130-02-04", "130-02-04", "20130-02-04"),
    *("2130-2-4 4:05:06.5", "2130-02-04 23:59:60.5"),
    *("13/4/2130 4:05", "2/4/30 4:05", "2/4/2130", "04:05:06", "2130-02-04 04:05:06+01:00", "zqxcanary", "0", "２130-02-04"),
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_date_time_is_told_with_its_row(text):
    rows = pl.Series("row", [5, 9, 12], dtype=pl.UInt64)
    frame = pl.DataFrame({"t": ["2130-02-04 04:05:06", text, text]}).with_columns(rows)
    with pytest.raises(InputError) as caught:
        parse_datetime(frame, "t", "t.csv")
    assert str(caught.value).startswith("t.csv:9:t: is no date-time (")
    assert text not in str(caught.value).replace("2130-02-04 04:00:00, 2130-02-04 or 2/4/2130 4:00", "")
    with pytest.raises(InputError, match=r"^t\.csv:t: is no date-time"):
        parse_datetime(frame.drop("row"), "t", "t.csv")


def test_date_times_that_are_parsed_already_stay():
    frame = pl.DataFrame({"t": [AT]}).with_columns(pl.col("t").cast(pl.Datetime("ms")))
    assert parse_datetime(frame, "t", "t.csv")["t"].to_list() == [AT]
    empty = parse_datetime(pl.DataFrame({"t": []}, schema={"t": pl.String}), "t", "t.csv")
    assert empty.schema["t"] == pl.Datetime("us")
