"""series.png: the first 48 hours of a stay that was survived and of one that ended in death, under the severity that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from clinic_pictures.style import BLUE, INK, MODALITY_COLOURS, ORANGE, PINK, SOFT, new_figure, save, styled

HOURS = 48
PANELS = (  # title with unit, items, limits
    ("Heart rate, beats a minute", {"Heart rate": (220045,)}, (40, 150)),
    ("Mean blood pressure, mmHg", {"cuff": (220181,), "arterial line": (220052,)}, (40, 120)),
    ("Glasgow coma scale, sum", {"GCS": (220739, 223900, 223901)}, (2.5, 15.5)),
    ("Arterial pH", {"pH": (223830,)}, (7.1, 7.6)),
)
TICKS = ("nurse's rounds", "coma scale", "laboratory", "chest exams", "ECG")
ROUNDS = {"nurse's rounds": (220045, 220210), "coma scale": (220739,), "laboratory": (220621, 223830)}


@dataclass(frozen=True)
class Stay:
    title: str
    told: str
    died: bool
    severity: np.ndarray  # [hours, 2] hour, severity
    values: dict[str, np.ndarray]  # [n, 2] hour, value
    ticks: dict[str, np.ndarray]  # [n] hours


def collect(raw: Path, truth: Path) -> tuple[Stay, Stay]:
    """The stay that is nearest to the middle of those that survived, and of those that died: not the most telling ones."""
    told = pl.read_parquet(truth / "ceilings.parquet").select("stay_id", "p_ehr_cxr_rep_sig", "^present_.*$")
    stays = pl.read_parquet(truth / "stays.parquet").join(told, on="stay_id", maintain_order="left")
    stays = stays.filter(pl.col("design") & pl.col("p_ehr_cxr_rep_sig").is_not_null() & pl.col("arterial_line"))
    chosen = [_middle(stays.filter(pl.col("died") == died)) for died in (False, True)]
    chart = _chart(raw, [row["stay_id"] for row in chosen])
    return tuple(_stay(truth, chart, row) for row in chosen)


def _middle(stays: pl.DataFrame) -> dict:
    """Nearest to the median of R, D and P(death | all that is shown), among those that show reports and signals where there are such."""
    full = stays.filter(pl.col("present_rep") & pl.col("present_sig"))
    stays = full if len(full) else stays
    columns = ("level", "trend", "p_ehr_cxr_rep_sig")
    away = sum(((stays[c] - stays[c].median()) / max(stays[c].std() or 0.0, 1e-9)) ** 2 for c in columns)
    return stays.row(int(away.arg_min()), named=True)


def _chart(raw: Path, stays: list[int]) -> pl.DataFrame:
    """Charted numbers of these stays, without the rows that the charting system warns of; hours since the start."""
    start = pl.scan_csv(raw / "icu/icustays.csv.gz", infer_schema_length=0).select(
        pl.col("stay_id").cast(pl.Int64), pl.col("intime").str.to_datetime()
    )
    return (
        pl.scan_csv(raw / "icu/chartevents.csv.gz", infer_schema_length=0)
        .filter(pl.col("stay_id").cast(pl.Int64).is_in(stays) & (pl.col("warning") == "0"))
        .select(pl.col("stay_id", "itemid").cast(pl.Int64), pl.col("charttime").str.to_datetime(), pl.col("valuenum").cast(pl.Float64))
        .join(start, on="stay_id")
        .with_columns(hour=(pl.col("charttime") - pl.col("intime")).dt.total_minutes() / 60)
        .filter(pl.col("hour").is_between(0, HOURS, closed="left"))
        .sort("stay_id", "hour", "itemid", "valuenum")
        .collect()
    )


def _stay(truth: Path, chart: pl.DataFrame, row: dict) -> Stay:
    ours = pl.col("stay_id") == row["stay_id"]
    severity = pl.scan_parquet(truth / "severity/*.parquet").filter(ours & (pl.col("hour") <= HOURS)).sort("hour").collect()
    mine, values = chart.filter(ours), {}
    for _, lines, _ in PANELS:
        for name, items in lines.items():
            at = mine.filter(pl.col("itemid").is_in(items)).group_by("hour").agg(pl.col("valuenum").sum(), n=pl.len())
            values[name] = at.filter(pl.col("n") == len(items)).sort("hour").select("hour", "valuenum").to_numpy()
    ticks = {name: np.unique(mine.filter(pl.col("itemid").is_in(items))["hour"]) for name, items in ROUNDS.items()}
    exams, signals = (pl.read_parquet(truth / f"{name}.parquet").filter(ours) for name in ("exams", "signals"))
    inside = exams.filter(~pl.col("before"))["minute"].to_numpy() / 60
    ticks |= {"chest exams": inside[inside < HOURS], "ECG": signals.filter(pl.col("minute") < 60 * HOURS)["minute"].to_numpy() / 60}
    told = f"P(death) given all that it shows: {row['p_ehr_cxr_rep_sig']:.2f}; given the latent state: {row['p_latent']:.2f}"
    outcome = "A stay that ended in death" if row["died"] else "A stay that was survived"
    return Stay(outcome, told, bool(row["died"]), severity.select("hour", "severity").to_numpy(), values, ticks)


def draw(stays: tuple[Stay, ...], path: Path) -> None:
    with styled():
        figure = new_figure(10.2, 8.6)
        axes = figure.subplots(len(PANELS) + 2, len(stays), sharex=True, sharey="row", height_ratios=(1.1, *([1] * len(PANELS)), 0.75))
        for column, stay in zip(axes.T, stays):
            _draw_severity(column[0], stay)
            for place, panel in zip(column[1:-1], PANELS):
                _draw_values(place, panel, stay)
            _draw_ticks(column[-1], stay)
        axes[2, 0].legend(loc="upper left", fontsize=7.5, ncols=2, borderpad=0, handletextpad=0.4)
        axes[-1, 0].invert_yaxis()
        save(figure, path)


def _draw_severity(axes, stay: Stay) -> None:
    colour = ORANGE if stay.died else BLUE
    axes.axhline(0, color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.fill_between(*stay.severity.T, color=colour, alpha=0.18, linewidth=0)
    axes.plot(*stay.severity.T, color=colour, linewidth=1.6)
    axes.set_ylim(-2.6, 2.6)
    axes.text(0.01, 0.05, "latent severity, in sd; 0 is the average stay", transform=axes.transAxes, fontsize=8.5)
    axes.text(0.01, 0.96, stay.told, transform=axes.transAxes, fontsize=8.5, va="top")
    axes.set_title(stay.title, fontweight="bold", fontsize=10.5)


def _draw_values(axes, panel, stay: Stay) -> None:
    title, lines, limits = panel
    for (name, _), colour, marker in zip(lines.items(), (INK, PINK), ("o", "x")):
        steps = "steps-post" if name == "GCS" else "default"
        if not len(stay.values[name]):
            axes.text(0.5, 0.5, "never measured", transform=axes.transAxes, ha="center", va="center", color=SOFT)
        axes.plot(*stay.values[name].T, color=colour, linewidth=0.9, marker=marker, markersize=2.6, drawstyle=steps, label=name)
    axes.set_ylim(*limits)
    axes.set_title(title, fontsize=8.5, pad=2)
    axes.grid(axis="y")


def _draw_ticks(axes, stay: Stay) -> None:
    colours = (INK, INK, INK, MODALITY_COLOURS["rep"], MODALITY_COLOURS["sig"])
    axes.eventplot([stay.ticks[name] for name in TICKS], lineoffsets=range(len(TICKS)), linelengths=0.7, linewidths=(1.1, 1.1, 1.1, 2, 2),
                   colors=colours)  # fmt: skip
    axes.set_yticks(range(len(TICKS)), TICKS, fontsize=7.8)
    axes.set_xlim(0, HOURS)
    axes.set_xticks(range(0, HOURS + 1, 6))
    axes.set_xlabel("hours since the start of the ICU stay")
    axes.set_title("When it was looked at", fontsize=8.5, pad=2)
