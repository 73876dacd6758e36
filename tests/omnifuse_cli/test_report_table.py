"""Somebody's own tables through the whole line, as typed: preprocess table, extract, train, eval, report."""

import csv
import io
import re

import pytest
from command_line import run
from table_study import people

from omnifuse.main import main
from omnifuse.preprocess import store

MANIFEST = """table: people.csv
patient: pid
sample: [pid, visit]
task: outcome
label: {column: y}
describe: [age, ward]
tables:
  labs:
    file: labs.csv
    patient: pid
modalities:
  labs:
    kind: columns
    table: labs
    numeric: [crp]
  basics:
    kind: columns
    numeric: [age]
"""
COUNT, WITHOUT_AGE, WITHOUT_LABS = 60, 7, 15


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    columns = {"visit": lambda n: 1, "age": lambda n: "" if n < WITHOUT_AGE else 30 + n % 7, "ward": lambda n: f"ward {n % 3}"}
    (folder / "people.csv").write_text(people(COUNT, **columns))
    rows = [f"p{n:03d},{2 + n % 5 + n % 2}" for n in range(COUNT) if n % 4]
    (folder / "labs.csv").write_text("pid,crp\n" + "\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(MANIFEST)
    quick = ["--set", "train.epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        main(["init", str(folder / "work")])
        patch.chdir(folder / "work")
        main(["preprocess", "table", "--manifest", "../study.yaml"])
        main(["extract"])
        main(["train", "--method", "unimodal", "--modality", "labs", *quick])
        main(["train", "--method", "concat", *quick])
        main(["eval", "--resamples", "100"])
    return folder / "work"


def test_the_page_counts_what_the_tables_hold(study, monkeypatch, capsys):
    monkeypatch.chdir(study)
    code, _, err = run(capsys, "report")
    assert code == 0, err
    page = (study / "reports/study/outcome/report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert f"{COUNT} patients with {COUNT} samples." in text and "ICU" not in text
    assert f"unknown {WITHOUT_AGE} (11.7%)" in text and "ward 2 20 (33.3%)" in text
    assert f"labs {COUNT - WITHOUT_LABS} (75.0%) 30 (100.0%) 15 (50.0%)" in text
    assert "From all samples to the ones used" in text and "in the main table" in text
    assert f"crp labs {COUNT - WITHOUT_LABS} {COUNT - WITHOUT_LABS} 0 0 0 0" in text
    assert not re.search(r"p0\d\d", text), "an id of a patient"


def test_small_cells_of_a_copy_to_share(study, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(study)
    code, _, err = run(capsys, "report", "--min-cell", "11", "--out", tmp_path / "share")
    assert code == 0, err
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (tmp_path / "share/report.html").read_text()))
    assert f"{WITHOUT_AGE} (11.7%)" not in text and "under 11" in text
    for row in csv.DictReader(io.StringIO((tmp_path / "share/metrics.csv").read_text())):
        assert row["positives"] in ("", "0") or int(row["positives"]) >= 11


def test_a_leak_is_marked_in_what_is_printed(study, monkeypatch, capsys):
    """The cohort says that one of its modalities leaks, as preprocess mimic --allow-leak would."""
    monkeypatch.chdir(study)
    manifest = study / "cohorts/study/manifest.json"
    before = manifest.read_bytes()
    cohort = store.open(manifest.parent, "cohort")
    cohort.meta["tasks"]["outcome"]["leaks"] = {"labs": "measured when all was over"}
    store.finish(manifest.parent, "cohort", fingerprint=cohort.fingerprint, meta=cohort.meta)
    try:
        code, out, err = run(capsys, "eval", "--resamples", "100", "--out", study / "reports/marked")
        assert code == 0, err
        assert "labs†leak+basics" in out and "†leak labs: measured when all was over" in out
        code, _, err = run(capsys, "train", "--method", "unimodal", "--modality", "labs", "--set", "train.epochs=1")
        assert code == 0 and err.count("measured when all was over") == 1 and "†leak" in err
        code, _, err = run(capsys, "train", "--method", "unimodal", "--modality", "basics", "--set", "train.epochs=1", "--fold", "0")
        assert code == 0 and "leak" not in err
    finally:
        manifest.write_bytes(before)
