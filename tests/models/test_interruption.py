"""Signals from outside: a checkpoint and the right exit code; the second one ends the process at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cohorts

from omnifuse.models.checkpoint import Checkpoints
from omnifuse.preprocess import store

TRAIN = """
import sys
from pathlib import Path

import torch

from omnifuse.models import training
from omnifuse.preprocess import store
from omnifuse.preprocess.dataset import open_samples

path = Path(sys.argv[1])
samples = open_samples(store.open(path / "cohort", "cohort"), store.open(path / "features", "features"), "binary", 0, ("ehr",))
encoders, train = {"ehr": {"name": "lstm", "hidden": 12, "dim": 8}}, {"batch_size": 8, "epochs": 10000, "patience": 10000}
training.train(samples, samples.task, {"name": "concat"}, encoders, train, fold=0, seed=0, run=path / "run", device="cpu")
"""

TWICE = """
import os, signal, time
from omnifuse.models.interruption import Interruption
with Interruption() as interruption:
    os.kill(os.getpid(), signal.SIGINT)
    assert interruption.received == signal.SIGINT
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_signal_from_outside_leaves_a_checkpoint(tmp_path):
    cohorts.samples(tmp_path, patients=60, dim=4)
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(tmp_path)], stderr=subprocess.PIPE)
    folder = store.building_folder(tmp_path / "run") / "scratch/checkpoint"
    deadline = time.monotonic() + 120
    while not (folder / "latest").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143, error
    found = Checkpoints(folder).load()
    assert f"stopped by SIGTERM; the same command goes on from step {found.state['at']['total']}" in error.decode()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_second_signal_ends_it_at_once():
    assert subprocess.run([sys.executable, "-c", TWICE], timeout=30, env=os.environ, cwd=Path(__file__).parent).returncode == 143
