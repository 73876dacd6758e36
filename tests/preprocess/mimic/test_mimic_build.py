"""The cohort as a whole: what it depends on, what it does not, and which inputs are refused."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_mimic import Hospital, at

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic import events, scratch
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.grid import Grid, to_us
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.plan import plan
from omnifuse.preprocess.mimic.source import KNOWN_ROWS, detect, truncation_warnings
from omnifuse.preprocess.schema import ConfigError, InputError

TASKS = ("mortality", "phenotyping", "los", "los_remaining")
ITEMS = ((220045, 85), (220179, 120), (220180, 60), (220210, 18), (220277, 97), (223761, 98), (807, 131), (223835, 50))
WORDS = ((220739, "Spontaneously"), (223901, "Obeys Commands"), (223900, "Oriented"))


def _busy(version: int = 3) -> Hospital:
    """Some patients with several stays, ties, duplicates and values at one time; one stay without any value."""
    draw = np.random.default_rng(0)
    hospital = Hospital(version)
    for number in range(1, 13):
        ids = hospital.stay(number, subject=1 + number % 7, start=60.0 * (number // 7), hours=float(50 + number), died=number % 3 == 0)
        hospital.diagnose(ids, "4019" if number % 2 else "5849")
        if number == 12:
            continue
        for hour in range(0, 60, 2):
            for item, mean in ITEMS:
                stored = hour + draw.integers(-1, 3)
                for _ in range(draw.integers(1, 3)):
                    value = f"{draw.normal(mean, 5):.1f}"
                    hospital.chart(ids, hour, item, value, storetime=at(float(stored)))
            for item, word in WORDS:
                hospital.chart(ids, hour, item, word)
        hospital.lab(ids, 5, 50817, "96")
        hospital.lab(ids, 5, 50800, "ART")
    return hospital


def _same(one: store.Artefact, other: store.Artefact) -> list[str]:
    """Files that differ."""
    assert one.files.keys() == other.files.keys()
    return [name for name in one.files if one.files[name]["sha256"] != other.files[name]["sha256"]]


@pytest.mark.parametrize("version, compat", [(3, "none"), (3, "mimic3-benchmarks"), (4, "none"), (4, "medfuse")])
def test_the_order_of_the_rows_changes_nothing(tmp_path, version, compat):
    hospital = _busy(version)
    options = Options(compat=compat, tasks=TASKS)
    cohorts = []
    for shuffle in (None, 1, 2):
        raw = hospital.write(tmp_path / f"raw{shuffle}", shuffle=shuffle)
        cohorts.append(build_cohort(raw, tmp_path / f"cohort{shuffle}", options))
    assert _same(cohorts[0], cohorts[1]) == _same(cohorts[0], cohorts[2]) == []


def test_the_order_of_the_demos_rows_changes_nothing(mimic3demo, tmp_path):
    for path in mimic3demo.glob("*.csv.gz"):
        raw = pl.read_csv(path, infer_schema=False)
        raw.sample(fraction=1.0, shuffle=True, seed=3).write_csv(tmp_path / path.name.removesuffix(".gz"))
    for compat in ("none", "mimic3-benchmarks"):
        one = build_cohort(mimic3demo, tmp_path / f"{compat}1", Options(compat=compat))
        other = build_cohort(tmp_path, tmp_path / f"{compat}2", Options(compat=compat))
        assert _same(one, other) == []


@pytest.mark.parametrize("version, compat", [(3, "none"), (3, "mimic3-benchmarks")])
def test_the_size_of_buffers_and_ranges_changes_nothing(tmp_path, monkeypatch, version, compat):
    """At full size the rows come in many batches, pieces and ranges; here each patient is a range."""
    raw, options = _busy(version).write(tmp_path / "raw"), Options(compat=compat, tasks=TASKS)
    whole = build_cohort(raw, tmp_path / "whole", options)
    monkeypatch.setattr(events, "BATCH_ROWS", 100)
    monkeypatch.setattr(scratch, "BUFFER_ROWS", 300)
    monkeypatch.setattr(scratch, "RANGE_ROWS", 1)
    assert [name for name in _same(whole, build_cohort(raw, tmp_path / "ranges", options)) if not name.endswith(".parquet")] == []
    for name in whole.files:
        if name.endswith(".parquet"):
            assert whole.table(name).equals(store.open(tmp_path / "ranges", "cohort").table(name)), name


def test_a_stay_without_any_value_has_rows_and_no_samples(tmp_path):
    cohort = _busy().build(tmp_path, tasks=TASKS)
    assert 9012 in cohort.table("stays.parquet")["stay_id"].to_list()
    assert all(9012 not in cohort.table(f"samples/{task}.parquet")["stay_id"].to_list() for task in TASKS)


def test_samples_are_sorted_and_point_into_the_rows(tmp_path):
    cohort = _busy().build(tmp_path, tasks=TASKS)
    rows, tails = len(cohort.array("ehr.npy")), len(cohort.array("ehr_tails.npy"))
    told = []
    for task in TASKS:
        table = cohort.table(f"samples/{task}.parquet")
        assert table.select("patient_id", "sample_id").equals(table.sort("patient_id", "sample_id").select("patient_id", "sample_id"))
        assert table["sample_id"].n_unique() == table.height == cohort.meta["tasks"][task]["samples"]
        assert (table["ehr_start"] + table["ehr_length"]).max() <= rows
        told += table["ehr_tail"].drop_nulls().to_list()
    assert sorted(told) == list(range(tails))
    stays = cohort.table("stays.parquet")
    assert stays["stay_id"].is_sorted()
    events_ = cohort.table("events.parquet")
    assert events_["stay_id"].rle().len() == events_["stay_id"].n_unique()
    assert events_.with_columns((pl.col("hours").diff() >= 0).over("stay_id").alias("later"))["later"].fill_null(True).all()


def test_an_unchanged_call_returns_the_same_cohort(tmp_path, monkeypatch):
    raw = _busy().write(tmp_path / "raw")
    first = build_cohort(raw, tmp_path / "cohort")
    made = (tmp_path / "cohort").stat().st_ino
    monkeypatch.setattr(events, "collect", None)  # would raise if the tables were read again
    assert build_cohort(raw, tmp_path / "cohort").fingerprint == first.fingerprint
    assert (tmp_path / "cohort").stat().st_ino == made


@pytest.mark.parametrize("change", [{"step_hours": 1.0}, {"time": "charttime"}, {"seed": 1}, {"tasks": ("mortality",)}])
def test_other_options_make_another_cohort(tmp_path, change):
    raw = _busy().write(tmp_path / "raw")
    first = build_cohort(raw, tmp_path / "cohort")
    assert build_cohort(raw, tmp_path / "cohort", Options(**change)).fingerprint != first.fingerprint


def test_another_cell_makes_another_cohort(tmp_path):
    raw = _busy().write(tmp_path / "raw")
    first = build_cohort(raw, tmp_path / "cohort")
    table = raw / "CHARTEVENTS.csv"
    table.write_text(table.read_text().replace(",220045,", ",220046,", 1))
    assert build_cohort(raw, tmp_path / "cohort").fingerprint != first.fingerprint


def _with_one_value() -> Hospital:
    hospital = Hospital()
    ids = hospital.stay()
    hospital.chart(ids, 1, 211, "80")
    hospital.diagnose(ids, "4019")
    return hospital


@pytest.mark.parametrize(
    "table, task, told",
    [
        ("LABEVENTS", "mortality", "LABEVENTS is missing; the task mortality needs it"),
        ("CHARTEVENTS", "los", "CHARTEVENTS is missing; the task los needs it"),
        ("DIAGNOSES_ICD", "phenotyping", "DIAGNOSES_ICD is missing; the task phenotyping needs it"),
        ("DIAGNOSES_ICD", "mortality", None),
        ("D_ICD_DIAGNOSES", "phenotyping", None),
        ("ICUSTAYS", "mortality", "holds no ICUSTAYS table"),
    ],
)
def test_a_missing_table_is_named_where_a_task_needs_it(tmp_path, table, task, told):
    raw = _with_one_value().write(tmp_path / "raw")
    (raw / f"{table}.csv").unlink()
    if told is None:
        assert build_cohort(raw, tmp_path / "cohort", Options(tasks=(task,))).meta["tasks"][task]["samples"] == 1
        return
    with pytest.raises(InputError, match=told):
        build_cohort(raw, tmp_path / "cohort", Options(tasks=(task,)))
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize("table, key", [("icustays", "stay_id"), ("admissions", "hadm_id"), ("patients", "subject_id")])
@pytest.mark.parametrize("compat", ["none", "mimic3-benchmarks"])
def test_repeated_ids_are_refused_with_their_number(tmp_path, table, key, compat):
    hospital = _with_one_value()
    hospital.tables[table] += 2 * hospital.tables[table]
    with pytest.raises(InputError, match=f"2 rows repeat a {key}") as caught:
        hospital.build(tmp_path, compat=compat)
    assert "9001" not in str(caught.value)


@pytest.mark.parametrize(
    "stay, told",
    [
        ({"dob": "2149-01-01 00:00:00"}, "no stay is left after the exclusions"),
        ({"hours": 24.0}, "no sample is left for the task mortality .in the unit at 48 h: 0"),
        ({"start": 900.0}, "no sample is left for the task mortality"),  # its one value lies far before
    ],
)
def test_an_empty_cohort_is_an_error(tmp_path, stay, told):
    hospital = Hospital()
    hospital.chart(hospital.stay(**stay), 1, 211, "80")
    with pytest.raises(InputError, match=told):
        hospital.build(tmp_path)
    assert not (tmp_path / "cohort").exists()
    assert not list(tmp_path.glob(".cohort*"))


@pytest.mark.parametrize("compat", ["none", "mimic3-benchmarks"])
def test_tables_without_a_single_event_are_an_error(tmp_path, compat):
    hospital = Hospital()
    hospital.stay()
    with pytest.raises(InputError, match="no sample is left for the task mortality"):
        hospital.build(tmp_path, compat=compat)


def test_a_bad_time_is_named_by_file_and_row_and_not_shown(tmp_path):
    hospital = _with_one_value()
    hospital.chart(hospital.stay(2), 1, 211, "80", charttime="yesterday")
    with pytest.raises(InputError, match=r"CHARTEVENTS\.csv:3:charttime: is no date-time") as caught:
        hospital.build(tmp_path)
    assert "yesterday" not in str(caught.value)


def test_bad_rows_may_be_left_out_and_are_counted(tmp_path):
    raw = _with_one_value().write(tmp_path / "raw")
    with (raw / "CHARTEVENTS.csv").open("a") as handle:
        handle.write("1,1001\n")
    with pytest.raises(InputError):
        build_cohort(raw, tmp_path / "cohort", Options(tasks=("mortality",)))
    cohort = build_cohort(raw, tmp_path / "cohort", Options(tasks=("mortality",), on_bad_row="skip", max_bad=1))
    rows = cohort.json("audit.json")["rows"][0]
    assert (rows["in"], rows["used"], rows["dropped"]) == (2, 1, {"bad row": 1})


@pytest.mark.parametrize(
    "options, told",
    [
        ({"tasks": ("mortalty",)}, "did you mean mortality"),
        ({"compat": "mimic-benchmarks"}, "did you mean mimic3-benchmarks"),
        ({"step_hours": 0}, "step_hours is 0"),
        ({"lookback_hours": 25}, "lookback_hours is 25"),
        ({"los_thresholds": (7.0, 3.0)}, "must ascend"),
        ({"compat": "medfuse", "venous_ph": True}, "a rule of the default mode"),
        ({"compat": "mimic3-benchmarks", "lookback_hours": 2}, "a rule of the default mode"),
        ({"phenotypes": Path("x.yaml")}, "belong to --compat medfuse"),
    ],
)
def test_options_are_checked_before_anything_is_read(options, told):
    with pytest.raises(ConfigError, match=told):
        Options(**options)


@pytest.mark.parametrize("version, compat, dataset", [(3, "medfuse", "mimic-iv"), (4, "mimic3-benchmarks", "mimic-iii")])
def test_a_published_pipeline_works_on_its_own_release_only(tmp_path, version, compat, dataset):
    hospital = Hospital(version)
    hospital.chart(hospital.stay(), 1, 220045, "80")
    with pytest.raises(ConfigError, match=f"works on {dataset}"):
        hospital.build(tmp_path, compat=compat)


@pytest.mark.parametrize("new, told", [(False, "1 of 1 patients"), (True, None)])
def test_patients_in_no_list(tmp_path, new, told):
    (tmp_path / "list.csv").write_text("patient_id,part\n77,test\n78,val\n79,train\n")
    options = {"splits": tmp_path / "list.csv", "assign_new": new}
    if told:
        with pytest.raises(InputError, match=told):
            _with_one_value().build(tmp_path, **options)
    else:
        warnings = _with_one_value().build(tmp_path, **options).json("audit.json")["warnings"]
        assert any(warning.startswith("1 patients (100.0%) are in no split list") for warning in warnings)


def test_a_temporal_split_needs_a_calendar(tmp_path):
    with pytest.raises(ConfigError, match="calendar"):
        _with_one_value().build(tmp_path, split="temporal")


def test_medfuse_needs_its_own_phenotypes(tmp_path):
    hospital = Hospital(4)
    ids = hospital.stay()
    hospital.chart(ids, 1, 220045, "80")
    hospital.diagnose(ids, "I10", 10)
    cohort = hospital.build(tmp_path / "all", compat="medfuse", tasks=TASKS)
    assert "phenotyping" not in cohort.meta["tasks"]
    assert cohort.json("audit.json")["warnings"][0].startswith("phenotyping is left out")
    with pytest.raises(ConfigError, match="not part of omnifuse"):
        hospital.build(tmp_path / "one", compat="medfuse", tasks=("phenotyping",))


def test_both_layouts_of_mimic4_give_the_same_cohort(mimic4demo, tmp_path):
    """MIMIC-IV 1.0 has core/, and calls race ethnicity; its files may be plain CSV with upper-case headers."""
    options = Options(compat="medfuse", tasks=("mortality",))
    for path in mimic4demo.rglob("*.csv.gz"):
        table = pl.read_csv(path, infer_schema=False)
        table = table.rename({"race": "ethnicity"}, strict=False).rename(str.upper)
        folder = tmp_path / "raw" / ("core" if path.name.startswith(("patients", "admissions")) else path.parent.name)
        folder.mkdir(parents=True, exist_ok=True)
        table.write_csv(folder / path.name.removesuffix(".gz"))
    old, new = build_cohort(tmp_path / "raw", tmp_path / "old", options), build_cohort(mimic4demo, tmp_path / "new", options)
    assert (old.meta["source"]["version"], new.meta["source"]["version"]) == ("1.0", "2.2")
    assert _same(old, new) == []
    rows = new.table("events.parquet")  # figures of the peer's own run on these tables
    assert (rows.height, rows.filter(pl.col("hours") < 0).height, rows["stay_id"].n_unique()) == (18_281, 514, 112)
    assert rows["Height"].cast(pl.Float64).min() == 61.0
    assert rows["Capillary refill rate"].null_count() == rows["Glascow coma scale total"].null_count() == rows.height


def test_a_shortened_table_of_a_full_release_is_named(tmp_path):
    (dataset, stays), (_, totals) = next(iter(KNOWN_ROWS.items()))
    source = detect(_with_one_value().write(tmp_path))
    assert source.dataset == dataset
    warnings = truncation_warnings(source, {"icustays": stays, **totals, "chartevents": totals["chartevents"] - 1})
    assert len(warnings) == 1 and warnings[0].startswith("CHARTEVENTS.csv has ")
    assert (
        truncation_warnings(source, {"icustays": stays, **totals}) == truncation_warnings(source, {"icustays": 136, "chartevents": 1}) == []
    )


def test_a_plan_tells_tables_and_bytes(mimic3demo, tmp_path):
    told = plan(mimic3demo, Options())
    rows = {Path(table["name"]).name: table["rows"] for table in told["tables"]}
    assert rows["ICUSTAYS.csv.gz"] == 136
    assert rows["CHARTEVENTS.csv.gz"] == pytest.approx(758_355, rel=0.2)
    made = build_cohort(mimic3demo, tmp_path / "cohort", Options())
    written = sum(file["bytes"] for file in made.files.values())
    assert written < told["output_bytes"] < 5 * written
    assert json.dumps(told)


@pytest.mark.parametrize(
    "compat, hours, full, unfinished, rows",
    [
        (True, 48.0, 24, False, 24),
        (True, 5.0, 2, True, 3),
        (True, 4.0000001, 2, False, 2),
        (False, 48.0, 24, False, 24),
        (False, 5.0, 2, True, 3),
        (False, 4 + 1 / 3600, 2, True, 3),
        (False, 0.0, 0, False, 0),
    ],
)
def test_grid(compat, hours, full, unfinished, rows):
    grid = Grid(2.0, compat=compat)
    assert [part[0] for part in grid.cut(np.array([hours]))] == [full, unfinished]
    assert grid.rows(np.array([hours, np.nan])).tolist() == [rows, 0]


@pytest.mark.parametrize(
    "compat, hours, bin_",
    [
        (True, 2.0, 0),
        (True, 2.001, 1),
        (True, -5e-7, 0),
        (True, -2e-6, -1),
        (True, 48.0, 23),
        (True, 48.01, -2),
        (False, 2.0, 1),
        (False, 1.9999, 0),
        (False, -1e-6, -1),
        (False, 48.0, -2),
    ],
)
def test_bins_of_the_grid(compat, hours, bin_):
    since = np.array([round(hours * 3.6e9)]) if abs(hours) < 1e-3 else to_us(np.array([hours]))
    assert Grid(2.0, compat=compat).bins(since, np.array([48.0])).tolist() == [bin_]
