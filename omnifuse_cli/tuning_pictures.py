"""A tuning to look at: value by trial and by each axis as a PNG, and a row a trial for TensorBoard's HPARAMS."""

from __future__ import annotations

import io
import math

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.tunings import FIGURE, OK, Result

COLUMNS = 3


def write(out: store.Builder, result: Result) -> None:
    with store.atomic(out.path(FIGURE)) as partial:
        partial.write_bytes(draw(result))
    _write_hparams(out, result)


def draw(result: Result) -> bytes:
    """A PNG: trials in their order, then one panel an axis. Shared values of val; what was lost lies below them."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from omnifuse.eval.figures import INK, LINE, PAPER

    axes = result.about["axes"]
    columns = min(COLUMNS, 1 + len(axes))
    rows = math.ceil((1 + len(axes)) / columns)
    with rc_context({"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(3.1 * columns, 2.4 * rows), layout="constrained", facecolor=PAPER)
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for panel in panels[1 + len(axes) :]:
            panel.remove()
        _paint(panels[0], result, "trial", [float(trial.number) for trial in result.trials])
        for panel, name in zip(panels[1:], axes):
            places = _places(panel, axes[name], [trial.values[name] for trial in result.trials])
            _paint(panel, result, name, places)
        for panel in panels[: 1 + len(axes)]:
            panel.grid(axis="y", color=LINE, linewidth=0.7)
            panel.set_axisbelow(True)
        for row in range(rows):
            panels[row * columns].set_ylabel(result.monitor)
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        where = f"{result.about['method']} on {result.about['task']}, val of fold {result.about['fold']}"
        figure.suptitle(f"{where}\nring: defaults, blue: best, cross: lost", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _places(panel, axis: dict, values: list) -> list[float | None]:
    """Where each value stands on the panel; choices side by side in the order of the space, what is no choice to their left."""
    if "choice" in axis:
        names = [config.show(choice) for choice in axis["choice"]]
        names = list(dict.fromkeys([config.show(value) for value in values if config.show(value) not in names] + names))
        panel.set_xticks(range(len(names)), names)
        panel.set_xlim(-0.5, len(names) - 0.5)
        return [float(names.index(config.show(value))) for value in values]
    if "log" in axis:
        panel.set_xscale("log")
    return [float(value) if isinstance(value, (int, float)) and ("log" not in axis or value > 0) else None for value in values]


def _paint(panel, result: Result, name: str, places: list[float | None]) -> None:
    from omnifuse.eval.figures import PALETTE, SOFT

    best, known = result.best.number, [trial.value for trial in result.trials if trial.value is not None]
    floor = min(known) - 0.06 * ((max(known) - min(known)) or 0.1)
    for trial, place in zip(result.trials, places):
        if place is None:
            continue
        if trial.value is None:
            panel.plot(place, floor, "x", color=PALETTE[1], markersize=6)
            continue
        colour = PALETTE[0] if trial.number == best else SOFT
        ring = {"markerfacecolor": "none", "markeredgewidth": 1.6} if trial.number == 0 else {}
        panel.plot(place, trial.value, "o", color=colour, markersize=7 if trial.number in (0, best) else 5, **ring)
    panel.set_xlabel(name)


def _write_hparams(out: store.Builder, result: Result) -> None:
    from omnifuse.models.journal import Journal

    for trial in result.trials:
        journal = Journal(out.scratch(f"{trial.number}.jsonl"), out.path(f"tb/trial{trial.number:03d}"))
        told = {name: value if isinstance(value, (bool, int, float, str)) else config.show(value) for name, value in trial.values.items()}
        found = {f"best/{result.monitor}": trial.value} if trial.state == OK else {}
        journal.settings({"method": result.about["method"], "trial": trial.number, "state": trial.state, **told}, found, trial.number)
        journal.close()
