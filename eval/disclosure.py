"""Small cells: a count from 1 to `min_cell - 1` is not shown, nor is what would give it back.

CMS asks for 11 in anything published; 0 shows all, for the researchers' own eyes. Nought itself may be shown. In a table with totals a
single hidden cell could be had by subtraction, so that a second one is hidden with it.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from typing import Any

import numpy as np

# A count in a sentence; no hours, no share, no setting (`WARNING = 1`), no part of another number or word.
_COUNT = re.compile(r"(?<![\w.,])(?<!= )(\d+)(?![\w%]|[.,]\d| h\b| hours?\b)")


def is_small(count: float | None, min_cell: int) -> bool:
    """Whether a count may not be shown."""
    return count is not None and 0 < count < min_cell


def hide_small(counts, min_cell: int) -> np.ndarray:
    """Which cells of a table to hide; its rows and columns are the parts of totals that are known.

    Args:
        counts: [R, C] counts of one partition (sex by outcome); a partition without totals along an axis has one line there.

    Returns:
        [R, C] bool: the small cells, and in each row and column with exactly one of them the next smallest that is not nought.
    """
    counts = np.asarray(counts, dtype=np.float64)
    hidden = (counts > 0) & (counts < min_cell)
    for _ in range(counts.size):
        before = hidden.copy()
        for table, mask in ((counts, hidden), (counts.T, hidden.T)):
            for row, cover in zip(table, mask):  # views: writing to `cover` writes to `hidden`
                open_cells = np.flatnonzero(~cover & (row > 0))
                if len(row) > 1 and cover.sum() == 1 and len(open_cells):
                    cover[open_cells[row[open_cells].argmin()]] = True
        if (before == hidden).all():
            break
    return hidden


def suppress(results: dict[str, Any], min_cell: int) -> dict[str, Any]:
    """Results of `evaluation.evaluate` without the counts, and the figures, of labels with too few positives or negatives."""
    results = copy.deepcopy(results)
    results["settings"]["min_cell"] = min_cell
    if min_cell <= 1:
        return results
    results["warnings"] = [hide_in_text(line, min_cell) for line in results["warnings"]]
    for model in results["models"]:
        for place, row in enumerate(model["mean"]):
            folds = [cell["rows"][place] for cell in model["cells"]]
            if _has_small(row, min_cell):
                folds.append(row)
            elif not any(_has_small(fold, min_cell) for fold in folds):
                continue
            for small in folds:  # all folds together: a single one could be had from the total
                _hide(small, min_cell)
            if row["label"] == results["row"] and "ceiling" in model:
                model["ceiling"] = model["attainable"] = {"value": None, "reason": _reason(min_cell)}
                results["ceilings"]["sets"] = []
        for told in model.get("omega_quality", ()):
            if is_small(told["samples"], min_cell) or is_small(told["alone"], min_cell):
                told |= {"rho": None, "low": None, "high": None, "samples": None, "alone": None, "reason": _reason(min_cell)}
    return results


def _has_small(row: dict[str, Any], min_cell: int) -> bool:
    negatives = None if row["positives"] is None else row["samples"] - row["positives"]
    return any(is_small(count, min_cell) for count in (row["samples"], row["patients"], row["positives"], negatives))


def _reason(min_cell: int) -> str:
    return f"fewer than {min_cell} positives, negatives or patients: not shown"


def _hide(row: dict[str, Any], min_cell: int) -> None:
    reason = _reason(min_cell)
    row.update(samples=None, patients=None, positives=None, prevalence=None, suppressed=True)
    row["metrics"] = {name: {"value": None, "reason": reason} for name in row["metrics"]}


def hide_in_text(line: str, min_cell: int) -> str:
    """A sentence without its small counts."""
    return _COUNT.sub(lambda found: f"under {min_cell}" if is_small(int(found[1]), min_cell) else found[1], line)


def merge_small_steps(steps: list[dict[str, Any]], min_cell: int, unit: str = "stays") -> list[dict[str, Any]]:
    """Attrition steps (counts after each) where none removes a small number: such a step is told together with its neighbour.

    Args:
        unit: the key of the counts. `left_out` of a step, {reason: count}, goes with it.
    """
    kept: list[dict[str, Any]] = []
    names: list[str] = []
    left: Counter[str] = Counter()
    for index, step in enumerate(steps):
        names = [*names, step["step"]] if index else [step["step"]]
        left.update(step.get("left_out") or {})
        if kept and is_small(kept[-1][unit] - step[unit], min_cell):
            continue
        kept.append({**step, "step": "; ".join(names)} | ({"left_out": dict(left)} if left else {}))
        names, left = [], Counter()
    if names:  # what the last steps removed is small: told with the step before, whose count then goes
        last = kept.pop()
        left = Counter(last.get("left_out") or {}) + left
        kept.append({**steps[-1], "step": "; ".join([last["step"], *names])} | ({"left_out": dict(left)} if left else {}))
    return kept
