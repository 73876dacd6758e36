"""The artefact store under faults: a reader sees a whole artefact or none, a writer fails with one line."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy
import polars
import pytest

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, LockedError, ResourceError


def make(path: Path, value: int = 1, fingerprint: str = "one") -> store.Artefact:
    with store.create(path, "cohort", fingerprint=fingerprint, meta={"value": value}) as out:
        store.write_parquet(out.path("tables/a.parquet"), polars.DataFrame({"x": [value]}))
        store.write_npy(out.path("b.npy"), numpy.full(5, value))
        out.scratch("work.bin").write_bytes(b"gone before the end")
    return store.open(path, "cohort")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_is_written_is_read(tmp_path):
    made = make(tmp_path / "c", 7)
    assert made.meta == {"value": 7}
    assert made.table("tables/a.parquet")["x"].to_list() == [7]
    assert made.array("b.npy").tolist() == [7] * 5
    assert sorted(made.files) == ["b.npy", "tables/a.parquet"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read(tmp_path, mask):
    before = os.umask(mask)
    try:
        make(tmp_path / "new" / "c")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")] if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})


@pytest.mark.parametrize("name", ["b.npy", "tables/a.parquet", store.MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove"])
def test_an_altered_file_is_found_before_it_is_used(tmp_path, name, harm):
    make(tmp_path / "c")
    path = tmp_path / "c" / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-1]), "empty": b""}[harm])
    with pytest.raises(ArtefactError):
        artefact = store.open(tmp_path / "c", "cohort")
        artefact.file(name) if name != store.MANIFEST else None
    assert store.current(tmp_path / "c", "cohort", "one") is None


def test_every_bit_of_a_manifest_counts(tmp_path):
    make(tmp_path / "c")
    path = tmp_path / "c" / store.MANIFEST
    content = path.read_bytes()
    accepted = []
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            store.open(tmp_path / "c", "cohort")
            accepted.append(position)
        except ArtefactError:
            pass
    assert all(content[position] in b" \n" for position in accepted)  # white space between tokens is no content


@pytest.mark.parametrize("text, why", [("{", "no valid JSON"), ("[]", "altered"), ("{}", "altered"), ("null", "altered")])
def test_a_manifest_that_is_none(tmp_path, text, why):
    make(tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).write_text(text)
    with pytest.raises(ArtefactError, match=why):
        store.open(tmp_path / "c", "cohort")


def test_another_kind_or_format_is_named(tmp_path):
    make(tmp_path / "c")
    with pytest.raises(ArtefactError, match="is a cohort, not a run"):
        store.open(tmp_path / "c", "run")
    path = tmp_path / "c" / store.MANIFEST
    body = json.loads(path.read_text())
    body.pop("self")
    body["format"] = 99
    path.write_text(json.dumps({**body, "self": store.digest(body)}))
    with pytest.raises(ArtefactError, match="format 99"):
        store.open(tmp_path / "c", "cohort")


def test_a_missing_artefact_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ArtefactError, match="is no cohort .omnifuse preprocess makes it"):
        store.open(tmp_path / "none", "cohort")


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"thesis.tex": "years of work"}, "holds something else"),
        ({"manifest.json": '{"name": "a web page"}'}, "holds something else"),
        ({"manifest.json": '{\n "omnifuse": "run",\n "format": 1}'}, "is a run"),
        (None, "holds something else"),
    ],
)
def test_what_is_no_such_artefact_is_never_replaced(tmp_path, there, why):
    target = tmp_path / "c"
    if there is None:
        target.write_text("a file")
    for name, text in (there or {}).items():
        store.make_folder(target)
        (target / name).write_text(text)
    with pytest.raises(ConfigError, match=why):
        make(target)
    assert target.read_text() == "a file" if there is None else {path.name: path.read_text() for path in target.iterdir()} == there
    assert leftovers(tmp_path) == []


def test_files_of_the_user_are_not_replaced_with_the_artefact(tmp_path):
    def remake(alone):
        with store.create(tmp_path / "c", "cohort", fingerprint="2", alone=alone) as out:
            store.write_text(out.path("a.txt"), "new")

    make(tmp_path / "c")
    (tmp_path / "c/deep").mkdir()
    (tmp_path / "c/deep/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds deep/mine\.txt, which is no part of the cohort there"):
        remake(alone=True)
    assert (tmp_path / "c/deep/mine.txt").read_text() == "mine" and store.open(tmp_path / "c", "cohort").fingerprint != "2"
    (tmp_path / "c/deep/mine.txt").unlink()
    remake(alone=True)
    assert store.open(tmp_path / "c", "cohort").fingerprint == "2" and leftovers(tmp_path) == []


def test_an_empty_folder_and_a_damaged_artefact_are_replaced(tmp_path):
    (tmp_path / "c").mkdir()
    make(tmp_path / "c")
    manifest = tmp_path / "c" / store.MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:60])
    assert make(tmp_path / "c", 2).meta == {"value": 2}


def test_a_table_is_read_in_batches_in_its_order(tmp_path):
    with store.create(tmp_path / "c", "cohort", fingerprint="") as out:
        store.write_parquet(out.path("a.parquet"), polars.DataFrame({"x": range(10), "y": range(10)}))
    made = store.open(tmp_path / "c", "cohort")
    assert [batch["x"].to_list() for batch in made.batches("a.parquet", ["x"], rows=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert made.height("a.parquet") == 10


def test_a_failed_writer_leaves_the_old_artefact(tmp_path):
    make(tmp_path / "c", 1)
    with pytest.raises(RuntimeError), store.create(tmp_path / "c", "cohort", fingerprint="two") as out:
        store.write_json(out.path("x.json"), 1)
        raise RuntimeError
    assert store.open(tmp_path / "c", "cohort").meta == {"value": 1}
    assert leftovers(tmp_path) == []


def test_a_partial_build_is_kept_where_the_writer_resumes(tmp_path):
    for attempt in (1, 2):
        try:
            with store.create(tmp_path / "c", "cohort", fingerprint="x", keep_partial=True) as out:
                if attempt == 1:
                    store.write_json(out.path("first.json"), 1)
                    raise KeyboardInterrupt
                assert out.path("first.json").exists()
        except KeyboardInterrupt:
            pass
    assert list(store.open(tmp_path / "c", "cohort").files) == ["first.json"]


KILLED = """
import os, sys, signal
from pathlib import Path
from omnifuse.preprocess import store
target, after = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def fatal(name):
    original = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call
for name in ("fsync", "replace", "rename", "open", "chmod", "unlink"):
    setattr(os, name, fatal(name))
with store.create(target, "cohort", fingerprint="two", meta={"value": 2}) as out:
    store.write_json(out.path("b.json"), [2])
    store.write_json(out.path("c/d.json"), [2])
print(calls)
"""


def run_killed(target: Path, after: int) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", KILLED, str(target), str(after)], capture_output=True, text=True)


@pytest.mark.parametrize("after", [1, 4, 9, 14, 18, 20, 21, 22, 23, 24, 25, 26])
def test_killed_at_any_system_call_the_next_run_completes(tmp_path, after):
    """Old or new, never half: killed at the Nth call of the writer, the artefact that was there is whole or replaced by a whole one."""
    make(tmp_path / "c", 1)
    died = run_killed(tmp_path / "c", after)
    assert died.returncode in (0, -signal.SIGKILL)
    if (tmp_path / "c").exists():
        artefact = store.open(tmp_path / "c", "cohort")
        artefact.verify()
        assert artefact.meta["value"] in (1, 2)
    else:  # between the two renames: the old one waits under its other name, and the next writer takes it back
        assert (tmp_path / ".c.replaced" / store.MANIFEST).exists()
    assert run_killed(tmp_path / "c", 10**9).returncode == 0
    done = store.open(tmp_path / "c", "cohort")
    done.verify()
    assert (done.meta["value"], leftovers(tmp_path)) == (2, [])


HOLDER = """
import sys, time
from pathlib import Path
from omnifuse.preprocess import store
with store.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_and_a_dead_holder_frees_the_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"pid {holder.pid}"):
        make(tmp_path / "c")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    make(tmp_path / "c")


RACER = """
import sys, time
from pathlib import Path
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import LockedError
while time.time() < float(sys.argv[2]): pass
try:
    with store.create(Path(sys.argv[1]), "cohort", fingerprint="r") as out:
        store.write_json(out.path("x.json"), 1)
        time.sleep(0.5)
    print("wrote")
except LockedError as error:
    print("refused", error.exit_code)
"""


def test_of_two_runs_at_once_one_proceeds(tmp_path):
    start = str(time.time() + 1.5)
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path / "c"), start], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sorted(racer.communicate()[0].strip() for racer in racers) == ["refused 6", "wrote"]


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(tmp_path):
    def fill(path):
        with open("/dev/full", "wb", buffering=0) as handle:
            handle.write(b"x")

    with pytest.raises(ResourceError, match="the disk is full") as caught, store.atomic(tmp_path / "x") as partial:
        fill(partial)
    assert caught.value.exit_code == 5
    assert leftovers(tmp_path) == []


def test_space_is_asked_for_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="needs about"):
        store.require_free(tmp_path / "deep" / "er", 10**18)


def test_objects_and_nan_are_refused(tmp_path):
    with pytest.raises(ValueError):
        store.write_npy(tmp_path / "x.npy", numpy.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError):
        store.write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []
