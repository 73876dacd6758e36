"""The default mode's rules for a series: what was known when, in which bin, and what a later fact must not change."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from raw_mimic import Hospital, at, charted, tokens

from omnifuse.preprocess.mimic.variables import CATEGORIES, COLUMNS, CONTINUOUS, MASKS, STARTS, TOTAL, VARIABLES, VERBAL

HR, GLUCOSE = "Heart Rate", "Glucose"
SCALE = ((220739, "To Speech"), (223901, "Obeys Commands"), (223900, "Confused"))
PULSE = COLUMNS.index("Heart Rate")


def _with_pulse(version: int = 3, **stay) -> tuple[Hospital, dict]:
    hospital = Hospital(version)
    ids = hospital.stay(**stay)
    hospital.chart(ids, 1, 220045, "80")
    return hospital, ids


@pytest.mark.parametrize(
    "time, stored, hours",
    [
        ("storetime", 3.0, 3.0),
        ("storetime", None, 2.0),
        ("charttime", 3.0, 2.0),
    ],
)
def test_a_value_enters_when_it_is_known(tmp_path, time, stored, hours):
    hospital, ids = _with_pulse(4)
    hospital.lab(ids, 2, 50931, "131", storetime="" if stored is None else at(stored))
    assert charted(hospital.build(tmp_path, time=time), GLUCOSE) == [(hours, "131.0")]


def test_of_values_stored_at_once_the_one_charted_last_stands(tmp_path):
    hospital, ids = _with_pulse()
    for charted_at, value in ((4, "90"), (5, "70"), (3, "120")):
        hospital.chart(ids, charted_at, 220045, value, storetime=at(6))
    cohort = hospital.build(tmp_path)
    assert charted(cohort, HR) == [(1.0, "80.0"), (6.0, "120.0"), (6.0, "90.0"), (6.0, "70.0")]
    assert tokens(cohort, "mortality", "9001")[3, PULSE] == 70.0


@pytest.mark.parametrize("hours, bin_", [(0.0, 0), (2.0, 1), (3.999, 1), (46.0, 23)])
def test_bins_are_half_open(tmp_path, hours, bin_):
    hospital, ids = _with_pulse()
    hospital.chart(ids, hours, 220179, "140")
    observed = tokens(hospital.build(tmp_path), "mortality", "9001")[:, COLUMNS.index("mask->Systolic blood pressure")]
    assert np.flatnonzero(observed).tolist() == [bin_]


@pytest.mark.parametrize("hours, there", [(-1 / 3600, False), (0, True), (72 - 1 / 3600, True), (72, False)])
def test_the_series_is_the_stay_half_open(tmp_path, hours, there):
    hospital, ids = _with_pulse()
    hospital.lab(ids, hours, 50931, "131")
    assert bool(charted(hospital.build(tmp_path), GLUCOSE)) is there


@pytest.mark.parametrize("lookback, hours, there", [(0, -1, False), (2, -1, True), (2, -2, True), (2, -2.001, False)])
def test_the_series_may_look_back(tmp_path, lookback, hours, there):
    hospital, ids = _with_pulse()
    hospital.chart(ids, hours, 226730, "180", "cm")
    cohort = hospital.build(tmp_path, lookback_hours=lookback)
    read = tokens(cohort, "mortality", "9001")
    assert read.shape[0] == 24 + lookback // 2
    assert (read[-1, COLUMNS.index("Height")] == 180) is np.bool_(there)  # what lies outside the window is used nowhere


PLANTED = [
    ("mortality", "9001", 48.0),
    ("los", "9001", 24.0),
    ("los_remaining", "9001_0007", 7.0),
    ("los_remaining", "9001_0008", 8.0),
]


@pytest.mark.parametrize("step", [2.0, 0.8, 5.0])
def test_what_becomes_known_at_the_end_of_a_window_or_later_changes_nothing(tmp_path, step):
    """A planted leak: the same hospital twice, once with values behind each window."""
    for task, sample, hours in PLANTED:
        read = []
        for planted in (False, True):
            hospital, ids = _with_pulse()
            hospital.chart(ids, 6.9, 220045, "90")
            if planted:
                hospital.chart(ids, hours, 220045, "200")
                hospital.chart(ids, hours - 1, 220045, "200", storetime=at(hours))
                hospital.lab(ids, hours + 0.5, 50931, "400")
            folder = tmp_path / f"{sample}{planted}"
            read.append(tokens(hospital.build(folder, tasks=(task,), step_hours=step), task, sample))
        assert np.array_equal(*read)
        assert read[0][-1, PULSE] == 90.0


def test_a_value_known_just_before_the_end_of_a_window_is_read(tmp_path):
    hospital, ids = _with_pulse()
    hospital.chart(ids, at(7) - timedelta(seconds=1), 220045, "200")
    cohort = hospital.build(tmp_path, tasks=("los_remaining",))
    seen = [tokens(cohort, "los_remaining", f"9001_{hour:04d}")[-1, PULSE] for hour in (6, 7, 8, 9)]
    assert seen == [80.0, 200.0, 200.0, 200.0]


def test_the_total_is_the_sum_of_its_parts(tmp_path):
    hospital, ids = _with_pulse()
    for item, text in SCALE:
        hospital.chart(ids, 2, item, text)
    for item, text in SCALE[:2]:  # verbal is missing: no total
        hospital.chart(ids, 4, item, text)
    hospital.chart(ids, 6, 198, "7")  # charted, without its parts
    assert charted(hospital.build(tmp_path), VARIABLES[TOTAL]) == [(2.0, "13"), (6.0, "7")]


def test_a_total_is_known_when_its_last_part_is(tmp_path):
    hospital, ids = _with_pulse()
    for number, (item, text) in enumerate(SCALE):
        hospital.chart(ids, 2, item, text, storetime=at(2 + number))
    assert charted(hospital.build(tmp_path), VARIABLES[TOTAL]) == [(4.0, "13")]


def test_an_intubated_patient_has_no_total(tmp_path):
    """Its own verbal category; the total before intubation is not carried on, and no mask claims a total."""
    hospital, ids = _with_pulse()
    for item, text in SCALE:
        hospital.chart(ids, 2, item, text)
        hospital.chart(ids, 6, item, "No Response-ETT" if item == 223900 else text)
        hospital.chart(ids, 10, item, text)
    hospital.chart(ids, 6, 198, "10")  # a total that scores the tube as 1
    cohort = hospital.build(tmp_path)
    assert charted(cohort, VARIABLES[TOTAL]) == [(2.0, "13"), (10.0, "13")]
    read = tokens(cohort, "mortality", "9001")
    total = read[:, STARTS[TOTAL] : STARTS[TOTAL] + len(CATEGORIES[VARIABLES[TOTAL]])]
    verbal = read[:, STARTS[VERBAL] : STARTS[VERBAL] + len(CATEGORIES[VARIABLES[VERBAL]])]
    assert total.sum(1)[:7].tolist() == [1, 1, 1, 0, 0, 1, 1]
    assert np.flatnonzero(read[:, MASKS + TOTAL]).tolist() == [1, 5]
    assert [CATEGORIES[VARIABLES[VERBAL]][row.argmax()] for row in verbal[[1, 3, 4, 5]]] == [
        "4 Confused", "1.0 ET/Trach", "1.0 ET/Trach", "4 Confused",
    ]  # fmt: skip


def test_sixteen_columns_stay_zero_on_the_demo(mimic3demo, tmp_path):
    """One score has one column: the second system's texts of eye (4), motor (6) and verbal (6)."""
    from omnifuse.preprocess.mimic.build import build_cohort

    cohort = build_cohort(mimic3demo, tmp_path / "cohort")
    rows = cohort.array("ehr.npy")
    one_hot = [number for number in range(MASKS) if number not in CONTINUOUS]
    empty = [COLUMNS[number].split("->")[1] for number in one_hot if not rows[:, number].any()]
    assert sorted(empty) == sorted([
        "To Pain", "None", "To Speech", "Spontaneously",
        "Abnormal extension", "No response", "Localizes Pain", "Flex-withdraws", "Obeys Commands", "Abnormal Flexion",
        "No Response", "Confused", "Inappropriate Words", "Oriented", "No Response-ETT", "Incomprehensible sounds",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "fields, died, sample",
    [
        ({"hospital_expire_flag": 1}, 1.0, True),
        ({"dod": "2150-01-02 00:00:00"}, 0.0, True),  # the date decides nothing
        ({"hospital_expire_flag": 1, "deathtime": at(47)}, None, False),  # dead at 48 h, though in the unit
        ({"hospital_expire_flag": 1, "deathtime": at(49)}, 1.0, True),
        ({"hours": 47.9}, None, False),
        ({"hours": 48.0}, 0.0, True),
    ],
)
@pytest.mark.parametrize("version", [3, 4])
def test_mortality_samples_and_labels(tmp_path, version, fields, died, sample):
    hospital, _ = _with_pulse(version)
    tried = hospital.stay(2, **fields)
    hospital.chart(tried, 1, 220045, "80")
    table = hospital.build(tmp_path).table("samples/mortality.parquet").filter(pl.col("stay_id") == 9002)
    assert table["y"].to_list() == ([[died]] if sample else [])


@pytest.mark.parametrize(
    "version, fields, age",
    [
        (4, {"anchor_age": 50, "anchor_year": 2140}, 60.0),
        (4, {"anchor_age": 85, "anchor_year": 2144}, 91.0),
        (3, {"dob": "1850-01-01 08:00:00"}, 91.4),
    ],
)
def test_age_at_admission(tmp_path, version, fields, age):
    hospital, _ = _with_pulse(version, **fields)
    assert hospital.build(tmp_path).table("stays.parquet")["age"].to_list() == [age]


@pytest.mark.parametrize("hours, kept", [(47.9, False), (48.0, True), (None, True)])
def test_stays_with_comfort_care_in_the_window_may_be_left_out(tmp_path, hours, kept):
    hospital, _ = _with_pulse()
    tried = hospital.stay(2)
    hospital.chart(tried, 1, 220045, "80")
    hospital.chart(tried, 2, 223758, "Full code")
    if hours is not None:
        hospital.chart(tried, hours, 223758, "Comfort measures only")
    cohort = hospital.build(tmp_path, exclude_comfort_care=True)
    assert (9002 in cohort.table("samples/mortality.parquet")["stay_id"].to_list()) is kept


@pytest.mark.parametrize(
    "days, thresholds, y",
    [
        (7.0, (7.0,), 0.0),
        (7.1, (7.0,), 1.0),
        (1.5, (3.0, 7.0), 0.0),
        (5.0, (3.0, 7.0), 1.0),
        (8.0, (3.0, 7.0), 2.0),
    ],
)
def test_length_of_stay_classes(tmp_path, days, thresholds, y):
    hospital, _ = _with_pulse(hours=24 * days)
    hospital.chart(hospital.stay(2, hours=24.0), 1, 220045, "80")  # does not last longer than the window
    cohort = hospital.build(tmp_path, tasks=("los",), los_thresholds=thresholds)
    assert cohort.table("samples/los.parquet").select("stay_id", "y").rows() == [(9001, [y])]


def test_remaining_hours_fall_into_the_benchmarks_buckets(tmp_path):
    hospital, _ = _with_pulse(hours=24 * 15 + 5.0)
    table = hospital.build(tmp_path, tasks=("los_remaining",)).table("samples/los_remaining.parquet")
    buckets = dict(zip(table["remaining_hours"].to_list(), table["y"].list.first().to_list()))
    assert [buckets[24.0 * day] for day in (1, 2, 7, 8, 13, 14, 15)] == [1, 2, 7, 8, 8, 9, 9]
    assert [buckets[24.0 * day - 1] for day in (1, 2, 8, 14)] == [0, 1, 7, 8]
    assert min(buckets) == 1.0  # at outtime nothing remains to be told


@pytest.mark.parametrize("era, kept", [("both", [9001, 9002]), ("icd9", [9001]), ("icd10", [9002])])
def test_label_era(tmp_path, era, kept):
    hospital, first = _with_pulse(4)
    second = hospital.stay(2)
    third = hospital.stay(3)  # no codes: its labels are unknown
    for ids in (second, third):
        hospital.chart(ids, 1, 220045, "80")
    hospital.diagnose(first, "4019", 9)
    hospital.diagnose(second, "I10", 10)
    table = hospital.build(tmp_path, tasks=("phenotyping",), label_era=era).table("samples/phenotyping.parquet")
    assert table["stay_id"].to_list() == kept
    assert [sum(y) for y in table["y"].to_list()] == [1.0] * len(kept)  # essential hypertension
