"""The faults of real tables, laid over clean rows, and the rows made into chartevents and labevents.

Each fault is drawn by row and independent of everything else, so that it costs information and adds none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.record import store_lag
from omnifuse.preprocess.clinic.rows import CHART, LAB, LAGS, TEXTS
from omnifuse.preprocess.clinic.tables import number_text
from omnifuse.preprocess.clinic.world import Faults

SLIPS = ((0.4, lambda x: x * 10), (0.7, lambda x: x * 0), (0.9, lambda x: x * 0 + 9999), (1.0, lambda x: x / 10))


def spoil(faults: Faults, rows: pl.DataFrame, draws: np.ndarray) -> pl.DataFrame:
    """The rows with wrong values, warnings and duplicates; adds `lag_minutes`, `warning`, `unlinked` and the text of numbers."""
    item, table = rows["itemid"].to_numpy(), rows["table"].to_numpy()
    number = rows["number"].to_numpy().copy()
    counted = np.isfinite(number) & ~np.isin(item, (items.EYE, items.VERBAL, items.MOTOR))
    slipped = counted & (table == CHART) & (draws[:, 1] < faults.outlier)
    for upper, slip in reversed(SLIPS):
        mine = slipped & (draws[:, 2] < upper)
        number[mine] = slip(rows["number"].to_numpy()[mine])
    other = (draws[:, 1] - faults.outlier) / (1 - faults.outlier)  # uniform again where nothing slipped
    swapped = ~slipped & (item == items.TEMPERATURE_F) & (other >= 0) & (other < faults.swapped_temperature)
    number[swapped] = (number[swapped] - 32) / 1.8
    fraction = ~slipped & (item == items.FIO2) & (other >= 0) & (other < faults.fio2_fraction)
    number[fraction] /= 100
    censored = counted & (table == LAB) & (draws[:, 1] < faults.censored_lab)
    number[censored] = np.nan
    warned = np.where(slipped, draws[:, 3] < faults.outlier_warned, draws[:, 3] < faults.warning)
    spoiled = rows.with_columns(
        number=pl.Series(np.round(number, 2), nan_to_null=True),
        warning=pl.Series(warned.astype(np.int8)),
        unlinked=pl.Series(draws[:, 5] < faults.lab_without_admission),
        lag_minutes=pl.Series(store_lag(rows["lag"].to_numpy(), ndtri(np.clip(draws[:, 0], 1e-9, 1 - 1e-9)))),
        value=pl.Series(["___", None, *TEXTS]).gather(np.where(censored, 0, rows["text"].to_numpy() + 2)),
    ).with_columns(value=pl.coalesce("value", number_text("number")))
    again = (draws[:, 4] < faults.duplicate) & (table == CHART)
    twice = spoiled.filter(pl.Series(again)).with_columns(lag_minutes=pl.col("lag_minutes") + 5)
    return pl.concat([spoiled, twice]).sort("stay", "minute", "itemid", "table", "lag_minutes", maintain_order=True)


@dataclass
class Counter:
    """The next free labevent and specimen, counted over the table as in MIMIC."""

    labevent: int = 1
    specimen: int = 1


def chartevents(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The rows of the chart, with the ids and clock of `stays` (one row a stay: ids, start)."""
    units = pl.DataFrame(
        {"itemid": list(items.CHART_UNITS), "valueuom": list(items.CHART_UNITS.values())},
        schema={"itemid": pl.Int64, "valueuom": pl.String},
    )
    chart = _placed(rows.filter(pl.col("table") == CHART), stays).join(units, on="itemid", how="left", maintain_order="left")
    caregiver = (pl.col("stay_id") * 31 + pl.col("minute") // 720 * 7919) % 90_000 + 10_000
    return chart.with_columns(
        caregiver_id=caregiver,
        valuenum=number_text("number"),
    )


def labevents(rows: pl.DataFrame, stays: pl.DataFrame, counter: Counter) -> pl.DataFrame:
    """The rows of the laboratory; ids go on counting from block to block."""
    schema = ("itemid", "valueuom", "ref_range_lower", "ref_range_upper")
    known = pl.DataFrame(
        [(row[0], *row[4:]) for row in items.LAB_ITEMS],
        schema=dict(zip(schema, (pl.Int64, pl.String, pl.Float64, pl.Float64))),
        orient="row",
    )
    lab = _placed(rows.filter(pl.col("table") == LAB), stays).join(known, on="itemid", how="left", maintain_order="left")
    specimen = pl.struct("stay", "minute", "lag").rle_id().cast(pl.Int64)
    outside = (pl.col("number") < pl.col("ref_range_lower")) | (pl.col("number") > pl.col("ref_range_upper"))
    lab = lab.sort("stay", "minute", "lag", "itemid", maintain_order=True).with_columns(
        labevent_id=pl.int_range(pl.len(), dtype=pl.Int64) + counter.labevent,
        specimen_id=(specimen + counter.specimen) * 7_368_787 % 99_999_989,
        hadm_id=pl.when("unlinked").then(None).otherwise("hadm_id"),
        valuenum=number_text("number"),
        order_provider_id=pl.lit(None, pl.String),
        flag=pl.when(outside).then(pl.lit("abnormal")),
        priority=pl.when(pl.col("lag") == LAGS.index("gas")).then(pl.lit("STAT")).otherwise(pl.lit("ROUTINE")),
        comments=pl.when(pl.col("value").is_null()).then(pl.lit("NEG.  ")),
        ref_range_lower=number_text("ref_range_lower"),
        ref_range_upper=number_text("ref_range_upper"),
    )
    counter.labevent += len(lab)
    counter.specimen += int(lab.select(pl.struct("stay", "minute", "lag").rle_id().max()).item() or 0) + 1
    return lab


def _placed(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Rows with their stay's ids and times; what would be charted after the stay is not."""
    return (
        rows.join(stays, on="stay", how="left", maintain_order="left")
        .with_columns(charttime=pl.col("start") + pl.duration(minutes="minute"))
        .filter(pl.col("charttime") < pl.col("outtime"))
        .with_columns(storetime=pl.col("charttime") + pl.duration(minutes="lag_minutes"))
    )
