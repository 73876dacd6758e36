"""What stands on the page of a report, section by section: tables as text, figures as drawings, ready for the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnifuse.eval import curves, figures, wording
from omnifuse.eval.calibration import MIN_BIN
from omnifuse.eval.cohort_tables import CohortTables
from omnifuse.eval.comparisons import FUSION, best_single
from omnifuse.eval.draws import OVERALL, headline_row
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.tables import Model
from omnifuse.eval.training_curves import draw_histories
from omnifuse.preprocess.schema import ConfigError, nearest
from omnifuse.preprocess.store import Artefact

MOST_CURVES = 5
# Of the row that stands for the task; those of a multi-class task after the first three are of all classes at once.
COLUMNS = {
    "binary": ("auroc", "auprc", "brier", "brier_skill", "log_loss", "ece", "ece_mass"),
    "multilabel": ("auroc", "auprc", "brier", "brier_skill", "log_loss", "ece", "ece_mass"),
    "multiclass": ("auroc", "auprc", "ece", "brier", "log_loss", "accuracy", "kappa"),
}
METRIC_NAMES = {
    "auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "brier_skill": "Brier skill", "log_loss": "Log loss", "ece": "ECE",
    "ece_mass": "ECE, equal mass", "accuracy": "Accuracy", "kappa": "Kappa",
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A drawing and the sentence below it."""

    drawing: figures.Drawing
    title: str
    caption: str


def choose_headline(evaluation: Evaluation, method: str | None = None) -> Model:
    """The model that the report is about: the fusion (else the single modality) with the highest AUROC on the validation patients.

    The test patients have no say in the choice.

    Args:
        method: take the models of this method only.

    Raises:
        ConfigError: there is no model of that method.
    """
    scores = {model: entry["validation_auroc"] for model, entry in zip(evaluation.tests, evaluation.results["models"])}
    chosen = [model for model in scores if method is None or model.method == method]
    if not chosen:
        raise ConfigError(f"no run of the method {plain(method)}", hint=nearest(method, {model.method for model in scores}))
    fusions = [model for model in chosen if len(model.inputs) > 1] or chosen
    return max(fusions, key=lambda model: (scores[model] if scores[model] is not None else -1.0, len(model.inputs)))


def compose(
    evaluation: Evaluation,
    results: dict[str, Any],
    comparisons: dict[str, Any],
    cohort: CohortTables | None,
    runs: Sequence[Artefact],
    *,
    headline: Model,
    min_cell: int = 0,
) -> dict[str, Any]:
    """Everything that the template shows.

    Args:
        results: those of the evaluation, small cells hidden.
    """
    entries = dict(zip(evaluation.tests, results["models"]))
    row = _row(entries[headline], plain(headline_row(evaluation.task)))
    single = best_single(headline, evaluation)
    pair = next((p for p in comparisons["pairs"] if p["question"] == FUSION and p["a"] == headline.name), None)
    return {
        "task": evaluation.task,
        "title": wording.task_title(evaluation.task),
        "question": wording.question(evaluation.task),
        "headline": _headline(evaluation, entries, headline, row, single, pair, comparisons["margin"]),
        "results": _results(evaluation, entries, headline, single),
        "by_label": _by_label(evaluation, entries, headline, single),
        "by_fold": _by_fold(evaluation, entries),
        "curves": _curves(evaluation, headline, single, row, min_cell),
        "comparisons": _comparisons(comparisons),
        "training": [Figure(*found) for found in draw_histories(_runs_of(runs, headline))],
        "cohort": cohort,
        "definitions": {METRIC_NAMES.get(key, key.capitalize()): text for key, text in results["definitions"].items()},
        "settings": results["settings"],
        "warnings": [*results["warnings"], *((cohort.audit.get("warnings") or []) if cohort else [])],
    }


def _row(entry: dict[str, Any], label: str) -> dict[str, Any]:
    return next(row for row in entry["mean"] if row["label"] == label)


def _headline(evaluation, entries, model: Model, row, single, pair, margin) -> dict[str, Any]:
    task, entry, metrics = evaluation.task, entries[model], row["metrics"]
    tiles = [("AUROC", wording.number(metrics["auroc"]["value"]), f"95% interval {wording.span(metrics['auroc'])}")]
    if metrics["auroc"]["value"] is not None:
        tiles.append(
            (
                "AUPRC",
                wording.number(metrics["auprc"]["value"]),
                f"by chance {wording.number(row['prevalence'])}" if task.kind != "multiclass" else "mean over classes",
            )
        )
        perfect = f"perfect would show {wording.number(metrics['ece']['perfect_low'])} to {wording.number(metrics['ece']['perfect_high'])}"
        tiles.append(("Calibration error", wording.number(metrics["ece"]["value"]), perfect))
    verdict, told = None, ["There is one modality only, so that there is nothing to fuse yet."] if len(model.inputs) < 2 else []
    if pair is not None:
        tiles.insert(1, ("Best single modality", wording.number(pair["b_value"]), wording.inputs(single.inputs) + " alone"))
        verdict, told = pair["verdict"], wording.fusion_verdict(pair, margin)
    elif len(model.inputs) > 1:
        told = ["No run with one of its modalities alone is here, so that nobody can say what fusion adds."]
    return {
        "name": model.name,
        "inputs": wording.inputs(model.inputs),
        "who": wording.who(row, task),
        "summary": wording.summary(row),
        "reach": wording.reach(model.name, row, task, len(entry["folds"])),
        "tiles": tiles,
        "verdict": verdict,
        "verdict_text": wording.VERDICTS.get(verdict),
        "fusion": told,
        "chosen": entry["validation_auroc"] is not None and len(entries) > 1,
    }


def _results(evaluation: Evaluation, entries, headline: Model, single: Model | None) -> dict[str, Any]:
    label = plain(headline_row(evaluation.task))
    rows, marks = [], []
    for model, entry in entries.items():
        row = _row(entry, label)
        tag = "this report" if model == headline else "best single modality" if model == single else ""
        whole = next((other["metrics"] for other in entry["mean"] if other["label"] == OVERALL), {})
        rows.append(
            {
                "name": plain(model.method) + (f" [{plain(model.head)}]" if model.head else ""),
                "inputs": wording.inputs(model.inputs),
                "tag": tag,
                "cells": [_cell({**row["metrics"], **whole}[name]) for name in COLUMNS[evaluation.task.kind]],
                "k": _labels(row),
            }
        )
        auroc = row["metrics"]["auroc"]
        marks.append(
            {
                "name": model.name,
                "value": auroc["value"],
                "low": auroc.get("low"),
                "high": auroc.get("high"),
                "colour": 0 if len(model.inputs) > 1 else 1,
            }
        )
    columns = [METRIC_NAMES[name] for name in COLUMNS[evaluation.task.kind]]
    drawing = figures.draw_forest("models", "AUROC of each model with its 95% interval", marks, "AUROC")
    caption = "Dots: mean over the test folds. Lines: 95% intervals from redrawing patients. Circles (blue) use several modalities, squares (orange) one."
    return {
        "columns": columns,
        "rows": rows,
        "several_labels": evaluation.task.kind != "binary",
        "figure": Figure(drawing, "AUROC of every model", caption),
    }


def _labels(row: dict[str, Any]) -> str:
    auroc = row["metrics"]["auroc"]
    if "k" not in auroc:
        return ""
    return f"{auroc['k_least']}–{auroc['k']} of {auroc['n']}" if auroc["k_least"] != auroc["k"] else f"{auroc['k']} of {auroc['n']}"


def _cell(entry: dict[str, Any]) -> dict[str, str]:
    """A figure with what stands below it: its interval, the range of perfect calibration, or why there is none."""
    if entry["value"] is None:
        return {"value": "–", "below": entry["reason"]}
    if "perfect_low" in entry:
        return {
            "value": wording.number(entry["value"]),
            "below": f"({wording.number(entry['perfect_low'])}–{wording.number(entry['perfect_high'])})",
        }
    low, high = entry.get("low"), entry.get("high")
    below = "" if low is None else f"{wording.number(low)}{' to ' if low < 0 else '–'}{wording.number(high)}"
    return {"value": wording.number(entry["value"]), "below": below}


def _by_label(evaluation: Evaluation, entries, headline: Model, single: Model | None) -> dict[str, Any] | None:
    if evaluation.task.kind == "binary":
        return None
    rows, marks = [], []
    beside = {row["label"]: row for row in entries[single]["mean"]} if single else {}
    for row in entries[headline]["mean"]:
        if "auroc" not in row["metrics"]:
            continue
        auroc = row["metrics"]["auroc"]
        average = row["label"] in ("macro", "micro")
        rows.append(
            {
                "name": row["label"].capitalize() + (f", {_labels(row)}" if row["label"] == "macro" else "") if average else row["label"],
                "average": average,
                "positives": _count(row),
                "cells": [_cell(row["metrics"][name]) for name in ("auroc", "auprc", "brier", "ece")],
                "single": wording.number(beside[row["label"]]["metrics"]["auroc"]["value"]) if single else None,
            }
        )
        if not average:
            marks.append({"name": row["label"], "value": auroc["value"], "low": auroc.get("low"), "high": auroc.get("high"), "colour": 0})
    marks.sort(key=lambda mark: -1.0 if mark["value"] is None else -mark["value"])
    drawing = figures.draw_forest("labels", "AUROC of each label with its 95% interval", marks, "AUROC", line=0.5)
    caption = f"{headline.name}. A label without a mark has no value; the table says why. Dotted: chance."
    return {"rows": rows, "single": wording.inputs(single.inputs) if single else None, "figure": Figure(drawing, "AUROC by label", caption)}


def _count(row: dict[str, Any]) -> str:
    if row.get("suppressed"):
        return "hidden"
    return (
        ""
        if row["positives"] is None
        else f"{row['positives']:,} ({100 * row['prevalence']:.1f}%)"
        if row["prevalence"] is not None
        else "0"
    )


def _by_fold(evaluation: Evaluation, entries) -> dict[str, Any]:
    label = plain(headline_row(evaluation.task))
    folds = sorted({(cell["fold"], cell["seed"]) for entry in entries.values() for cell in entry["cells"]})
    several = len({seed for _, seed in folds}) > 1
    rows = []
    for model, entry in entries.items():
        found = {(cell["fold"], cell["seed"]): _row({"mean": cell["rows"]}, label) for cell in entry["cells"]}
        cells = [_cell(found[key]["metrics"]["auroc"]) if key in found else {"value": "–", "below": "not run"} for key in folds]
        sd = _row(entry, label)["metrics"]["auroc"].get("sd_folds")
        rows.append({"name": model.name, "cells": cells, "sd": wording.number(sd), "sd_seeds": wording.number(entry["sd_seeds"])})
    columns = [f"Fold {fold}" + (f", seed {seed}" if several else "") for fold, seed in folds]
    return {"columns": columns, "rows": rows, "several_seeds": several}


def _curves(evaluation: Evaluation, headline: Model, single: Model | None, row, min_cell: int) -> list[Figure]:
    others = [model for model in evaluation.tests if model not in (headline, single) and model.inputs == headline.inputs]
    shown = [headline, *([single] if single else []), *others][:MOST_CURVES]
    tests, least = evaluation.tests, max(1, min_cell)
    roc = {model.name: curve for model in shown if (curve := curves.roc(tests[model], least))}
    recall = {model.name: curve for model in shown if (curve := curves.precision_recall(tests[model], least))}
    points = {
        model.name: curve
        for model in shown[:2]
        if (curve := curves.pooled_reliability(tests[model], min_cell)) is not None and len(curve.count)
    }
    average = "" if evaluation.task.kind == "binary" else " and labels"
    thin = f" Thin lines: the folds of {shown[0].name}." if len({test.fold for test in tests[headline]}) > 1 else ""
    found = []
    if roc:
        caption = f"Mean over the folds{average}; the area below the line is the AUROC. Dotted: chance.{thin}"
        found.append(Figure(figures.draw_roc(roc), "ROC curves", caption))
    if recall:
        prevalence = row["prevalence"] if evaluation.task.kind != "multiclass" else None
        dotted = " Dotted: chance, the prevalence." if prevalence is not None else ""
        caption = f"Mean over the folds{average}; the area below the steps is the AUPRC.{dotted}{thin}"
        found.append(Figure(figures.draw_precision_recall(recall, prevalence), "Precision and recall", caption))
    if points:
        first = next(iter(points.values()))
        hidden = f"; {first.hidden} samples in smaller bins are not shown" if first.hidden else ""
        caption = (
            "Do 30 of 100 patients with a predicted risk of 30% have the outcome? On the dotted line, yes. All folds together"
            f"{', all labels together' if average else ''}; each point stands on at least {max(MIN_BIN, min_cell)} samples"
            f"{hidden}; bars are 95% intervals."
        )
        found.append(Figure(figures.draw_reliability(points), "Calibration", caption))
    return found


def _comparisons(comparisons: dict[str, Any]) -> dict[str, Any] | None:
    if not comparisons["pairs"]:
        return None
    rows, marks = [], []
    for pair in comparisons["pairs"]:
        rows.append(
            {
                "pair": pair,
                "difference": wording.signed(pair["difference"]),
                "interval": wording.span(pair, wording.signed) if pair.get("low") is not None else "–",
                "bootstrap": f"{wording.signed(pair.get('bootstrap_low'))} to {wording.signed(pair.get('bootstrap_high'))}",
                "chances": pair.get("chances"),
                "percent": {name: wording.percent(chance) for name, chance in (pair.get("chances") or {}).items()},
                "p": wording.p_value(pair["p"]),
                "p_holm": wording.p_value(pair["p_holm"]),
                "paper": wording.p_value(pair.get("paper_p")) + (" *" if pair.get("paper_star") else ""),
                "detectable": wording.number(pair.get("detectable")),
                "reason": pair.get("reason"),
            }
        )
        marks.append(
            {
                "name": f"{pair['a']}\n\u2212 {pair['b']}",
                "value": pair["difference"],
                "low": pair.get("low"),
                "high": pair.get("high"),
                "colour": 0,
            }
        )
    tested = next((pair for pair in comparisons["pairs"] if "variance_factor" in pair), None)
    drawing = figures.draw_forest(
        "comparisons", "Differences of the AUROC", marks, "Difference of the AUROC", line=0.0, band=comparisons["margin"]
    )
    caption = f"Dots: mean difference over the folds. Lines: 95% intervals of the test. Shaded: differences below {comparisons['margin']:g}, of no use."
    return {**comparisons, "rows": rows, "tested": tested, "figure": Figure(drawing, "Differences", caption)}


def _runs_of(runs: Sequence[Artefact], model: Model) -> list[Artefact]:
    return [run for run in runs if run.meta.get("method") == model.method and run_modalities(run) == model.inputs]


def run_modalities(run: Artefact) -> tuple[str, ...]:
    """The modalities that a run was given."""
    given = run.meta.get("modalities") or ()
    return tuple(given.replace(",", "+").split("+")) if isinstance(given, str) else tuple(given)
