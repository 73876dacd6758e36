"""The irregular series of each stay in the default mode: what was known in its window, in the order in which it became known.

The rules that need more than one row:

    window      known in [intime - lookback, outtime): nothing outside it is used anywhere
    row         one for every (known, charttime): of values stored at once, the one charted last stands last
    same time   of several values of a variable the greatest is kept, as in the benchmarks; an intubated reading outdoes a score
    spo2        a blood gas counts where its specimen is arterial: by specimen_id, else by charttime
    gcs-total   eye + motor + verbal of one charttime, known when the last of them is; none while intubated

What each of them changed is told to the ledger under the names of rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic import values
from omnifuse.preprocess.mimic.benchmark_series import spread
from omnifuse.preprocess.mimic.cells import changes, greatest
from omnifuse.preprocess.mimic.grid import to_us
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.rules import CATEGORY_OF, ETT, SPECIMEN
from omnifuse.preprocess.mimic.source import EVENT_TABLES
from omnifuse.preprocess.mimic.timeseries import NO_SCORE, Episodes
from omnifuse.preprocess.mimic.variables import CATEGORIES, EYE, MOTOR, SPO2, TOTAL, VARIABLES, VERBAL

_LAB = EVENT_TABLES.index("labevents")
_COMPUTED = len(EVENT_TABLES)  # the table of a total that was computed


@dataclass(frozen=True)
class _Events:
    """Columns of the scratch, [n] each; `specimen` is -1 where there is none."""

    stay: np.ndarray
    time: np.ndarray
    known: np.ndarray
    variable: np.ndarray
    table: np.ndarray
    number: np.ndarray
    specimen: np.ndarray

    def take(self, rows: np.ndarray) -> _Events:
        return _Events(*(getattr(self, field.name)[rows] for field in fields(self)))

    def plus(self, other: _Events) -> _Events:
        return _Events(*(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self)))

    def without(self, rows: np.ndarray, reason: str, ledger: Ledger) -> _Events:
        """The others; the ledger learns of `rows` [n] bool, table by table."""
        if not rows.any():
            return self
        for code, table in enumerate(EVENT_TABLES):
            ledger.drop(table, reason, np.count_nonzero(rows & (self.table == code)))
        return self.take(np.flatnonzero(~rows))


def default_episodes(events: pl.DataFrame, stays: pl.DataFrame, first_stay: int, ledger: Ledger, *, lookback_hours: float) -> Episodes:
    """Episodes of a range of stays.

    Args:
        events: rows of the scratch.
        stays: the stays of the range: intime, outtime.
        first_stay: index in the scratch of the first of them.
    """
    columns = events.with_columns(pl.col("stay").cast(pl.Int64) - first_stay, pl.col("specimen").fill_null(-1))
    found = _Events(*(columns[field.name].to_numpy() for field in fields(_Events)))
    found = _without_unproven(found, ledger)
    found = _in_window(found, stays, int(to_us(lookback_hours)), ledger)
    found = _with_totals(found, ledger)
    cells = greatest([found.stay, found.known, found.time, found.variable], found.number, found.table, ledger)
    at = cells.row
    begins = changes([found.stay[at], found.known[at], found.time[at]])
    stay = found.stay[at[begins]]
    since = found.known[at[begins]] - stays["intime"].dt.epoch("us").to_numpy()[stay]
    return Episodes(stay, since, *_fill(np.cumsum(begins) - 1, found.variable[at], cells.value, stay.size, ledger))


def _without_unproven(events: _Events, ledger: Ledger) -> _Events:
    """Without saturations of blood gases that are not stated to be arterial, and without the specimens themselves.

    Two specimens of one time and no specimen_id to tell them apart: arterial only where both are.
    """
    gases = np.flatnonzero((events.variable == SPO2) & (events.table == _LAB))
    specimens = events.take(np.flatnonzero(events.variable == SPECIMEN))
    of = lambda some: pl.DataFrame({"stay": some.stay, "time": some.time, "specimen": some.specimen, "number": some.number})
    kinds = of(specimens)
    named = kinds.filter(pl.col("specimen") >= 0).group_by("specimen").agg(pl.col("number").min().alias("by_id"))
    timed = kinds.group_by("stay", "time").agg(pl.col("number").min().alias("by_time"))
    asked = of(events.take(gases)).join(named, on="specimen", how="left", maintain_order="left")
    asked = asked.join(timed, on=["stay", "time"], how="left", maintain_order="left")
    kind = pl.when(pl.col("specimen") >= 0).then("by_id").otherwise("by_time")
    unproven = np.zeros(events.stay.size, dtype=bool)
    unproven[gases] = asked.select((kind != 1).fill_null(True)).to_series().to_numpy()
    ledger.change("spo2", unproven.sum())
    kept = events.without(unproven, "left out by rule spo2", ledger)
    return kept.without(kept.variable == SPECIMEN, "specimen: read for its blood gas", ledger)


def _in_window(events: _Events, stays: pl.DataFrame, lookback: int, ledger: Ledger) -> _Events:
    start, end = (stays[name].dt.epoch("us").to_numpy() for name in ("intime", "outtime"))
    early, ended = events.known < start[events.stay] - lookback, events.known >= end[events.stay]
    ledger.change("before-icu", early.sum())
    ledger.change("window", (events.known == end[events.stay]).sum())
    kept = events.without(early, "known before the series begins", ledger)
    return kept.without(ended[~early], "known when the stay was over", ledger)


def _with_totals(events: _Events, ledger: Ledger) -> _Events:
    """With a total wherever all three parts stand at one charttime, in the place of a charted one; NO_SCORE where verbal is intubated."""
    scale = events.take(np.flatnonzero(np.isin(events.variable, (EYE, MOTOR, VERBAL))))
    score = lambda code: pl.col("number").filter(pl.col("variable") == code).max()
    moments = (
        pl.DataFrame({name: getattr(scale, name) for name in ("stay", "time", "known", "variable", "number")})
        .group_by("stay", "time")
        .agg(pl.col("known").max(), score(EYE).alias("eye"), score(MOTOR).alias("motor"), score(VERBAL).alias("verbal"))
        .with_columns(
            pl.when(pl.col("verbal") == ETT).then(NO_SCORE).otherwise(pl.col("eye") + pl.col("motor") + pl.col("verbal")).alias("number")
        )
        .drop_nulls("number")
    )
    ledger.change("gcs-total", moments.filter(pl.col("number") != NO_SCORE).height)
    charted = np.flatnonzero(events.variable == TOTAL)
    both = pl.DataFrame({"stay": events.stay[charted], "time": events.time[charted], "row": charted}).join(
        moments, on=["stay", "time"], how="semi"
    )
    told = np.zeros(events.stay.size, dtype=bool)
    told[both["row"].to_numpy()] = True
    count = moments.height
    computed = _Events(
        *(moments[name].to_numpy() for name in ("stay", "time", "known")),
        np.full(count, TOTAL, dtype=np.uint8),
        np.full(count, _COMPUTED, dtype=np.uint8),
        moments["number"].to_numpy(),
        np.full(count, -1),
    )
    return events.without(told, "coma scale total: told by its parts", ledger).plus(computed)


def _fill(row: np.ndarray, variable: np.ndarray, number: np.ndarray, rows: int, ledger: Ledger) -> tuple[np.ndarray, pl.DataFrame]:
    """[E, 17] values and the 17 columns of texts, of cells with their row."""
    out, texts = np.full((rows, len(VARIABLES)), np.nan), {}
    for code, name in enumerate(VARIABLES):
        mine = np.flatnonzero(variable == code)
        found = number[mine]
        if code in CATEGORY_OF:
            found = _as_category(found, CATEGORY_OF[code])
            told = np.flatnonzero(found != NO_SCORE)
            distinct, index = pl.Series(CATEGORIES[name]), found[told].astype(np.int64)
        else:
            told = np.arange(mine.size)
            distinct, index = values.distinct_texts(found)
        out[row[mine], code] = found
        texts[name] = spread(distinct, index, row[mine[told]], rows)
        ledger.values[code] += told.size
    return out, pl.DataFrame(texts)


def _as_category(scores: np.ndarray, categories: dict[int, int]) -> np.ndarray:
    """[n] index of the category that holds each score; NO_SCORE stays."""
    table = np.full(max(categories) + 2, NO_SCORE)
    table[list(categories)] = list(categories.values())
    return table[scores.astype(np.int64)]  # NO_SCORE is -1: the last place, which holds NO_SCORE
