"""The one mechanism by which films, notes and recordings find their stays and samples."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnifuse.preprocess.mimic import gathering, linking, windows
from omnifuse.preprocess.mimic.gathering import Gathered
from omnifuse.preprocess.mimic.linking import Counts, Link, Window

T0 = datetime(2150, 1, 1, 8)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def stays(*spans: tuple[int, int, float, float]) -> pl.DataFrame:
    """(stay, patient, begin, end)."""
    rows = [(stay, patient, 1000 + stay, at(begin), at(end)) for stay, patient, begin, end in spans]
    return pl.DataFrame(rows, schema=["stay_id", "patient_id", "hadm_id", "intime", "outtime"], orient="row")


def rows(*told: tuple[int, float | None], hadm: int | None = None) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"patient_id": [p for p, _ in told], "time": [None if t is None else at(t) for _, t in told]},
        schema={"patient_id": pl.Int64, "time": pl.Datetime("us")},
    )
    return frame if hadm is None else frame.with_columns(pl.lit(hadm, pl.Int64).alias("hadm_id"))


def attached(frame, known, window: Window = Window()) -> tuple[list[tuple], Counts]:  # noqa: B008
    counts = Counts()
    found = linking.linked(linking.attach(frame, known, window, counts), counts)
    return sorted(found.select("stay_id", "time").rows()), counts


@pytest.mark.parametrize(
    "hours, window, held",
    [
        (0, Window(), True),
        (-0.001, Window(), False),
        (-5, Window(lookback_hours=5), True),
        (-5.001, Window(lookback_hours=5), False),
        (49.999, Window(), True),
        (50, Window(), False),  # half-open
        (50, Window(closed=True), True),  # MedFuse
        (50.001, Window(closed=True), False),
    ],
)
def test_a_stay_holds_what_became_known_in_it(hours, window, held):
    found, counts = attached(rows((1, hours)), stays((7, 1, 0, 50)), window)
    assert found == ([(7, at(hours))] if held else [])
    assert counts.left_out[linking.OUTSIDE] == (not held)


def test_every_row_is_linked_or_left_out_for_a_reason():
    known = stays((7, 1, 0, 50), (8, 1, 40, 90), (9, 2, 0, 50))
    _, counts = attached(rows((1, 10), (1, 45), (1, 95), (2, None), (3, 5)), known)
    told = counts.to_json()
    assert told["left_out"] == {linking.NO_STAY: 1, linking.NO_TIME: 1, linking.OUTSIDE: 1}
    assert (told["rows"], told["linked"], told["items"]) == (5, 2, 3)  # one lies in two stays that overlap


def test_a_row_of_another_admission_is_not_linked():
    known = stays((7, 1, 0, 50))
    assert attached(rows((1, 10), hadm=1007), known)[1].linked == 1
    assert attached(rows((1, 10), hadm=55), known)[1].left_out[linking.ELSEWHERE] == 1


def link(times: list[tuple[int, float]], pick: str, **options) -> Link:
    items = pl.DataFrame(
        {"stay_id": [stay for stay, _ in times], "time": [at(hours) for _, hours in times]},
        schema={"stay_id": pl.Int64, "time": pl.Datetime("us")},
    )
    return Link("rep", items, pick, **options)


def ranges(made: Link, samples: list[tuple[int, float]], task: str = "mortality") -> list[tuple[int, int]]:
    frame = pl.DataFrame({"stay_id": [s for s, _ in samples], "prediction_time": [at(h) for _, h in samples]})
    told = made.add(frame, task)
    assert told.columns == ["stay_id", "prediction_time", "rep_start", "rep_length"]
    assert told.dtypes[2:] == [pl.Int64, pl.Int32]
    assert told.select("stay_id", "prediction_time").equals(frame)
    return told.select("rep_start", "rep_length").rows()


ITEMS = [(7, 1), (7, 3), (7, 3), (7, 9), (8, 2)]


@pytest.mark.parametrize(
    "pick, closed, stay, hours, expected",
    [
        ("all", False, 7, 1, (0, 0)),
        ("all", False, 7, 1.5, (0, 1)),
        ("all", False, 7, 3, (0, 1)),
        ("all", True, 7, 3, (0, 3)),
        ("all", False, 7, 100, (0, 4)),
        ("last", False, 7, 3.1, (2, 1)),  # of two at one moment the second
        ("last", False, 7, 100, (3, 1)),
        ("last", False, 7, 0, (0, 0)),
        ("last", True, 7, 1, (0, 1)),
        ("all", False, 8, 100, (4, 1)),
        ("all", False, 9, 100, (0, 0)),  # a stay without any
    ],
)
def test_a_sample_takes_what_is_known_before_its_prediction_time(pick, closed, stay, hours, expected):
    assert ranges(link(ITEMS, pick, closed=closed), [(stay, hours)]) == [expected]


def test_a_task_that_sees_the_whole_stay_ignores_the_time():
    made = link(ITEMS, "all", whole=frozenset({"phenotyping"}))
    assert ranges(made, [(7, 0), (9, 0)], "phenotyping") == [(0, 4), (0, 0)]
    assert ranges(made, [(7, 0)], "mortality") == [(0, 0)]


def test_items_without_a_stay_are_nobodys():
    items = pl.DataFrame({"stay_id": [7, None], "time": [at(1), at(1)]}, schema={"stay_id": pl.Int64, "time": pl.Datetime("us")})
    assert ranges(Link("rep", items, "all"), [(7, 50)]) == [(0, 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), max_size=25),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 13)), min_size=1, max_size=25),
    st.booleans(),
)
def test_ranges_equal_a_search_row_by_row(items, samples, closed):
    items = sorted(items)
    for pick in ("all", "last"):
        for (stay, end), (start, length) in zip(samples, ranges(link(items, pick, closed=closed), samples)):
            seen = [number for number, (s, t) in enumerate(items) if s == stay and (t < end or (closed and t == end))]
            expected = seen if pick == "all" else seen[-1:]
            assert list(range(start, start + length)) == expected


def test_texts_leave_sorted_whatever_their_order_and_pieces(tmp_path, monkeypatch):
    texts = [
        (stay, at(hour), f"n{number}", "x" * 50) for number, (stay, hour) in enumerate([(3, 1), (1, 5), (2, 2), (1, 4), (1, 4), (3, 0)])
    ]
    frame = pl.DataFrame(texts, schema=["stay_id", "time", "item_id", "text"], orient="row")

    def written(order: list[int], name: str) -> pl.DataFrame:
        gathered = Gathered(tmp_path, name)
        for row in order:
            gathered.append(frame[row : row + 1])
        keys = gathered.finish(tmp_path / f"{name}.parquet")
        told = pl.read_parquet(tmp_path / f"{name}.parquet")
        assert keys.equals(told.select("stay_id", "time"))
        return told

    whole = written([0, 1, 2, 3, 4, 5], "whole")
    assert whole.equals(frame.sort("stay_id", "time", "item_id"))
    monkeypatch.setattr(gathering, "PIECE_BYTES", 60)
    monkeypatch.setattr(gathering, "RANGE_BYTES", 120)
    assert written([5, 3, 1, 0, 2, 4], "ranges").equals(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranges.parquet", "whole.parquet"]


def test_the_documentation_holds_the_table_of_windows():
    told = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert windows.markdown() in told
