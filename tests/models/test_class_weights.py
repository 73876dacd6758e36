"""What a class counts for: by hand, in the losses, in OmniFuse's prior, and in what is predicted after training."""

import math

import cohorts
import numpy as np
import pytest
import torch
from safetensors.numpy import load
from small import small_encoders

from omnifuse.models import training
from omnifuse.models.parts import class_weights, dwfuse
from omnifuse.models.parts.heads import task_loss
from omnifuse.models.prediction import Reader, load_run, predict

NAN = math.nan
TRAIN = {"lr": 0.01, "batch_size": 32, "epochs": 10, "patience": 10, "tensorboard": False}
TABLE = {
    "a quarter is positive": ("binary", 1, [[1], [0], [0], [0]], [[4 / 6, 4 / 2]]),
    "unknown labels do not count": ("multilabel", 2, [[1, NAN], [0, 1], [0, 0], [NAN, NAN]], [[3 / 4, 3 / 2], [1, 1]]),
    "a label never positive": ("multilabel", 2, [[0, 1], [0, 0]], [[1, 1], [1, 1]]),
    "a label never known": ("multilabel", 1, [[NAN], [NAN]], [[1, 1]]),
    "three classes": ("multiclass", 3, [[0], [0], [0], [1], [2], [2], [NAN]], [[6 / 9, 6 / 3, 6 / 6]]),
    "a class that never occurs": ("multiclass", 3, [[0], [2], [2]], [[3 / 2, 1, 3 / 4]]),
}


@pytest.mark.parametrize("kind, outputs, label, expected", TABLE.values(), ids=TABLE)
def test_balanced_weights_by_hand(kind, outputs, label, expected):
    label = np.array(label, np.float32)
    found = class_weights.balanced(label, kind, outputs)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    counts = class_weights.count_classes(label, kind, outputs)
    known = counts.sum(1)
    np.testing.assert_allclose((counts * found.numpy()).sum(1), known, rtol=1e-6)  # the mean weight is 1
    for row, occurs in zip(counts * found.numpy(), counts > 0):
        assert np.allclose(row[occurs], row[occurs].mean()) if occurs.any() else True  # and classes count alike


@pytest.mark.parametrize("kind, outputs", [("multilabel", 2), ("multiclass", 3)])
def test_losses_by_hand(kind, outputs):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, outputs, generator=random)
    if kind == "multiclass":
        label, known = torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([True] * 5 + [False])
        weight = torch.tensor([[0.5, 2.0, 3.0]])
        expected = [-math.log(torch.softmax(logits[i], 0)[label[i]]) * weight[0, label[i]] * known[i] for i in range(6)]
    else:
        label = torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, 0]])
        known = torch.tensor([[True, True]] * 4 + [[True, False], [False, False]])
        weight = torch.tensor([[0.5, 2.0], [1.5, 3.0]])
        chance = torch.sigmoid(logits)
        each = lambda i, c: -math.log(chance[i, c] if label[i, c] else 1 - chance[i, c]) * float(weight[c, int(label[i, c])])
        expected = [sum(each(i, c) for c in range(2) if known[i, c]) / max(int(known[i].sum()), 1) for i in range(6)]
    found, told = task_loss(logits, label, known, weight)
    torch.testing.assert_close(found, torch.tensor([float(x) for x in expected]))
    assert told.tolist() == [True] * 5 + [False]
    # With one modality omega is 1: eq 12 is the head's loss, with the same weights.
    log_prob, (truth, mask) = dwfuse.log_probabilities(logits[:, None], kind), dwfuse.true_classes(label, known)
    alone, _ = dwfuse.weighted_losses(log_prob, torch.ones(6, 1, dtype=torch.bool), truth, mask, 0.5, True, weight)
    torch.testing.assert_close(alone[:, 0], found)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    made = cohorts.samples(tmp_path_factory.mktemp("samples"), patients=200, dim=4, steps=(2, 3))
    for part in made.parts.values():  # every third positive stays one
        positive = np.flatnonzero(part.label[:, 0] == 1)
        part.label[np.delete(positive, np.arange(0, len(positive), 3)), 0] = 0
    return made


def fit(samples, run, method, **train):
    encoders = small_encoders(samples.modalities)
    return training.train(
        samples, samples.task, {"name": method}, encoders, TRAIN | train, fold=0, seed=0, run=run, device="cpu", resume=False
    )


@pytest.mark.parametrize("class_weight", class_weights.CHOICES)
def test_on_what_it_learnt_from_the_mean_prediction_is_the_share_of_positives_as_weighed(samples, tmp_path, class_weight):
    part = samples.part("train")
    truth, prevalence = part.label[:, 0], float(part.label.mean())
    assert 0.1 < prevalence < 0.25
    run = fit(samples, tmp_path / "run", "concat", class_weight=class_weight, keep="last")
    score = torch.sigmoid(torch.from_numpy(predict(load_run(run)[0], part, Reader(torch.device("cpu"))).logits["final"]))[:, 0].numpy()
    weight = np.where(truth == 1, 1 / prevalence, 1 / (1 - prevalence)) if class_weight == "balanced" else np.ones_like(truth)
    share = 0.5 if class_weight == "balanced" else prevalence
    assert np.average(score, weights=weight) == pytest.approx(share, abs=0.05)
    assert not [name for name in load(run.file("weights.safetensors").read_bytes()) if "class_weight" in name]


def test_the_prior_of_omnifuse_follows(samples, tmp_path):
    prevalence = float(samples.part("train").label.mean())
    runs = [fit(samples, tmp_path / name, "omnifuse", class_weight=name, epochs=1) for name in class_weights.CHOICES]
    assert runs[0].fingerprint != runs[1].fingerprint
    prior = [np.exp(load(run.file("weights.safetensors").read_bytes())["fusion.log_prior"][0]) for run in runs]
    np.testing.assert_allclose(prior[0], [1 - prevalence, prevalence], rtol=1e-5)
    np.testing.assert_allclose(prior[1], [0.5, 0.5], rtol=1e-5)
