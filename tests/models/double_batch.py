"""One training of a method, small, with all that could differ between processes: test_distributed.py runs it alone and under torchrun.

torchrun ... double_batch.py FOLDER RUN BATCH METHOD
"""

import sys
from pathlib import Path

import torch
from small import method_defaults, small_encoders

from omnifuse.models import registry, training
from omnifuse.preprocess import store
from omnifuse.preprocess.dataset import open_samples
from omnifuse.preprocess.schema import ConfigError

MODALITIES = ("ehr", "rep", "sig")
# What a method does in training beside descending, within two epochs.
HOOKED = {
    "concat": {"fill": "mean"},
    "gblend": {"estimate_epochs": 2, "rounds": 2, "round_epochs": 1},
    "pmr": {"entropy_epochs": 2, "fill": "mean"},
    "se_gate": {"gate": "modality"},
}
TRAIN = {"epochs": 2, "lr": 0.01, "log_steps": 1, "tensorboard": False, "optimizer": "sgd", "class_weight": "balanced"}


def train(folder: Path, run: str, batch: int, name: str) -> None:
    torch.set_num_threads(1)
    cohort, features = store.open(folder / "cohort", "cohort"), store.open(folder / "features", "features")
    method = method_defaults(name) | HOOKED.get(name, {})
    samples = open_samples(cohort, features, "multilabel", 0, MODALITIES)
    try:
        registry.build(method, small_encoders(MODALITIES), samples.dims, samples.task, 0)
    except ConfigError:  # it takes one modality
        samples = open_samples(cohort, features, "multilabel", 0, MODALITIES[:1])
    encoders, options = small_encoders(samples.modalities), TRAIN | {"batch_size": batch}
    training.train(samples, samples.task, method, encoders, options, fold=0, seed=0, run=folder / run, device="cpu")


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
