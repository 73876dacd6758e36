"""True qualities from the truth, and the correlation of a method's weights with them."""

import json

import numpy as np
import polars as pl
import pytest
import simulated_truth
from scipy.stats import spearmanr
from simulated_truth import MORTALITY, Clinic

from omnifuse.eval import disclosure, quality
from omnifuse.eval.bootstrap import PatientBootstrap
from omnifuse.eval.ceilings import read_ceilings
from omnifuse.eval.comparisons import compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.eval.report import write_report
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import PREDICTION_COLUMNS, InputError

MODELS = (("omnifuse", "cxr+ehr+rep", 0.8),)


@pytest.fixture(scope="module")
def clinic():
    return Clinic(patients=300)


@pytest.fixture(scope="module")
def truth(clinic, tmp_path_factory):
    return clinic.write(tmp_path_factory.mktemp("truth") / "t")


def write_runs(folder, clinic, weigh, models=MODELS) -> list[store.Artefact]:
    """A run a fold, with `weigh(modality)` [patients] as its weights."""
    runs = []
    for (fold, method, modalities), own in sorted(
        clinic.predictions(models).group_by("fold", "method", "modalities"), key=lambda item: item[0]
    ):
        frames = [
            own.select("sample_id", "part").join(
                pl.DataFrame({"sample_id": clinic.samples()["sample_id"], "modality": name, "omega": weigh(name)}), on="sample_id"
            )
            for name in modalities.split("+")
        ]
        meta = {"method": method, "task": "mortality", "modalities": modalities.split("+"), "fold": fold, "seed": 0}
        with store.create(folder / f"{method}{fold}", "run", fingerprint=f"{method}{fold}", meta=meta) as out:
            store.write_parquet(out.path("predictions/full.parquet"), own.select(PREDICTION_COLUMNS))
            store.write_parquet(out.path(quality.WEIGHTS), pl.concat(frames))
        runs.append(store.open(folder / f"{method}{fold}", "run"))
    return runs


def judged(clinic, truth, runs, models=MODELS):
    samples = clinic.samples()
    ceilings = read_ceilings(truth, samples, MORTALITY)
    evaluation = evaluate(clinic.predictions(models), task=MORTALITY, resamples=100, ceilings=ceilings)
    quality.judge(evaluation, runs, truth, samples)
    return evaluation


def test_each_sample_gets_its_patients_noise_and_the_share_of_spoilt_items(clinic, truth):
    found = quality.read_quality(truth, clinic.samples())
    assert set(found["modality"]) == {"cxr", "rep"} and len(found) == 2 * clinic.patients
    for name in ("cxr", "rep"):
        told = dict(found.filter(pl.col("modality") == name).select("sample_id", "noise").iter_rows())
        assert [told[str(stay)] for stay in clinic.stay] == clinic.noise[name].tolist()
    assert (found["quality"] == -found["noise"]).all()
    films = dict(found.filter(pl.col("modality") == "cxr").select("sample_id", "spoilt").iter_rows())
    for stay, there in zip(clinic.stay, clinic.present["cxr"]):
        assert films[str(stay)] == (float(stay % 10 == 0) if there else None)  # none in the archive: nothing to spoil
    reports = found.filter(pl.col("modality") == "rep")["spoilt"]
    assert (reports == 0).all()  # a text cut off after the window does not count
    present = dict(found.filter(pl.col("modality") == "cxr").select("sample_id", "present").iter_rows())
    assert [present[str(stay)] for stay in clinic.stay] == clinic.present["cxr"].tolist()


def test_predictions_tell_the_same_but_not_what_is_present(clinic, truth):
    found = quality.read_quality(truth, clinic.predictions(MODELS)).sort("sample_id", "modality")
    whole = quality.read_quality(truth, clinic.samples()).sort("sample_id", "modality")
    assert found["present"].is_null().all()
    assert found.drop("present").equals(whole.drop("present"))


def test_the_lung_tells_its_own(tmp_path):
    lesions, samples = simulated_truth.write_lesions(tmp_path / "t")
    found = quality.read_quality(tmp_path / "t", samples)
    assert found.filter(pl.col("modality") == "pet").sort("sample_id")["noise"].to_list() == lesions["noise_pet"].to_list()
    assert set(found["modality"]) == {"ct", "pet"} and found.filter(pl.col("modality") == "ct")["spoilt"].is_null().all()
    expected = [float(bad) if there else None for bad, there in lesions.select("corrupt_pet", "present_pet").iter_rows()]
    assert found.filter(pl.col("modality") == "pet").sort("sample_id")["spoilt"].to_list() == expected


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_that_of_scipy_and_weights_are_repetitions(ties):
    random = np.random.default_rng(0)
    x, y = random.normal(size=80), random.normal(size=80)
    y += 0.6 * x
    x, y = (np.round(x), np.round(y)) if ties else (x, y)
    who = random.integers(0, 30, 80)
    resampler = PatientBootstrap(np.zeros(30), 40, 1)
    found = quality.spearman_draws(x, y, who, resampler)
    assert found[0] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    counts = np.concatenate(list(resampler.blocks()), axis=1)
    for draw in range(40):
        repeated = np.repeat(np.arange(80), counts[who, draw].astype(int))
        assert found[1 + draw] == pytest.approx(spearmanr(x[repeated], y[repeated]).statistic, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_that_follow_the_quality_are_found(clinic, truth, tmp_path, sign):
    def weigh(name):
        noise = clinic.noise.get(name, np.ones(clinic.patients))
        return clinic.present[name] * (0.5 - sign * 0.1 * noise).clip(0.01, 0.99)

    evaluation = judged(clinic, truth, write_runs(tmp_path, clinic, weigh))
    told = {entry["modality"]: entry for entry in evaluation.results["models"][0]["omega_quality"]}
    assert list(told) == ["cxr", "ehr", "rep"]
    for name in ("cxr", "rep"):
        assert told[name]["rho"] == pytest.approx(sign) and told[name]["folds"] == 5
    assert told["cxr"]["samples"] == clinic.present["cxr"].sum() and told["rep"]["samples"] == clinic.patients
    assert told["ehr"]["rho"] is None and told["ehr"]["reason"] == quality.UNTOLD


def test_weights_that_know_nothing_of_it_are_not(clinic, truth, tmp_path):
    random = np.random.default_rng(2)
    weights = {name: clinic.present[name] * random.uniform(0.1, 0.9, clinic.patients) for name in ("cxr", "ehr", "rep")}
    evaluation = judged(clinic, truth, write_runs(tmp_path, clinic, weights.__getitem__))
    entry = evaluation.results["models"][0]["omega_quality"][2]
    folds = [np.flatnonzero(clinic.fold == fold) for fold in range(5)]
    each = [spearmanr(weights["rep"][fold], -clinic.noise["rep"][fold]).statistic for fold in folds]
    assert entry["rho"] == pytest.approx(np.mean(each), abs=1e-12)
    assert entry["low"] < 0 < entry["high"] and 0.1 < entry["high"] - entry["low"] < 0.4
    json.dumps(evaluation.results, allow_nan=False)


def test_a_modality_that_is_alone_weighs_one_and_does_not_count(clinic, truth, tmp_path):
    """Where film and report are all there is, the report alone has weight 1: that says nothing of its quality."""
    models = (("omnifuse", "cxr+rep", 0.8),)
    random = np.random.default_rng(3)
    share = random.uniform(0.1, 0.9, clinic.patients)
    weights = {"cxr": clinic.present["cxr"] * share, "rep": np.where(clinic.present["cxr"], 0.5 - 0.1 * clinic.noise["rep"], 1.0)}
    evaluation = judged(clinic, truth, write_runs(tmp_path, clinic, weights.__getitem__, models), models)
    entry = evaluation.results["models"][0]["omega_quality"][1]
    beside = int(clinic.present["cxr"].sum())
    assert entry["rho"] == pytest.approx(1) and (entry["samples"], entry["alone"]) == (beside, clinic.patients - beside)


def test_equal_weights_have_no_correlation(clinic, truth, tmp_path):
    evaluation = judged(clinic, truth, write_runs(tmp_path, clinic, lambda name: np.full(clinic.patients, 0.5)))
    assert evaluation.results["models"][0]["omega_quality"][2]["reason"] == "the weights, or the quality, do not vary"


def test_runs_without_weights_say_nothing_and_broken_ones_one_line(clinic, truth, tmp_path):
    runs = write_runs(tmp_path, clinic, lambda name: np.full(clinic.patients, 0.5))
    evaluation = judged(clinic, truth, [])
    assert "omega_quality" not in evaluation.results["models"][0]
    with store.create(tmp_path / "broken", "run", fingerprint="b", meta=runs[0].meta) as out:
        store.write_parquet(out.path(quality.WEIGHTS), pl.DataFrame({"sample_id": ["1"], "part": ["test"], "modality": ["rep"]}))
    with pytest.raises(InputError, match="lacks the column omega"):
        judged(clinic, truth, [store.open(tmp_path / "broken", "run")])


def test_the_page_shows_it_and_hides_small_cells(clinic, truth, tmp_path):
    random = np.random.default_rng(4)
    weights = {name: random.uniform(0.1, 0.9, clinic.patients) for name in ("cxr", "ehr", "rep")}
    evaluation = judged(clinic, truth, write_runs(tmp_path / "runs", clinic, weights.__getitem__))
    report, results, _ = write_report(tmp_path / "report", evaluation, compare(evaluation, train_patients=clinic.trained()))
    page = report.file("report.html").read_text()
    rho = results["models"][0]["omega_quality"][0]["rho"]
    assert "Do the weights follow the quality?" in page and f"{rho:+.2f}".replace("-", "\u2212") in page
    assert quality.UNTOLD not in page
    hidden = disclosure.suppress(evaluation.results, 1000)["models"][0]["omega_quality"]
    assert all(entry["rho"] is None and entry["samples"] is None for entry in hidden if entry["modality"] != "ehr")
