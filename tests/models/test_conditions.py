"""Conditions hide what they say, the same samples in every run and rate, and never the last modality of a sample."""

import itertools

import cohorts
import numpy as np
import pytest
import small

from omnifuse.models.conditions import FULL, Condition, predict_conditions
from omnifuse.models.training import train


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return cohorts.samples(tmp_path_factory.mktemp("conditions"), patients=400, modalities=("ehr", "cxr", "rep"), dim=6)


@pytest.fixture(scope="module")
def part(samples):
    return samples.part("test")


@pytest.mark.parametrize(
    "condition, name",
    [
        (Condition(), "full"),
        (Condition(("ehr", "rep")), "subset:ehr+rep"),
        (Condition(drop="cxr", rate=0.3, mask=2), "drop:cxr;rate=0.3;mech=mcar;mask=2"),
        (Condition(("ehr", "rep"), "random", 0.5), "subset:ehr+rep/drop:random;rate=0.5;mech=mcar;mask=0"),
        (Condition(drop="cxr", rate=0.0), "full"),
    ],
)
def test_the_name_of_a_condition_is_that_of_the_artefact_tables(condition, name):
    assert condition.name == name


def test_a_smaller_rate_hits_some_of_the_samples_of_a_larger_one_and_loses_the_same(part):
    seen = [Condition(drop="random", rate=rate).visible(part) for rate in (0.0, 0.2, 0.5, 0.9)]
    assert (seen[0] == part.present).all()
    for less, more in itertools.pairwise(seen):
        assert (more <= less).all() and (more != less).any()


@pytest.mark.parametrize("drop", ["random", "cxr"])
@pytest.mark.parametrize("rate", [0.3, 0.9])
def test_the_rate_is_met_among_the_samples_that_can_lose_something(part, drop, rate):
    able = (part.present.sum(1) > 1) & (part.present[:, part.modalities.index(drop)] if drop != "random" else True)
    lost = [(Condition(drop=drop, rate=rate, mask=mask).visible(part) != part.present).any(1)[able].mean() for mask in range(20)]
    assert np.mean(lost) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / (20 * able.sum())))


def test_no_sample_loses_its_only_modality(part):
    alone = part.having(("cxr",))
    assert (Condition(drop="random", rate=0.99).visible(alone).sum(1) == 1).all()
    for drop in ("random", "ehr"):
        assert Condition(drop=drop, rate=0.99).visible(part).any(1).all()


def test_a_random_loss_takes_each_present_modality_alike(part):
    whole = part.where(lambda present: present.all(1))
    lost = sum((whole.present & ~Condition(drop="random", rate=0.99, mask=mask).visible(whole)).sum(0) for mask in range(60))
    assert np.abs(lost / lost.sum() - 1 / 3).max() < 4 * np.sqrt(2 / 9 / lost.sum())


def test_other_masks_hit_other_samples_and_the_order_of_samples_does_not_matter(part):
    first, second = (Condition(drop="random", rate=0.5, mask=mask).visible(part) for mask in (0, 1))
    assert (first != second).any()
    turned = part._rows(np.arange(len(part))[::-1].copy())
    assert (Condition(drop="random", rate=0.5).visible(turned) == first[::-1]).all()


@pytest.fixture(scope="module")
def run(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "fold0"
    method = {**small.method_defaults("omnifuse"), "imp": "fw"}
    return train(samples, samples.task, method, small.small_encoders(samples.modalities), {"epochs": 1}, fold=0, seed=0, run=folder)


def test_the_full_condition_says_what_the_run_said(run, samples, tmp_path):
    made = predict_conditions(run, lambda: samples.part("test"), [Condition(), Condition(drop="cxr", rate=0.5)], tmp_path / "c")
    said = made.table("predictions.parquet").filter(condition=FULL).drop("condition").sort("sample_id")
    whole = run.table("predictions/full.parquet").filter(part="test", head="final").sort("sample_id")
    assert said["y_score"].to_list() == whole["y_score"].to_list()
    assert said["y_true"].to_list() == whole["y_true"].to_list()
    lossy = made.table("predictions.parquet").filter(condition="drop:cxr;rate=0.5;mech=mcar;mask=0").sort("sample_id")
    assert 0 < (said["y_score"] != lossy["y_score"]).sum() < len(said)


def test_a_subset_speaks_of_those_who_possess_one_of_it_alone(run, samples, tmp_path):
    made = predict_conditions(run, lambda: samples.part("test"), [Condition(("cxr",))], tmp_path / "c").table("predictions.parquet")
    whole = samples.part("test")
    owners = whole.sample_id.filter(whole.present[:, whole.modalities.index("cxr")]).to_list()
    assert sorted(made["sample_id"]) == sorted(owners) and len(owners) < len(whole)


def test_what_is_there_is_not_predicted_again(run, samples, tmp_path):
    first = predict_conditions(run, lambda: samples.part("test"), [Condition(("cxr",))], tmp_path / "c")

    def fail():
        raise AssertionError("read again")

    assert predict_conditions(run, fail, [Condition(("cxr",))], tmp_path / "c").fingerprint == first.fingerprint
