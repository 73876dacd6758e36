"""The figures of a report, drawn once: as PNG for papers and slides, and as SVG inside the page, where its colours follow the page's theme.

Colours are those of Okabe and Ito (2008), which readers with colour blindness tell apart; lines differ in their dashes as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from omnifuse.eval.calibration import Reliability
from omnifuse.eval.curves import GRID, Curve
from omnifuse.eval.escaping import plain
from omnifuse.eval.leaks import MARK

INK, SOFT, LINE, PAPER, BAND = "#1d2730", "#5c6b78", "#d5dce2", "#fefefd", "#e9eef2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)))
# What the page's theme replaces; the style sheet defines these.
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", PAPER: "--card", BAND: "--band"} | {c: f"--c{i}" for i, c in enumerate(PALETTE)}
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "axes.linewidth": 0.8,
    "axes.facecolor": PAPER, "figure.facecolor": PAPER, "grid.color": LINE, "grid.linewidth": 0.7, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """One figure. `svg` is safe to stand in a page: text is escaped, and it holds no script, style sheet or link to the outside."""

    name: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Captioned:
    """A drawing with its title and the sentence below it."""

    drawing: Drawing
    title: str
    caption: str


def _draw(name: str, label: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> Drawing:
    style = {**STYLE, "svg.hashsalt": name}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        vector, raster = io.StringIO(), io.BytesIO()
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # laid out once, for both
        figure.savefig(raster, format="png", dpi=160, metadata={"Software": None})
    return Drawing(name, _inline(vector.getvalue(), label), raster.getvalue())


def _inline(svg: str, label: str) -> str:
    """matplotlib's file as an element of a page: no header, no ids that other figures share, sizes and colours left to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    box = re.search(r'viewBox="[^"]*"', svg).group(0)
    safe = plain(label).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    svg = re.sub(r"^<svg[^>]*>", f'<svg {box} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{safe}">', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.strip()


def key(axes: Axes, names: Sequence[str], **where: Any) -> None:
    """A legend of the palette's lines. Names that begin with _ would be left out by matplotlib, hence the blank."""
    lines = [axes.plot([], [], color=PALETTE[i], linestyle=DASHES[i], linewidth=1.8)[0] for i in range(len(names))]
    axes.legend(lines, [f" {_short(name, 44)}" for name in names], handlelength=2.6, fontsize=7.5, **where)


def _short(name: str, longest: int) -> str:
    """A name that fits; the mark of a leak is not cut away."""
    text = plain(name, longest)
    return text if MARK not in name or MARK in text else plain(name, longest - len(MARK)) + MARK


def _unit_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(True)


def draw_roc(curves: Mapping[str, Curve]) -> Drawing:
    """Mean ROC curve of each model; the first one's folds as thin lines."""

    def paint(axes: Axes) -> None:
        _unit_axes(axes, "False positives / all without the outcome", "True positives / all with it")
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        _lines(axes, curves, "default", zero=(0.0, 0.0))
        key(axes, list(curves), loc="lower right")

    return _draw("roc", "ROC curves", (3.5, 3.4), paint)


def draw_precision_recall(curves: Mapping[str, Curve], prevalence: float | None) -> Drawing:
    """Mean precision-recall curve of each model, with the prevalence as the line of chance."""

    def paint(axes: Axes) -> None:
        _unit_axes(axes, "Recall: found / all with the outcome", "Precision: right / all flagged")
        if prevalence is not None:
            axes.axhline(prevalence, color=SOFT, linewidth=0.8, linestyle=":")
        _lines(axes, curves, "steps-pre")
        key(axes, list(curves), loc="upper right")

    return _draw("precision_recall", "Precision-recall curves", (3.5, 3.4), paint)


def _lines(axes: Axes, curves: Mapping[str, Curve], style: str, zero: tuple[float, float] | None = None) -> None:
    for i, curve in reversed(list(enumerate(curves.values()))):
        x = GRID if zero is None else np.insert(GRID, 0, zero[0])
        if i == 0:
            for fold in curve.folds:
                y = fold if zero is None else np.insert(fold, 0, zero[1])
                axes.plot(x, y, color=PALETTE[0], linewidth=0.5, alpha=0.4, drawstyle=style)
        y = curve.mean if zero is None else np.insert(curve.mean, 0, zero[1])
        axes.plot(x, y, color=PALETTE[i], linestyle=DASHES[i], linewidth=1.5, drawstyle=style)


def draw_reliability(points: Mapping[str, Reliability]) -> Drawing:
    """Observed share against mean predicted probability, by bins of equal mass, with 95% intervals; axes end where the points do."""

    def paint(axes: Axes) -> None:
        _unit_axes(axes, "Predicted probability", "Observed share")
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        shift = 0.006
        for i, found in enumerate(points.values()):
            x = found.predicted + shift * (i - (len(points) - 1) / 2)
            axes.vlines(x, found.low, found.high, color=PALETTE[i], linewidth=0.9, alpha=0.7)
            axes.plot(x, found.observed, color=PALETTE[i], linestyle=DASHES[i], linewidth=1.3, marker="os^Dv*"[i], markersize=3.5)
        end = min(1.0, 1.08 * max([0.1, *(float(max(p.high.max(initial=0), p.predicted.max(initial=0))) for p in points.values())]))
        ticks = np.linspace(0, 1, 6) if end > 0.55 else MaxNLocator(5).tick_values(0, end)
        axes.set(xticks=ticks, yticks=ticks)
        axes.set(xlim=(-0.01 * end, end), ylim=(-0.01 * end, end))
        key(axes, list(points), loc="upper left")

    return _draw("reliability", "Reliability curves", (3.5, 3.4), paint)


def draw_forest(
    name: str, label: str, rows: Sequence[Mapping[str, Any]], x: str, line: float | None = None, band: float | None = None
) -> Drawing:
    """Values with intervals, one row each from the top.

    Args:
        rows: `name`, `value`, `low`, `high` and `colour` (index into the palette); value None draws no mark. `ceiling`, where there is
            one, is drawn as a bar across the row.
        line: a vertical line of reference. band: half-width of a shaded range around it.
    """

    names = ["\n".join(_short(line, 36) for line in row["name"].split("\n")) for row in rows]
    lines = max((name.count("\n") + 1 for name in names), default=1)

    def paint(axes: Axes) -> None:
        places = np.arange(len(rows))[::-1]
        if band is not None:
            axes.axvspan(line - band, line + band, color=BAND, linewidth=0)
        if line is not None:
            axes.axvline(line, color=SOFT, linewidth=0.9, linestyle=":")
        for place, row in zip(places, rows):
            if row["value"] is not None:
                colour = PALETTE[row["colour"]]
                if row["low"] is not None:
                    axes.hlines(place, row["low"], row["high"], color=colour, linewidth=2.2)
                axes.plot([row["value"]], [place], color=colour, marker="os^Dv*"[row["colour"]], markersize=6)
            if row.get("ceiling") is not None:
                axes.vlines(row["ceiling"], place - 0.32, place + 0.32, color=INK, linewidth=2.0)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(x)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    return _draw(name, label, (4.6, 0.75 + (0.26 if lines == 1 else 0.4) * max(len(rows), 1)), paint)


def draw_training(name: str, label: str, lines: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], y: str) -> Drawing:
    """A logged number by epoch: one colour a name ("loss, train"), one thin line a fold, the mean of the folds bold."""

    def paint(axes: Axes) -> None:
        for i, runs in enumerate(lines.values()):
            for epochs, values in runs:
                axes.plot(epochs, values, color=PALETTE[i], linewidth=0.7, alpha=0.5, linestyle=DASHES[i])
            longest = sorted({epoch for epochs, _ in runs for epoch in epochs})
            means = [np.mean([v[list(e).index(at)] for e, v in runs if at in e]) for at in longest]
            axes.plot(longest, means, color=PALETTE[i], linewidth=1.8, linestyle=DASHES[i], marker="o" if len(longest) == 1 else None)
        axes.set(xlabel="Epoch", ylabel=plain(y, 40))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.grid(True)
        key(axes, list(lines), loc="best")

    return _draw(name, label, (3.9, 2.7), paint)
