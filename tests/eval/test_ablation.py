"""The numbers of a grid equal those of the plain evaluation; tables and figures say what the numbers say."""

import csv
import io
import re

import numpy as np
import polars as pl
import pytest
import simulated

from omnifuse.eval import ablation_figures, ablation_page
from omnifuse.eval.ablation import AGAINST, SINGLE, Layout, judge
from omnifuse.eval.comparisons import Pair, compare
from omnifuse.eval.evaluation import evaluate
from omnifuse.preprocess.schema import InputError

ROWS = {"a": "Concatenation", "f": "OmniFuse"}
COSTS = {"parameters": 1234, "parameters_learnable": 1200, "seconds": 2.5}
LAYOUT = Layout("mine", "A grid.", ROWS, [("f", "a")], ["ehr", "cxr"], {("f", "ehr+cxr"): COSTS})


def _frame(world, rates=()):
    """Rows a and f on ehr+cxr, the single modalities, and f and a with a share of the samples scored by noise."""
    names = {("concat", "ehr+cxr"): "a", ("omnifuse", "ehr+cxr"): "f"}
    plain = simulated.predictions(simulated.BINARY, simulated.MODELS, world=world)
    row = pl.struct("method", "modalities").map_elements(
        lambda s: names.get((s["method"], s["modalities"]), SINGLE), return_dtype=pl.String
    )
    whole = plain.with_columns(row=row, drop=pl.lit(""), rate=pl.lit(0.0))
    frames = [whole]
    for rate in rates:
        noise = np.random.default_rng(int(100 * rate)).random(len(whole))
        lossy = whole.filter(pl.col("row") != SINGLE).filter(part="test").with_columns(drop=pl.lit("random"), rate=pl.lit(rate))
        noise = noise[: len(lossy)]
        frames.append(lossy.with_columns(y_score=pl.when(pl.Series(noise < rate)).then(pl.Series(noise)).otherwise("y_score")))
    return pl.concat(frames), plain


@pytest.fixture(scope="module")
def world():
    return simulated.World(simulated.BINARY)


@pytest.fixture(scope="module")
def trained(world):
    return simulated.trained(world)


@pytest.fixture(scope="module")
def judged(world, trained):
    frame, plain = _frame(world, (0.3, 0.5))
    return judge(frame, LAYOUT, task=simulated.BINARY, train_patients=trained, resamples=200), plain


def _cell(results, row, column="ehr+cxr", rate=0.0):
    return next(c for c in results["cells"] if (c["row"], c["column"], c["rate"]) == (row, column, rate))


def test_every_cell_is_that_of_the_plain_evaluation(judged):
    results, plain = judged
    whole = evaluate(plain, task=simulated.BINARY, resamples=200)
    for entry in whole.results["models"]:
        row = {"concat": "a", "omnifuse": "f", "unimodal": SINGLE}[entry["method"]]
        cell, auroc = _cell(results, row, entry["modalities"]), entry["mean"][0]["metrics"]["auroc"]
        assert (cell["auroc"], cell["low"], cell["high"]) == (auroc["value"], auroc["low"], auroc["high"])
        assert cell["samples"] == entry["samples"] and cell["validation_auroc"] == entry["validation_auroc"]


def test_a_question_is_answered_as_the_comparison_of_the_two(judged, trained):
    results, plain = judged
    whole = evaluate(plain, task=simulated.BINARY, resamples=200)
    a, f, single = (next(m for m in whole.tests if (m.method, m.modalities) == key) for key in
                    (("concat", "ehr+cxr"), ("omnifuse", "ehr+cxr"), ("unimodal", "ehr")))  # fmt: skip
    pairs = [Pair(f, a, "x"), Pair(a, single, "x"), Pair(f, single, "x")]
    expected = compare(whole, train_patients=trained, pairs=pairs)["pairs"]
    answers = [answer for answer in results["questions"] if not answer["drop"]]
    assert [(answer["a"], answer["b"]) for answer in answers] == [("f", "a"), ("a", "ehr"), ("f", "ehr")]
    for answer, told in zip(answers, expected):
        assert {key: answer[key] for key in ("difference", "p", "p_holm", "low", "verdict")} == {
            key: told[key] for key in ("difference", "p", "p_holm", "low", "verdict")
        }
    assert [answer["question"] == AGAINST for answer in answers] == [False, True, True]


def test_each_condition_is_a_family_of_its_own(judged):
    results, _ = judged
    for rate in (0.3, 0.5):
        (answer,) = [answer for answer in results["questions"] if answer["rate"] == rate]
        assert answer["p_holm"] == answer["p"] and (answer["a"], answer["b"], answer["drop"]) == ("f", "a", "random")


def test_scores_that_turn_to_noise_cost_auroc(judged):
    values = [_cell(judged[0], "f", rate=rate)["auroc"] for rate in (0.0, 0.3, 0.5)]
    assert values[0] > values[1] > values[2]


def test_the_page_holds_every_cell_question_and_point_of_the_curves(judged):
    results, _ = judged
    page = ablation_page.markdown(results, "curves.png")
    for row, title in ROWS.items():
        cell = _cell(results, row)
        assert f"| ({row}) {title} | {cell['auroc']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}] |" in page
    best = _cell(results, SINGLE, "ehr")
    assert f"| *best single modality* | ehr {best['auroc']:.3f} " in page and "1,234 | 1,200 | 2.5" in page
    asked = re.findall(r"^\| f - a \| ([^|]*) \|$", page, re.M)
    answers = [answer for answer in results["questions"] if answer["question"] == "f - a" and answer["rate"] in (0.0, 0.5)]
    assert len(asked) == len(answers) == 2  # as it is, and at 50%: the points between stand in the curves
    for text, answer in zip(asked, answers):
        assert f"{answer['difference']:+.3f}".replace("-", "\u2212") in text and f", {answer['verdict']} (p " in text
    assert "| a - best single | " in page
    points = " | ".join(f"{_cell(results, 'f', rate=rate)['auroc']:.3f}" for rate in (0.0, 0.3, 0.5))
    assert f"| (f) OmniFuse | {points} |" in page and "](curves.png)" in page
    widths = {table: {line.count("|") for line in table.splitlines()} for table in re.findall(r"(?:^\|.*\n)+", page, re.M)}
    assert all(len(found) == 1 for found in widths.values())  # every row of a table is as wide as its header


def test_the_csv_tables_hold_what_the_results_hold(judged):
    results, _ = judged
    cells = list(csv.DictReader(io.StringIO(ablation_page.cells_csv(results))))
    assert len(cells) == len(results["cells"])
    assert [float(line["auroc"]) for line in cells] == [cell["auroc"] for cell in results["cells"]]
    questions = list(csv.DictReader(io.StringIO(ablation_page.questions_csv(results))))
    assert [line["verdict"] for line in questions] == [answer["verdict"] for answer in results["questions"]]


def test_figures_are_drawn_where_there_is_something_to_draw(judged, world, trained):
    results, _ = judged
    assert ablation_figures.draw_curves(results).startswith(b"\x89PNG") and ablation_figures.draw_table(results).png.startswith(b"\x89PNG")
    plain = judge(_frame(world)[0], LAYOUT, task=simulated.BINARY, train_patients=trained, resamples=100)
    assert ablation_figures.draw_curves(plain) is None and "missing in" not in ablation_page.markdown(plain)


def test_nothing_as_it_is_is_refused(world, trained):
    frame, _ = _frame(world, (0.5,))
    with pytest.raises(InputError, match="no test sample as it is"):
        judge(frame.filter(pl.col("drop") != ""), LAYOUT, task=simulated.BINARY, train_patients=trained)


def test_a_cell_without_a_value_is_a_dash(world, trained):
    frame, _ = _frame(world)
    one_class = frame.filter((pl.col("part") == "val") | (pl.col("y_true") == 0))
    results = judge(one_class, LAYOUT, task=simulated.BINARY, train_patients=trained, resamples=100)
    page = ablation_page.markdown(results)
    assert _cell(results, "f")["auroc"] is None and "| (f) OmniFuse | - |" in page
