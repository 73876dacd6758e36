"""Ceilings beside the figures, and the share of the attainable gain: on the same samples, with an interval that covers, and no method."""

import copy
import json

import numpy as np
import polars as pl
import pytest
import simulated_truth
from scipy.stats import norm
from simulated_truth import MODELS, MORTALITY, SIGNAL, SUBTYPING, Clinic
from sklearn import metrics as sk

from omnifuse.eval import attained, disclosure
from omnifuse.eval.ceilings import read_ceilings
from omnifuse.eval.comparisons import FUSION, compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.eval.tables import arrange

SMALL = {"resamples": 200}


@pytest.fixture(scope="module")
def clinic():
    return Clinic(patients=700)


@pytest.fixture(scope="module")
def ceilings(clinic, tmp_path_factory):
    return read_ceilings(clinic.write(tmp_path_factory.mktemp("truth") / "t"), clinic.samples(), MORTALITY)


@pytest.fixture(scope="module")
def judged(clinic, ceilings):
    return evaluate(clinic.predictions(), task=MORTALITY, ceilings=ceilings, **SMALL)


def model(evaluation, name: str) -> dict:
    return next(entry for entry in evaluation.results["models"] if entry["name"] == name)


def by_hand(clinic, modalities, metric=sk.roc_auc_score, chosen=None) -> list[float]:
    """A metric of the oracle in each fold, on the chosen samples."""
    chosen, p = np.ones(clinic.patients, bool) if chosen is None else chosen, clinic.probability(modalities)
    folds = [chosen & (clinic.fold == fold) for fold in range(simulated_truth.FOLDS)]
    return [metric(clinic.y[fold], p[fold]) for fold in folds]


@pytest.mark.parametrize(
    "name, modalities, only",
    [("unimodal (ehr)", ["ehr"], None), ("unimodal (cxr)", ["cxr"], "cxr"), ("concat (ehr+cxr)", ["ehr", "cxr"], None)],
)
def test_the_ceiling_is_the_oracle_on_the_same_samples_and_folds(clinic, judged, name, modalities, only):
    chosen = clinic.present[only] if only else None
    entry = model(judged, name)
    figures = entry["mean"][0]["metrics"]
    for metric, function in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score), ("log_loss", sk.log_loss)):
        each = by_hand(clinic, modalities, function, chosen)
        assert figures[metric]["ceiling"] == pytest.approx(np.mean(each), abs=1e-9)
        cells = [cell["rows"][0]["metrics"][metric]["ceiling"] for cell in entry["cells"]]
        np.testing.assert_allclose(cells, each, atol=1e-9)
    ceiling = entry["ceiling"]
    assert ceiling["value"] == figures["auroc"]["ceiling"] and ceiling["low"] < ceiling["value"] < ceiling["high"]
    assert ceiling["samples"] == entry["samples"] and ceiling["left_out"] == 0
    assert ceiling["difference"] == pytest.approx(figures["auroc"]["value"] - ceiling["value"], abs=1e-12)
    assert 0.01 < ceiling["error"] < 0.04 and ceiling["difference_error"] < ceiling["error"]
    assert "ceiling" not in figures["brier"] and "ceiling" not in figures["ece"]


def test_every_set_of_the_modalities_that_were_seen_is_told(clinic, judged):
    told = {row["modalities"]: row for row in judged.results["ceilings"]["sets"]}
    assert list(told) == ["ehr", "cxr", "ehr+cxr", "cxr_last"]
    for name in ("ehr", "cxr", "ehr+cxr"):
        assert told[name]["value"] == pytest.approx(np.mean(by_hand(clinic, name.split("+"))), abs=1e-9)
        assert told[name]["samples"] == clinic.patients


def test_the_share_is_the_formula_on_the_samples_that_both_scored(clinic, ceilings):
    frame = clinic.predictions((("unimodal", "cxr", 0.4), ("concat", "ehr+cxr", 0.6)))
    entry = model(evaluate(frame, task=MORTALITY, ceilings=ceilings, **SMALL), "concat (ehr+cxr)")["attainable"]
    both = {str(stay) for stay in clinic.stay[clinic.present["cxr"]]}
    assert entry["samples"] == len(both) < clinic.patients and entry["single"] == "unimodal (cxr)"
    value = {}
    for method, sets in arrange(frame, MORTALITY).items():
        kept = [test.take(np.isin(test.sample, list(both))) for test in sets]
        value[method.method] = np.mean([sk.roc_auc_score(test.y_true[:, 0], test.y_score[:, 0]) for test in kept])
    oracle = np.mean(by_hand(clinic, ["ehr", "cxr"], chosen=clinic.present["cxr"]))
    assert entry["gain"] == pytest.approx(oracle - value["unimodal"], abs=1e-9)
    assert entry["value"] == pytest.approx((value["concat"] - value["unimodal"]) / (oracle - value["unimodal"]), abs=1e-9)
    assert entry["low"] < entry["value"] < entry["high"]


@pytest.mark.parametrize("as_good_as, share", [(["ehr", "cxr"], 1.0), (["ehr"], 0.0)], ids=["the oracle", "the single one"])
def test_the_ends_of_the_share(clinic, ceilings, as_good_as, share):
    """A fusion that equals the oracle attains all, in every draw; one that equals its best single modality nothing."""
    frame = clinic.predictions((("unimodal", "ehr", 1.0), ("concat", "ehr+cxr", 1.0)))
    p = dict(zip((str(stay) for stay in clinic.stay), clinic.probability(as_good_as)))
    score = pl.when(pl.col("method") == "concat").then(pl.col("sample_id").replace_strict(p)).otherwise("y_score")
    entry = model(evaluate(frame.with_columns(y_score=score), task=MORTALITY, ceilings=ceilings, **SMALL), "concat (ehr+cxr)")
    told = entry["attainable"]
    assert [told["value"], told["low"], told["high"]] == [pytest.approx(share, abs=1e-9)] * 3
    assert not entry["ceiling"]["exceeded"]


def test_no_share_where_nothing_can_be_gained(clinic, ceilings):
    frame = clinic.predictions((("unimodal", "ehr", 1.0), ("unimodal", "cxr", 1.0), ("concat", "ehr+cxr", 0.6)), only_present=False)
    few = frame.filter(pl.col("patient_id").cast(pl.Int64) % 12 == 0)  # 58 patients: any gain may be chance
    told = [entry["attainable"] for entry in evaluate(few, task=MORTALITY, ceilings=ceilings, **SMALL).results["models"]]
    assert [entry["value"] for entry in told] == [None] * 3
    assert [entry["reason"] for entry in told[:2]] == ["a single modality"] * 2
    assert "not clearly above" in told[2]["reason"] and told[2]["gain_low"] < told[2]["gain"] < told[2]["gain_high"]
    alone = evaluate(frame.filter(pl.col("method") == "concat"), task=MORTALITY, ceilings=ceilings, **SMALL).results["models"]
    assert alone[0]["attainable"] == {"value": None, "reason": "no run with one of its modalities alone"}


def test_fieller_covers_where_a_ratio_of_draws_would_not():
    """The true share lies in 95% of the intervals, also where the gain is just three standard errors."""
    random, covered, told = np.random.default_rng(0), 0, 0
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    for _ in range(2000):
        point = random.multivariate_normal([1.5, 3.2], covariance)
        draws = random.multivariate_normal(point, covariance, 400).T
        found = attained.share(np.append(point[0], draws[0]), np.append(point[1], draws[1]))
        if found["value"] is not None:
            told += 1
            covered += found["low"] <= 1.5 / 3.2 <= found["high"]
    assert 0.93 < covered / told < 0.97 and told > 1500


@pytest.mark.parametrize("gain, error, told", [(1.0, 0.4, True), (1.0, 0.55, False), (-1.0, 0.1, False), (0.0, 0.0, False)])
def test_a_share_needs_a_gain_that_is_there(gain, error, told):
    random = np.random.default_rng(1)
    gains = np.append(gain, gain + error * random.normal(size=1000))
    found = attained.share(np.append(0.5, np.full(1000, 0.5)), gains)
    assert (found["value"] is not None) == told
    json.dumps(found, allow_nan=False)


def test_nobody_exceeds_a_ceiling_but_by_a_leak(clinic, ceilings):
    """One that saw half of the outcomes is named; the others, and its honest twin, are not."""
    frame = clinic.predictions()
    cheat = pl.when((pl.col("method") == "concat") & (pl.col("sample_id").hash(1) % 2 == 0)).then(pl.col("y_true")).otherwise("y_score")
    found = evaluate(frame.with_columns(y_score=cheat), task=MORTALITY, ceilings=ceilings, **SMALL)
    assert [entry["ceiling"]["exceeded"] for entry in found.results["models"]] == [False, False, True]
    assert [line for line in found.results["warnings"] if "look for a leak" in line and line.startswith("concat (ehr+cxr) exceeds")]
    assert not any("exceeds" in line for line in evaluate(frame, task=MORTALITY, ceilings=ceilings, **SMALL).results["warnings"])


def test_honest_methods_are_not_accused(tmp_path):
    for seed in range(6):
        clinic = Clinic(patients=120, seed=seed)
        ceilings = read_ceilings(clinic.write(tmp_path / f"{seed}"), clinic.samples(), MORTALITY)
        frame = clinic.predictions((("unimodal", "cxr", 0.98), ("unimodal", "ehr", 0.98), ("concat", "ehr+cxr+rep", 0.98)))
        assert not any("exceeds" in line for line in evaluate(frame, task=MORTALITY, ceilings=ceilings, resamples=100).results["warnings"])


def test_too_few_cases_accuse_nobody(clinic, ceilings):
    """One death that the method ranked first: draws of patients give no standard error."""
    dead = pl.col("patient_id").is_in([str(who) for who in clinic.patient[clinic.y > 0][:1]])
    frame = clinic.predictions(MODELS[:1]).filter((pl.col("y_true") == 0) | dead).with_columns(y_score=pl.col("y_true"))
    entry = evaluate(frame, task=MORTALITY, ceilings=ceilings, **SMALL).results["models"][0]
    assert entry["ceiling"]["difference"] > 0 and not entry["ceiling"]["exceeded"]


def test_samples_without_a_ceiling_are_left_out_of_it_and_told(clinic, tmp_path):
    known = clinic.stay % 4 > 0
    ceilings = read_ceilings(clinic.write(tmp_path / "t", known=known), clinic.samples(), MORTALITY)
    found = evaluate(clinic.predictions(), task=MORTALITY, ceilings=ceilings, **SMALL)
    entry = model(found, "unimodal (ehr)")
    assert entry["ceiling"]["value"] == pytest.approx(np.mean(by_hand(clinic, ["ehr"], chosen=known)), abs=1e-9)
    assert (entry["ceiling"]["samples"], entry["ceiling"]["left_out"]) == (known.sum(), (~known).sum())
    p = clinic.predictions(MODELS[:1]).filter(pl.col("part") == "test")
    p = p.filter(pl.col("sample_id").is_in([str(stay) for stay in clinic.stay[known]]))
    own = np.mean([sk.roc_auc_score(fold["y_true"], fold["y_score"]) for _, fold in p.group_by("fold")])
    assert entry["ceiling"]["difference"] == pytest.approx(own - entry["ceiling"]["value"], abs=1e-9)
    assert any(f"stands on {known.sum()} of its 700 samples" in line for line in found.results["warnings"])
    none = read_ceilings(clinic.write(tmp_path / "none", known=known & False), clinic.samples(), MORTALITY)
    empty = evaluate(clinic.predictions(), task=MORTALITY, ceilings=none, **SMALL).results
    assert {entry["ceiling"]["reason"] for entry in empty["models"]} == {"none of its samples has a ceiling"}
    assert empty["ceilings"]["sets"] == []
    told = model(found, "concat (ehr+cxr)")["attainable"]
    single = told["single"].removeprefix("unimodal (")[:3]
    assert told["samples"] == (known & clinic.present[single]).sum()
    json.dumps(empty, allow_nan=False)


def test_a_modality_that_the_truth_does_not_know_has_no_ceiling(clinic, ceilings):
    frame = clinic.predictions(MODELS[:1]).with_columns(modalities=pl.lit("ehr+dn"))
    entry = evaluate(frame, task=MORTALITY, ceilings=ceilings, **SMALL).results["models"][0]
    assert entry["ceiling"] == {"value": None, "reason": "the truth knows no ceiling of ehr+dn"}


def test_a_ceiling_is_no_method(clinic, ceilings, judged):
    """Nothing else moves: the same models, comparisons, family and chosen single modality; only what is told beside them is new."""
    plain = evaluate(clinic.predictions(), task=MORTALITY, **SMALL)
    told = copy.deepcopy(judged.results)
    for entry in told["models"]:
        del entry["ceiling"], entry["attainable"]
        for row in [*entry["mean"], *(row for cell in entry["cells"] for row in cell["rows"])]:
            for figure in row["metrics"].values():
                for key in [key for key in figure if key.startswith(("ceiling", "attained"))]:
                    del figure[key]
    del told["ceilings"]
    told["definitions"] = plain.results["definitions"]
    assert told == plain.results
    with_truth, without = (compare(one, train_patients=clinic.trained()) for one in (judged, plain))
    pairs = [{key: value for key, value in pair.items() if key != "attainable"} for pair in with_truth["pairs"]]
    assert pairs == without["pairs"] and with_truth["family"] == without["family"]
    fusion = [pair for pair in with_truth["pairs"] if pair["question"] == FUSION]
    assert [pair["attainable"] for pair in fusion] == [model(judged, "concat (ehr+cxr)")["attainable"]]


def test_seeds_are_no_further_folds_of_the_oracle(clinic, ceilings, judged):
    several = evaluate(clinic.predictions(seeds=(0, 1)), task=MORTALITY, ceilings=ceilings, **SMALL)
    for name in ("unimodal (ehr)", "concat (ehr+cxr)"):
        one, two = (model(found, name)["ceiling"] for found in (judged, several))
        assert [one[key] for key in ("value", "low", "high", "error")] == [two[key] for key in ("value", "low", "high", "error")]


def test_classes_have_a_ceiling_each(tmp_path):
    lesions, samples = simulated_truth.write_lesions(tmp_path / "t", patients=120)
    ceilings = read_ceilings(tmp_path / "t", samples, SUBTYPING)
    y = np.array(samples["y"].to_list())[:, 0].astype(int)
    score = np.random.default_rng(0).dirichlet(np.ones(3), 120)
    ids = {name: samples[name].to_numpy().repeat(3) for name in ("sample_id", "patient_id")}
    frame = pl.DataFrame(
        {
            "run_id": "r", "method": "unimodal", "modalities": "ct", "seed": 0, "fold": np.repeat(np.arange(120) % 2, 3), "part": "test",
            "head": "final", **ids,
            "label_name": list(SUBTYPING.labels) * 120, "y_true": np.eye(3)[y].ravel(), "y_mask": True, "y_score": score.ravel(),
        }
    )  # fmt: skip
    entry = evaluate(frame, task=SUBTYPING, ceilings=ceilings, **SMALL).results["models"][0]
    p = np.array(lesions["p_ct"].to_list()).reshape(120, 3, 2).sum(2)
    each = [[sk.roc_auc_score(y[f::2] == label, p[f::2, label]) for label in range(3)] for f in range(2)]
    assert entry["ceiling"]["value"] == pytest.approx(np.mean(each), abs=1e-9)
    found = {row["label"]: row["metrics"].get("auroc", {}).get("ceiling") for row in entry["mean"]}
    np.testing.assert_allclose([found[label] for label in SUBTYPING.labels], np.mean(each, axis=0), atol=1e-9)


def test_small_cells_hide_their_ceiling_too(clinic, ceilings):
    frame = clinic.predictions().filter(pl.col("patient_id").cast(pl.Int64) % 12 == 0)
    evaluation = evaluate(frame, task=MORTALITY, ceilings=ceilings, **SMALL)
    hidden = disclosure.suppress(evaluation.results, 30)
    for entry in hidden["models"]:
        assert entry["ceiling"]["value"] is None and entry["attainable"]["value"] is None and "not shown" in entry["ceiling"]["reason"]
        assert "ceiling" not in entry["mean"][0]["metrics"]["auroc"]
    assert hidden["ceilings"]["sets"] == [] and evaluation.results["ceilings"]["sets"]


def test_the_oracle_of_the_tests_is_one():
    """The closed form behind the tests: AUROC of the product of normals."""
    clinic = Clinic(patients=40_000)
    for names in (["ehr"], ["ehr", "rep"]):
        expected = norm.cdf(np.sqrt(sum(SIGNAL[name] ** 2 for name in names) / 2))
        assert sk.roc_auc_score(clinic.y, clinic.probability(names)) == pytest.approx(expected, abs=0.01)
