"""missingness.png: who shows films, reports and signals, against severity, ventilation and the hidden findings; and in which patterns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from clinic_pictures.style import INK, LINE, MODALITY_COLOURS, MODALITY_NAMES, SOFT, new_figure, save, styled

BESIDE = ("cxr", "rep", "sig")
GROUPS, Z95 = 6, 1.959964
# What each is asked about: at random given the tables, and not at random.
VENTILATED, FINDINGS = "ventilated", {"cxr": "finding_film", "rep": "finding_effusion", "sig": "finding_signal"}
FINDING_NAMES = {"cxr": "texture", "rep": "effusion", "sig": "ST segment"}


@dataclass(frozen=True)
class Rate:
    """A share with its 95% interval (Wilson), all in 0..1."""

    share: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Presence:
    stays: int
    severity: list[float]  # mean R of each sixth
    by_severity: dict[str, list[Rate]]
    by_ventilation: dict[str, tuple[Rate, Rate]]  # without, with
    by_finding: dict[str, tuple[Rate, Rate]]
    patterns: list[tuple[tuple[bool, ...], Rate]]  # beside the tables, commonest first


def wilson(yes: int, count: int) -> Rate:
    """Source: Wilson 1927."""
    if count == 0:
        return Rate(np.nan, np.nan, np.nan, 0)
    share, scale = yes / count, 1 + Z95**2 / count
    middle, half = share + Z95**2 / (2 * count), Z95 * np.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    return Rate(share, (middle - half) / scale, (middle + half) / scale, count)


def collect(raw: Path, truth: Path) -> Presence:
    """Of the stays that mortality at 48 hours is asked about; `raw` is not needed, what is there stands in the truth."""
    stays = pl.read_parquet(truth / "stays.parquet").filter("design")
    shown = pl.read_parquet(truth / "ceilings.parquet").select("stay_id", *(f"present_{name}" for name in BESIDE))
    stays = stays.join(shown, on="stay_id", maintain_order="left").with_columns(ventilated=pl.col("ventilated_hours") > 0)
    order = np.argsort(stays["level"].to_numpy(), kind="stable")
    sixths = np.array_split(order, GROUPS)
    there = {name: stays[f"present_{name}"].to_numpy() for name in BESIDE}
    rows = np.stack([there[name] for name in BESIDE], axis=1)
    patterns = [(pattern, wilson(int((rows == pattern).all(1).sum()), len(rows))) for pattern in itertools.product((True, False), repeat=3)]
    return Presence(
        stays=len(stays),
        severity=[float(stays["level"].to_numpy()[part].mean()) for part in sixths],
        by_severity={name: [wilson(int(found[part].sum()), len(part)) for part in sixths] for name, found in there.items()},
        by_ventilation={name: _split(found, stays[VENTILATED].to_numpy()) for name, found in there.items()},
        by_finding={name: _split(found, stays[FINDINGS[name]].to_numpy()) for name, found in there.items()},
        patterns=sorted(patterns, key=lambda one: -one[1].share),
    )


def _split(there: np.ndarray, by: np.ndarray) -> tuple[Rate, Rate]:
    return tuple(wilson(int(there[by == value].sum()), int((by == value).sum())) for value in (False, True))


def draw(presence: Presence, path: Path) -> None:
    with styled():
        figure = new_figure(10.2, 6.6)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.02), hspace=0.04)
        left, middle, right = above.subplots(1, 3, width_ratios=(1.35, 1, 1), sharey=True)
        _draw_severity(left, presence)
        _draw_pairs(middle, presence.by_ventilation, "Ventilation, which the tables tell", ("without", "with"))
        _draw_pairs(right, presence.by_finding, "The finding that it would show", ("absent", "there"), FINDING_NAMES)
        _draw_patterns(below, presence)
        save(figure, path)


def _draw_severity(axes, presence: Presence) -> None:
    for name, rates in presence.by_severity.items():
        _line(axes, presence.severity, rates, name)
        axes.annotate(MODALITY_NAMES[name], (presence.severity[-1], rates[-1].share), (8, 0), textcoords="offset points", va="center",
                      color=MODALITY_COLOURS[name], fontsize=8.5)  # fmt: skip
    axes.set_xlim(presence.severity[0] - 0.25, presence.severity[-1] + 1.0)
    axes.set_ylim(0, 1)
    axes.set_yticks(np.arange(0, 1.01, 0.25), [f"{25 * k}%" for k in range(5)])
    axes.set_xlabel("latent severity R, mean of each sixth of the stays (sd)")
    axes.set_ylabel("stays that show it within 48 hours")
    axes.set_title("Severity, which nobody sees")
    axes.grid(axis="y")


def _line(axes, places, rates: list[Rate], name: str) -> None:
    middle = np.array([rate.share for rate in rates])
    error = np.abs(np.array([(rate.low, rate.high) for rate in rates]).T - middle)
    axes.errorbar(places, middle, error, color=MODALITY_COLOURS[name], marker="o", markersize=4, linewidth=1.3, elinewidth=1, capsize=2)


def _draw_pairs(axes, pairs: dict[str, tuple[Rate, Rate]], title: str, words: tuple[str, str], names: dict[str, str] | None = None) -> None:
    for k, (name, pair) in enumerate(pairs.items()):
        _line(axes, (3 * k, 3 * k + 1), list(pair), name)
    ticks = [place for k in range(len(pairs)) for place in (3 * k, 3 * k + 1)]
    axes.set_xticks(ticks, words * len(pairs), fontsize=7.5, rotation=35)
    for k, name in enumerate(pairs):
        told = MODALITY_NAMES[name] + (f"\n({names[name]})" if names else "")
        axes.text(3 * k + 0.5, 0.035, told, ha="center", va="bottom", fontsize=7.6, color=MODALITY_COLOURS[name])
    axes.set_xlim(-0.8, 7.8)
    axes.set_title(title)
    axes.grid(axis="y")


def _draw_patterns(part, presence: Presence) -> None:
    bars, dots = part.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
    places = np.arange(len(presence.patterns))
    shares = np.array([rate.share for _, rate in presence.patterns])
    error = np.abs(np.array([(rate.low, rate.high) for _, rate in presence.patterns]).T - shares)
    bars.bar(places, shares, color=SOFT, width=0.6, yerr=error, ecolor=INK, capsize=2)
    for place, share, above in zip(places, shares, shares + error[1]):
        bars.text(place, above + 0.012, f"{100 * share:.1f}%", ha="center", fontsize=8.5)
    bars.set_ylim(0, (shares + error[1]).max() + 0.07)
    bars.set_yticks([])
    bars.spines["left"].set_visible(False)
    bars.set_title(f"Patterns of what a stay shows, with 95% intervals ({presence.stays:,} stays); an exam with a film has a report")
    names = ("ehr", *BESIDE)
    for row, name in enumerate(names):
        there = np.array([row == 0 or pattern[row - 1] for pattern, _ in presence.patterns])
        dots.scatter(places[~there], np.full((~there).sum(), row), s=55, color=LINE)
        dots.scatter(places[there], np.full(there.sum(), row), s=55, color=MODALITY_COLOURS[name])
    dots.set_yticks(range(len(names)), [MODALITY_NAMES[name] for name in names])
    dots.set_ylim(len(names) - 0.5, -0.5)
    dots.set_xticks([])
    for spine in dots.spines.values():
        spine.set_visible(False)
