"""omnifuse preprocess mimic with films, notes and signals, through the real command: what it prints and refuses."""

import json
import sys
from pathlib import Path

import pytest
from command_line import run

sys.path.insert(0, str(Path(__file__).parents[1] / "preprocess" / "mimic"))

CANARY = "Zq7CanaryZq7"


@pytest.fixture
def data(tmp_path, monkeypatch):
    from raw_cxr import Films
    from raw_mimic import Hospital, at
    from raw_notes import Notes
    from raw_signals import Ecgs

    hospital, films, notes, ecgs = Hospital(4), Films(), Notes(), Ecgs()
    for number in range(30):
        ids = hospital.stay(1 + number, subject=10_000_000 + number, hours=100, died=number % 3 == 0)
        hospital.chart(ids, 5, 220045, "80")
        films.film(ids["subject_id"], at(3), labels={"Edema": 1.0})
        films.film(ids["subject_id"], at(4), view="LATERAL", labels={"Edema": 1.0})
        notes.report(ids, at(3), at(6), text=f"FINDINGS: {CANARY}, seen.")
        notes.summary(ids, at(110), text=CANARY)
        ecgs.ecg(ids["subject_id"], at(5))
    films.film(19_000_000, at(3), labels={"Edema": 1.0})
    hospital.write(tmp_path / "raw"), films.write(tmp_path / "cxr"), notes.write(tmp_path / "notes"), ecgs.write(tmp_path / "ecg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("preprocess", "mimic", "--ehr", "raw", "--out", "c", "--task", "mortality")


def test_every_modality_is_linked_counted_and_shown(data, capsys):
    arguments = (*COMMAND, "--task", "radiology", "--cxr", "cxr", "--notes", "notes", "--signals", "ecg")
    code, out, err = run(capsys, *arguments)
    assert code == 0
    for told in ("pairing medfuse", "61 rows = 30 linked to stays + 31 left out", "view is not AP", "patients who train only", "radiology"):
        assert told in out
    assert "discharge notes are left out: a discharge note is written when the stay is over" in err
    assert "not synchronised" in err and CANARY not in out + err
    code, out, _ = run(capsys, *arguments, "--json")
    told = json.loads(out)
    assert told["meta"]["modalities"].keys() == {"ehr", "cxr", "rep", "sig"}
    assert told["audit"]["linked"]["rep"]["linked"] == 30


def test_a_dry_run_names_the_linked_tables_and_writes_nothing(data, capsys):
    code, out, err = run(capsys, *COMMAND, "--cxr", "cxr", "--notes", "notes", "--dry-run")
    assert code == 0 and "cxr/mimic-cxr-2.0.0-metadata.csv.gz" in out and "notes/radiology.csv.gz" in out
    assert "discharge notes are left out" in err and not (data / "c").exists()


def test_null_for_words_keeps_them_all(data, capsys):
    code, out, _ = run(capsys, *COMMAND, "--notes", "notes", "--set", "preprocess.words=null", "--json")
    assert code == 0 and json.loads(out)["meta"]["modalities"]["rep"]["words"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--notes", "notes", "--modality", "dn"], 2, "--allow-leak"),
        (["--modality", "cxr"], 2, "modality cxr needs --cxr DIR"),
        (["--task", "radiology"], 2, "the task radiology needs --cxr DIR"),
        (["--cxr", "nothing"], 3, "is no folder"),
        (["--cxr", "cxr", "--pairing", "lateral"], 2, "medfuse"),
        (["--notes", "notes", "--set", "preprocess.words=0"], 2, "words"),
        (["--notes", "notes", "--set", "preprocess.report_source=cloud"], 2, "report_source"),
    ],
)
def test_refusals_are_one_line(data, capsys, arguments, code, what):
    got, _, err = run(capsys, *COMMAND, *arguments)
    assert got == code and what in err and "Traceback" not in err and not (data / "c").exists()


def test_the_mark_of_a_leak_stands_in_the_manifest(data, capsys):
    code, out, err = run(capsys, *COMMAND, "--notes", "notes", "--allow-leak", "--json")
    assert code == 0
    assert json.loads(out)["meta"]["tasks"]["mortality"]["leaks"].keys() == {"dn"} and CANARY not in out + err


def test_the_workspace_tells_the_folders_that_no_flag_does(data, capsys):
    (data / "omnifuse.yaml").write_text("ehr: raw\ncxr: cxr\nnotes: nothing\nsignals: ecg\n")
    code, out, err = run(capsys, *COMMAND[:2], "--notes", data / "notes", "--task", "mortality", "--json")
    assert code == 0, err
    assert json.loads(out)["meta"]["modalities"].keys() == {"ehr", "cxr", "rep", "sig"}
    assert (data / "cohorts/mimic/manifest.json").is_file()
    code, _, err = run(capsys, *COMMAND[:2], "--task", "mortality", "--dry-run")
    assert code == 3 and "nothing: is no folder" in err, "the workspace's notes are read where no flag says otherwise"


def test_paths_of_the_workspace_are_relative_to_it(data, capsys, monkeypatch):
    (data / "omnifuse.yaml").write_text("ehr: raw\ncxr: cxr\n")
    (data / "below").mkdir()
    monkeypatch.chdir(data / "below")
    code, out, err = run(capsys, "preprocess", "mimic", "--task", "mortality", "--dry-run")
    assert code == 0 and "cxr/mimic-cxr-2.0.0-metadata.csv.gz" in out, err
