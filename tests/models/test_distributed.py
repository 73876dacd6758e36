"""Two processes with a batch each are one process with the double batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cohorts
import numpy as np
import pytest
from safetensors.numpy import load

from omnifuse.preprocess import store

SCRIPT = """
import sys
from pathlib import Path

import torch

import cohorts
from omnifuse.models import training
from omnifuse.preprocess.dataset import open_samples
from omnifuse.preprocess import store
from small import small_encoders

torch.set_num_threads(1)
path, run, batch, method = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
cohort, features = store.open(path / "cohort", "cohort"), store.open(path / "features", "features")
samples = open_samples(cohort, features, "multilabel", 0, ("ehr",) if method == "unimodal" else ("ehr", "rep"))
train = {"batch_size": batch, "epochs": 2, "lr": 0.01, "log_steps": 1, "tensorboard": False}
options = {"name": method, "fill": "mean"} if method == "concat" else {"name": method}
training.train(samples, samples.task, options, small_encoders(samples.modalities), train, fold=0, seed=0, run=run, device="cpu")
"""


def start(path: Path, run: Path, batch: int, method: str, **environment: str) -> subprocess.Popen:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    command = [sys.executable, "-c", SCRIPT, str(path), str(run), str(batch), method]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths, **environment})


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["concat", "omnifuse", "unimodal"])
def test_two_processes_equal_one_with_the_double_batch(tmp_path, method):
    """109 training samples in batches of 22 and 21: shares of unlike size, absent modalities, unknown labels, dropout, clipping."""
    cohorts.samples(
        tmp_path, kind="multilabel", modalities=("ehr", "rep"), patients=202, dim=4, steps=(2, 6), absent=0.5, unknown=0.2, tails=True
    )
    network = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    started = [start(tmp_path, tmp_path / "two", 11, method, **network, RANK=str(rank)) for rank in range(2)]
    started.append(start(tmp_path, tmp_path / "one", 22, method))
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    one, two = (store.open(tmp_path / name, "run") for name in ("one", "two"))
    assert two.meta["environment"]["processes"] == 2
    first, second = one.table("history.parquet"), two.table("history.parquet")
    assert first.drop("value").equals(second.drop("value"))
    np.testing.assert_allclose(second["value"], first["value"], rtol=1e-5, atol=1e-6)
    weights = [load(run.file("weights.safetensors").read_bytes()) for run in (one, two)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-5, err_msg=name)
    scores = [run.table("predictions/full.parquet")["y_score"] for run in (one, two)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
