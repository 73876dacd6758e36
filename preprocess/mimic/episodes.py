"""The irregular series of each stay as the lines of an episode file: Hours and the 17 variables.

As `episodeK_timeseries.csv` of mimic3-benchmarks: their readers split a line at its commas and know no quotes; their discretizer looks a
code up in its list, takes every other value by float(), and stops at what it does not know. Such cells are emptied here and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store

EPS = 1e-6


@dataclass(frozen=True)
class Episode:
    """The rows of one stay in the order of time. `refused` counts the cells that were emptied."""

    stay_id: int
    hours: np.ndarray
    lines: list[str]
    refused: int

    def within(self, end: float, closed: bool) -> slice:
        """The rows of [0, end), or as in mimic3-benchmarks of (-1e-6, end + 1e-6)."""
        if closed:
            return slice(int(np.searchsorted(self.hours, -EPS, side="right")), int(np.searchsorted(self.hours, end + EPS, side="left")))
        return slice(int(np.searchsorted(self.hours, 0.0, side="left")), int(np.searchsorted(self.hours, end, side="left")))


@cache
def _rules() -> dict[str, Any]:
    return json.loads((files("omnifuse.preprocess.mimic") / "resources/discretizer_config.json").read_text(encoding="utf-8"))


def header() -> str:
    """The first line of an episode file."""
    return ",".join(["Hours", *_rules()["id_to_channel"]])


def read_episodes(cohort: store.Artefact) -> Iterator[Episode]:
    """The episodes of all stays with events, in the order of the cohort."""
    rest: pl.DataFrame | None = None
    total, seen = cohort.height("events.parquet"), 0
    for batch in cohort.batches("events.parquet"):
        seen += batch.height
        batch = batch if rest is None else pl.concat([rest, batch])
        if seen < total:  # the last stay may go on in the next batch
            whole = batch["stay_id"] != batch["stay_id"][-1]
            batch, rest = batch.filter(whole), batch.filter(~whole)
        yield from _episodes(batch)


def _episodes(events: pl.DataFrame) -> Iterator[Episode]:
    cells, refused = _readable(events)
    lines = cells.write_csv(include_header=False, quote_style="never").splitlines()
    hours = events["hours"].to_numpy()
    start = 0
    for stay in events["stay_id"].rle():
        rows = slice(start, start + stay["len"])
        yield Episode(stay["value"], hours[rows], lines[rows], int(refused[rows].sum()))
        start = rows.stop


def _readable(events: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Hours and the variables, without the cells that their code fails on; and how many such cells each row had."""
    rules = _rules()
    good = {}
    for name in rules["id_to_channel"]:
        value = pl.col(name)
        known = value.is_in(rules["possible_values"][name])  # none of their codes holds a comma or a quote
        if not rules["is_categorical_channel"][name]:
            known = value.str.strip_chars(" ").cast(pl.Float64, strict=False).is_not_null()
        good[name] = value.is_null() | known
    refused = events.select(pl.sum_horizontal(~ok for ok in good.values())).to_series().to_numpy()
    return events.select("hours", *(pl.when(ok).then(pl.col(name)).alias(name) for name, ok in good.items())), refused
