"""Long tables to bins: the last value of each bin, the one before where there is none, and masks, as MIMIC's 76 columns are made.

bin       [from_hours + k * step, from_hours + (k + 1) * step) since the sample's origin
end       the prediction, where there is one: its bin may be unfinished; else the last bin that holds a value
columns   the numbers and `NAME->CATEGORY` in the order of the description, then `mask->NAME`: measured in this very bin
missing   before the first value a number is NaN (`gaps`): the normaliser passes over it, a batch holds 0, the mean; no category is set
several   in one bin the latest counts, of several at one moment the greatest
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.assembly import Modality as Written
from omnifuse.preprocess.schema import InputError, Silent
from omnifuse.preprocess.table import cells
from omnifuse.preprocess.table.columns import Made, column_warnings
from omnifuse.preprocess.table.description import Modality
from omnifuse.preprocess.table.reading import Ledger, Rows

MAX_BINS = 10_000  # of one sample
MAX_CELLS = 2_000_000_000


@dataclass
class _Events:
    """[E] sample, since (microseconds from the origin), variable, value (a number, or the index of a category)."""

    sample: np.ndarray
    since: np.ndarray
    variable: np.ndarray
    value: np.ndarray


def build(rows: Rows, told: Modality, path: Path, progress=Silent) -> tuple[Made, Ledger]:
    """The bins of a `series` modality, from its table chunk by chunk.

    Raises:
        InputError: a cell is no number and on_bad_cell is error; no row belongs to a sample; a series is too long for its step.
    """
    ledger = Ledger(f"{rows.sources.told.tables[told.table].file} ({told.name})")
    names = (*told.own["numeric"], *told.own["categorical"])
    audit = {name: {"modality": told.name, "column": name} for name in names}
    pieces = [_events(chunk, rows, told, ledger, audit, path) for chunk in rows.chunks(told, ledger, progress)]
    rows.require_linked(told, ledger)
    events = _Events(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in _Events.__dataclass_fields__))
    start, length = _bins(events, rows, told, path)
    values, observed, several = _filled(events, start, length, len(names), told)
    for index, name in enumerate(names):
        mine = events.variable == index
        audit[name] |= {"samples": int(np.unique(events.sample[mine]).size), "several_values": int(several[index])}
    warnings = column_warnings([row for row in audit.values() if "cells" in row], True)
    warnings += [f"{told.name}: variable {name} stands in no row" for name, row in audit.items() if "cells" not in row]
    if unread := ledger.dropped["time unknown"]:
        warnings.append(f"{told.name}: {unread:,} rows have no time ({told.unit}): left out")
    last = np.full((len(length), len(names)), np.nan)
    there = length > 0
    last[there] = values[(start + length - 1)[there]]
    single = {name: (last[:, index], index < len(told.own["numeric"])) for index, name in enumerate(names)}
    made = Made(_written(values, observed, told), start, length, list(audit.values()), warnings, single)
    return made, ledger


def _events(frame: pl.DataFrame, rows: Rows, told: Modality, ledger: Ledger, audit: dict[str, dict], path: Path) -> _Events:
    own, hour = told.own, cells.HOUR_US
    frame = rows.with_since(frame, told)
    frame = ledger.drop(frame, pl.col("Since").is_not_null(), "time unknown")
    frame = ledger.drop(frame, pl.col("Since") >= round(own["from_hours"] * hour), "before the series begins")
    if own["to_hours"] is not None:
        frame = ledger.drop(frame, pl.col("Since") < round(own["to_hours"] * hour), "behind the end of the series")
    frame = ledger.drop(frame, (pl.col("Since") < pl.col("Until")).fill_null(True), "not before the prediction")
    names = (*own["numeric"], *own["categorical"])
    if own["variable"]:
        frame = ledger.drop(frame, pl.col(own["variable"]).is_in(list(names)).fill_null(False), "a variable that is not listed")
        parts = [
            frame.filter(pl.col(own["variable"]) == name).select("Sample", "Since", "Row", pl.col(own["value"]).alias("cell"))
            for name in names
        ]
    else:
        parts = [frame.select("Sample", "Since", "Row", pl.col(name).alias("cell")) for name in names]
    found = [_values(part, told, name, index, audit[name], path) for index, (name, part) in enumerate(zip(names, parts))]
    return _Events(*(np.concatenate(columns) for columns in zip(*found)))


def _values(part: pl.DataFrame, told: Modality, name: str, index: int, audit: dict[str, Any], path: Path):
    if name in told.own["categorical"]:
        known = told.own["categorical"][name]
        values, counts = cells.categories(part["cell"], known)
        values[values == len(known)] = np.nan
    else:
        values, counts = cells.numbers(part["cell"], told.own["decimal"])
    if told.own["on_bad_cell"] == "error":
        cells.refuse_bad(part["cell"], values, part["Row"], path, told.own["value"] or name)
    for reason, count in counts.items():
        if part.height:
            audit[reason] = audit.get(reason, 0) + count
    there = np.flatnonzero(~np.isnan(values))
    sample, since = part["Sample"].to_numpy()[there].astype(np.int64), part["Since"].to_numpy()[there].astype(np.int64)
    return sample, since, np.full(there.size, index), values[there]


def _bins(events: _Events, rows: Rows, told: Modality, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """[N] first row and number of rows of each sample; none where nothing was measured."""
    count, own = rows.samples.height, told.own
    begin, step = round(own["from_hours"] * cells.HOUR_US), round(own["step_hours"] * cells.HOUR_US)
    length = np.zeros(count, np.int64)
    np.maximum.at(length, events.sample, (events.since - begin) // step + 1)
    if rows.sources.told.clock.prediction:
        end = (rows.samples["Prediction_us"] - rows.samples["Origin_us"]).to_numpy()
        if own["to_hours"] is not None:
            end = np.minimum(end, round(own["to_hours"] * cells.HOUR_US))
        length = np.where(length > 0, -(-(end - begin) // step), 0)
    if (longest := int(length.max(initial=0))) > MAX_BINS:
        hint = "a longer step_hours, a to_hours, or check unit and origin"
        raise InputError(f"{told.name}: a series has {longest:,} bins, more than {MAX_BINS:,}", where=path, hint=hint)
    if int(length.sum()) * (len(own["numeric"]) + len(own["categorical"])) > MAX_CELLS:
        raise InputError(f"{told.name}: {int(length.sum()):,} bins are too many", where=path, hint="a longer step_hours, or a to_hours")
    return np.cumsum(length) - length, length


def _filled(events: _Events, start: np.ndarray, length: np.ndarray, width: int, told: Modality):
    """[R, V] values carried forward, NaN before the first; [R, V] bool, measured in this bin; [V] cells with several at one moment."""
    total = int(length.sum())
    begin, step = round(told.own["from_hours"] * cells.HOUR_US), round(told.own["step_hours"] * cells.HOUR_US)
    cell = (start[events.sample] + (events.since - begin) // step) * width + events.variable
    order = np.lexsort((events.value, events.since, cell))
    cell, since, value = cell[order], events.since[order], events.value[order]
    same = (cell[1:] == cell[:-1]) & (since[1:] == since[:-1]) & (value[1:] != value[:-1])
    several = np.bincount(np.unique(cell[1:][same]) % width, minlength=width)
    last = np.append(cell[1:] != cell[:-1], True)[: cell.size]
    values, observed = np.full(total * width, np.nan), np.zeros(total * width, bool)
    values[cell[last]], observed[cell[last]] = value[last], True
    values, observed = values.reshape(total, width), observed.reshape(total, width)
    source = np.maximum.accumulate(np.where(observed, np.arange(total)[:, None], -1), axis=0)
    known = source >= np.repeat(start, length)[:, None]
    return np.where(known, np.take_along_axis(values, np.maximum(source, 0), axis=0), np.nan), observed, several


def _written(values: np.ndarray, observed: np.ndarray, told: Modality) -> Written:
    numeric, categorical = told.own["numeric"], told.own["categorical"]
    blocks, names = [values[:, : len(numeric)]], list(numeric)
    for index, (name, texts) in enumerate(categorical.items(), len(numeric)):
        blocks.append((values[:, index, None] == np.arange(len(texts))).astype(np.float64))
        names += [f"{name}->{text}" for text in texts]
    names += [f"mask->{name}" for name in (*numeric, *categorical)]
    rows = np.concatenate([*blocks, observed], axis=1).astype(np.float32)
    meta = {
        "kind": "series", "columns": names, "continuous": list(range(len(numeric))), "gaps": True, "step_hours": told.own["step_hours"],
    }  # fmt: skip
    return Written(meta, rows=rows)
