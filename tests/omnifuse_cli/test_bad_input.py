"""Broken tables through the real command: one line with file and row, the right exit code, no value of a patient, nothing half-written."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest
import raw_mimic4
from command_line import run

CHART, ICU, LABS = "icu/chartevents", "icu/icustays", "hosp/labevents"


@pytest.fixture(scope="module")
def rows():
    return raw_mimic4.tables(patients=12)


@pytest.fixture
def raw(tmp_path, rows):
    return raw_mimic4.write(tmp_path / "raw", rows)


def edit(raw: Path, name: str, change) -> Path:
    """Applies `change` to the bytes of a table's text and packs it again."""
    path = raw / f"{name}.csv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), mtime=0))
    return path


def line(number: int, change):
    """Changes one line of the file, counted from 1 with the header."""

    def apply(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        return b"\n".join(lines)

    return apply


def cell(column: int, value: bytes):
    def apply(row: bytes) -> bytes:
        fields = row.split(b",")
        fields[column] = value
        return b",".join(fields)

    return apply


def repack(change):
    """Applies `change` to the compressed bytes of chartevents."""

    def apply(raw: Path) -> None:
        path = raw / f"{CHART}.csv.gz"
        path.write_bytes(change(path.read_bytes()))

    return apply


def text(name: str, change):
    return lambda raw: edit(raw, name, change)


def flip_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


# what breaks, how, the exit code, and what the one line must say
CASES = {
    "truncated gz": (repack(lambda content: content[: len(content) // 2]), 3, r"chartevents\.csv\.gz"),
    "wrong checksum": (repack(flip_checksum), 3, r"chartevents\.csv\.gz"),
    "no gzip": (repack(lambda content: b"subject_id,hadm_id\n1,2\n"), 3, r"chartevents\.csv\.gz"),
    "empty file": (repack(lambda content: b""), 3, r"chartevents\.csv\.gz"),
    "open quote": (text(CHART, line(50, cell(7, b'"97'))), 3, r"chartevents\.csv\.gz:50"),
    "short row": (text(CHART, line(200, lambda row: row.rsplit(b",", 2)[0])), 3, r"chartevents\.csv\.gz:200.*9 fields instead of 11"),
    "long row": (text(CHART, line(200, lambda row: row + b",1")), 3, r"chartevents\.csv\.gz:200.*12 fields instead of 11"),
    "cut in the middle": (text(CHART, lambda content: content[: len(content) // 2]), 3, r"chartevents\.csv\.gz:\d+.*fields instead of 11"),
    "missing column": (text(CHART, line(1, lambda row: row.replace(b"itemid", b"thing"))), 3, r"chartevents\.csv\.gz.*itemid"),
    "renamed column": (text(ICU, line(1, lambda row: row.replace(b"stay_id", b"stayid"))), 3, r"icustays\.csv\.gz.*stay_id"),
    "column twice": (text(ICU, line(1, lambda row: row.replace(b"los", b"intime"))), 3, r"icustays\.csv\.gz.*intime"),
    "text in a number": (text(CHART, line(77, cell(6, b"abc"))), 3, r"chartevents\.csv\.gz:77.*itemid"),
    "text in a time": (text(CHART, line(77, cell(4, b"yesterday"))), 3, r"chartevents\.csv\.gz:77.*charttime"),
    "mixed encodings": (text(CHART, line(77, cell(9, "°F".encode("latin-1")))), 3, r"chartevents\.csv\.gz:77.*UTF-8"),
    "a stay twice": (text(ICU, lambda content: content + content.split(b"\n")[1] + b"\n"), 3, r"icustays\.csv\.gz.*1 "),
    "empty cohort": (text(ICU, lambda content: content.split(b"\n")[0] + b"\n"), 3, r"icustays|0 samples|no stay"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_table_is_one_line(name, raw, tmp_path, capsys):
    harm, code, says = CASES[name]
    harm(raw)
    left, out, err = run(capsys, "preprocess", "mimic", "--ehr", raw, "--out", tmp_path / "cohort", "--task", "mortality")
    lines = [line for line in err.splitlines() if line.startswith("omnifuse: error: ")]
    assert (left, len(lines), err.count("\n")) == (code, 1, 1), err
    assert re.search(says, lines[0]), lines[0]
    assert raw_mimic4.CANARY not in out + err
    assert not re.search(r"\b[123]\d{7}\b|2150|abc|yesterday", err.replace(str(raw), "")), "a value of a patient"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"], "something half-written"


def test_a_missing_table_names_the_task_that_needs_it(raw, tmp_path, capsys):
    (raw / "icu/chartevents.csv.gz").unlink()
    code, _, err = run(capsys, "preprocess", "mimic", "--ehr", raw, "--out", tmp_path / "cohort")
    assert (code, err.count("\n")) == (3, 1)
    assert "chartevents" in err.lower()


def test_a_folder_that_holds_no_mimic(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "none"):
        code, _, err = run(capsys, "preprocess", "mimic", "--ehr", tmp_path / folder, "--out", tmp_path / "cohort")
        assert (code, err.count("\n")) == (3, 1), err


def test_bad_rows_can_be_counted_instead(raw, tmp_path, capsys):
    edit(raw, CHART, lambda content: line(77, cell(6, b"abc"))(line(200, lambda row: row.rsplit(b",", 2)[0])(content)))
    command = ["preprocess", "mimic", "--ehr", raw, "--task", "mortality", "--on-bad-row", "skip"]
    code, _, err = run(capsys, *command, "--out", tmp_path / "one", "--max-bad", "1")
    assert code == 3, err
    code, out, err = run(capsys, *command, "--out", tmp_path / "two", "--max-bad", "2", "--json")
    assert code == 0, err
    import json

    audit = json.loads(out)["audit"]
    chart = next(table for table in audit["rows"] if table["table"] == "chartevents")
    assert chart["in"] == chart["used"] + sum(chart["dropped"].values())
    assert 2 in chart["dropped"].values()


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from omnifuse.main import main
main(sys.argv[1:])
"""


def test_no_disk_space_is_one_line_and_leaves_nothing(raw, tmp_path):
    command = ["preprocess", "mimic", "--ehr", str(raw), "--out", str(tmp_path / "cohort")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "the disk is full" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_a_second_run_in_the_same_folder_waits_outside(raw, tmp_path, capsys):
    from omnifuse.preprocess import store

    with store.lock(tmp_path / "cohort"):
        done = subprocess.run(
            [sys.executable, "-m", "omnifuse", "preprocess", "mimic", "--ehr", str(raw), "--out", str(tmp_path / "cohort")],
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr.count("\n")) == (6, 1), done.stderr
    assert "is being written by another run" in done.stderr


def test_the_disk_is_asked_before_anything_is_written(raw, tmp_path, capsys, monkeypatch):
    from omnifuse.preprocess import store

    monkeypatch.setattr(store, "free_bytes", lambda path: 1_000_000)
    code, _, err = run(capsys, "preprocess", "mimic", "--ehr", raw, "--out", tmp_path / "cohort")
    assert (code, err.count("\n")) == (5, 1), err
    assert re.search(r"needs about 0\.\d\d GB, 0\.00 GB are free", err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
