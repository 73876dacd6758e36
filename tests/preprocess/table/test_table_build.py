"""From a description to a cohort: who is a sample, how patients are split, what is warned of, what the manifest says."""

import numpy as np
import polars as pl
import pytest
from table_study import HEAD, people

from omnifuse.preprocess.schema import ConfigError, InputError

COLUMNS = "modalities: {m: {kind: columns, numeric: [x]}}\n"
RANDOM = np.random.default_rng(0).normal(size=400)


def table(count: int = 100, **columns) -> str:
    return people(count, x=lambda n: f"{RANDOM[n]:.3f}", **columns)


def warnings(cohort) -> str:
    return "\n".join(cohort.json("audit.json")["warnings"])


def test_what_the_manifest_says(study):
    text = table(age=lambda n: "" if n == 3 else 30 + n, sex=lambda n: "FM"[n // 2 % 2], site=lambda n: f"s{n % 4}")
    cohort = study.build(HEAD + "describe: [age, sex]\ngroup: site\n" + COLUMNS, people_csv=text)
    meta = cohort.meta
    assert meta["tasks"] == {"outcome": {"kind": "binary", "labels": ["outcome"], "samples": 100}}
    assert meta["modalities"] == {"m": {"kind": "vector", "columns": ["x", "mask->x"], "continuous": [0], "gaps": True}}
    assert (meta["source"]["dataset"], meta["source"]["tables"]["people.csv"]["rows"]) == ("table", 100)
    assert (meta["describe"], meta["group"]) == ({"age": "number", "sex": "category"}, "site")
    samples = cohort.table("samples/outcome.parquet")
    assert samples.columns == ["sample_id", "patient_id", "y", "group", "age", "sex", "m_start", "m_length"]
    assert samples.schema["age"] == pl.Float64 and samples["age"][3] is None and samples["group"][5] == "s1"
    assert cohort.json("audit.json")["labels"] == [{"task": "outcome", "label": "outcome", "n": 100, "positive": 50}]


def test_latest_groups_are_the_test_part(study):
    head = HEAD + "group: year\nsplits: {kind: temporal}\n"
    cohort = study.build(head + COLUMNS, people_csv=table(year=lambda n: 2010 + n // 10))
    parts = cohort.table("parts.parquet").filter(part="test")["patient_id"]
    assert set(parts) == {f"p{n:03d}" for n in range(80, 100)} and cohort.meta["splits"]["test_groups"] == ["2018", "2019"]


def test_a_frozen_list_decides(study):
    lists = "patient_id,part\n" + "".join(f"p{n:03d},{'test' if n < 30 else 'train'}\n" for n in range(90))
    head = HEAD + "splits: {file: parts.csv, new: train}\n"
    cohort = study.build(head + COLUMNS, people_csv=table(), parts_csv=lists)
    assert set(cohort.table("parts.parquet").filter(part="test")["patient_id"]) == {f"p{n:03d}" for n in range(30)}
    assert "10 patients (10.0%) are in no split list: train" in warnings(cohort)
    with pytest.raises(InputError, match="10 of 100 patients"):
        study.build(HEAD + "splits: {file: parts.csv}\n" + COLUMNS, "other")


def test_leaks_are_warned_of_by_name(study):
    after = lambda n: "home" if n % 2 else "hospice"
    text = table(copy=lambda n: n % 2 + 0.1 * RANDOM[n], site=lambda n: f"s{n % 2}", discharge=after, filled=lambda n: "x" * (n % 2))
    body = "modalities: {m: {kind: columns, numeric: [x, copy], categorical: [discharge, filled]}}\n"
    told = warnings(study.build(HEAD + "group: site\n" + body, people_csv=text))
    for name in ("m: copy tells the label outcome", "group tells the label", "m: discharge tells the label", "whether m: filled is filled"):
        assert name in told
    assert "m: x " not in told and "hospice" not in told


def test_rows_that_are_alike_count_once(study):
    text = table(60)
    again = "\n".join(text.strip().split("\n")[1:11]) + "\n"
    cohort = study.build(HEAD + COLUMNS, people_csv=text + again)
    assert cohort.json("audit.json")["rows"][0] == {"table": "people.csv", "in": 70, "used": 60, "dropped": {"the same as another row": 10}}
    assert cohort.table("samples/outcome.parquet").height == 60


def test_rows_without_an_id_and_rows_to_keep_are_counted(study):
    text = table(60, view=lambda n: "PA" if n % 3 else "L") + ",1,0.5,PA\n  ,0,0.5,PA\n"
    cohort = study.build(HEAD + "keep: {view: [PA, AP]}\n" + COLUMNS, people_csv=text)
    row = cohort.json("audit.json")["rows"][0]
    assert row["dropped"] == {"view is none of the values kept": 20, "no patient id": 2}
    assert row["in"] == row["used"] + sum(row["dropped"].values()) == 62


def test_the_order_of_the_rows_changes_no_byte(study):
    text = table(80, sex=lambda n: "FM"[n % 2])
    lines = text.strip().split("\n")
    body = "modalities: {m: {kind: columns, numeric: [x], categorical: [sex]}}\n"
    first = study.build(HEAD + body, people_csv=text)
    again = study.build(HEAD + body, "again", people_csv="\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert first.array("m.npy").tobytes() == again.array("m.npy").tobytes()
    for name in ("samples/outcome.parquet", "parts.parquet"):
        assert first.table(name).equals(again.table(name))


def test_a_modality_that_nobody_has_is_still_a_cohort(study):
    cohort = study.build(HEAD + "modalities: {m: {kind: columns, numeric: [x]}, film: {kind: image, path: file}}\n",
                         people_csv=table(60, file=lambda n: "gone.png"))  # fmt: skip
    assert cohort.table("samples/outcome.parquet")["film_length"].sum() == 0
    assert cohort.table("items/film.parquet").columns == ["path"] and "60 no such file" in warnings(cohort)


def test_too_few_patients_are_a_cohort_that_is_not_trained_on(study):
    cohort = study.build(HEAD + COLUMNS, people_csv=table(4))
    assert "too few" in cohort.meta["splits"]["refused"]


def test_booleans_of_parquet_are_labels(study):
    frame = pl.DataFrame({"pid": range(60), "y": [n % 2 == 1 for n in range(60)], "x": RANDOM[:60]})
    frame.write_parquet(study.folder / "people.parquet")
    cohort = study.build(HEAD.replace("people.csv", "people.parquet") + COLUMNS)
    assert cohort.json("audit.json")["labels"][0]["positive"] == 30
    assert cohort.json("audit.json")["columns"][0]["present"] == 60


def test_what_has_no_time_is_said(study):
    head = HEAD + "time: {unit: days, prediction: day}\n"
    cohort = study.build(head + COLUMNS, people_csv=table(60, day=lambda n: 3))
    assert "m has no time: all of its rows count as known before the prediction" in warnings(cohort)
    assert cohort.table("samples/outcome.parquet")["prediction_hours"].unique().to_list() == [72.0]


def test_a_list_outside_of_the_root_is_refused(study):
    with pytest.raises(ConfigError, match="the path leaves the data folder"):
        study.build(HEAD + "splits: {file: ../parts.csv}\n" + COLUMNS, people_csv=table())


def test_of_several_predictions_and_origins_the_earliest_counts(study):
    text = "pid,y,x,start,end\n" + "".join(f"p{n},{n % 2},{day},{day},{day + 10}\n" for n in range(30) for day in (2, 0, 1))
    head = HEAD + "time: {unit: days, origin: start, prediction: end}\n"
    body = "modalities: {m: {kind: columns, numeric: [x], time: x, unit: days}}\n"
    cohort = study.build(head + body, people_csv=text)
    assert cohort.table("samples/outcome.parquet")["prediction_hours"].unique().to_list() == [240.0]
