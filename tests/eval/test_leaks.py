"""What was seen by a model that leaks is never shown without its mark, and unmarked numbers are of models that do not."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
import simulated
from test_report import SMALL, Page

from omnifuse.eval import leaks, page
from omnifuse.eval.evaluation import evaluate
from omnifuse.eval.report import build_report
from omnifuse.eval.tables import Model

REASON = "a note that is written when the stay is over"
MODELS = (("unimodal", "ehr", 0.8), ("unimodal", "dn", 2.0), ("concat", "ehr+dn", 2.2), ("concat", "ehr+cxr", 0.9), ("late", "ehr+dn", 2.1))


def leaking(task):
    return replace(task, notes={**task.notes, "leaks": {"dn": REASON, "sig": "nobody saw it"}})


@pytest.mark.parametrize(
    "modalities, leak, told",
    [
        ("ehr+dn", "dn", "ehr+dn†leak"),
        ("dn+sig", "dn+sig", "dn†leak+sig†leak"),
        ("ehr+dn2", "dn", "ehr+dn2"),
        ("ehr", None, "ehr"),
        ("", "", ""),
    ],
)
def test_the_mark(modalities, leak, told):
    assert leaks.mark(modalities, leak) == told


def test_a_task_without_leaks_marks_nothing():
    assert leaks.among("ehr+dn", simulated.BINARY) == ""
    assert leaks.among("ehr+dn", leaking(simulated.BINARY)) == "dn"
    assert Model("late", "ehr+dn", "", "dn").name == "late (ehr+dn†leak)"


@pytest.fixture(scope="module", params=[simulated.BINARY, simulated.MULTILABEL], ids=lambda task: task.kind)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    cohort, runs = simulated.write(folder, leaking(request.param), models=MODELS, patients=120)
    return build_report(folder / "report", runs, cohort, **SMALL)


def test_every_row_of_every_file_tells_it(made):
    report, _, _ = made
    for row in csv.DictReader(io.StringIO(report.file("metrics.csv").read_text())):
        assert row["leak"] == ("dn" if "dn" in row["modalities"].split("+") else "")
    pairs = list(csv.DictReader(io.StringIO(report.file("comparisons.csv").read_text())))
    assert {pair["leak"] for pair in pairs} == {"", "dn"}
    for pair in pairs:
        assert (pair["leak"] == "dn") == ("dn" in pair["a"] or "dn" in pair["b"])
    told = json.loads(report.file("metrics.json").read_text())
    assert told["leaks"] == {"dn": REASON}
    assert {model["modalities"]: model["leak"] for model in told["models"]} == {"ehr": None, "dn": "dn", "ehr+dn": "dn", "ehr+cxr": None}


def test_no_name_on_the_page_goes_without_it(made):
    report, _, _ = made
    text = Page(report.file("report.html").read_text()).text
    assert "(ehr+dn†leak)" in text and "discharge note†leak" in text
    assert not re.search(r"dn\)|dn\+", text)
    shown = re.findall(r"discharge note(.{6})", text)
    assert shown and all(after.startswith(("†leak", ": ")) for after in shown)
    assert text.count(REASON) == 2, "once below the models, once below the comparisons"
    assert "nobody saw it" not in text


def test_the_report_is_about_a_model_that_does_not_leak(made):
    report, results, _ = made
    best = max(results["models"], key=lambda model: model["validation_auroc"])
    assert best["leak"] == "dn", "the case is meant to be tempting"
    assert report.meta["headline"] == "concat (ehr+cxr)"
    assert "Models marked †leak were not considered" in Page(report.file("report.html").read_text()).text


def test_a_report_about_a_leak_says_so_from_the_top(tmp_path):
    cohort, runs = simulated.write(tmp_path, leaking(simulated.BINARY), models=MODELS[:3], patients=120)
    report, _, _ = build_report(tmp_path / "report", runs, cohort, method="concat", **SMALL)
    text = Page(report.file("report.html").read_text()).text
    assert report.meta["headline"] == "concat (ehr+dn†leak)"
    assert "Death in hospital, from EHR and discharge note†leak" in text
    assert "AUROC †leak" in text and "AUPRC †leak" in text and "pairs of patients †leak" in text
    top, rest = text.split("Every model", 1)
    assert REASON in top and rest.count(REASON) >= 4  # models, curves, comparisons, training


def test_all_that_there_is_may_leak():
    evaluation = evaluate(simulated.predictions(leaking(simulated.BINARY), MODELS[1:3]), task=leaking(simulated.BINARY), **SMALL)
    assert page.choose_headline(evaluation).leak == "dn"


def test_the_figures_keep_the_mark_of_a_long_name():
    from omnifuse.eval.figures import _short

    name = Model("a_method_with_a_long_name", "ehr+cxr+rep+dn", "", "dn").name
    assert len(_short(name, 36)) <= 36 and _short(name, 36).endswith("†leak")
    assert _short("plain (ehr)", 36) == "plain (ehr)"
