"""A disk that fails and a process that is killed: the run before stays whole, and the same call finishes what was begun."""

import errno
import random
import subprocess
import sys
import time

import cohorts
import pytest
from test_interruption import TRAIN
from test_training import assert_equal_runs, fit

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ResourceError

SHORT = {"epochs": 2, "patience": 2, "tensorboard": False, "checkpoint_steps": 3}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return cohorts.samples(tmp_path_factory.mktemp("samples"), patients=120, dim=4)


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory):
    return fit(samples, tmp_path_factory.mktemp("whole") / "run", train=SHORT)


def failing(monkeypatch, name: str, call: int, error: int) -> list:
    """The system call `name` of the store fails once, at its n-th call."""
    real, calls = getattr(store.os, name), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(error, "no")
        return real(*arguments)

    monkeypatch.setattr(store.os, name, fail)
    return calls


def try_fault(samples, whole, run, monkeypatch, name: str, call: int) -> bool:
    """Whether the fault was reached. A run is whole after it: the old one, or, where the fault came too late, the new."""
    old = fit(samples, run, seed=9, train=SHORT)
    with monkeypatch.context() as patched:
        calls = failing(patched, name, call, errno.ENOSPC)
        try:
            fit(samples, run, train=SHORT)
        except ResourceError:
            left = store.open(run, "run")
            left.verify()
            assert left.fingerprint in (old.fingerprint, whole.fingerprint)
    assert_equal_runs(fit(samples, run, train=SHORT), whole)
    return len(calls) >= call


@pytest.mark.parametrize("name", ["fsync", "replace", "rename"])
def test_a_full_disk_costs_nothing_that_was_there(samples, whole, tmp_path, monkeypatch, name):
    assert try_fault(samples, whole, tmp_path / "run", monkeypatch, name, {"fsync": 9, "replace": 2, "rename": 2}[name])


@pytest.mark.torture
@pytest.mark.parametrize("name", ["fsync", "replace", "rename"])
def test_any_call_may_fail(samples, whole, tmp_path, monkeypatch, name):
    call = 1
    while try_fault(samples, whole, tmp_path / f"{call}", monkeypatch, name, call):
        call += 1
    assert call > 2


@pytest.mark.torture
def test_killed_anywhere_it_is_finished_by_the_same_call(tmp_path):
    cohorts.samples(tmp_path, patients=60, dim=4)
    command = [sys.executable, "-c", TRAIN.replace("10000", "40"), str(tmp_path)]
    subprocess.run(command, check=True)
    (tmp_path / "run").rename(tmp_path / "whole")
    dice = random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(command)
        time.sleep(dice.uniform(3, 12))
        process.kill()
        process.wait()
    subprocess.run(command, check=True)
    assert_equal_runs(store.open(tmp_path / "run", "run"), store.open(tmp_path / "whole", "run"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort", "features", "run", "whole"]
