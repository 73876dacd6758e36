"""The one pass over CHARTEVENTS and LABEVENTS: filter items, find the stay, clean, and leave the rest on disk.

Each row meets three questions, the cheapest first:

    per row       item id looked up in a table; 7 of 8 rows end here, before any text or date of theirs is looked at
    admission     (SUBJECT_ID, HADM_ID) of a kept stay; a row without ICUSTAY_ID belongs to the stay of its admission, one with another
                  ICUSTAY_ID to none (validate_events.py of mimic3-benchmarks)
    value         cleaned by the rules of the mode, compat.py or default.py

Every row that a question ends is told to the ledger with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.scratch import Scratch
from omnifuse.preprocess.mimic.source import EVENT_TABLES, Source
from omnifuse.preprocess.schema import Silent
from omnifuse.preprocess.tables import Column

# Codes of items: below LEFT_OUT they are read, from there on a rule leaves them out, NOT_USED is any other item.
LEFT_OUT, NOT_USED = 32, 255
BATCH_ROWS = 100_000  # wanted rows that are cleaned at once: some chunks' worth

BASE_COLUMNS = {
    "chartevents": (
        Column("subject_id", pl.Int64, nullable=False),
        Column("hadm_id", pl.Int64),
        Column("stay_id", pl.Int64, aliases=("icustay_id",)),
        Column("itemid", pl.Int64, nullable=False),
        Column("charttime", pl.String),
        Column("value", pl.String),
    ),
    "labevents": (
        Column("subject_id", pl.Int64, nullable=False),
        Column("hadm_id", pl.Int64),
        Column("itemid", pl.Int64, nullable=False),
        Column("charttime", pl.String),
        Column("value", pl.String),
    ),
}


class Mode(Protocol):
    """How a mode cleans events: compat.py and default.py."""

    items: pl.DataFrame  # variable uint8 (a code), itemid, table, name
    left_out: dict[int, str]  # codes of items that a rule leaves out, and the rule
    refusal: str  # the rule that refuses rows of any item

    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns to read."""

    def refused(self, frame: pl.DataFrame) -> np.ndarray | None:
        """[n] bool: rows of any item that are not looked at; None where there are none."""

    def watch_wanted(self, frame: pl.DataFrame, path: Path) -> None:
        """Sees the rows of items that are read, of any stay, with the code of each as `variable`."""

    def watch_all(self, frame: pl.DataFrame, wanted: pl.DataFrame) -> None:
        """Sees every row, and those of them whose item is read."""

    def clean(self, frame: pl.DataFrame, table: str, path: Path, ledger: Ledger) -> pl.DataFrame:
        """Rows of kept stays with `stay`, `variable` and the columns read, to rows of the scratch; the ledger learns what was dropped."""


class Items:
    """Places of item ids in a list, by a table of 8 bits: the cheapest filter there is."""

    def __init__(self, items: pl.DataFrame):
        self.itemids, self.codes = items["itemid"].to_numpy(), items["variable"].to_numpy()
        self._places = np.full(int(self.itemids.max()) + 2, NOT_USED, dtype=np.uint8)
        self._places[self.itemids] = np.arange(self.itemids.size)
        self.met = np.zeros(NOT_USED, dtype=np.int64)  # rows of each place
        self.code_of_place = np.append(self.codes, np.full(256 - self.codes.size, NOT_USED, dtype=np.uint8))

    def places(self, itemids: pl.Series) -> np.ndarray:
        """[n] uint8 place of each item in the list, NOT_USED for any other item."""
        return self._places[np.clip(itemids.to_numpy(), -1, self._places.size - 1)]


def collect(
    source: Source,
    stays: pl.DataFrame,
    mode: Mode,
    scratch: Scratch,
    ledger: Ledger,
    *,
    progress=Silent,
    on_bad_row: str = "error",
    max_bad: int = 0,
) -> None:
    """Reads the event tables once and fills `scratch` and `ledger`.

    Args:
        stays: kept stays in the order of the scratch's index.
    """
    keys = StayKeys(stays)
    for table in EVENT_TABLES:
        items = Items(mode.items.filter(pl.col("table") == table))
        path = source.files[table]
        numbered = on_bad_row == "skip"  # else the place of a row tells its number
        chunks = tables.stream(
            path, list(mode.columns(table)), on_bad_row=on_bad_row, max_bad=max_bad, progress=progress, with_row=numbered
        )
        ledger.rows[table] = bad = 0
        batch: list[pl.DataFrame] = []
        for chunk in chunks:
            ledger.rows[table] += chunk.frame.height + chunk.bad - bad
            ledger.drop(table, "bad row", chunk.bad - bad)
            bad = chunk.bad
            batch.append(_wanted(chunk, items, mode, table, ledger))
            mode.watch_all(chunk.frame, batch[-1])
            if sum(frame.height for frame in batch) >= BATCH_ROWS:
                _keep(batch, keys, mode, scratch, table, path, ledger)
        _keep(batch, keys, mode, scratch, table, path, ledger)
        _tell_items(items, mode, table, ledger)
    scratch.flush()


def _keep(batch: list[pl.DataFrame], keys: StayKeys, mode: Mode, scratch: Scratch, table: str, path: Path, ledger: Ledger) -> None:
    """Finds the stays of the wanted rows of some chunks, cleans them, and empties the batch."""
    if batch:
        wanted = pl.concat(batch)
        batch.clear()
        mode.watch_wanted(wanted, path)
        scratch.append(mode.clean(in_kept_stays(wanted, keys, table, ledger), table, path, ledger))


def _wanted(chunk: tables.Chunk, items: Items, mode: Mode, table: str, ledger: Ledger) -> pl.DataFrame:
    """The rows of items that are read, with the code of each as `variable`, and the number of the row in the file."""
    frame = chunk.frame
    places = items.places(frame["itemid"])
    refused = mode.refused(frame)
    if refused is not None:
        places[refused] = NOT_USED
        ledger.drop(table, f"left out by rule {mode.refusal}", refused.sum())
        ledger.change(mode.refusal, refused.sum())
    met = places[places != NOT_USED]
    items.met += np.bincount(met, minlength=NOT_USED)
    ledger.drop(table, "item not used", frame.height - met.size - (0 if refused is None else refused.sum()))
    codes = items.code_of_place[places]
    used = codes < LEFT_OUT
    found = [pl.Series("variable", codes[used])]
    if "row" not in frame.columns:
        found.append(pl.Series("row", chunk.first_row + np.flatnonzero(used)))
    return frame.filter(pl.Series(used)).hstack(found)


def _tell_items(items: Items, mode: Mode, table: str, ledger: Ledger) -> None:
    """Rows of each item, and those that a rule leaves out."""
    for item, code, count in zip(items.itemids.tolist(), items.codes.tolist(), items.met.tolist()):
        ledger.items[item] += count
        if rule := mode.left_out.get(code):
            ledger.drop(table, f"left out by rule {rule}", count)
            ledger.change(rule, count)


class StayKeys:
    """Kept stays by admission, of which each has one. The index of a stay is its place in `stays`."""

    def __init__(self, stays: pl.DataFrame):
        self.index = np.argsort(stays["hadm_id"].to_numpy())
        self.admission, self.subject, self.stay = (stays[name].to_numpy()[self.index] for name in ("hadm_id", "patient_id", "stay_id"))


def in_kept_stays(frame: pl.DataFrame, keys: StayKeys, table: str, ledger: Ledger) -> pl.DataFrame:
    """Rows that belong to a kept stay, with its index `stay`."""
    admission = frame["hadm_id"].fill_null(-1).to_numpy()
    at = np.minimum(np.searchsorted(keys.admission, admission), keys.admission.size - 1)
    stated = admission != -1
    known = stated & (keys.admission[at] == admission) & (keys.subject[at] == frame["subject_id"].to_numpy())
    own = known
    if "stay_id" in frame.columns:
        stay = frame["stay_id"].fill_null(-1).to_numpy()
        own = known & ((stay == -1) | (stay == keys.stay[at]))
    ledger.drop(table, "no admission id", np.count_nonzero(~stated))
    ledger.drop(table, "admission of no kept stay", np.count_nonzero(stated & ~known))
    ledger.drop(table, "another stay of the admission", np.count_nonzero(known & ~own))
    rows = np.flatnonzero(own)
    return frame[rows].hstack([pl.Series("stay", keys.index[at[rows]].astype(np.uint32))])
