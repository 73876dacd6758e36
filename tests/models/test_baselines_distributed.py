"""Two processes with a batch each are one process with the double batch: coefficients, prototypes, blend weights and noise too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cohorts
import numpy as np
import pytest
from safetensors.numpy import load
from test_baselines_training import BASELINES, HOOKED, MODALITIES
from test_distributed import free_port

from omnifuse.preprocess import store

SCRIPT = """
import json, sys
from pathlib import Path

import torch

from omnifuse.models import training
from omnifuse.preprocess.dataset import open_samples
from omnifuse.preprocess import store
from small import method_defaults, small_encoders

torch.set_num_threads(1)
path, run, batch, (name, options) = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
cohort, features = store.open(path / "cohort", "cohort"), store.open(path / "features", "features")
samples = open_samples(cohort, features, "multilabel", 0, ("ehr", "rep", "sig"))
train = {"batch_size": batch, "epochs": 2, "lr": 0.01, "log_steps": 1, "tensorboard": False, "optimizer": "sgd", "clip": 0}
method = method_defaults(name) | options
training.train(samples, samples.task, method, small_encoders(samples.modalities), train, fold=0, seed=0, run=run, device="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_two_processes_equal_one_with_the_double_batch(tmp_path, name):

    cohorts.samples(tmp_path, kind="multilabel", modalities=MODALITIES, patients=202, dim=4, steps=(2, 6), absent=0.5, unknown=0.2)
    here = Path(__file__).parent
    told = json.dumps([name, HOOKED.get(name, {})])

    def start(run: str, batch: int, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(tmp_path / run), str(batch), told]
        paths = os.pathsep.join([str(here), str(here.parent)])
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths, **environment})

    network = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    started = [start("two", 11, **network, RANK=str(rank)) for rank in range(2)] + [start("one", 22)]
    assert [process.wait(timeout=300) for process in started] == [0, 0, 0]
    one, two = (store.open(tmp_path / run, "run") for run in ("one", "two"))
    for table in ("history.parquet", "traces.parquet"):
        first, second = one.table(table), two.table(table)
        assert first.drop("value").equals(second.drop("value"))
        np.testing.assert_allclose(second["value"], first["value"], rtol=1e-4, atol=1e-5, err_msg=table)
    weights = [load(run.file("weights.safetensors").read_bytes()) for run in (one, two)]
    for tensor, value in weights[0].items():
        np.testing.assert_allclose(weights[1][tensor], value, rtol=1e-4, atol=1e-4, err_msg=tensor)
