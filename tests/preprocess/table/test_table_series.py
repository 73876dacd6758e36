"""Long tables to bins: borders, carrying forward, masks, windows that end before the prediction, and rows that cannot be used."""

import numpy as np
import pytest
from table_study import people

from omnifuse.preprocess.schema import InputError

PEOPLE = """pid,y,admitted,decided
a,1,2150-01-01 00:00:00,2150-01-01 05:00:00
b,0,2150-01-01 12:00:00,2150-01-02 00:00:00
c,1,2150-01-01,2150-01-03
"""
LONG = """who,at,what,value
a,2150-01-01 00:00:00,hr,80
a,2150-01-01 01:59:59,hr,90
a,2150-01-01 02:00:00,hr,100
a,2150-01-01 02:00:00,hr,101
a,2150-01-01 04:30:00,gcs,low
a,2150-01-01 05:00:00,hr,999
a,2149-12-31 23:59:59,hr,998
b,2150-01-01 12:00:00,temp,"37,5"
b,2150-01-01 12:00:00,hr,inf
b,2150-01-01 14:00:00,hr,70
b,yesterday,hr,71
b,,hr,72
c,2150-01-01 09:00:00,weight,70
c,2150-01-01 09:00:00,hr,high
nobody,2150-01-01,hr,1
,2150-01-01,hr,1
"""
MANIFEST = """table: people.csv
patient: pid
task: outcome
label: {column: y}
time: {origin: admitted, prediction: decided}
tables: {charts: {file: charts.csv, patient: who}}
modalities:
  vitals:
    {kind: series, table: charts, time: at, variable: what, value: value, step_hours: 2,
     numeric: [hr, temp], categorical: {gcs: [low, high]}}
"""


def series(cohort) -> dict[str, np.ndarray]:
    rows = np.array(cohort.array("vitals.npy"))
    samples = cohort.table("samples/outcome.parquet").select("sample_id", "vitals_start", "vitals_length")
    return {name: rows[start : start + length] for name, start, length in samples.iter_rows()}


def ledger(cohort) -> dict:
    return next(row for row in cohort.json("audit.json")["rows"] if "vitals" in row["table"])


def test_bins_by_hand(study):
    cohort = study.build(MANIFEST, people_csv=PEOPLE, charts_csv=LONG)
    about = cohort.meta["modalities"]["vitals"]
    assert about["columns"] == ["hr", "temp", "gcs->low", "gcs->high", "mask->hr", "mask->temp", "mask->gcs"]
    assert (about["kind"], about["continuous"], about["gaps"], about["step_hours"]) == ("series", [0, 1], True, 2)
    found = series(cohort)
    nan = np.nan
    expected = {
        "a": [[90, nan, 0, 0, 1, 0, 0], [101, nan, 0, 0, 1, 0, 0], [101, nan, 1, 0, 0, 0, 1]],  # the third bin is cut by the prediction
        "b": [[nan, nan, 0, 0, 0, 0, 0], *[[70, nan, 0, 0, float(k == 0), 0, 0] for k in range(5)]],
    }
    for name, rows in expected.items():
        np.testing.assert_array_equal(found[name], np.array(rows, np.float32))
    assert len(found["c"]) == 0  # its only number is a word


def test_every_row_and_cell_is_counted(study):
    cohort = study.build(MANIFEST, people_csv=PEOPLE, charts_csv=LONG)
    told = ledger(cohort)
    assert told["in"] == 16 and told["in"] == told["used"] + sum(told["dropped"].values())
    assert told["dropped"] == {
        "of no sample": 1, "no id": 1, "time unknown": 2, "before the series begins": 1, "not before the prediction": 1,
        "a variable that is not listed": 1,
    }  # fmt: skip
    hr, temp, _ = cohort.json("audit.json")["columns"]
    assert (hr["cells"], hr["present"], hr["infinite"], hr["not_a_number"], hr["several_values"]) == (7, 5, 1, 1, 1)
    assert (temp["cells"], temp["not_a_number"], temp["samples"]) == (1, 1, 0)


def test_the_order_of_the_rows_decides_nothing(study):
    first = series(study.build(MANIFEST, people_csv=PEOPLE, charts_csv=LONG))
    lines = LONG.strip().split("\n")
    again = series(study.build(MANIFEST, "again", people_csv=PEOPLE, charts_csv="\n".join([lines[0], *lines[:0:-1]]) + "\n"))
    for name, rows in first.items():
        np.testing.assert_array_equal(rows, again[name])


def test_wide_tables_and_windows_in_days(study):
    people = "pid,y\n" + "".join(f"p{n},{n % 2}\n" for n in range(4))
    wide = "pid,day,crp,wbc\np0,0,1,10\np0,1.5,2,\np0,-1,9,9\np1,10 or more,5,5\np2,3,7,-inf\np3,0.25,,\n"
    manifest = """table: people.csv
patient: pid
task: outcome
label: {column: y}
tables: {labs: {file: labs.csv, patient: pid}}
time: {unit: days}
modalities: {vitals: {kind: series, table: labs, time: day, numeric: [crp, wbc], step_hours: 24, from_hours: -24, to_hours: 72}}
"""
    cohort = study.build(manifest, people_csv=people, labs_csv=wide)
    found = series(cohort)
    np.testing.assert_array_equal(found["p0"][:, :2], [[9, 9], [1, 10], [2, 10]])
    np.testing.assert_array_equal(found["p0"][:, 2:], [[1, 1], [1, 1], [1, 0]])
    assert [len(found[name]) for name in ("p1", "p2", "p3")] == [0, 0, 0]
    assert ledger(cohort)["dropped"] == {"time unknown": 1, "behind the end of the series": 1}


def test_a_row_of_a_patient_belongs_to_each_of_the_samples(study):
    people = "pid,visit,y,admitted\na,1,0,2150-01-01\na,2,1,2150-01-02\n"
    manifest = MANIFEST.replace("patient: pid", "patient: pid\nsample: [pid, visit]").replace(", prediction: decided", "")
    charts = "who,at,what,value\na,2150-01-02 01:00:00,hr,80\n"
    cohort = study.build(manifest, people_csv=people, charts_csv=charts)
    found = series(cohort)
    assert (len(found["a/1"]), len(found["a/2"])) == (13, 1)  # 25 h and 1 h after each sample's own origin
    assert ledger(cohort)["in"] == 2


BAD = {
    "a bad cell": ("step_hours: 2", "step_hours: 2, on_bad_cell: error", r"charts.csv:10:value: is no finite number"),
    "too many bins": (", prediction: decided", "", r"vitals: a series has [\d,]+ bins"),
    "ids of another kind": ("patient: who", "patient: at", r"charts.csv: no row belongs to a sample"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name, study):
    before, after, says = BAD[name]
    assert before in MANIFEST
    charts = LONG + "a,2190-01-01,hr,1\n" if name == "too many bins" else LONG
    with pytest.raises(InputError, match=says) as caught:
        study.build(MANIFEST.replace(before, after), people_csv=PEOPLE, charts_csv=charts)
    assert "2190" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_sample_without_a_prediction_is_left_out(study):
    text = people(40, admitted=lambda n: "2150-01-01", decided=lambda n: ["2150-01-02", "", "soon"][n % 3])
    charts = "who,at,what,value\n" + "".join(f"p{n:03d},2150-01-01 01:00:00,hr,{n}\n" for n in range(40))
    cohort = study.build(MANIFEST, people_csv=text, charts_csv=charts)
    step = cohort.json("audit.json")["attrition"][2]
    assert (step["samples"], step["left_out"]) == (14, {"time of prediction unknown": 26})
    assert cohort.table("samples/outcome.parquet")["prediction_hours"].unique().to_list() == [24.0]
