"""Any cells in any column: a cohort whose counts add up, or one of our own errors without a cell in it; never anything else."""

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from table_study import Study

from omnifuse.preprocess.schema import OmnifuseError

CELL = st.one_of(
    st.sampled_from(["", " ", "0", "1", "1.0", "inf", "-inf", "nan", "1e400", "1,5", "10 or more", "Unclear", "2150-01-01", "p1", "a.txt",
                     "../a.txt", "x\ny", '"', "9" * 40, "-0", "٣", "\u202e", "=cmd|", "24:00", "2150-02-30", "1e308", "hr", "row"]),
    st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12),
)  # fmt: skip
PEOPLE, CHARTS = ["pid", "visit", "y", "x", "sex", "day", "file", "note"], ["pid", "day", "what", "value"]
MANIFEST = """table: people.csv
patient: pid
sample: [pid, visit]
task: outcome
label: {column: y, several: greatest}
time: {unit: days, prediction: day}
tables: {charts: {file: charts.csv, patient: pid}}
modalities:
  m: {kind: columns, numeric: [x], categorical: [sex], min_patients: 1, order: day}
  s: {kind: series, table: charts, time: day, variable: what, value: value, to_hours: 2000,
      numeric: [hr, "1"], categorical: {p1: [p2, "0"]}}
  f: {kind: image, path: file, order: day}
  n: {kind: text, column: note, take: first}
"""


def text(header, rows) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def rows(*likely):
    """Rows whose cells are likely ones of their column, or anything."""
    return st.lists(st.tuples(*(st.sampled_from(texts.split("|")) | CELL for texts in likely)).map(list), max_size=12)


PATIENTS, DAYS = "p1|p2|p3", "0|1|3.5|-1|9"
SOUND = [["p1", "0", "1", "3", "F", "4", "a.txt", "well"], ["p2", "0", "0", "4", "M", "5", "a.txt", "ill"]]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows(PATIENTS, "0|1", "0|1", "3|4.5", "F|M", DAYS, "a.txt|b.txt", "well|ill"),
    rows(PATIENTS, DAYS, "hr|1|p1", "70|80|p2|0"),
)
def test_any_cells(people, charts):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.txt").touch()
        study = Study(Path(folder))
        tables = {"people_csv": text(PEOPLE, SOUND + people), "charts_csv": text(CHARTS, [["p1", "1", "hr", "70"], *charts])}
        try:
            cohort = study.build(MANIFEST, **tables)
        except OmnifuseError as error:
            assert "\n" not in str(error) and all(cell not in str(error) for row in people for cell in row if len(cell) > 8)
            return
        audit = cohort.json("audit.json")
        for row in audit["rows"]:
            assert row["in"] == row["used"] + sum(row["dropped"].values())
        for row in audit["columns"]:
            reasons = ("present", "missing", "not_a_number", "infinite", "unknown_category")
            assert row.get("cells", 0) == sum(row.get(reason, 0) for reason in reasons)
        samples = cohort.table("samples/outcome.parquet")
        assert samples["sample_id"].is_unique().all() and (samples["y"].list.len() == 1).all()
        assert not np.isinf(cohort.array("m.npy")).any() and not np.isinf(cohort.array("s.npy")).any()
        assert np.isfinite(cohort.array("m.npy")[:, 1:]).all()
