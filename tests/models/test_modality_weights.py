"""What each modality weighs in a patient's prediction, kept by the run; and what the run cost."""

import cohorts
import numpy as np
import polars as pl
import pytest
import torch
from small import method_defaults, small_encoders

from omnifuse.models import cost, registry, training
from omnifuse.models.modality_weights import FILE
from omnifuse.models.parts import dwfuse
from omnifuse.models.prediction import load_run

TRAIN = {"lr": 0.01, "batch_size": 64, "epochs": 1, "patience": 1, "tensorboard": False}
KINDS = {"binary": 1, "multilabel": 4, "multiclass": 3}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    how = {"modalities": ("ehr", "rep", "sig"), "patients": 90, "dim": 4, "steps": (2, 5), "absent": 0.4}
    return {kind: cohorts.samples(tmp_path_factory.mktemp(kind), kind=kind, **how) for kind in KINDS}


def fit(samples, run, method, **options):
    encoders = small_encoders(samples.modalities)
    return training.train(
        samples, samples.task, {"name": method, **options}, encoders, TRAIN, fold=0, seed=0, run=run, device="cpu", config_yaml="a: 1\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_omega_is_that_of_the_predicted_class_of_those_present(opened, kind, tmp_path):
    samples = opened[kind]
    run = fit(samples, tmp_path / "run", "omnifuse")
    table, (method, _) = run.table(FILE), load_run(run)
    assert table.columns == ["sample_id", "part", "modality", "omega"] and table["omega"].is_between(0, 1).all()
    assert table["part"].unique(maintain_order=True).to_list() == ["val", "test"]
    for name in ("val", "test"):
        part = samples.part(name)
        told = {row[:2]: row[2] for row in table.filter(part=name).select("sample_id", "modality", "omega").iter_rows()}
        assert len(told) == part.present.sum()
        for batch in part.batches(7):
            weighed = method(batch).parts["weighed"]
            score = method.fusion.score(weighed)
            for b, sample in enumerate(batch.sample_id):
                for m, modality in enumerate(samples.modalities):
                    if not batch.present[b, m]:
                        assert (sample, modality) not in told
                        continue
                    each = [float(weighed.omega[b, m, label, score[b, label].argmax()]) for label in range(score.shape[1])]
                    assert told[sample, modality] == pytest.approx(np.mean(each), abs=1e-5)
    plain = dwfuse.log_probabilities(method(batch).logits, kind).argmax(-1)
    assert torch.equal(plain, score.argmax(-1))  # the class of the score is the class that is predicted


def test_a_gate_of_modalities_is_kept_and_other_methods_keep_none(opened, tmp_path):
    samples = opened["binary"]
    run = fit(samples, tmp_path / "modality", "se_gate", gate="modality")
    table = run.table(FILE)
    assert table["omega"].is_between(0, 1, closed="none").all() and set(table["modality"]) == set(samples.modalities)
    trace = run.table("traces.parquet").filter((pl.col("epoch") == run.meta["best"]["epoch"]) & (pl.col("name") == "gate/rep"))
    mean = table.filter(part="val", modality="rep")["omega"].mean()
    assert mean == pytest.approx(trace["value"][0], rel=1e-4)
    for name, options in {"se_gate": {}, "concat": {}, "omnifuse": {"dwfuse": False}}.items():
        assert not fit(samples, tmp_path / name, name, **options).has(FILE)


def test_the_teachers_of_omnifuse_do_not_count_among_what_learns(opened):
    samples, encoders = opened["binary"], small_encoders(("ehr", "rep", "sig"))
    built = {
        name: registry.build(method_defaults(name), encoders, samples.dims, samples.task, 0) for name in ("concat", "omnifuse", "mask_only")
    }
    counted = {name: cost.count_parameters(method) for name, method in built.items()}
    size = lambda module: sum(p.numel() for p in module.parameters())
    assert counted["concat"]["parameters_learnable"] == counted["concat"]["parameters"] == size(built["concat"])
    teachers = size(built["omnifuse"].imputer.teachers)
    assert counted["omnifuse"]["parameters"] - counted["omnifuse"]["parameters_learnable"] == teachers > 0
    assert counted["mask_only"]["parameters_learnable"] == size(built["mask_only"].head) < counted["mask_only"]["parameters"]


def test_a_run_tells_what_it_cost(opened, tmp_path):
    meta = fit(opened["binary"], tmp_path / "run", "concat").meta
    assert meta["parameters"] == meta["parameters_learnable"] > 0 and 0 < meta["predict_ms_per_patient"] < 1000
    assert 50 < meta["peak_memory_mb"] <= cost.peak_memory_mb(torch.device("cpu")) + 1 < 100_000
