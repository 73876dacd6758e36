"""Counts, shares and quartiles of groups of patients or samples as text; small cells hidden, with what would give them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from omnifuse.eval import disclosure
from omnifuse.eval.escaping import plain

SHOWN_CATEGORIES = 8
UNKNOWN = "unknown"

Row = tuple[str, list[str], bool]  # name, a cell a group, whether it is indented


def partition(counts: Sequence[Sequence[int]], min_cell: int, denominators: Sequence[int] | None = None) -> list[list[str]]:
    """Counts [rows][All, outcome 1, outcome 2 ..] as text, small ones hidden; `All` is the total of the others and follows them."""
    table = np.array(counts)
    hidden = disclosure.hide_small(table[:, 1:] if table.shape[1] > 1 else table, min_cell)
    if table.shape[1] > 1:
        alone = disclosure.hide_small(table[:, :1], min_cell)
        hidden = np.concatenate([alone, hidden], axis=1)
    show: Callable[[int, int], str] = lambda count, column: (
        f"{count:,}"
        if denominators is None
        else f"{count:,} ({100 * count / denominators[column]:.1f}%)"
        if denominators[column]
        else f"{count:,}"
    )
    return [
        [_hidden(count, min_cell) if hide else show(count, column) for column, (count, hide) in enumerate(zip(row, mask))]
        for row, mask in zip(counts, hidden)
    ]


def line(counts: Sequence[int], min_cell: int) -> list[str]:
    """Counts that add up to a known total."""
    if not counts:
        return []
    return [_hidden(count, min_cell) if hide else f"{count:,}" for count, hide in zip(counts, disclosure.hide_small([counts], min_cell)[0])]


def alone(count: int, min_cell: int) -> str:
    """A count that belongs to no total."""
    return line([count], min_cell)[0]


def _hidden(count: int, min_cell: int) -> str:
    return f"under {min_cell}" if disclosure.is_small(count, min_cell) else "hidden"


def shares(title: str, groups: dict[str, pl.DataFrame], column: str, min_cell: int, *, told: bool = False) -> list[Row]:
    """The most frequent categories of a column and their shares of each group.

    Args:
        told: the column is of somebody's own choice: where nearly every cell differs, it names patients, and its number of values is told.
    """
    filled = {name: group[column].cast(pl.String).fill_null(UNKNOWN) for name, group in groups.items()}
    every = next(iter(filled.values()))
    found = every.alias("value").value_counts().sort(["count", "value"], descending=[True, False])["value"].to_list()
    values = sorted(found, key=lambda value: value == UNKNOWN)
    if told and len(values) > max(SHOWN_CATEGORIES, len(every) / 2):
        return [(title, [f"{group.n_unique():,} different values" for group in filled.values()], False)]
    others, values = values[SHOWN_CATEGORIES:], values[:SHOWN_CATEGORIES]
    counts = [[int((series == value).sum()) for series in filled.values()] for value in values]
    if others:
        counts.append([int(series.is_in(others).sum()) for series in filled.values()])
    texts = partition(counts, min_cell, [len(series) for series in filled.values()]) if counts else []
    names = [plain(value) for value in values] + (["other"] if others else [])
    return [(title, [""] * len(groups), False), *((name, text, True) for name, text in zip(names, texts))]


def quartiles(values: pl.Series, min_cell: int, show: Callable[[float], str] = "{:.1f}".format) -> str:
    """median (lower quartile to upper quartile)"""
    values = values.drop_nulls().drop_nans()
    if not len(values):
        return UNKNOWN
    if disclosure.is_small(len(values), min_cell):
        return "hidden"
    low, middle, high = (values.quantile(q, interpolation="linear") for q in (0.25, 0.5, 0.75))
    return f"{show(middle)} ({show(low)} to {show(high)})"


def short(value: float) -> str:
    """A number of unknown size: 0.00312, 36.9, 12,346."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
