"""Which rows an episode of mimic3-benchmarks holds, who died, and how old they were: rules that the demo exercises in part."""

from datetime import timedelta

import polars as pl
import pytest
from raw_mimic import T0, Hospital, at, charted

HR, SPO2 = "Heart Rate", "Oxygen saturation"
COMPAT = {"compat": "mimic3-benchmarks"}


def _two_stays(second_start: float = 30.0) -> tuple[Hospital, dict, dict]:
    """Two admissions of one patient; the first stay lasts 72 h, so that they may overlap."""
    hospital = Hospital()
    return hospital, hospital.stay(1, subject=1), hospital.stay(2, subject=1, start=second_start)


def test_other_events_of_the_patient_between_intime_and_outtime_leak_in(tmp_path):
    hospital, first, second = _two_stays()
    hospital.chart(first, 1, 211, "80")
    hospital.chart(second, 40, 211, "90")  # inside both stays by the clock
    hospital.chart(second, 73, 211, "95")  # after the first stay's outtime
    cohort = hospital.build(tmp_path, **COMPAT)
    assert charted(cohort, HR, 9001) == [(1.0, "80"), (40.0, "90")]
    assert charted(cohort, HR, 9002) == [(10.0, "90"), (43.0, "95")]


@pytest.mark.parametrize("offset, there", [(0, True), (-1, False)])
def test_the_window_of_leaking_rows_is_closed(tmp_path, offset, there):
    hospital, first, second = _two_stays()
    hospital.chart(first, 1, 211, "80")
    hospital.chart(second, at(0) + timedelta(seconds=offset), 211, "70")
    assert ((0.0, "70") in charted(hospital.build(tmp_path, **COMPAT), HR, 9001)) is there


def test_a_stays_own_rows_are_kept_outside_its_window(tmp_path):
    hospital = Hospital()
    ids = hospital.stay()
    for hour in (-1.5, 2, 73):
        hospital.chart(ids, hour, 211, f"{80 + hour:g}")
    assert charted(hospital.build(tmp_path, **COMPAT), HR) == [(-1.5, "78.5"), (2.0, "82"), (73.0, "153")]


def test_two_stays_at_one_charttime_give_two_rows_with_the_same_values(tmp_path):
    hospital, first, second = _two_stays()
    hospital.chart(first, 40, 211, "80")
    hospital.chart(second, 40, 646, "97")
    cohort = hospital.build(tmp_path, **COMPAT)
    for stay, hours in ((9001, 40.0), (9002, 10.0)):
        assert charted(cohort, HR, stay) == [(hours, "80")] * 2  # its own row and the other's, both kept
        assert charted(cohort, SPO2, stay) == [(hours, "97.0")] * 2


@pytest.mark.parametrize(
    "change, kept",
    [
        ({}, True),
        ({"stay_id": ""}, True),  # filled from the admission
        ({"hadm_id": ""}, False),
        ({"subject_id": 2}, False),  # (SUBJECT_ID, HADM_ID) must match both
        ({"hadm_id": 1099}, False),
        ({"stay_id": 9099}, False),
    ],
)
def test_rows_are_matched_by_patient_and_admission_and_stay(tmp_path, change, kept):
    hospital = Hospital()
    ids = hospital.stay()
    hospital.stay(2)
    hospital.chart(ids, 1, 211, "80")
    hospital.chart({**ids, **change}, 2, 211, "90")
    assert ((2.0, "90") in charted(hospital.build(tmp_path, **COMPAT), HR)) is kept


@pytest.mark.parametrize(
    "fields, died",
    [
        ({"dod": T0 + timedelta(hours=10), "deathtime": ""}, True),  # DOD alone
        ({"dod": "", "deathtime": at(74)}, True),  # DEATHTIME alone, at discharge
        ({"dod": "", "deathtime": at(74.1)}, False),
        ({"dod": "2150-01-01 00:00:00", "deathtime": ""}, False),  # midnight before admission
        ({"dod": "2150-01-02 00:00:00", "deathtime": ""}, True),
        ({"dod": "", "deathtime": "", "hospital_expire_flag": 1}, False),  # the flag is not looked at
    ],
)
@pytest.mark.parametrize("version, compat", [(3, "mimic3-benchmarks"), (4, "medfuse")])
def test_mortality_by_dates(tmp_path, version, compat, fields, died):
    hospital = Hospital(version)
    ids = hospital.stay(**fields)
    hospital.chart(ids, 1, 220045, "80")
    cohort = hospital.build(tmp_path, compat=compat)
    assert cohort.table("samples/mortality.parquet")["y"].to_list() == [[float(died)]]


@pytest.mark.parametrize(
    "version, compat, fields, age",
    [
        (3, "mimic3-benchmarks", {"dob": "2100-01-01 08:00:00"}, 18_262 / 365.0),  # years of 365 days
        (3, "mimic3-benchmarks", {"dob": "1850-01-01 08:00:00"}, 109_573 / 365.0),  # over 89: shifted by 300 years
        (3, "mimic3-benchmarks", {"dob": "2160-01-01 00:00:00"}, 90.0),
        (4, "medfuse", {"anchor_age": 50, "anchor_year": 2140}, 50.0),  # the age in another year
    ],
)
def test_age_as_the_peer_computes_it(tmp_path, version, compat, fields, age):
    hospital = Hospital(version)
    hospital.chart(hospital.stay(**fields), 1, 220045, "80")
    assert hospital.build(tmp_path, compat=compat).table("stays.parquet")["age"].to_list() == [pytest.approx(age, abs=1e-9)]


@pytest.mark.parametrize(
    "version, fields, kept",
    [
        (3, {}, 2),
        (3, {"last_careunit": "SICU"}, 1),
        (3, {"last_wardid": 6}, 1),
        (4, {"last_careunit": "SICU"}, 1),
        (3, {"dob": "2133-01-01 00:00:00"}, 1),  # a child
    ],
)
def test_exclusions(tmp_path, version, fields, kept):
    hospital = Hospital(version)
    for ids in (hospital.stay(1), hospital.stay(2, **fields)):
        hospital.chart(ids, 1, 220045, "80")
    compat = "mimic3-benchmarks" if version == 3 else "medfuse"
    assert hospital.build(tmp_path, compat=compat).table("stays.parquet").height == kept


@pytest.mark.parametrize("second, kept", [({}, [9001]), ({"last_careunit": "SICU"}, [9001, 9002])])
def test_stays_of_an_admission_are_counted_after_transfers_were_dropped(tmp_path, second, kept):
    hospital = Hospital()
    for ids in (hospital.stay(1), hospital.stay(2, subject=2), hospital.stay(3, subject=2, hadm_id=1002, **second)):
        hospital.chart(ids, 1, 211, "80")
    hospital.tables["admissions"].pop()
    assert hospital.build(tmp_path, **COMPAT).table("stays.parquet")["stay_id"].to_list() == kept


@pytest.mark.parametrize(
    "hours, los, sample",
    [
        (48.0, None, True),
        (47.9, None, False),
        (47.0, "2.0000", True),  # LOS decides, not the times
        (72.0, "", False),
    ],
)
def test_length_of_stay_is_the_column_los(tmp_path, hours, los, sample):
    hospital = Hospital()
    kept = hospital.stay(1)
    tried = hospital.stay(2, hours=hours, **({} if los is None else {"los": los}))
    for ids in (kept, tried):
        hospital.chart(ids, 1, 211, "80")
    samples = hospital.build(tmp_path, **COMPAT).table("samples/mortality.parquet")
    assert (9002 in samples["stay_id"].to_list()) is sample


@pytest.mark.parametrize("hours, sample", [(-0.001, False), (0.0, True), (48.0, True), (48.001, False)])
def test_a_sample_needs_a_row_in_the_closed_window(tmp_path, hours, sample):
    hospital = Hospital()
    hospital.chart(hospital.stay(1), 1, 211, "80")
    hospital.chart(hospital.stay(2), hours, 211, "80")
    samples = hospital.build(tmp_path, **COMPAT).table("samples/mortality.parquet")
    assert (9002 in samples["stay_id"].to_list()) is sample


def test_codes_without_a_dictionary_entry_vanish(tmp_path):
    hospital = Hospital()
    ids = hospital.stay()
    hospital.chart(ids, 1, 211, "80")
    hospital.diagnose(ids, "4019")  # essential hypertension
    hospital.diagnose(ids, "5849", listed=False)  # acute renal failure
    cohort = hospital.build(tmp_path, tasks=("phenotyping",), **COMPAT)
    labels = cohort.meta["tasks"]["phenotyping"]["labels"]
    y = cohort.table("samples/phenotyping.parquet")["y"][0].to_list()
    assert [label for label, there in zip(labels, y) if there] == ["Essential hypertension"]


@pytest.mark.parametrize("first, hours", [(1.0, [5, 6, 7, 8]), (5.0, [6, 7, 8]), (5.5, [6, 7, 8])])
def test_remaining_length_of_stay_begins_after_four_hours_and_the_first_value(tmp_path, first, hours):
    hospital = Hospital()
    ids = hospital.stay(hours=8.0, los="0.3334")  # rounded, as in ICUSTAYS: 8.0016 h
    hospital.chart(ids, first, 211, "80")
    table = hospital.build(tmp_path, tasks=("los_remaining",), **COMPAT).table("samples/los_remaining.parquet")
    assert table["prediction_hours"].to_list() == hours
    expected = 24.0 * 0.3334 - table["prediction_hours"]
    assert table["remaining_hours"].to_list() == pytest.approx(expected.to_list())


def test_rows_are_conserved(tmp_path):
    hospital, first, second = _two_stays()
    for hour in range(40):
        hospital.chart(first, hour, 211 if hour % 3 else 999, "80" if hour % 5 else "")
        hospital.chart({**second, "hadm_id": "" if hour % 7 == 0 else second["hadm_id"]}, hour, 646, "x" if hour % 4 == 0 else "97")
        hospital.lab(first, hour, 50931, "131")
    for entry in hospital.build(tmp_path, **COMPAT).json("audit.json")["rows"]:
        assert entry["in"] == entry["used"] + sum(entry["dropped"].values()) > 0


def test_outputs_are_whole(tmp_path):
    hospital = Hospital()
    hospital.chart(hospital.stay(), 1, 211, "80")
    cohort = hospital.build(tmp_path, **COMPAT)
    cohort.verify()
    assert pl.read_parquet_schema(cohort.file("samples/mortality.parquet"))["ehr_length"] == pl.Int32
    assert not cohort.has("ehr_tails.npy")
