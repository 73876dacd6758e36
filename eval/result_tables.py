"""The tables of results on the page of a report, as text: every model, every fold, every label, every comparison."""

from __future__ import annotations

from typing import Any

from omnifuse.eval import figures, leaks, wording
from omnifuse.eval.draws import MACRO, MICRO, OVERALL
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.figures import Captioned
from omnifuse.eval.tables import Model

# Of the row that stands for the task; those of a multi-class task after the first three are of all classes at once.
COLUMNS = {
    "binary": ("auroc", "auprc", "brier", "brier_skill", "log_loss", "ece", "ece_mass"),
    "multilabel": ("auroc", "auprc", "brier", "brier_skill", "log_loss", "ece", "ece_mass"),
    "multiclass": ("auroc", "auprc", "ece", "brier", "log_loss", "accuracy", "kappa"),
}
CEILING_COLUMNS = ("Ceiling", "Attained")
METRIC_NAMES = {
    "auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "brier_skill": "Brier skill", "log_loss": "Log loss", "ece": "ECE",
    "ece_mass": "ECE, equal mass", "accuracy": "Accuracy", "kappa": "Kappa",
}  # fmt: skip


def row_of(entry: dict[str, Any], label: str) -> dict[str, Any]:
    """The row of a label in the means of a model."""
    return next(row for row in entry["mean"] if row["label"] == label)


def model_table(evaluation: Evaluation, entries, headline: Model, single: Model | None) -> dict[str, Any]:
    """A row a model, with every metric of the row that stands for the task, and the AUROCs as a figure."""
    label = evaluation.results["row"]
    rows, marks = [], []
    for model, entry in entries.items():
        row = row_of(entry, label)
        tag = "this report" if model == headline else "best single modality" if model == single else ""
        whole = next((other["metrics"] for other in entry["mean"] if other["label"] == OVERALL), {})
        cells = [_cell({**row["metrics"], **whole}[name]) for name in COLUMNS[evaluation.task.kind]]
        rows.append(
            {
                "name": plain(model.method) + (f" [{plain(model.head)}]" if model.head else ""),
                "inputs": wording.inputs(model.inputs, model.leak),
                "tag": tag,
                "cells": [*cells[:1], *ceiling_cells(entry), *cells[1:]],
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
                "ceiling": auroc.get("ceiling"),
                "colour": 0 if len(model.inputs) > 1 else 1,
            }
        )
    columns = [METRIC_NAMES[name] for name in COLUMNS[evaluation.task.kind]]
    told = "ceilings" in evaluation.results
    columns[1:1] = CEILING_COLUMNS if told else ()
    drawing = figures.draw_forest("models", "AUROC of each model with its 95% interval", marks, "AUROC")
    caption = (
        "Mean over the test folds, with 95% intervals from redrawing patients. Blue circles use several modalities, orange squares one."
        + (" Black bars: the ceiling of each on the same samples." if told else "")
    )
    return {
        "columns": columns,
        "rows": rows,
        "several_labels": evaluation.task.kind != "binary",
        "ceilings": told,
        "figure": Captioned(drawing, "AUROC of every model", caption),
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
    return {"value": wording.number(entry["value"]), "below": _range(entry)}


def _range(entry: dict[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    return "no interval" if low is None else f"{wording.number(low)}{' to ' if low < 0 else '–'}{wording.number(high)}"


def ceiling_cells(entry: dict[str, Any]) -> list[dict[str, str]]:
    """A model's ceiling, and its share of the attainable gain; nothing where no truth is known."""
    if "ceiling" not in entry:
        return []
    ceiling, attainable = entry["ceiling"], entry["attainable"]
    below = _range(ceiling) if ceiling["value"] is not None else "not known"
    return [{"value": wording.number(ceiling["value"]), "below": below}, share_cell(attainable)]


def share_cell(attainable: dict[str, Any]) -> dict[str, str]:
    """The share with its interval, and the gain that it is a share of; the gain alone where it was not clearly to be had."""
    if "gain" not in attainable:
        return {"value": "–", "below": ""}
    gain = f"of {wording.signed(attainable['gain'])}"
    if attainable["value"] is None:
        return {"value": "–", "below": gain, "more": "may be nought"}
    return {"value": wording.share(attainable["value"]), "below": wording.share_span(attainable), "more": gain}


def label_table(evaluation: Evaluation, entries, headline: Model, single: Model | None) -> dict[str, Any] | None:
    """A row a label of the model that the report is about, the averages last; None for a binary task."""
    if evaluation.task.kind == "binary":
        return None
    rows, marks = [], []
    beside = {row["label"]: row for row in entries[single]["mean"]} if single else {}
    for row in sorted(entries[headline]["mean"], key=lambda row: row["label"] in (MACRO, MICRO)):
        if "auroc" not in row["metrics"]:
            continue
        auroc = row["metrics"]["auroc"]
        average = row["label"] in (MACRO, MICRO)
        rows.append(
            {
                "name": row["label"].capitalize() + (f", {_labels(row)}" if row["label"] == MACRO else "") if average else row["label"],
                "average": average,
                "positives": _count(row),
                "cells": [_cell(row["metrics"][name]) for name in ("auroc", "auprc", "brier", "ece")],
                "single": wording.number(beside[row["label"]]["metrics"]["auroc"]["value"]) if single else None,
                "ceiling": wording.number(auroc.get("ceiling")),
            }
        )
        if not average:
            ends = {name: auroc.get(name) for name in ("low", "high", "ceiling")}
            marks.append({"name": row["label"], "value": auroc["value"], **ends, "colour": 0})
    marks.sort(key=lambda mark: -1.0 if mark["value"] is None else -mark["value"])
    axis = f"AUROC {leaks.MARK}" if headline.leak else "AUROC"
    drawing = figures.draw_forest("labels", "AUROC of each label with its 95% interval", marks, axis, line=0.5)
    told = any(mark["ceiling"] is not None for mark in marks)
    caption = f"{headline.name}. A label without a mark has no value; the table says why. Dotted: chance."
    caption += " Black bars: the ceiling." if told else ""
    return {
        "rows": rows,
        "ceilings": told,
        "single": wording.inputs(single.inputs, single.leak) if single else None,
        "figure": Captioned(drawing, "AUROC by label", caption),
    }


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


def fold_table(evaluation: Evaluation, entries) -> dict[str, Any]:
    """AUROC of each model in each fold (and seed)."""
    label = evaluation.results["row"]
    folds = sorted({(cell["fold"], cell["seed"]) for entry in entries.values() for cell in entry["cells"]})
    several = len({seed for _, seed in folds}) > 1
    rows = []
    for model, entry in entries.items():
        found = {(cell["fold"], cell["seed"]): row_of({"mean": cell["rows"]}, label) for cell in entry["cells"]}
        cells = [_fold_cell(found[key]["metrics"]["auroc"]) if key in found else {"value": "–", "below": "not run"} for key in folds]
        sd = row_of(entry, label)["metrics"]["auroc"].get("sd_folds")
        rows.append({"name": model.name, "cells": cells, "sd": wording.number(sd), "sd_seeds": wording.number(entry["sd_seeds"])})
    columns = [f"Fold {fold}" + (f", seed {seed}" if several else "") for fold, seed in folds]
    return {"columns": columns, "rows": rows, "several_seeds": several}


def _fold_cell(entry: dict[str, Any]) -> dict[str, str]:
    ceiling = entry.get("ceiling")
    return _cell(entry) | ({"more": f"of {wording.number(ceiling)}"} if ceiling is not None else {})


def comparison_table(comparisons: dict[str, Any]) -> dict[str, Any] | None:
    """A row a pair, and the differences as a figure; None where nothing was compared."""
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
                "attained": share_cell(pair["attainable"]) if "attainable" in pair else {"value": "", "below": ""},
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
    named = ("comparisons", "Differences of the AUROC")
    drawing = figures.draw_forest(*named, marks, "Difference of the AUROC", line=0.0, band=comparisons["margin"])
    caption = f"Mean over the folds, with the 95% interval of the test. Shaded: differences below {comparisons['margin']:g}, of no use."
    told = any("attainable" in pair for pair in comparisons["pairs"])
    return {**comparisons, "rows": rows, "tested": tested, "ceilings": told, "figure": Captioned(drawing, "Differences", caption)}
