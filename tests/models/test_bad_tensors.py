"""Input that is hardly one, for every method found: what is missing, what never differs, what is no number."""

import dataclasses
import math

import cohorts
import numpy as np
import pytest
import torch
from small import method_defaults, small_encoders
from test_contract import part_of

from omnifuse.models import registry, training
from omnifuse.models.checkpoint import Checkpoints
from omnifuse.models.context import TrainContext
from omnifuse.models.options import TrainOptions
from omnifuse.models.prediction import Reader
from omnifuse.models.step import Broken, Stepper, set_modes
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, NumericalError

METHODS = registry.names("method")
TRAIN = {"lr": 0.01, "batch_size": 32, "epochs": 1, "patience": 1, "tensorboard": False, "checkpoint_steps": 1, "checkpoint_seconds": 0}
OPTIONS = {"gblend": {"estimate_epochs": 1}}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(
        path, kind="multilabel", modalities=("ehr", "rep", "sig"), patients=90, dim=4, steps=(2, 4), absent=0.4, unknown=0.1
    )


@pytest.fixture(params=METHODS)
def case(request, opened):
    """A method with the samples that it takes: of all modalities, or of one."""
    name, samples = request.param, opened
    try:
        method = build(samples, name)
    except ConfigError:
        parts = {key: part_of(part, ("ehr",)) for key, part in samples.parts.items()}
        samples = dataclasses.replace(samples, parts=parts, modalities=("ehr",))
        method = build(samples, name)
    return name, samples, method


def build(samples, name: str):
    config = method_defaults(name) | OPTIONS.get(name, {})
    return registry.build(config, small_encoders(samples.modalities), samples.dims, samples.task, 0)


def steps(samples, method, batch):
    """A step in each stage; the method as it was before and as it is after."""
    for stage in method.stages():
        reader = Reader(torch.device("cpu"))
        method.begin_stage(TrainContext(method, samples, reader, stage, seed=0, epoch=0, step=0))
        set_modes(method, stage, epoch=1)
        stepper = Stepper(method, stage, TrainOptions(lr=0.01), reader.processes, reader.device, amp=False)
        here = TrainContext(method, samples, reader, stage, seed=0, epoch=1, step=0)
        yield lambda stepper=stepper, here=here: stepper.step(batch, here, rate=1.0, stop=False)


def fit(samples, run, name: str):
    config = method_defaults(name) | OPTIONS.get(name, {})
    encoders = small_encoders(samples.modalities)
    return training.train(samples, samples.task, config, encoders, TRAIN, fold=0, seed=0, run=run, device="cpu")


def changed(samples, change):
    """The samples with every part changed."""
    return dataclasses.replace(samples, parts={name: change(part) for name, part in samples.parts.items()})


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_batch_of_one_class(case, label):
    _, samples, method = case
    batch = next(samples.part("train").batches(24, seed=1))
    batch.label = torch.full_like(batch.label, label)
    for step in steps(samples, method, batch):
        assert math.isfinite(step().total)
    assert all(torch.isfinite(tensor).all() for tensor in method.parameters())


def test_a_batch_without_a_known_label(case):
    _, samples, method = case
    batch = next(samples.part("train").batches(24, seed=1))
    batch.label_mask = torch.zeros_like(batch.label_mask)
    for step in steps(samples, method, batch):
        assert math.isfinite(step().total)
    assert all(torch.isfinite(tensor).all() for tensor in method.parameters())


def never(part):
    """The third label is never positive."""
    label = part.label.copy()
    label[:, 2] = np.where(np.isnan(label[:, 2]), np.nan, 0)
    return dataclasses.replace(part, label=label)


def test_a_label_that_is_never_positive(case):
    """Neither the step nor what methods measure between epochs becomes NaN: priors, prototypes, distances."""
    _, samples, method = case
    samples = changed(samples, never)
    batch = next(samples.part("train").batches(24, seed=1))
    for stage, step in zip(method.stages(), steps(samples, method, batch)):
        assert math.isfinite(step().total)
        method.after_epoch(TrainContext(method, samples, Reader(torch.device("cpu")), stage, seed=0, epoch=1, step=1))
        assert math.isfinite(step().total)
    assert all(torch.isfinite(tensor).all() for name, tensor in method.state_dict().items() if not name.endswith("imputer.controls"))
    assert torch.isfinite(method.eval()(batch).logits).all()


def test_a_label_that_never_differs_is_told(opened, tmp_path, caplog):
    run = fit(changed(opened, never), tmp_path / "run", "concat")
    assert f"1 of 4 labels never differ in the training part: {opened.task.labels[2]}" in caplog.text
    assert run.table("predictions/full.parquet")["y_score"].is_finite().all()


def test_a_modality_that_nobody_of_the_fold_has(case, tmp_path):
    """What is left is learnt from, and the run is whole. (On the command line it is refused, unless it was allowed: test_dataset.py.)"""
    name, samples, _ = case
    if len(samples.modalities) == 1:
        pytest.skip("then there is no sample")
    there = np.array([True, False, True])
    run = fit(changed(samples, lambda part: dataclasses.replace(part, present=part.present & there)), tmp_path / "run", name)
    table = run.table("predictions/full.parquet")
    final = table.filter(head="final")
    assert final["y_score"].is_finite().all() and final["sample_id"].n_unique() == sum(len(samples.part(p)) for p in training.PREDICTED)
    assert "rep" not in set(table["head"])


def test_a_sample_without_any_modality(case):
    """Such samples are no part of a cohort, but what is hidden at test may make some: they have an answer, and teach no NaN."""
    _, samples, method = case
    batch = next(samples.part("train").batches(8, seed=1)).hide(torch.zeros(len(samples.modalities), dtype=torch.bool))
    for step in steps(samples, method, batch):
        assert math.isfinite(step().total)
    for train in (False, True):
        assert torch.isfinite(method.train(train)(batch).logits).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_in_a_feature_is_seen_before_any_update(case, value):
    """Also where the value would not reach the loss: in a modality that is hidden, or that the method does not read."""
    _, samples, method = case
    part = samples.part("train")
    for modality in samples.modalities:
        batch = next(part.batches(24, seed=1))
        row = int(batch.present[:, samples.modalities.index(modality)].nonzero()[0])
        batch.values[modality][row, 0, 0] = value
        for step in steps(samples, method, batch):
            before = {name: tensor.clone() for name, tensor in method.named_parameters()}
            with pytest.raises(Broken):
                step()
            assert all(torch.equal(before[name], tensor) for name, tensor in method.named_parameters())


def test_the_error_names_tensor_and_hashed_samples_and_the_last_good_checkpoint_stays(opened, tmp_path):
    """With the default method; exit 7."""
    part = opened.part("train")
    tokens = part.tokens["rep"]
    rows, place = np.array(tokens.rows), int(np.flatnonzero(part.present[:, 1])[5])
    rows[tokens.start[part.at[place]], 1] = np.nan
    spoilt = dataclasses.replace(part, tokens={**part.tokens, "rep": dataclasses.replace(tokens, rows=rows)})
    with pytest.raises(NumericalError) as caught:
        fit(dataclasses.replace(opened, parts={**opened.parts, "train": spoilt}), tmp_path / "run", "concat")
    text = str(caught.value)
    assert caught.value.exit_code == 7 and "\n" not in text
    assert f"samples/multilabel.parquet:{part.row[place]}: values of rep holds NaN or infinity in 1 of" in text and "batch " in text
    assert not any(name in text for name in (*part.sample_id, *part.patient_id))
    checkpoints = Checkpoints(store.building_folder(tmp_path / "run") / "scratch/checkpoint")
    if (kept := checkpoints.load()) is not None:  # none where it was in the first step
        assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())
