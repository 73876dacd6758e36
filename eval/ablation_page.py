"""The tables of a grid as Markdown and CSV: text that goes into a paper or docs/results.md as it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from omnifuse.eval import wording
from omnifuse.eval.ablation import AGAINST, SINGLE
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import Task

COSTS = {
    "parameters": "parameters",
    "parameters_learnable": "of them learnable",
    "seconds": "training, s a fold",
    "peak_memory_mb": "peak memory of the process, MB",
    "predict_ms_per_patient": "ms a patient",
}
CELL_COLUMNS = ("row", "title", "column", "drop", "rate", "auroc", "low", "high", "samples", "folds", "validation_auroc", "ceiling",
                "attained", "attained_low", "attained_high", *COSTS)  # fmt: skip
QUESTION_COLUMNS = ("a", "b", "column", "drop", "rate", "question", "difference", "low", "high", "p", "p_holm", "paper_p", "paper_star",
                    "verdict", "detectable", "samples", "folds", "test")  # fmt: skip


def cells_csv(results: Mapping[str, Any]) -> str:
    """A line a row, column and condition."""
    titles = {**results["rows"], SINGLE: "single modality"}
    return _csv(CELL_COLUMNS, (_flat(cell) | {"title": titles.get(cell["row"], cell["row"])} for cell in results["cells"]))


def questions_csv(results: Mapping[str, Any]) -> str:
    """A line a question, column and condition."""
    return _csv(QUESTION_COLUMNS, results["questions"])


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    share = cell.get("attained") or {}
    told = {"attained": share.get("value"), "attained_low": share.get("low"), "attained_high": share.get("high")}
    return {**cell, **told, "folds": " ".join("-" if value is None else f"{value:.4f}" for value in cell["folds"])}


def _csv(columns: tuple[str, ...], rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(results: Mapping[str, Any], figure: str | None = None) -> str:
    """The whole page of a grid.

    Args:
        figure: file name of the curves.
    """
    task = Task.from_json(results["task"]["name"], results["task"])
    folds = max((len(cell["folds"]) for cell in results["cells"]), default=0)
    over = f"mean of {folds} test folds" if folds != 1 else "one test fold"
    told = f"{wording.task_title(task)}: AUROC ({plain(results['label'])}), {over}, 95% interval over patients."
    parts = [_main_table(results), _costs(results), _questions(results), _curves(results, figure)]
    return "\n".join([f"## {plain(results['about'])}", "", told, "", *(line for part in parts for line in part)]) + "\n"


def _main_table(results: Mapping[str, Any]) -> Iterator[str]:
    here = [cell for cell in results["cells"] if not cell["drop"]]
    columns = list(dict.fromkeys(cell["column"] for cell in here if cell["row"] != SINGLE))
    at = {(cell["row"], cell["column"]): cell for cell in here}
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for name, title in results["rows"].items():
        yield f"| {row_name(name, title)} | {' | '.join(_value(at.get((name, column))) for column in columns)} |"
    singles = {cell["column"]: cell for cell in here if cell["row"] == SINGLE}
    if singles:
        yield f"| *best single modality* | {' | '.join(_named(best_of(singles, column)) for column in columns)} |"
    if any("ceiling" in cell for cell in here):
        ceilings = {cell["column"]: cell["ceiling"] for cell in here if cell.get("ceiling") is not None}
        yield f"| *ceiling* | {' | '.join(wording.number(ceilings.get(column)) for column in columns)} |"
    counts = {cell["column"]: cell["samples"] for cell in here}
    yield f"| *samples* | {' | '.join(f'{counts[column]:,}' for column in columns)} |"
    yield ""
    if singles:
        yield f"Single modalities: {'; '.join(_named(cell, count=True) for cell in singles.values())}."
        yield ""
    if singles and any(cell.get("attained") for cell in here):
        yield from ("Share of the attainable gain, (AUROC - best single) / (ceiling - best single):", "")
        yield f"| | {' | '.join(columns)} |"
        yield f"|---|{'---|' * len(columns)}"
        for name, title in results["rows"].items():
            yield f"| {row_name(name, title)} | {' | '.join(_share(at.get((name, column))) for column in columns)} |"
        yield ""


def _named(cell: Mapping[str, Any] | None, count: bool = False) -> str:
    if cell is None:
        return "-"
    ceiling = f", ceiling {wording.number(cell['ceiling'])}" if count and cell.get("ceiling") is not None else ""
    return f"{cell['column']} {_value(cell)}" + (f" in {cell['samples']:,} samples{ceiling}" if count else "")


def row_name(name: str, title: str) -> str:
    """(a) Concatenation"""
    return f"({plain(name)}) {plain(title)}" if len(name) == 1 else plain(title)


def best_of(singles: Mapping[str, Any], column: str) -> Mapping[str, Any] | None:
    """Of the cells of single modalities, by their names, the best one inside a column."""
    inside = [cell for name, cell in singles.items() if name in column.split("+") and cell["auroc"] is not None]
    return max(inside, key=lambda cell: cell["auroc"], default=None)


def _value(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["auroc"] is None:
        return "-"
    interval = "" if cell["low"] is None else f" [{wording.number(cell['low'])}, {wording.number(cell['high'])}]"
    return wording.number(cell["auroc"]) + interval


def _share(cell: Mapping[str, Any] | None) -> str:
    share = (cell or {}).get("attained") or {}
    if share.get("value") is None:
        return "no room" if share else "-"
    interval = "" if share.get("low") is None else f" [{wording.number(share['low'], 2)}, {wording.number(share['high'], 2)}]"
    return wording.number(share["value"], 2) + interval


def _costs(results: Mapping[str, Any]) -> Iterator[str]:
    """What each row costs on the largest column."""
    here = [cell for cell in results["cells"] if cell["row"] != SINGLE and not cell["drop"] and cell.get("parameters")]
    if not here:
        return
    largest = max((cell["column"] for cell in here), key=lambda name: name.count("+"))
    cells = {cell["row"]: cell for cell in here if cell["column"] == largest}
    yield f"| {largest} | {' | '.join(COSTS.values())} |"
    yield f"|---|{'---|' * len(COSTS)}"
    for name, title in results["rows"].items():
        if cell := cells.get(name):
            forms = {"seconds": ".1f", "peak_memory_mb": ".0f", "predict_ms_per_patient": ".2f"}
            yield f"| {row_name(name, title)} | {' | '.join(_plain(cell.get(key), forms.get(key, ',')) for key in COSTS)} |"
    yield ""


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _questions(results: Mapping[str, Any]) -> Iterator[str]:
    """A table a condition: a row a question, a column a set of modalities."""
    shown = [answer for answer in results["questions"] if answer["rate"] in (0.0, 0.5)]
    if not shown:
        return
    yield "Differences on shared samples: the corrected t-test over folds with its interval, p and p after Holm over all questions under"
    yield f"one condition; the verdict of the Bayesian correlated t-test with a margin of {results['margin']:g}. `*`: p < .05 by the plain"
    yield "paired t-test, as papers print it."
    yield ""
    for drop, rate in dict.fromkeys((answer["drop"], answer["rate"]) for answer in shown):
        here = {(_asked(answer), answer["column"]): answer for answer in shown if (answer["drop"], answer["rate"]) == (drop, rate)}
        columns = list(dict.fromkeys(column for _, column in here))
        missing = f"{plain(drop)} missing in {rate:.0%}" if drop else "as it is"
        yield f"| {missing} | {' | '.join(columns)} |"
        yield f"|---|{'---|' * len(columns)}"
        for asked in dict.fromkeys(asked for asked, _ in here):
            yield f"| {asked} | {' | '.join(_difference(here.get((asked, column))) for column in columns)} |"
        yield ""


def _asked(answer: Mapping[str, Any]) -> str:
    return f"{plain(answer['a'])} - best single" if answer["question"] == AGAINST else plain(answer["question"])


def _difference(answer: Mapping[str, Any] | None) -> str:
    if answer is None or answer.get("difference") is None:
        return plain(answer.get("reason") or "-") if answer else "-"
    star = "\\*" if answer.get("paper_star") else ""
    interval = "" if answer.get("low") is None else f" [{wording.signed(answer['low'])}, {wording.signed(answer['high'])}]"
    told = [f"{name} {wording.p_value(answer[key])}" for key, name in (("p", "p"), ("p_holm", "Holm")) if answer.get(key) is not None]
    return f"{wording.signed(answer['difference'])}{interval}{star}, {answer['verdict']}" + (f" ({', '.join(told)})" if told else "")


def _curves(results: Mapping[str, Any], figure: str | None) -> Iterator[str]:
    panels = curves_of(results)
    if not panels:
        return
    if figure:
        yield from (f"![AUROC over the share of test samples that lost a modality]({figure})", "")
    for (column, drop), rows in panels.items():
        rates = sorted({rate for points in rows.values() for rate in points})
        yield f"| {column}, {drop} missing in | {' | '.join(f'{rate:.0%}' for rate in rates)} |"
        yield f"|---|{'---|' * len(rates)}"
        for name, points in rows.items():
            title = row_name(name, results["rows"].get(name, name))
            yield f"| {title} | {' | '.join(wording.number(points[rate]['auroc']) if rate in points else '-' for rate in rates)} |"
        yield ""


def curves_of(results: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, dict[float, Mapping[str, Any]]]]:
    """(column, drop) -> row -> rate -> cell; rate 0 is the cell without any condition."""
    panels: dict = {}
    whole = {(cell["row"], cell["column"]): cell for cell in results["cells"] if not cell["drop"]}
    for cell in results["cells"]:
        if cell["drop"]:
            rows = panels.setdefault((cell["column"], cell["drop"]), {})
            start = {0.0: whole[cell["row"], cell["column"]]} if (cell["row"], cell["column"]) in whole else {}
            rows.setdefault(cell["row"], start)[cell["rate"]] = cell
    return panels
