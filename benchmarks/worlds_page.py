"""What the worlds say together: verdicts counted, differences averaged over worlds, and the knobs that they turn at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

VERDICTS = ("helps", "equivalent", "harms", "cannot be told")
AGAINST, SINGLE = "against the best single modality", "single"
LIMITS = {
    "null": "nothing is informative",
    "tables_only": "one modality is informative",
    "clean": "all there and clear",
    "separate": "nothing can be imputed",
}


def differences(found: dict[str, Any]) -> pl.DataFrame:
    """A row a world, question and what test samples have lost, with difference and verdict."""
    rows = []
    for world, results in found.items():
        for answer in results["questions"]:
            question = f"{answer['a']} - best single" if answer["question"] == AGAINST else answer["question"]
            missing = f"{answer['drop']} {answer['rate']:.0%}" if answer["drop"] else "as it is"
            rows.append({"world": world, "question": question, "lost": missing, "difference": answer["difference"],
                         "verdict": answer["verdict"]})  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def over_worlds(values: np.ndarray) -> tuple[float, float, float]:
    """Mean with its 95% interval: worlds are clinics of their own, so that their differences are independent."""
    values = values[np.isfinite(values)]
    half = stats.t.isf(0.025, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def markdown(found: dict[str, dict[str, Any]], coordinates: pl.DataFrame, fingerprint: str, figures: Path | None) -> str:
    lines = [f"Set of worlds: `{fingerprint[:16]}`.", ""]
    for setting, worlds in found.items():
        frame = differences(worlds)
        patients = {results["patients"] for results in worlds.values()}
        lines += [f"### {setting}: {len(worlds)} worlds, {', '.join(map(str, sorted(patients)))} patients each, five folds", ""]
        lines += [*_counts(frame, worlds), "", *_by_val(worlds), *_turns(frame, coordinates), *_limits(frame), *_shares(worlds)]
        if figures:
            _draw(frame, worlds, figures / f"worlds_{setting}.png")
            lines += [f"![Differences in every world](results/worlds_{setting}.png)", ""]
    return "\n".join(lines)


def _asked(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return list(frame.select("question", "lost").unique(maintain_order=True).rows())


def _counts(frame: pl.DataFrame, worlds: dict[str, Any]):
    """How often each verdict fell, and the mean over worlds."""
    titles = next(iter(worlds.values()))["rows"]
    yield f"Rows: {'; '.join(f'({name}) {title}' for name, title in titles.items())}."
    yield ""
    yield f"| question | missing | {' | '.join(VERDICTS)} | above 0 | mean over worlds |"
    yield f"|---|---|{'---|' * (len(VERDICTS) + 2)}"
    for question, missing in _asked(frame):
        here = frame.filter(question=question, lost=missing)
        counted = Counter(here["verdict"])
        values = here["difference"].cast(pl.Float64).to_numpy()
        mean, low, high = over_worlds(values)
        told = " | ".join(str(counted[verdict]) for verdict in VERDICTS)
        yield f"| {question} | {missing} | {told} | {int((values > 0).sum())} of {len(here)} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] |"


def _by_val(worlds: dict[str, Any]):
    """Against the single modality that val would choose: the best of several on test is partly luck, in the null world nothing else."""
    found: dict[str, list[float]] = {}
    same = 0
    for results in worlds.values():
        cells = [cell for cell in results["cells"] if not cell["drop"] and cell["auroc"] is not None]
        singles = [cell for cell in cells if cell["row"] == SINGLE and cell["validation_auroc"] is not None]
        if not singles:
            continue
        chosen = max(singles, key=lambda cell: cell["validation_auroc"])
        same += chosen is max(singles, key=lambda cell: cell["auroc"])
        for cell in cells:
            if cell["row"] != SINGLE:
                found.setdefault(cell["row"], []).append(cell["auroc"] - chosen["auroc"])
    if not found:
        return
    yield "The best single modality of the table above is chosen on the test samples themselves, which flatters it. Against the one that"
    yield f"val chooses (the same in {same} of {len(worlds)} worlds), each on all samples that it can judge:"
    yield ""
    yield "| row | above it | mean over worlds |"
    yield "|---|---|---|"
    for row, values in found.items():
        mean, low, high = over_worlds(np.array(values))
        yield f"| {row} | {sum(value > 0 for value in values)} of {len(values)} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] |"
    yield ""


def _turns(frame: pl.DataFrame, coordinates: pl.DataFrame):
    """Rank correlation of each difference with each knob; Holm over the whole table."""
    axes = [name for name in coordinates.columns if name not in ("world", "seed", "base")]
    placed = coordinates.drop_nulls(axes[0])
    codes = placed.with_columns(
        pl.col(name).rank("dense").cast(pl.Float64) if placed[name].dtype == pl.String else pl.col(name).cast(pl.Float64) for name in axes
    )
    cells = []
    for question, missing in _asked(frame):
        joined = frame.filter(question=question, lost=missing).join(codes, on="world").drop_nulls("difference")
        if len(joined) < 8:
            continue
        for axis in axes:
            found = stats.spearmanr(joined["difference"].to_numpy(), joined[axis].to_numpy())
            cells.append((question, missing, axis, found.statistic, found.pvalue))
    if not cells:
        return
    adjusted = stats.false_discovery_control([p if np.isfinite(p) else 1.0 for *_, p in cells])
    yield "Where it turns: rank correlation of the difference with each knob over the worlds of the hypercube; **bold** at a false"
    yield "discovery rate below .05 over the whole table. `carrier` counts easy below hard."
    yield ""
    yield f"| question | missing | {' | '.join(axes)} |"
    yield f"|---|---|{'---|' * len(axes)}"
    for question, missing in dict.fromkeys((question, missing) for question, missing, *_ in cells):
        row = [(rho, q) for (a, b, _, rho, _), q in zip(cells, adjusted) if (a, b) == (question, missing)]
        told = " | ".join(f"**{rho:+.2f}**" if q < 0.05 else f"{rho:+.2f}" for rho, q in row)
        yield f"| {question} | {missing} | {told} |"
    yield ""


def _limits(frame: pl.DataFrame):
    """The four limits, one by one."""
    names = {world: LIMITS[world.split("/")[-1]] for world in frame["world"].unique(maintain_order=True) if world.split("/")[-1] in LIMITS}
    if not names:
        return
    yield f"| question | missing | {' | '.join(names.values())} |"
    yield f"|---|---|{'---|' * len(names)}"
    for question, missing in _asked(frame):
        here = {row["world"]: row for row in frame.filter(question=question, lost=missing).to_dicts()}
        told = [f"{here[world]['difference']:+.3f} ({here[world]['verdict']})" if world in here and here[world]["difference"] is not None
                else "-" for world in names]  # fmt: skip
        yield f"| {question} | {missing} | {' | '.join(told)} |"
    yield ""


def _shares(worlds: dict[str, Any]):
    """AUROC, ceiling and share of the attainable gain of each row, over the worlds in which there is room for one."""
    yield "| row | mean AUROC | mean ceiling | share of the attainable gain, median [quartiles] | worlds with room |"
    yield "|---|---|---|---|---|"
    titles = next(iter(worlds.values()))["rows"]
    for name, title in titles.items():
        cells = [cell for results in worlds.values() for cell in results["cells"] if cell["row"] == name and not cell["drop"]]
        shares = [cell["attained"]["value"] for cell in cells if (cell.get("attained") or {}).get("value") is not None]
        auroc = np.mean([cell["auroc"] for cell in cells if cell["auroc"] is not None])
        ceilings = [cell["ceiling"] for cell in cells if cell.get("ceiling") is not None]
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75]) if shares else (np.nan,) * 3
        ceiling = np.mean(ceilings) if ceilings else np.nan
        yield f"| ({name}) {title} | {auroc:.3f} | {ceiling:.3f} | {middle:.2f} [{low:.2f}, {high:.2f}] | {len(shares)} |"
    yield ""
    every = [cell for results in worlds.values() for cell in results["cells"] if None not in (cell.get("ceiling"), cell["low"])]
    above = sum(cell["low"] > cell["ceiling"] for cell in every)
    yield f"{above} of {len(every)} cells, single modalities among them, lie above their ceiling with the whole of their 95% interval; by"
    yield f"chance alone {0.025 * len(every):.0f} would, were each as good as can be."
    yield ""


def _draw(frame: pl.DataFrame, worlds: dict[str, Any], path: Path) -> None:
    """One dot a world, by question; the mean with its interval over worlds."""
    from matplotlib.figure import Figure

    asked = _asked(frame)
    figure = Figure(figsize=(7.2, 0.8 + 0.27 * len(asked)), layout="constrained")
    axes = figure.subplots()
    colours = {"helps": "#009e73", "harms": "#d55e00", "equivalent": "#0072b2", "cannot be told": "#9aa5ae"}
    axes.axvline(0, color="#5c6b78", linewidth=0.9)
    jitter = np.random.default_rng(0)
    for place, (question, missing) in enumerate(reversed(asked)):
        here = frame.filter(question=question, lost=missing).drop_nulls("difference")
        for verdict, colour in colours.items():
            values = here.filter(verdict=verdict)["difference"].to_numpy()
            axes.scatter(values, place + jitter.uniform(-0.22, 0.22, len(values)), s=9, color=colour, alpha=0.8, linewidths=0)
        mean, low, high = over_worlds(here["difference"].to_numpy())
        axes.hlines(place, low, high, color="#1d2730", linewidth=2)
        axes.plot([mean], [place], marker="D", color="#1d2730", markersize=4)
    axes.set_yticks(range(len(asked)), [f"{question}, {missing}" for question, missing in reversed(asked)], fontsize=7)
    axes.set_xlabel("Difference of the AUROC; one dot a world, diamond and bar: mean and 95% interval over worlds", fontsize=8)
    handles = [axes.scatter([], [], s=12, color=colour, label=verdict) for verdict, colour in colours.items()]
    axes.legend(handles=handles, fontsize=7, loc="upper left", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
