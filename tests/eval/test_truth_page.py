"""Ceilings and shares in every file of a report, and nowhere where no truth is known."""

import csv
import io
import re

import pytest
import simulated_truth
from simulated_truth import MORTALITY, Clinic

from omnifuse.eval import wording
from omnifuse.eval.ceilings import read_ceilings
from omnifuse.eval.comparisons import compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.eval.report import write_report

MODELS = (("unimodal", "ehr", 0.9), ("unimodal", "cxr", 0.9), ("concat", "ehr+cxr+rep", 0.4), ("omnifuse", "ehr+cxr+rep", 0.9))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two reports of the same predictions: with the truth, and without."""
    folder, clinic = tmp_path_factory.mktemp("pages"), Clinic(patients=500)
    ceilings = read_ceilings(clinic.write(folder / "t"), clinic.samples(), MORTALITY)
    reports = {}
    for name, truth in (("with", ceilings), ("without", None)):
        evaluation = evaluate(clinic.predictions(MODELS), task=MORTALITY, resamples=100, ceilings=truth)
        compared = compare(evaluation, train_patients=clinic.trained())
        reports[name] = write_report(folder / name, evaluation, compared)
    return reports


def text(report) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", report.file("report.html").read_text()).split())


def test_the_page_tells_ceiling_and_share_of_every_model(made):
    report, results, _ = made["with"]
    page = text(report)
    for model in results["models"]:
        assert wording.number(model["ceiling"]["value"]) in page
        for cell in model["cells"]:
            assert f"of {wording.number(cell['rows'][0]['metrics']['auroc']['ceiling'])}" in page
    shares = [model["attainable"] for model in results["models"] if model["attainable"]["value"] is not None]
    assert len(shares) == 2
    for told in shares:
        assert (
            page.count(f"{wording.share(told['value'])} {wording.share_span(told)} of {wording.signed(told['gain'])}") == 2
        )  # both tables
    for row in results["ceilings"]["sets"]:
        assert f"{wording.number(row['value'])} {wording.span(row)}" in page
    headline = next(model for model in results["models"] if model["name"] == report.meta["headline"])["attainable"]
    assert f"{wording.share(headline['value'])} of that was attained" in page
    assert report.meta["truth"] == "clinic-0-500" and "clinic-0-500" in page  # the fingerprint of the tests' truth
    assert results["definitions"]["attained"].split("(")[0] in page


def test_nothing_of_it_where_no_truth_is_known(made):
    report, results, compared = made["without"]
    assert "eiling" not in report.file("report.html").read_text() and "ttained" not in text(report)
    assert "ceilings" not in results and "truth" not in report.meta
    assert not any("ceiling" in model or "attainable" in model for model in results["models"])
    assert not any("attainable" in pair for pair in compared["pairs"])
    rows = list(csv.DictReader(io.StringIO(report.file("metrics.csv").read_text())))
    assert {row[name] for row in rows for name in ("ceiling", "ceiling_low", "attained")} == {""}


def test_the_spreadsheets_hold_what_the_results_hold(made):
    report, results, compared = made["with"]
    rows = list(csv.DictReader(io.StringIO(report.file("metrics.csv").read_text())))
    for model in results["models"]:
        own = [row for row in rows if (row["method"], row["modalities"], row["metric"]) == (model["method"], model["modalities"], "auroc")]
        mean = next(row for row in own if row["fold"] == "mean")
        assert float(mean["ceiling"]) == model["ceiling"]["value"] and float(mean["ceiling_high"]) == model["ceiling"]["high"]
        assert [float(mean[key]) if mean[key] else None for key in ("attained", "attained_low")] == [
            model["attainable"].get(key) for key in ("value", "low")
        ]
        assert [float(row["ceiling"]) for row in own if row["fold"] != "mean"] == [
            cell["rows"][0]["metrics"]["auroc"]["ceiling"] for cell in model["cells"]
        ]
    pairs = list(csv.DictReader(io.StringIO(report.file("comparisons.csv").read_text())))
    told = [(pair.get("attainable") or {}).get("value") for pair in compared["pairs"]]
    assert [float(pair["attained"]) if pair["attained"] else None for pair in pairs] == told and any(told)


def test_the_figure_has_a_bar_a_ceiling(made):
    with_bars, without = (made[name][0].file("report.html").read_text() for name in ("with", "without"))
    figure = [page[page.index("AUROC of every model") :].split("</figure>")[0] for page in (with_bars, without)]
    thick = [len(re.findall(r"stroke: var\(--ink\); stroke-width: 2[;\"]", drawing)) for drawing in figure]
    assert thick == [len(MODELS), 0]
    assert "Black bars" in figure[0] and "Black bars" not in figure[1]


@pytest.mark.parametrize("value, expected", [(0.337, "34%"), (-0.434, "\u221243%"), (-0.001, "0%"), (1.26, "126%"), (None, "–")])
def test_a_share_in_words(value, expected):
    assert wording.share(value) == expected


@pytest.mark.parametrize(
    "told, says",
    [
        (None, []),
        ({"value": None, "reason": "no ceiling"}, []),
        ({"value": None, "gain": 0.01, "gain_low": -0.02, "gain_high": 0.03}, ["\u22120.020 to +0.030), which may be nought"]),
        (
            {"value": 0.5, "low": 0.2, "high": 0.9, "gain": 0.04},
            ["gain +0.040 over that single one: 50% of that was attained (95% interval 20% to 90%)."],
        ),
    ],
)
def test_the_words_of_the_share(told, says):
    sentences = wording.attained(told)
    assert len(sentences) == len(says) and all(part in sentence for part, sentence in zip(says, sentences))


def test_a_truth_never_makes_a_model(made):
    assert [model["name"] for model in made["with"][1]["models"]] == [model["name"] for model in made["without"][1]["models"]]
    assert simulated_truth.MORTALITY.name == made["with"][1]["task"]["name"]
