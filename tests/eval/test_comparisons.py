"""Paired comparisons: which pairs, on which samples, by which test, with which words."""

import json

import numpy as np
import polars as pl
import pytest
import simulated
from scipy import stats
from sklearn.metrics import roc_auc_score

from omnifuse.eval import comparisons, statistics
from omnifuse.eval.comparisons import FUSION, METHOD, compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.preprocess.schema import ConfigError

BINARY = simulated.BINARY
SMALL = {"resamples": 60}


def judged(frame: pl.DataFrame, task=BINARY, **options):
    evaluation = evaluate(frame, task=task, **SMALL)
    world = simulated.World(task)
    return compare(evaluation, train_patients=simulated.trained(world), **options)


def fold_scores(frame: pl.DataFrame, method: str, modalities: str) -> np.ndarray:
    own = frame.filter((pl.col("method") == method) & (pl.col("modalities") == modalities) & (pl.col("part") == "test"))
    return np.array([roc_auc_score(fold["y_true"], fold["y_score"]) for _, fold in sorted(own.group_by("fold"), key=lambda item: item[0])])


def test_every_fusion_stands_beside_its_best_single_modality():
    models = (*simulated.MODELS, ("unimodal", "rep", 2.0), ("concat", "cxr+rep", 1.0))
    found = judged(simulated.predictions(models=models))
    pairs = {(pair["a"], pair["b"], pair["question"]) for pair in found["pairs"]}
    assert pairs == {
        ("concat (ehr+cxr)", "unimodal (ehr)", FUSION),
        ("omnifuse (ehr+cxr)", "unimodal (ehr)", FUSION),  # not rep: it is no input of this fusion
        ("concat (cxr+rep)", "unimodal (rep)", FUSION),
        ("omnifuse (ehr+cxr)", "concat (ehr+cxr)", METHOD),
    }
    assert found["family"] == 4


def test_a_modality_of_too_few_patients_is_not_the_best_one():
    others = [model for model in simulated.MODELS if model[1] != "cxr"]
    frame = simulated.predictions(models=(*others, ("unimodal", "cxr", 6.0)))
    against = lambda frame: {pair["b"] for pair in judged(frame)["pairs"] if pair["question"] == FUSION}
    assert against(frame) == {"unimodal (cxr)"}
    alone = pl.col("modalities") == "cxr"
    few = frame.filter(alone).group_by("fold", "part", "y_true", maintain_order=True).head(1).filter(pl.col("fold") < 4)
    assert against(pl.concat([frame.filter(~alone), few.select(frame.columns)])) == {"unimodal (ehr)"}


def test_the_test_is_the_corrected_one_with_the_true_ratio():
    frame = simulated.predictions()
    found = judged(frame)
    pair = next(pair for pair in found["pairs"] if pair["a"].startswith("omnifuse") and pair["question"] == FUSION)
    d = fold_scores(frame, "omnifuse", "ehr+cxr") - fold_scores(frame, "unimodal", "ehr")
    np.testing.assert_allclose(pair["differences"], d, atol=1e-12)
    world = simulated.World(BINARY)
    ratio = 50 / np.mean(list(simulated.trained(world).values()))  # 250 patients in five test folds; only the part train counts
    assert pair["n_test"] == 50 and pair["variance_factor"] == pytest.approx(0.2 + ratio)
    t = d.mean() / (d.std(ddof=1) * np.sqrt(0.2 + ratio))
    assert (pair["t"], pair["p"]) == (pytest.approx(t), pytest.approx(2 * stats.t.sf(abs(t), 4)))
    assert pair["paper_p"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue) and pair["paper_p"] < pair["p"]
    assert pair["verdict"] == statistics.verdict(statistics.correlated_bayes(d, ratio))
    half = stats.t.isf(0.025, 4) * d.mean() / t
    assert (pair["low"], pair["high"]) == (pytest.approx(d.mean() - half), pytest.approx(d.mean() + half))
    adjusted = statistics.holm([pair["p"] for pair in found["pairs"]])
    assert [pair["p_holm"] for pair in found["pairs"]] == adjusted


def test_seeds_of_one_fold_are_not_more_evidence():
    frame = simulated.predictions(seeds=(0, 1, 2))
    pair = judged(frame)["pairs"][0]
    assert pair["folds"] == 5 and pair["df"] == 4
    a, b = (
        np.mean([fold_scores(frame.filter(pl.col("seed") == s), *model) for s in range(3)], axis=0)
        for model in (("concat", "ehr+cxr"), ("unimodal", "ehr"))
    )
    np.testing.assert_allclose(pair["differences"], a - b, atol=1e-12)


def test_models_are_judged_on_the_samples_that_both_scored():
    frame = simulated.predictions()
    some = (pl.col("method") != "unimodal") | (pl.col("sample_id").hash(1) % 4 > 0)
    found = judged(frame.filter(some))
    shared = frame.filter((pl.col("method") == "unimodal") & (pl.col("modalities") == "ehr") & some)["sample_id"].unique().to_list()
    pair = next(pair for pair in found["pairs"] if pair["question"] == FUSION and pair["a"].startswith("omnifuse"))
    both = frame.filter(pl.col("sample_id").is_in(shared))
    d = fold_scores(both, "omnifuse", "ehr+cxr") - fold_scores(both, "unimodal", "ehr")
    np.testing.assert_allclose(pair["differences"], d, atol=1e-12)
    assert pair["left_out"] == frame["sample_id"].n_unique() - len(shared) > 0
    whole = next(pair for pair in found["pairs"] if pair["question"] == METHOD)
    assert whole["left_out"] == 0


def test_nothing_shared_is_told_and_leaves_the_family():
    frame = simulated.predictions()
    odd = pl.col("sample_id").hash(2) % 2 == 0
    found = judged(frame.filter(pl.when(pl.col("modalities") == "ehr+cxr").then(odd).otherwise(~odd)))
    pair = found["pairs"][0]
    assert pair["difference"] is None and "no fold" in pair["reason"] and pair["p_holm"] is None
    assert pair["verdict"] == "cannot be told"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "models, expected",
    [
        ((("unimodal", "ehr", 0.8), ("omnifuse", "ehr+cxr", 3.0)), "helps"),
        ((("unimodal", "ehr", 3.0), ("omnifuse", "ehr+cxr", 0.5)), "harms"),
        ((("unimodal", "ehr", 0.8), ("omnifuse", "ehr+cxr", 0.85)), "cannot be told"),
    ],
)
def test_verdicts(models, expected):
    assert judged(simulated.predictions(models=models))["pairs"][0]["verdict"] == expected


def test_equal_models_are_equivalent():
    frame = simulated.predictions(models=simulated.MODELS[:1])
    twin = frame.with_columns(method=pl.lit("concat"), modalities=pl.lit("ehr+cxr"), run_id=pl.lit("twin"))
    pair = judged(pl.concat([frame, twin]))["pairs"][0]
    assert (pair["difference"], pair["p"], pair["verdict"]) == (0.0, 1.0, "equivalent")


@pytest.mark.parametrize("one_each, expected", [(True, "DeLong"), (False, "patient bootstrap")])
def test_one_held_out_set(one_each, expected):
    world = simulated.World(BINARY, patients=400, one_each=one_each)
    frame = simulated.predictions(world=world, folds=[0])
    pair = compare(evaluate(frame, task=BINARY, resamples=400), train_patients={})["pairs"][0]
    assert pair["test"] == expected and 0 < pair["p"] <= 1
    a = frame.filter((pl.col("part") == "test") & (pl.col("method") == "concat")).sort("sample_id")
    b = frame.filter((pl.col("part") == "test") & (pl.col("modalities") == pair["b"][-4:-1])).sort("sample_id")
    if one_each:
        told = statistics.delong(a["y_true"], a["y_score"], b["y_score"], a["patient_id"])
        assert (pair["p"], pair["difference"]) == (pytest.approx(told.p), pytest.approx(told.difference))
    width = pair["high"] - pair["low"]
    assert width == pytest.approx(pair["bootstrap_high"] - pair["bootstrap_low"], rel=0.25)


@pytest.mark.parametrize("cases, tested", [(1, False), (4, False), (5, True)])
def test_a_handful_of_cases_on_one_set_gives_a_difference_and_no_test(cases, tested):
    frame = simulated.predictions(world=simulated.World(BINARY, patients=400, one_each=True), folds=[0])
    some = frame.filter((pl.col("part") == "test") & (pl.col("y_true") == 1))["sample_id"].unique().sort()[cases:]
    kept = frame.filter(~((pl.col("part") == "test") & pl.col("sample_id").is_in(some.implode())))
    pair = compare(evaluate(kept, task=BINARY, resamples=200), train_patients={})["pairs"][0]
    assert pair["difference"] is not None and (pair["p"] is not None) == tested
    if not tested:
        assert (pair["verdict"], pair["low"], pair["p_holm"], pair["reason"]) == ("cannot be told", None, None, comparisons.TOO_FEW)


def test_the_macro_average_is_compared_where_there_are_labels():
    task = simulated.MULTILABEL
    frame = simulated.predictions(task)
    pair = judged(frame, task)["pairs"][-1]
    scores = {}
    for method in ("omnifuse", "concat"):
        own = frame.filter((pl.col("method") == method) & (pl.col("part") == "test"))
        each = [fold_scores(own.filter(pl.col("label_name") == label), method, "ehr+cxr") for label in task.labels]
        scores[method] = np.mean(each, axis=0)
    np.testing.assert_allclose(pair["differences"], scores["omnifuse"] - scores["concat"], atol=1e-12)


def test_a_reference_that_has_no_run_is_refused():
    with pytest.raises(ConfigError, match="no run of the reference method omnifus "):
        judged(simulated.predictions(), reference="omnifus")
    found = judged(simulated.predictions(), reference="omnifuse")["pairs"]
    assert [(pair["a"], pair["b"]) for pair in found if pair["question"] == METHOD] == [("concat (ehr+cxr)", "omnifuse (ehr+cxr)")]


def test_folds_without_their_training_patients_are_refused():
    with pytest.raises(ConfigError, match="training patients of fold 3 is not told"):
        compare(evaluate(simulated.predictions(), task=BINARY, **SMALL), train_patients={0: 9, 1: 9, 2: 9, 4: 9})


def test_single_modalities_alone_need_no_comparison():
    found = judged(simulated.predictions(models=simulated.MODELS[:2]))
    assert found["pairs"] == [] and found["family"] == 0
    assert comparisons.METRIC == "auroc"
