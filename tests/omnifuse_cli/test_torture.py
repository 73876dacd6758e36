"""R1, R5 and R20: every command of the line killed at random moments, sent signals, and raced against itself (`make torture`)."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import raw_mimic4

QUICK = ["--set", "train.epochs=3", "--set", "encoder.ehr.hidden=8", "--set", "encoder.ehr.dim=8", "--set", "train.checkpoint_steps=2"]
STAGES = {
    "preprocess": ["preprocess", "mimic"],
    "extract": ["extract"],
    "train": ["train", "--task", "mortality", "--method", "unimodal", "--fold", "0", *QUICK],
    "eval": ["eval", "--task", "mortality", "--resamples", "100"],
}
UNTIMED = {"seconds", "clock", "files", "self", "environment"}  # what a manifest says of the clock, and hashes over it


def omnifuse(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "omnifuse", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def complete(folder: Path, *arguments: str) -> float:
    started = time.monotonic()
    process = omnifuse(folder, *arguments)
    _, error = process.communicate()
    assert process.returncode == 0, error
    return time.monotonic() - started


def contents(folder: Path) -> dict[str, str]:
    """sha256 of everything in the workspace; manifests without what they say of the clock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "tfevents" not in name and path.name not in ("group.json", "report.html", "test-looks.json"):
            content = path.read_bytes()
            if path.name == "manifest.json":
                content = json.dumps(without_clock(json.loads(content)), sort_keys=True).encode()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def without_clock(value):
    if isinstance(value, dict):
        return {key: without_clock(part) for key, part in value.items() if key not in UNTIMED}
    return [without_clock(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted workspace, and how long each command took."""
    folder = tmp_path_factory.mktemp("whole")
    raw_mimic4.write(folder / "raw", raw_mimic4.tables(patients=90))
    complete(folder, "init", "study", "--ehr", str(folder / "raw"))
    return folder, {stage: complete(folder / "study", *command) for stage, command in STAGES.items()}


def kill_and_complete(whole, tmp_path, stage: str, tries: int, seed: int) -> None:
    """Kills a stage again and again at random moments, completes it, and compares with the uninterrupted workspace."""
    folder, took = whole
    draw = random.Random(f"{seed}:{stage}")
    study = tmp_path / "study"
    complete(tmp_path, "init", "study", "--ehr", str(folder / "raw"))
    for before in list(STAGES)[: list(STAGES).index(stage)]:
        complete(study, *STAGES[before])
    for _ in range(tries):
        process = omnifuse(study, *STAGES[stage])
        time.sleep(draw.uniform(0.1, took[stage]))
        process.kill()
        process.communicate()
    complete(study, *STAGES[stage])
    mine = contents(study)
    assert mine == {name: digest for name, digest in contents(folder / "study").items() if name in mine}
    assert not [path for path in study.rglob(".*") if path.is_file() or path.name.endswith((".building", ".replaced"))]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_command_completes_when_repeated(whole, tmp_path, stage):
    kill_and_complete(whole, tmp_path, stage, tries=3, seed=0)


@pytest.mark.torture
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_hundred_kills(whole, tmp_path, stage, seed):
    kill_and_complete(whole, tmp_path, stage, tries=10, seed=seed)


@pytest.mark.torture
@pytest.mark.parametrize("race", range(20))
def test_of_two_at_once_one_proceeds(whole, tmp_path, race):
    folder, _ = whole
    complete(tmp_path, "init", "study", "--ehr", str(folder / "raw"))
    both = [omnifuse(tmp_path / "study", *STAGES["preprocess"]) for _ in range(2)]
    codes = sorted(process.wait() for process in both)
    for process in both:
        process.stderr.close()
    assert codes in ([0, 6], [0, 0])  # [0, 0]: the second came when the first had finished
    complete(tmp_path / "study", *STAGES["preprocess"])


@pytest.mark.slow
@pytest.mark.parametrize("sent, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_a_checkpoint_and_the_same_command_goes_on(whole, tmp_path, sent, code):
    folder, _ = whole
    complete(tmp_path, "init", "study", "--ehr", str(folder / "raw"))
    for stage in ("preprocess", "extract"):
        complete(tmp_path / "study", *STAGES[stage])
    command = [argument.replace("epochs=3", "epochs=200") for argument in STAGES["train"]]
    process = omnifuse(tmp_path / "study", *command, "--set", "train.patience=200", "--set", "method.patience=200")
    started = time.monotonic()
    while not list((tmp_path / "study/runs").rglob("latest*")) and time.monotonic() - started < 60:
        time.sleep(0.1)
    os.kill(process.pid, sent)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert list((tmp_path / "study/runs").rglob(".fold0.building"))
