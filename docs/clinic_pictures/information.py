"""information.png: where the information lies, designed and measured, and the ceiling of each of the fifteen sets of modalities."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from clinic_pictures.style import (
    BLUE,
    BROWN,
    GREEN,
    INK,
    LINE,
    MODALITY_COLOURS,
    MODALITY_NAMES,
    ORANGE,
    PINK,
    SKY,
    SOFT,
    new_figure,
    save,
    styled,
)
from omnifuse.preprocess import store

MODALITIES = ("ehr", "cxr", "rep", "sig")
SETS = tuple("_".join(chosen) for size in range(1, 5) for chosen in itertools.combinations(MODALITIES, size))
PAIRS = tuple("_".join(pair) for pair in itertools.combinations(MODALITIES, 2))
DRAWS = 400
PARTS = {
    "level": ("severity R\n(all modalities: redundant)", BROWN),
    "trend": ("trend D\n(tables: unique)", BLUE),
    "film": ("finding of films\n(unique)", ORANGE),
    "report": ("finding of reports\n(unique)", GREEN),
    "signal": ("finding of signals\n(unique)", PINK),
    "synergy": ("effusion x trend\n(films, reports x tables:\nsynergistic)", SKY),
}


@dataclass(frozen=True)
class Figure:
    value: float
    error: float  # standard error


@dataclass(frozen=True)
class Information:
    stays: int
    entropy: float  # bits of the outcome
    latent: float  # bits that the latent state tells
    designed: dict[str, float]
    drawn: dict[str, Figure]  # the same shares in the stays that were drawn
    bits: dict[str, Figure]  # of each set
    unique: dict[str, Figure]  # what a modality adds to all others
    net: dict[str, Figure]  # redundant minus synergistic, of pairs
    auroc: dict[str, Figure]
    auroc_present: dict[str, Figure]


def collect(raw: Path, truth: Path) -> Information:
    """From ceilings.parquet, stays.parquet and design.json; standard errors of bits and shares by a bootstrap of patients."""
    design, stays = store.read_json(truth / "design.json"), pl.read_parquet(truth / "stays.parquet")
    told = design["modalities"]
    known = pl.read_parquet(truth / "ceilings.parquet").join(stays.select("stay_id", "p_latent"), on="stay_id", maintain_order="left")
    columns = ["p_latent", *(f"p_{name}" for name in SETS)]
    found = _bits(known.select(columns).to_numpy(), _resampled(known["patient"].to_numpy()))  # [1 + DRAWS, 1 + 15], the data first
    bits = dict(zip(("latent", *SETS), found.T))
    others = {name: "_".join(other for other in MODALITIES if other != name) for name in MODALITIES}
    return Information(
        stays=len(known),
        entropy=float(_entropy(known["p_latent"].mean())),
        latent=float(bits["latent"][0]),
        designed=told["designed_shares"],
        drawn=_drawn_shares(stays, design),
        bits={name: _figure(bits[name]) for name in SETS},
        unique={name: _figure(bits[SETS[-1]] - bits[others[name]]) for name in MODALITIES},
        net={pair: _figure(sum(bits[name] for name in pair.split("_")) - bits[pair]) for pair in PAIRS},
        auroc=_aurocs(told["auroc"]),
        auroc_present=_aurocs(told["auroc_present"]),
    )


def _aurocs(told: dict) -> dict[str, Figure]:
    rows = {name: told[f"p_{name}"] for name in SETS}
    return {name: Figure(row["expected"], row["expected_se"]) for name, row in rows.items() if row["expected"] is not None}


def _figure(draws: np.ndarray) -> Figure:
    return Figure(float(draws[0]), float(draws[1:].std(ddof=1)))


def _resampled(patient: np.ndarray) -> np.ndarray:
    """[1 + DRAWS, N] weights of the stays: all 1, then how often their patient was drawn."""
    _, place = np.unique(patient, return_inverse=True)
    count = place.max() + 1
    generator = np.random.default_rng(0)
    often = generator.multinomial(count, np.full(count, 1 / count), DRAWS)
    return np.vstack([np.ones(len(place)), often[:, place]])


def _bits(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[W, K] mutual information of the outcome and what each column of p was told by; p is a true probability."""
    weights = weights / weights.sum(1, keepdims=True)
    return _entropy(weights @ p) - weights @ _entropy(p)


def _entropy(p):
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def _drawn_shares(stays: pl.DataFrame, design: dict) -> dict[str, Figure]:
    """Variance of each part of the outcome's score over all stays, as a share of their sum."""
    share = design["knobs"]["findings"]
    found = {name: (stays[f"finding_{name}"].cast(float) - p) / np.sqrt(p * (1 - p)) for name, p in share.items()}
    parts = {"level": stays["level"], "trend": stays["trend"], **{name: found[name] for name in ("film", "report", "signal")}}
    parts["synergy"] = found["effusion"] * stays["trend"]
    designed = design["modalities"]["designed_shares"]
    scaled = np.column_stack([np.sqrt(designed[name]) * parts[name].to_numpy() for name in PARTS])
    weights = _resampled(stays["patient"].to_numpy())
    weights /= weights.sum(1, keepdims=True)
    variance = weights @ scaled**2 - (weights @ scaled) ** 2
    shares = variance / np.maximum(variance.sum(1, keepdims=True), 1e-12)
    return {name: _figure(column) for name, column in zip(PARTS, shares.T)}


def draw(told: Information, path: Path) -> None:
    with styled():
        figure = new_figure(10.2, 8.4)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1), hspace=0.05)
        shares, bits, net = above.subplots(1, 3, width_ratios=(1, 1.05, 0.9))
        _draw_shares(shares, told)
        _draw_bits(bits, told)
        _draw_net(net, told)
        _draw_ceilings(below, told)
        save(figure, path)


def _draw_shares(axes, told: Information) -> None:
    places = np.arange(len(PARTS))
    colours = [colour for _, colour in PARTS.values()]
    axes.barh(places - 0.17, [100 * told.designed[name] for name in PARTS], height=0.34, color=colours, label="designed")
    drawn = [told.drawn[name] for name in PARTS]
    axes.errorbar([100 * one.value for one in drawn], places + 0.24, xerr=[100 * one.error for one in drawn], fmt="o", color=INK,
                  markersize=4, capsize=2, label="in the stays drawn, s.e.")  # fmt: skip
    axes.set_yticks(places, [words for words, _ in PARTS.values()], fontsize=7.6)
    axes.invert_yaxis()
    axes.set_xlabel("% of the variance of the outcome's score")
    axes.set_title("What decides the outcome")
    axes.legend(loc="lower right", fontsize=7.5)


def _draw_bits(axes, told: Information) -> None:
    for place, name in enumerate(MODALITIES):
        alone, unique, colour = told.bits[name], told.unique[name], MODALITY_COLOURS[name]
        axes.barh(place, unique.value, color=colour, height=0.5)
        axes.barh(place, alone.value - unique.value, left=unique.value, color=colour, alpha=0.3, height=0.5)
        axes.errorbar(alone.value, place, xerr=alone.error, color=INK, capsize=2, linewidth=1)
        axes.text(alone.value + alone.error + 0.003, place, f"{alone.value:.3f}", va="center", fontsize=8)
    everything = told.bits[SETS[-1]]
    axes.barh(len(MODALITIES), everything.value, color=SOFT, height=0.5, xerr=everything.error, ecolor=INK, capsize=2)
    axes.text(everything.value + everything.error + 0.003, len(MODALITIES), f"{everything.value:.3f}", va="center", fontsize=8)
    axes.set_yticks(range(5), [*(MODALITY_NAMES[name] for name in MODALITIES), "all four"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.28 * everything.value)
    axes.set_xlabel(f"bits about the outcome, s.e.\n(it has {told.entropy:.2f}; the latent state tells {told.latent:.2f})")
    axes.set_title("What each modality tells alone;\ndark: what it adds to all others")


def _draw_net(axes, told: Information) -> None:
    pairs = [told.net[pair] for pair in PAIRS]
    axes.barh(range(len(pairs)), [1000 * one.value for one in pairs], xerr=[1000 * one.error for one in pairs], color=SOFT, height=0.5,
              ecolor=INK, capsize=2)  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(pairs)), [" + ".join(MODALITY_NAMES[name] for name in pair.split("_")) for pair in PAIRS], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("thousandths of a bit, s.e.")
    axes.set_title("Told by both alike, less what\nonly both together tell")


def _draw_ceilings(part, told: Information) -> None:
    names = sorted(told.auroc, key=lambda name: told.auroc[name].value)
    bars, dots = part.subplots(2, 1, sharex=True, height_ratios=(2.3, 1))
    places = np.arange(len(names))
    values = [told.auroc[name] for name in names]
    heights, errors = [one.value - 0.5 for one in values], [one.error for one in values]
    bars.bar(places, heights, bottom=0.5, yerr=errors, color=SOFT, width=0.55, ecolor=INK, capsize=2, label="all stays of the design")
    present = [(k, told.auroc_present[name]) for k, name in enumerate(names) if name in told.auroc_present]
    bars.errorbar([k for k, _ in present], [one.value for _, one in present], [one.error for _, one in present], fmt="D", color=ORANGE,
                  markerfacecolor="white", markersize=5, capsize=2, label="stays that show all of the set")  # fmt: skip
    for k, one in enumerate(values):
        bars.text(k, 0.507, f"{one.value:.3f}", ha="center", va="bottom", fontsize=7.8, color="white")
    top = max(one.value + one.error for one in [*values, *(one for _, one in present)])
    bars.set_ylim(0.5, top + 0.02)
    bars.set_ylabel("AUROC, s.e.")
    bars.set_title(f"Ceilings: the best that any method can do with a set of modalities ({told.stays:,} stays)")
    bars.legend(loc="upper left", fontsize=8)
    for row, name in enumerate(MODALITIES):
        there = np.array([name in chosen.split("_") for chosen in names])
        dots.scatter(places[~there], np.full((~there).sum(), row), s=45, color=LINE)
        dots.scatter(places[there], np.full(there.sum(), row), s=45, color=MODALITY_COLOURS[name])
    dots.set_yticks(range(len(MODALITIES)), [MODALITY_NAMES[name] for name in MODALITIES])
    dots.set_ylim(len(MODALITIES) - 0.5, -0.5)
    dots.set_xticks([])
    for spine in dots.spines.values():
        spine.set_visible(False)
