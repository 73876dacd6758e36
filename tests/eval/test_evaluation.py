"""From a prediction table to figures: against scikit-learn fold by fold, with labels that have no value, and tables that are wrong."""

import json

import numpy as np
import polars as pl
import pytest
import simulated
from sklearn import metrics as sk

from omnifuse.eval import tables
from omnifuse.eval.evaluation import evaluate
from omnifuse.preprocess.schema import InputError, Task

TWO = (("unimodal", "ehr", 0.8), ("omnifuse", "ehr+cxr", 1.2))
SMALL = {"resamples": 40}


def row(results, model: int = -1, label: str | None = None) -> dict:
    return next(row for row in results["models"][model]["mean"] if row["label"] == (label or results["row"]))


def by_fold(frame: pl.DataFrame, method: str, label: str, metric) -> list[float]:
    """A metric of scikit-learn on each test fold, NaN where a class is missing."""
    own = frame.filter((pl.col("part") == "test") & (pl.col("method") == method) & (pl.col("label_name") == label))
    found = []
    for _, fold in sorted(own.group_by("fold"), key=lambda item: item[0]):
        known = fold.filter("y_mask")
        y, score = known["y_true"].to_numpy(), known["y_score"].to_numpy()
        found.append(metric(y, score) if len(set(y)) == 2 else np.nan)
    return found


@pytest.mark.parametrize("task", [simulated.BINARY, simulated.MULTILABEL, simulated.MULTICLASS], ids=lambda task: task.kind)
def test_means_over_folds_equal_scikit_learn(task):
    frame = simulated.predictions(task, TWO)
    results = evaluate(frame, task=task, **SMALL).results
    json.dumps(results, allow_nan=False)
    for name, metric in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score), ("brier", sk.brier_score_loss)):
        each = {label: np.mean(by_fold(frame, "omnifuse", label, metric)) for label in task.labels}
        for label, value in each.items():
            assert row(results, label=label)["metrics"][name]["value"] == pytest.approx(value, abs=1e-9)
        assert row(results)["metrics"][name]["value"] == pytest.approx(np.mean(list(each.values())), abs=1e-9)
    entry = row(results)["metrics"]["auroc"]
    assert entry["low"] < entry["value"] < entry["high"]
    assert results["models"][-1]["mean"][0]["label"] == results["row"]


def test_the_averages_of_other_kinds():
    frame = simulated.predictions(simulated.MULTILABEL, TWO).filter(pl.col("method") == "omnifuse")
    test = frame.filter(pl.col("part") == "test")
    micro = [sk.roc_auc_score(fold["y_true"], fold["y_score"]) for _, fold in test.group_by("fold")]
    found = row(evaluate(frame, task=simulated.MULTILABEL, **SMALL).results, label="micro")
    assert found["metrics"]["auroc"]["value"] == pytest.approx(np.mean(micro), abs=1e-9)

    frame = simulated.predictions(simulated.MULTICLASS, TWO).filter(pl.col("method") == "omnifuse")
    losses = []
    for _, fold in frame.filter(pl.col("part") == "test").group_by("fold"):
        wide = fold.pivot("label_name", index="sample_id", values="y_score").select(simulated.MULTICLASS.labels).to_numpy()
        truth = fold.pivot("label_name", index="sample_id", values="y_true").select(simulated.MULTICLASS.labels).to_numpy().argmax(1)
        losses.append(sk.log_loss(truth, wide / wide.sum(1, keepdims=True), labels=[0, 1, 2]))
    found = row(evaluate(frame, task=simulated.MULTICLASS, **SMALL).results, label="all classes")
    assert found["metrics"]["log_loss"]["value"] == pytest.approx(np.mean(losses), abs=1e-9)
    assert set(found["metrics"]) == {"accuracy", "kappa", "log_loss", "brier"} and found["positives"] is None


def test_a_label_without_positives_is_null_and_macro_says_k_of_n():
    task, (empty, full, rare) = simulated.MULTILABEL, simulated.MULTILABEL.labels[:3]
    frame = simulated.predictions(task, TWO)
    frame = frame.with_columns(
        y_true=pl.when(pl.col("label_name") == empty).then(0.0).when(pl.col("label_name") == full).then(1.0)
        .when((pl.col("label_name") == rare) & (pl.col("fold") == 2) & (pl.col("part") == "test")).then(0.0).otherwise("y_true")
    )  # fmt: skip
    results = evaluate(frame.filter(pl.col("part") == "test"), task=task, **SMALL).results
    json.dumps(results, allow_nan=False)
    for label, reason in ((empty, "no positives"), (full, "no negatives")):
        for entry in row(results, label=label)["metrics"].values():
            assert entry == {"value": None, "reason": reason}
    macro = row(results)["metrics"]["auroc"]
    assert (macro["k"], macro["k_least"], macro["n"]) == (4, 3, 6)
    each = np.array([by_fold(frame, "omnifuse", label, sk.roc_auc_score) for label in task.labels])  # [labels, folds]
    assert macro["value"] == pytest.approx(np.nanmean(np.nanmean(each[2:], axis=0)), abs=1e-9)
    assert row(results, label=rare)["metrics"]["auroc"]["folds"] == 4
    cell = next(cell for cell in results["models"][-1]["cells"] if cell["fold"] == 2)
    assert cell["rows"][0]["metrics"]["auroc"]["k"] == 3


@pytest.mark.parametrize("value, reason", [(0.0, "no positives"), (1.0, "no negatives")])
def test_a_task_of_one_class_is_null_with_its_reason(value, reason):
    frame = simulated.predictions(simulated.BINARY, TWO).with_columns(y_true=pl.lit(value))
    results = evaluate(frame, task=simulated.BINARY, **SMALL).results
    json.dumps(results, allow_nan=False)
    assert all(entry == {"value": None, "reason": reason} for entry in row(results)["metrics"].values())
    assert results["models"][0]["validation_auroc"] is None


def test_one_patient_is_no_error():
    frame = simulated.predictions(simulated.BINARY, TWO[:1]).filter(pl.col("patient_id") == "canary-3")
    results = evaluate(frame, task=simulated.BINARY, **SMALL).results
    assert row(results)["metrics"]["auroc"]["value"] is None and row(results)["patients"] == 1


def test_unknown_labels_do_not_count():
    frame = simulated.predictions(simulated.MULTILABEL, TWO)
    masked = frame.with_columns(y_mask=pl.col("sample_id").hash(3) % 3 > 0)
    told = evaluate(masked, task=simulated.MULTILABEL, **SMALL).results
    left_out = evaluate(masked.filter("y_mask"), task=simulated.MULTILABEL, **SMALL).results
    changed = masked.with_columns(y_true=pl.when("y_mask").then("y_true").otherwise(1 - pl.col("y_true")))
    for label in (None, "micro", simulated.MULTILABEL.labels[0]):
        for name in ("auroc", "ece"):
            value = row(told, label=label)["metrics"][name]["value"]
            assert value == pytest.approx(row(left_out, label=label)["metrics"][name]["value"], abs=1e-12)
    assert evaluate(changed, task=simulated.MULTILABEL, **SMALL).results == told


def test_the_order_of_rows_changes_nothing():
    frame = simulated.predictions(simulated.MULTILABEL, TWO)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    first, second = (evaluate(table, task=simulated.MULTILABEL, **SMALL).results for table in (frame, shuffled))
    assert json.dumps(first) == json.dumps(second)
    assert json.dumps(first) != json.dumps(evaluate(frame, task=simulated.MULTILABEL, resamples=40, seed=1).results)


def test_seeds_of_a_fold_are_averaged_and_their_spread_is_told():
    frame = simulated.predictions(simulated.BINARY, TWO, seeds=(0, 1, 2))
    entry = evaluate(frame, task=simulated.BINARY, **SMALL).results["models"][-1]
    each = [np.mean(by_fold(frame.filter(pl.col("seed") == seed), "omnifuse", "mortality", sk.roc_auc_score)) for seed in range(3)]
    assert entry["mean"][0]["metrics"]["auroc"]["value"] == pytest.approx(np.mean(each), abs=1e-9)
    assert entry["sd_seeds"] == pytest.approx(np.std(each, ddof=1), abs=1e-9)
    assert (entry["seeds"], len(entry["cells"])) == ([0, 1, 2], 15)
    one = evaluate(frame.filter(pl.col("seed") == 0), task=simulated.BINARY, **SMALL).results["models"][-1]
    assert (entry["samples"], entry["mean"][0]["positives"]) == (one["samples"], one["mean"][0]["positives"])


def test_draws_in_which_a_fold_lost_its_outcome_are_counted():
    world = simulated.World(simulated.BINARY, patients=60, prevalence=0.06)
    frame = simulated.predictions(simulated.BINARY, TWO[:1], world=world)
    results = evaluate(frame, task=simulated.BINARY, resamples=300).results
    positive = {fold: int(world.y[world.fold[world.owner] == fold].sum()) for fold in range(simulated.FOLDS)}
    assert min(value for value in positive.values() if value) <= 2  # the case is meant to be small
    assert 0 < row(results)["metrics"]["auroc"]["degenerate"] < 300
    assert any("only" in line and "cover less" in line for line in results["warnings"])


def test_calibration_errors_get_the_range_of_perfect_probabilities_instead_of_an_interval():
    entry = row(evaluate(simulated.predictions(simulated.BINARY, TWO), task=simulated.BINARY, **SMALL).results)["metrics"]["ece"]
    assert set(entry) == {"value", "perfect_low", "perfect_high", "folds", "sd_folds"}
    assert 0 < entry["perfect_low"] < entry["perfect_high"] < 0.3


def test_the_final_head_speaks_for_a_method_that_has_one():
    frame = simulated.predictions(simulated.BINARY, TWO[1:])
    other = frame.with_columns(head=pl.lit("ehr"), y_score=1 - pl.col("y_score"))
    both = pl.concat([frame, other])
    assert evaluate(both, task=simulated.BINARY, **SMALL).results == evaluate(frame, task=simulated.BINARY, **SMALL).results
    names = [entry["name"] for entry in evaluate(both, task=simulated.BINARY, every_head=True, **SMALL).results["models"]]
    assert names == ["omnifuse (ehr+cxr) [ehr]", "omnifuse (ehr+cxr) [final]"]


def test_patients_that_taught_the_weights_are_counted_by_fold():
    parts = pl.DataFrame(
        {"fold": [0, 0, 0, 1, 1, 1], "patient_id": [1, 2, 3, 1, 2, 3], "part": ["train", "train", "test", "train", "val", "train"]}
    )
    samples = pl.DataFrame({"patient_id": [1, 1, 2, 5]})
    assert tables.train_patients(parts, samples) == {0: 2, 1: 1}


CHANGES = {
    "a column is missing": (lambda f: f.drop("y_mask"), "lack the column y_mask"),
    "a strange label": (lambda f: f.with_columns(label_name=pl.lit("x\x1b[31m")), "does not have: x\ufffd"),
    "logits": (lambda f: f.with_columns(y_score=pl.col("y_score") * 9 - 3), "lie outside"),
    "NaN": (lambda f: f.with_columns(y_score=pl.when(pl.col("fold") == 1).then(float("nan")).otherwise("y_score")), "lie outside"),
    "an outcome of 2": (lambda f: f.with_columns(y_true=pl.col("y_true") * 2), "neither 0 nor 1"),
    "text for a score": (lambda f: f.with_columns(y_score=pl.lit("canary")), "of another type"),
    "a fold twice": (lambda f: pl.concat([f, f.with_columns(run_id=pl.lit("other"))]), "two runs of omnifuse"),
    "no test part": (lambda f: f.filter(pl.col("part") != "test"), "no sample of the part test"),
    "two truths": (
        lambda f: f.with_columns(y_true=pl.when((pl.col("method") == "omnifuse") & (pl.col("fold") == 0)).then(1.0).otherwise("y_true")),
        "disagree on the outcome",
    ),
    "two owners": (lambda f: f.with_columns(patient_id=pl.col("method")), "disagree on the patient"),
}


@pytest.mark.parametrize("change, told", CHANGES.values(), ids=CHANGES)
def test_a_wrong_table_is_refused_without_a_value(change, told):
    with pytest.raises(InputError, match=told) as caught:
        evaluate(change(simulated.predictions(simulated.BINARY, TWO)), task=simulated.BINARY, **SMALL)
    assert "canary" not in str(caught.value) and "sample-" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda f: f.filter(pl.col("label_name") != "over 7 days"), "lack some class"),
        (lambda f: f.with_columns(y_score=pl.col("y_score") / 2), "do not sum to one"),
        (lambda f: f.with_columns(y_true=pl.lit(0.0)), "exactly one true class"),
    ],
)
def test_a_wrong_multi_class_table_is_refused(change, told):
    with pytest.raises(InputError, match=told):
        evaluate(change(simulated.predictions(simulated.MULTICLASS, TWO)), task=simulated.MULTICLASS, **SMALL)


def test_a_label_named_like_an_average_is_refused():
    task = Task("x", "multilabel", ("macro", "other"))
    with pytest.raises(InputError, match="named macro"):
        evaluate(simulated.predictions(task, TWO[:1]), task=task, **SMALL)


def test_few_events_are_counted_where_most_samples_are():
    """A modality that few patients have says nothing of the others, wherever it stands."""
    frame = simulated.predictions()
    alone = pl.col("modalities") == "cxr"
    few = frame.filter(alone).group_by("fold", "part", "y_true", maintain_order=True).head(1).select(frame.columns)
    found = evaluate(pl.concat([few, frame.filter(~alone)]), task=simulated.BINARY, resamples=20)
    assert next(iter(found.tests)).inputs == ("cxr",)
    assert not any("samples with the outcome" in text or "sample with the outcome" in text for text in found.results["warnings"])
