"""What preprocessing counted, as rows of text for the page: steps, linked files, columns, series; small counts hidden.

The audit of each source holds what it has; whatever is absent yields no rows.
"""

from __future__ import annotations

from typing import Any

from omnifuse.eval import disclosure
from omnifuse.eval.counting import alone, line
from omnifuse.eval.escaping import plain
from omnifuse.eval.wording import modality
from omnifuse.preprocess.schema import Task

Audit = dict[str, Any]
REASONS = ("missing", "not_a_number", "infinite", "unknown_category")


def steps(audit: Audit, task: Task, tasks: dict[str, Any], min_cell: int) -> tuple[list[dict[str, Any]], str]:
    """The steps that lead to this task, and what they count: `stays` or `samples`.

    Steps of all tasks, and its own (`TASK: condition`). Those of films are in what was linked: no stay leads to a film.
    """
    found = _film_steps(audit) if task.notes.get("sample") == "film" else []
    if not found:
        others = tuple(f"{name}: " for name in tasks if name != task.name)
        found = [step for step in audit.get("attrition") or [] if not step["step"].startswith(others)]
    unit = "stays" if found and "stays" in found[0] else "samples"
    merged = disclosure.merge_small_steps(found, min_cell, unit)
    return [{**step, "count": step[unit], "why": _counts(step.get("left_out") or {}, min_cell)} for step in merged], unit


def _film_steps(audit: Audit) -> list[dict[str, Any]]:
    told = ((audit.get("linked") or {}).get("cxr") or {}).get("radiology")
    if not told:
        return []
    return [{"step": "films that are there", "samples": told["films"]}, {"step": "with CheXpert labels", "samples": told["samples"]}]


def _counts(counts: dict[str, int], min_cell: int) -> str:
    """reason: 12; other reason: 3"""
    counts = {name: count for name, count in counts.items() if count}
    return "; ".join(f"{plain(name)}: {text}" for name, text in zip(counts, line(list(counts.values()), min_cell)))


def links(audit: Audit, min_cell: int) -> list[dict[str, str]]:
    """Films, texts, recordings, volumes: rows = linked + left out, and the items that came of them."""
    return [
        *(_link(name, told, told.get("notes") or {}, min_cell) for name, told in (audit.get("linked") or {}).items()),
        *(_link(told["modality"], _from_items(told), told.get("counts") or {}, min_cell) for told in audit.get("links") or []),
    ]


def _from_items(told: Audit) -> Audit:
    """Of a table every row that is not left out is an item."""
    return {**told, "rows": told["items"] + sum(told["left_out"].values()), "linked": told["items"]}


def _link(name: str, told: Audit, notes: dict[str, int], min_cell: int) -> dict[str, str]:
    left = {reason: count for reason, count in told["left_out"].items() if count}
    linked, *lost = line([told["linked"], *left.values()], min_cell)
    own = {f"radiology, {what}": count for what, count in (told.get("radiology") or {}).items()}
    return {
        "modality": modality(name),
        "rows": alone(told["rows"], min_cell),
        "linked": linked,
        "items": linked if told["items"] == told["linked"] else alone(told["items"], min_cell),
        "left_out": "; ".join(f"{plain(reason)}: {text}" for reason, text in zip(left, lost)),
        "notes": "; ".join(text for text in (_counts(notes, min_cell), _counts(own, min_cell)) if text),
    }


def columns(audit: Audit, samples: int, min_cell: int) -> list[dict[str, str]]:
    """Cells of every column of a table by what they hold, and the samples that have a value."""
    return [_column(row, samples, min_cell) for row in audit.get("columns") or []]


def _column(row: Audit, samples: int, min_cell: int) -> dict[str, str]:
    parts = line([row.get("present", 0), *(row.get(reason, 0) for reason in REASONS)], min_cell)
    having, _ = line([row["samples"], max(samples - row["samples"], 0)], min_cell)
    return {
        "column": plain(row["column"]),
        "modality": modality(row["modality"]),
        "cells": alone(row.get("cells", 0), min_cell),
        **dict(zip(("present", *REASONS), parts)),
        "samples": having,
        "several": alone(row.get("several_values", 0), min_cell),
    }


def series(audit: Audit, min_cell: int) -> list[tuple[str, str]]:
    """What was found in the series and reports of lesions: (what, count)."""
    told = audit.get("series") or {}
    found = {f"{row['column']}, cannot be used: {row['reason']}": row["rows"] for row in told.get("unusable") or []}
    found |= {f"files left out: {reason}": count for reason, count in (told.get("left_out") or {}).items()}
    found |= (told.get("notes") or {}) | {f"PET: {warning}": count for warning, count in (audit.get("suv") or {}).items()}
    found |= {_of_reports(name): count for name, count in (audit.get("reports") or {}).items()}
    return [(plain(what), alone(count, min_cell)) for what, count in found.items() if count]


def _of_reports(name: str) -> str:
    return name if name.startswith("report") else f"reports: {name}"


def giveaways(audit: Audit, min_cell: int) -> list[dict[str, str]]:
    """How well the label can be told without a look at the lesion: words of reports, scanner, presence of modalities."""
    rows = []
    for told in (audit.get("leaks") or {}).get("baselines") or []:
        few = disclosure.is_small(told["samples"], min_cell)
        value = "–" if few or told["auroc"] is None else f"{told['auroc']:.3f}"
        row = {"baseline": plain(told["baseline"]), "auroc": value, "samples": alone(told["samples"], min_cell)}
        rows.append({**row, "reason": plain(told["reason"] or "")})
    return rows
