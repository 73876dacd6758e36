"""worlds.png: the knobs of every world that the package ships, a row each, shaded by where they stand between the least and the most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib.colors import LinearSegmentedColormap

from clinic_pictures.style import INK, LINE, new_figure, save, styled
from omnifuse.preprocess.clinic.latent import outcome_weights
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.clinic.worldfile import WORLDS, read_world

SHADES = LinearSegmentedColormap.from_list("shades", ("#ffffff", "#9ecae1", "#3182bd"))


def _share(part: str) -> Callable[[World], float]:
    return lambda world: 100 * outcome_weights(world)[part] ** 2


GROUPS: dict[str, dict[str, Callable[[World], float]]] = {
    "outcome": {
        "deaths %": lambda w: 100 * w.outcome.prevalence,
        "AUROC, latent": lambda w: w.outcome.latent_auroc,
    },
    "share of the information %": {
        "severity R": _share("level"),
        "trend D": _share("trend"),
        "film's finding": _share("film"),
        "report's finding": _share("report"),
        "signal's finding": _share("signal"),
        "synergy": _share("synergy"),
    },
    "shows R": {
        "tables": lambda w: w.severity.level,
        "films": lambda w: w.film.redundant,
        "reports": lambda w: w.report.redundant,
        "signals": lambda w: w.signal.redundant,
    },
    "finding in hard carrier": {
        "film": lambda w: float(w.film.unique_in == "texture"),
        "report": lambda w: float(w.report.unique_in == "hedged"),
        "signal": lambda w: float(w.signal.unique_in == "st"),
    },
    "presence %": {
        "films": lambda w: 100 * w.exam.ordered.rate * w.film.archived.rate,
        "reports": lambda w: 100 * w.exam.ordered.rate,
        "signals": lambda w: 100 * w.signal.ordered.rate,
    },
    "quality": {
        "spread": lambda w: max(quality.spread for quality in _qualities(w)),
        "corrupt %": lambda w: 100 * max(quality.corrupt for quality in _qualities(w)),
        "spurious tie": lambda w: max(abs(quality.spurious) for quality in _qualities(w)),
        "other site %": lambda w: 100 * w.sites.external,
    },
}


def _qualities(world: World):
    return world.film.quality, world.report.quality, world.signal.quality


@dataclass(frozen=True)
class Worlds:
    names: list[str]
    columns: list[tuple[str, str]]  # group, knob
    values: np.ndarray  # [worlds, columns]


def collect(folder: Path = WORLDS) -> Worlds:
    """Whatever worlds lie in the folder: the default, then the named ones, then those of sets (files that list `worlds`)."""
    worlds = [(name, read_world(named)) for name, named in _shipped(folder)]
    columns = [(group, knob) for group, knobs in GROUPS.items() for knob in knobs]
    values = np.array([[GROUPS[group][knob](world) for group, knob in columns] for _, world in worlds])
    return Worlds([name for name, _ in worlds], columns, values)


def _shipped(folder: Path) -> list[tuple[str, str | Path]]:
    """Name, and what `read_world` takes."""
    named, members = [], []
    for path in sorted(folder.glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem)):
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "worlds" in told:
            members += [(f"{path.stem}/{member['name']}",) * 2 for member in told["worlds"]]
        else:
            named.append((path.stem, path))
    return named + members


def draw(worlds: Worlds, path: Path) -> None:
    rows, count = worlds.values.shape
    least, most = worlds.values.min(0), np.maximum(worlds.values.max(0), worlds.values.min(0) + 1e-9)
    with styled():
        figure = new_figure(10.2, 1.75 + 0.235 * rows)
        axes = figure.subplots()
        shade = (worlds.values - least) / (most - least)
        axes.imshow(shade, cmap=SHADES, vmin=0, vmax=1.15, aspect="auto")
        usual = worlds.values[worlds.names.index("default")] if "default" in worlds.names else worlds.values[0]
        for i, j in np.ndindex(rows, count):
            differs = not np.isclose(worlds.values[i, j], usual[j])
            weight, colour = "bold" if differs else "normal", "white" if shade[i, j] > 0.75 else INK
            axes.text(j, i, _number(worlds.values[i, j]), ha="center", va="center", fontsize=7.4, fontweight=weight, color=colour)
        axes.set_yticks(range(rows), worlds.names, fontsize=8.5)
        axes.set_xticks(range(count), [knob for _, knob in worlds.columns], rotation=55, ha="left", rotation_mode="anchor", fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        named = sum("/" not in name for name in worlds.names)
        if named < rows:
            axes.axhline(named - 0.5, color=INK, linewidth=1)
        _name_groups(axes, worlds, rows)
        save(figure, path)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 2 else f"{value:.2f}".removeprefix("0")


def _name_groups(axes, worlds: Worlds, rows: int) -> None:
    groups = [group for group, _ in worlds.columns]
    for group in GROUPS:
        first, last = groups.index(group), len(groups) - 1 - groups[::-1].index(group)
        if first:
            axes.axvline(first - 0.5, color=LINE, linewidth=2)
        axes.text((first + last) / 2, rows - 0.35, group.replace("finding in ", "finding in\n"), ha="center", va="top",
                  fontsize=8, fontweight="bold")  # fmt: skip
