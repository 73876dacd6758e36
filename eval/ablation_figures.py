"""The figures of a grid: rows on the largest column, and curves over the share of test samples that lost a modality."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from omnifuse.eval import figures
from omnifuse.eval.ablation import SINGLE
from omnifuse.eval.ablation_page import best_of, curves_of, row_name
from omnifuse.eval.figures import Drawing


def draw_curves(results: Mapping[str, Any]) -> bytes | None:
    """One panel a column and kind of loss, one line a row with its interval as a band, the best single modality dotted; PNG."""
    panels = curves_of(results)
    if not panels:
        return None
    whole = {cell["column"]: cell for cell in results["cells"] if cell["row"] == SINGLE}
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))

    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(4.2 * across, 2.9 * down + 0.2 * len(names)), layout="constrained")
        places = figure.subplots(down, across, squeeze=False).flat
        for axes, ((column, drop), rows) in zip(places, panels.items()):
            _paint_panel(axes, f"{column}, {drop} missing", rows, names, best_of(whole, column))
        for axes in list(places)[: down * across - len(panels)]:
            axes.axis("off")
        lines = [Line2D([], [], color=_colour(place), linestyle=_dash(place), linewidth=1.8) for place in range(len(names))]
        titles = [row_name(name, results["rows"].get(name, name)) for name in names]
        figure.legend(lines, titles, loc="outside lower center", ncols=2 if len(names) > 3 else 1, handlelength=2.8)
        raster = io.BytesIO()
        figure.savefig(raster, format="png", dpi=150, metadata={"Software": None})
    return raster.getvalue()


def _paint_panel(axes: Axes, title: str, rows: Mapping[str, Any], names: list[str], single: Mapping[str, Any] | None) -> None:
    if single is not None:
        axes.axhline(single["auroc"], color=figures.SOFT, linewidth=0.9, linestyle=":")
    for name, points in rows.items():
        place = names.index(name)
        rates = sorted(rate for rate, cell in points.items() if cell["auroc"] is not None)
        value, low, high = (np.array([points[rate][key] if points[rate][key] is not None else np.nan for rate in rates], dtype=float)
                            for key in ("auroc", "low", "high"))  # fmt: skip
        axes.fill_between(rates, low, high, color=_colour(place), alpha=0.12, linewidth=0)
        axes.plot(rates, value, color=_colour(place), linestyle=_dash(place), linewidth=1.6, marker="o", markersize=2.5)
    axes.set(xlabel="Share of test samples that lost one", ylabel="AUROC", title=title)
    axes.title.set_fontsize(8.5)
    axes.grid(True)


def _colour(place: int) -> str:
    return figures.PALETTE[place % len(figures.PALETTE)]


def _dash(place: int):
    return figures.DASHES[place % len(figures.DASHES)]


def draw_table(results: Mapping[str, Any]) -> Drawing | None:
    """Every row on the largest column with its interval; the best single modality as the line of reference."""
    here = [cell for cell in results["cells"] if not cell["drop"]]
    largest = max((cell["column"] for cell in here if cell["row"] != SINGLE), key=lambda name: name.count("+"), default=None)
    if largest is None:
        return None
    best = best_of({cell["column"]: cell for cell in here if cell["row"] == SINGLE}, largest)
    titles = {name: row_name(name, title) for name, title in results["rows"].items()}
    marks = [
        {"name": titles.get(cell["row"], cell["row"]), "value": cell["auroc"], "low": cell["low"], "high": cell["high"], "colour": 0}
        for cell in here if cell["column"] == largest and cell["row"] != SINGLE
    ]  # fmt: skip
    if best is not None:
        marks.append(
            {"name": f"best single: {best['column']}", "value": best["auroc"], "low": best["low"], "high": best["high"], "colour": 1}
        )
    line = best["auroc"] if best else None
    return figures.draw_forest("ablation", f"AUROC on {largest}", marks, f"AUROC, {largest}", line=line)
