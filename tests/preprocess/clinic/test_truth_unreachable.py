"""Preprocessing never meets the truth: it opens nothing of it, holds nothing of it, and does the same where it is gone."""

import contextlib
import ctypes
import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command_line import run

from omnifuse.main import main

TOKEN = "Qx7TruthCanary7xQ"
TRUTHS = ("raw-truth", "raw-lung-truth")
TASKS = ("mortality", "phenotyping", "los", "los_remaining", "radiology")
COMMANDS = {
    "mimic": ["--ehr", "raw", "--cxr", "raw/cxr", "--notes", "raw/note", "--signals", "raw/ecg", "--allow-leak"],
    "lung": ["--manifest", "raw-lung/manifest.csv", "--size", "32", "--slices", "4"],
}
COMMANDS["mimic"] += [part for task in TASKS for part in ("--task", task)]
LINUX = sys.platform.startswith("linux")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with the raw files of both settings, and a token in every file of their truths."""
    study = tmp_path_factory.mktemp("canary") / "study"
    with pytest.MonkeyPatch.context() as patch:
        main(["init", str(study)])
        patch.chdir(study)
        main(["demo", "--raw", "raw", "--patients", "30", "--seed", "1"])
        main(["demo", "--setting", "subtyping", "--raw", "raw-lung", "--patients", "20", "--seed", "1"])
    for name in TRUTHS:
        plant(study / name)
    return study


@pytest.fixture
def study(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def plant(truth: Path) -> None:
    for path in [path for path in truth.rglob("*") if path.is_file()]:
        if path.suffix == ".parquet":
            pl.read_parquet(path).with_columns(canary=pl.lit(TOKEN)).write_parquet(path)
        elif path.suffix == ".csv":
            pl.read_csv(path).with_columns(canary=pl.lit(TOKEN)).write_csv(path)
        else:
            path.write_text(json.dumps({**json.loads(path.read_text()), "canary": TOKEN}))


def holders(folder: Path) -> set[str]:
    """Names of the files that hold the token, compressed or not."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in content(path)}


def content(path: Path) -> bytes:
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        return path.read_bytes() + "\n".join(frame.columns).encode() + frame.write_ndjson().encode()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def hashes(cohort: Path) -> dict[str, str]:
    return {name: told["sha256"] for name, told in json.loads((cohort / "manifest.json").read_text())["files"].items()}


class Hook:
    """What Python opens or lists below some folders. An audit hook stays for good: it sleeps while no folder is told."""

    def __init__(self):
        self.folders: list[str] = []
        self.found: set[str] = set()
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.folders or event not in ("open", "os.listdir", "os.scandir") or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        self.found.update(path for folder in self.folders if Path(path).is_relative_to(folder))

    @contextlib.contextmanager
    def watch(self, folders: list[Path]):
        self.folders, self.found = [os.path.realpath(folder) for folder in folders], set()
        try:
            yield self.found
        finally:
            self.folders = []


@contextlib.contextmanager
def inotify(folders: list[Path]):
    """What anyone opens or lists below some folders: polars, which no audit hook sees, and other processes too."""
    found: set[str] = set()
    libc = ctypes.CDLL(None, use_errno=True)
    handle, opened = libc.inotify_init1(os.O_NONBLOCK), 0x20
    places = [place for folder in folders for place in (folder, *folder.rglob("*")) if place.is_dir()]
    watched = {libc.inotify_add_watch(handle, os.fsencode(place), opened): place.resolve() for place in places}
    assert handle >= 0 and min(watched) >= 0, os.strerror(ctypes.get_errno())
    try:
        yield found
        with contextlib.suppress(BlockingIOError):
            while data := os.read(handle, 1 << 16):
                while data:
                    watch, _, _, length = struct.unpack_from("iIII", data)
                    found.add(str(watched[watch] / os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))))
                    data = data[16 + length :]
    finally:
        os.close(handle)


@pytest.fixture(scope="module")
def hook():
    return Hook()


@pytest.fixture
def opened(study, hook):
    """Runs something; returns what of the truths was opened meanwhile, as the hook and as the system (on Linux) see it."""

    def look(action) -> tuple[set[str], set[str]]:
        folders = [study / name for name in TRUTHS]
        with inotify(folders) if LINUX else contextlib.nullcontext(set()) as system, hook.watch(folders) as python:
            action()
        return tuple({Path(path).relative_to(study.resolve()).as_posix() for path in seen} for seen in (python, system))

    return look


@pytest.mark.parametrize("setting", COMMANDS)
def test_preprocessing_opens_nothing_of_the_truth_and_holds_nothing_of_it(study, opened, capsys, setting):
    told = []
    command = ("preprocess", setting, *COMMANDS[setting], "--out", f"cohorts/{setting}")
    seen = opened(lambda: told.extend([run(capsys, *command, "--dry-run"), run(capsys, *command)]))
    assert [code for code, _, _ in told] == [0, 0], told
    assert seen == (set(), set()), "preprocessing opened the truth"
    assert len(hashes(study / "cohorts" / setting)) > 5 and holders(study / "cohorts" / setting) == set()
    assert not any(TOKEN in out + err for _, out, err in told)


@pytest.mark.parametrize("setting", COMMANDS)
def test_a_cohort_is_the_same_where_the_truth_is_gone(study, tmp_path, capsys, setting):
    for out in ("with", "without"):
        away = [study / name for name in TRUTHS if out == "without"]
        try:
            for truth in away:
                truth.rename(tmp_path / truth.name)
            code, _, err = run(capsys, "preprocess", setting, *COMMANDS[setting], "--out", f"{out}/{setting}")
        finally:
            for truth in away:
                (tmp_path / truth.name).rename(truth)
        assert code == 0, err
    assert hashes(study / "with" / setting) == hashes(study / "without" / setting)


def child(path):
    subprocess.run([sys.executable, "-c", "import sys; open(sys.argv[1])", path], check=True)


@pytest.mark.parametrize(
    "way, python",
    [(Path.read_bytes, True), (lambda path: os.close(os.open(path, os.O_RDONLY)), True), (pl.read_parquet, False), (child, False)],
    ids=["open", "os.open", "polars", "child"],
)
def test_the_watch_sees_a_file_of_the_truth_being_opened(opened, way, python):
    name = "raw-truth/severity/00000.parquet"
    seen = opened(lambda: way(Path(name)))
    assert name in seen[1] or not LINUX
    assert (name in seen[0]) >= python
    assert opened(lambda: None) == (set(), set())


def test_the_watch_sees_the_truth_being_listed(opened):
    seen = opened(lambda: list(Path("raw-truth/severity").iterdir()))
    assert seen[0] == {"raw-truth/severity"} and (seen[1] == seen[0] or not LINUX)


@pytest.mark.parametrize(
    "setting, arguments, code, name",
    [
        ("mimic", ("--splits", "raw-truth/heldout.csv"), 0, "raw-truth/heldout.csv"),
        ("mimic", ("--ehr", "raw-truth"), 3, "raw-truth"),
        ("lung", ("--manifest", "raw-lung-truth/lesions.parquet"), 3, "raw-lung-truth/lesions.parquet"),
    ],
)
def test_the_watch_sees_preprocessing_that_is_told_to_read_the_truth(opened, capsys, tmp_path, setting, arguments, code, name):
    left = []
    command = ("preprocess", setting, *COMMANDS[setting], *arguments, "--out", tmp_path / "cohort")
    seen = opened(lambda: left.append(run(capsys, *command)))
    assert left[0][0] == code, left
    assert name in seen[0] | seen[1]


def test_the_token_is_in_every_file_of_the_truth_and_found_in_every_kind_of_file(study, tmp_path):
    for name in TRUTHS:
        assert holders(study / name) == {path.relative_to(study / name).as_posix() for path in (study / name).rglob("*.*")}
    frame = pl.DataFrame({"row": range(1000), "told": [[TOKEN]] * 1000})
    (tmp_path / "deep").mkdir()
    frame.write_parquet(tmp_path / "deep/packed.parquet", compression="zstd", statistics=False)
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(TOKEN.encode()))
    (tmp_path / "manifest.json").write_text(json.dumps({"files": [TOKEN]}))
    (tmp_path / "other.json").write_text("{}")
    assert holders(tmp_path) == {"deep/packed.parquet", "table.csv.gz", "manifest.json"}
