"""The benchmark of training compares like with like, counts what it says, and prints every figure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import training_parts as parts  # noqa: E402

from omnifuse.models.options import TrainOptions  # noqa: E402


@pytest.mark.parametrize("name", ["concat", "omnifuse"])
def test_the_bare_loop_is_the_same_training(name, tmp_path):
    """After an epoch of several steps both have the same weights: what is compared is one and the same work."""
    samples, options = parts.make_samples("tiny", 200), TrainOptions(batch_size=32, lr=0.01)
    methods = [parts.build(name, samples, "tiny") for _ in range(2)]
    ours, bare = parts.Ours(methods[0], samples, options, tmp_path), parts.Bare(methods[1], samples, options)
    before = {key: value.clone() for key, value in methods[0].state_dict().items()}
    ours.epoch(1)
    bare.epoch(1)
    ours.trainer.journal.close()
    states = [method.state_dict() for method in methods]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert any(not torch.equal(before[key], value) for key, value in states[0].items())


def test_the_products_of_a_step_are_counted_with_those_of_the_lstm():
    samples, options = parts.make_samples("lstm", 220, absent=0.0), TrainOptions()
    bare = parts.Bare(parts.build("concat", samples, "lstm"), samples, options)
    steps, width, hidden, dim = 24, 76, 256, 128
    layers = 2 * steps * 4 * hidden * ((width + hidden) + 2 * hidden)
    forward = 3 * (layers + 2 * hidden * dim + 2 * dim)
    # Backward takes as many for the weights and as many for what stands before them, but for the data and the first state.
    assert 2.7 < bare.flops() / forward < 3


@pytest.mark.slow
def test_every_figure_is_printed():
    command = [sys.executable, FOLDER / "train.py", "--shapes", "tiny", "--patients", "240", "--runs", "1", "--epochs", "2"]
    told = subprocess.run([*command, "--memory-epochs", "40"], check=True, capture_output=True, text=True).stdout
    assert len(re.findall(r"^P6 \S+ +/ bare loop [\d.]+ \(", told, re.M)) == 2
    assert re.search(r"^P8 omnifuse / concat [\d.]+ \(", told, re.M)
    assert 0 < float(re.search(r"^log ([\d.]+)% of", told, re.M)[1]) < 100
    assert abs(float(re.search(r"([+-][\d.]+) kB an epoch", told)[1])) < 1000
    from omnifuse.models import registry

    for name in registry.names("method"):
        assert re.search(rf"^{name} +[\d,]+ +\d+ +-?\d+ +\d+ +[\d.]+$", told, re.M), name
