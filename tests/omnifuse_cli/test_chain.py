"""The whole line in a workspace, as a user types it: raw tables to a report, and what every command refuses."""

import json
import re
from pathlib import Path

import numpy
import pytest
import raw_mimic4
from command_line import run

from omnifuse.main import main

QUICK = ["--set", "train.epochs=2", "--set", "encoder.ehr.hidden=8", "--set", "encoder.ehr.dim=8"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A workspace in which everything up to the report was run by its short form."""
    folder = tmp_path_factory.mktemp("chain")
    raw_mimic4.write(folder / "raw", raw_mimic4.tables(patients=90))
    with pytest.MonkeyPatch.context() as patch:
        main(["init", str(folder / "study"), "--ehr", str(folder / "raw")])
        patch.chdir(folder / "study")
        main(["preprocess", "mimic"])
        main(["extract"])
        main(["train", "--task", "mortality", "--method", "concat", *QUICK])
        main(["eval", "--task", "mortality", "--resamples", "200"])
        main(["report", "--task", "mortality"])
    return folder / "study"


@pytest.fixture
def inside(study, monkeypatch):
    monkeypatch.chdir(study)
    return study


def test_every_artefact_is_there_and_whole(inside):
    from omnifuse.preprocess import store

    for kind, pattern in (("cohort", "cohorts/*"), ("features", "features/*/*"), ("run", "runs/*/*/*/*/fold*"), ("report", "reports/*/*")):
        folders = list(inside.glob(pattern))
        assert folders, kind
        for folder in folders:
            store.open(folder, kind).verify()
    assert len(list(inside.glob("runs/mimic/mortality/concat-ehr/*/fold*"))) == 5
    assert not [path for path in inside.rglob("*") if path.name.endswith((".tmp", ".building", ".lock", ".replaced"))]


def test_the_report_says_what_was_found(inside):
    page = (inside / "reports/mimic/mortality/report.html").read_text()
    metrics = json.loads((inside / "reports/mimic/mortality/metrics.json").read_text())
    auroc = metrics["models"][0]["mean"][0]["metrics"]["auroc"]["value"]
    assert f"{auroc:.3f}" in page
    assert {model["name"] for model in metrics["models"]} == {"concat (ehr)", "unimodal (ehr)"}
    assert "in the unit at 48 h" in page
    assert "phenotyping: " not in page, "steps of another task"


def test_nothing_outside_of_the_data_holds_a_patient(inside, capsys):
    """Identifiers, dates and texts stand in cohort, features and predictions, and nowhere else."""
    run(capsys, "eval", "--task", "mortality", "--resamples", "200")
    files = [path for folder in ("runs", "reports") for path in (inside / folder).rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in ("full.parquet",)]
    assert any("tfevents" in path.name for path in files)
    ids = {row[column] for row in raw_mimic4.tables(patients=90)["icu/icustays"] for column in range(3)}
    for path in files:
        content = path.read_bytes()
        assert raw_mimic4.CANARY.encode() not in content, path
        assert not re.search(rb"\b21[45]\d-\d\d-\d\d", content), path
        assert not [identifier for identifier in ids if re.search(rb"(?<!\d)%s(?!\d)" % identifier.encode(), content)], path


def test_a_second_call_does_nothing(inside, capsys):
    before = {path: path.stat().st_mtime_ns for path in inside.rglob("manifest.json")}
    for command in (
        ["preprocess", "mimic"],
        ["extract"],
        ["train", "--task", "mortality", "--method", "concat", *QUICK],
        ["report", "--task", "mortality"],
    ):
        assert run(capsys, *command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in inside.rglob("manifest.json") if path in before} == before


@pytest.mark.parametrize(
    "command",
    [
        ["preprocess", "mimic", "--out", "elsewhere"],
        ["extract", "--out", "elsewhere"],
        ["train", "--task", "mortality", "--out", "elsewhere"],
        ["eval", "--task", "mortality", "--out", "elsewhere"],
        ["report", "--task", "mortality", "--out", "elsewhere"],
        ["export", "--task", "mortality", "--out", "elsewhere.npz"],
        ["demo", "elsewhere"],
        ["init", "elsewhere"],
    ],
    ids=lambda command: command[0],
)
def test_a_dry_run_writes_nothing(inside, capsys, command):
    before = sorted(inside.rglob("*"))
    code, out, err = run(capsys, *command, "--dry-run")
    assert (code, "would" in out) == (0, True), err
    assert sorted(inside.rglob("*")) == before


@pytest.mark.parametrize(
    "command, code, says",
    [
        (["train", "--task", "mortalty"], 2, "did you mean mortality"),
        (["train"], 2, "which task.*mortality"),
        (["train", "--task", "mortality", "--method", "concatt"], 2, "did you mean concat"),
        (["train", "--task", "mortality", "--linear-head"], 2, "--linear-head belongs to --method unimodal, not to omnifuse"),
        (["train", "--task", "mortality", "--modalities", "cxr"], 2, "no modality 'cxr'"),
        (["train", "--task", "mortality", "--encoder", "ehr=lstmm"], 2, "did you mean lstm"),
        (["train", "--task", "mortality", "--fold", "7"], 2, "no fold '7'"),
        (["train", "--task", "mortality", "--set", "train.lrr=1"], 2, "did you mean train.lr"),
        (["train", "--task", "mortality", "--set", "train.lr=fast"], 2, "train.lr must be a number"),
        (["train", "--task", "mortality", "--cohort", "nobody"], 4, "nobody: is no cohort"),
        (["eval", "--task", "phenotyping"], 4, "no finished run.*omnifuse train"),
        (["eval", "--task", "mortality", "--runs", "cohorts"], 2, "is no run"),
        (["export", "--task", "mortality", "--out", "x.npz", "--fold", "9"], 2, "no fold 9"),
        (["preprocess", "mimic", "--step-hours", "0"], 2, "step-hours"),
        (["preprocess", "mimic", "--compat", "mimic3-benchmarks", "--out", "x"], 2, "works on mimic-iii"),
        (["preprocess", "lungs"], 2, "lung"),
        (["list", "metods"], 2, "methods"),
        (["frobnicate"], 2, "no command"),
    ],
)
def test_what_is_wrong_is_one_line(inside, capsys, command, code, says):
    left, _, err = run(capsys, *command)
    assert (left, err.count("\n")) == (code, 1), err
    assert re.search(says, err), err


def test_json_is_one_value(inside, capsys):
    for command in (["list", "methods"], ["list", "tasks"], ["list", "runs"], ["extract"], ["report", "--task", "mortality"], ["config"]):
        code, out, err = run(capsys, *command, "--json")
        assert code == 0, err
        json.loads(out)


def test_export_writes_what_it_says(inside, tmp_path, capsys):
    assert run(capsys, "export", "--task", "mortality", "--out", tmp_path / "m.npz")[0] == 0
    with numpy.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        assert arrays["X"].shape == (90, 24, 76)
        assert {"length", "y", "sample_id", "patient_id", "stay_id", "part", "fold", "header"} <= set(arrays.files)
        assert int(arrays["y"].sum()) == 30
    assert run(capsys, "export", "--what", "events", "--out", tmp_path / "e.csv.gz")[0] == 0
    assert run(capsys, "export", "--format", "mimic3-benchmarks", "--out", tmp_path / "layout")[0] == 0
    assert (tmp_path / "layout/in-hospital-mortality/train_listfile.csv").is_file()


def test_an_altered_cohort_is_refused(inside, capsys, tmp_path):
    import shutil

    shutil.copytree(inside / "cohorts/mimic", tmp_path / "cohort")
    path = tmp_path / "cohort/ehr.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, _, err = run(capsys, "export", tmp_path / "cohort", "--task", "mortality", "--out", tmp_path / "x.npz")
    assert (code, err.count("\n")) == (4, 1)
    assert "ehr.npy: is missing or was altered" in err


def test_the_command_pages_are_the_real_help():
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "docs/make_cli.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


def test_every_command_shows_an_example_and_the_common_options(capsys):
    from omnifuse.main import COMMANDS

    for command in [*([name] for name in COMMANDS if name != "preprocess"), ["preprocess", "mimic"]]:
        code, out, _ = run(capsys, *command, "--help")
        assert code == 0
        assert "Example:" in out, command
        assert all(option in out for option in ("--json", "--dry-run", "--seed", "--set")), command
