"""Two processes with a batch each are one process with the double batch: losses, coefficients, prototypes, blend weights, noise."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cohorts
import double_batch
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load

from omnifuse.models import registry
from omnifuse.models.modality_weights import FILE
from omnifuse.preprocess import store

QUICK = "omnifuse"
LOSSES = pl.col("name").str.contains("^(train|step|val)/")


def torchrun(folder: Path, run: str, batch: int, name: str) -> subprocess.Popen:
    """The same in two processes."""
    here = Path(__file__).parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port]
    paths = {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, here / "double_batch.py", folder, run, str(batch), name], env={**os.environ, **paths})


def close(first: pl.DataFrame, second: pl.DataFrame, column: str, rtol: float, atol: float) -> None:
    """Alike but for one column, in which they are near."""
    other = [column, "run_id"]
    assert len(first) and first.drop(other, strict=False).equals(second.drop(other, strict=False))
    np.testing.assert_allclose(second[column], first[column], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow) for name in registry.names("method")])
def test_two_processes_equal_one_with_the_double_batch(tmp_path, name):
    """109 training samples in batches of 22 and 21: shares of unlike size, absent modalities, unknown labels, weighted classes, clipping;
    and dropout, for what is dropped belongs to the sample."""
    how = {"steps": (2, 6), "absent": 0.5, "unknown": 0.2, "tails": True}
    cohorts.samples(tmp_path, kind="multilabel", modalities=double_batch.MODALITIES, patients=202, dim=4, **how)
    running = torchrun(tmp_path, "two", 11, name)
    try:
        double_batch.train(tmp_path, "one", 22, name)
        assert running.wait(timeout=600) == 0
    finally:
        running.terminate()
    one, two = (store.open(tmp_path / run, "run") for run in ("one", "two"))
    assert (one.meta["environment"]["processes"], two.meta["environment"]["processes"]) == (1, 2)
    losses = [run.table("history.parquet").filter(LOSSES) for run in (one, two)]
    close(*losses, "value", rtol=1e-5, atol=1e-6)
    for table in ("history.parquet", "traces.parquet"):
        close(one.table(table), two.table(table), "value", rtol=1e-4, atol=1e-5)
    weights = [load(run.file("weights.safetensors").read_bytes()) for run in (one, two)]
    for tensor, value in weights[0].items():
        np.testing.assert_allclose(weights[1][tensor], value, rtol=1e-4, atol=1e-5, err_msg=tensor)
    for table, column in {FILE: "omega", "predictions/full.parquet": "y_score"}.items():
        assert one.has(table) == two.has(table)
        if one.has(table):
            close(one.table(table), two.table(table), column, rtol=0, atol=1e-5)
