"""One value for each place of a table: of several the greatest, found by one sort of packed keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.source import EVENT_TABLES

_SECOND_US = 1_000_000
_BITS = 63


@dataclass(frozen=True)
class Cells:
    """The distinct keys of some rows, ascending, with the greatest value of each.

    Shapes:
        order: [rows] the rows sorted by key.
        starts: [n] where each cell's rows begin in `order`.
        value: [n] the greatest value of each cell.
    """

    order: np.ndarray
    starts: np.ndarray
    value: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """[n] a row with each cell's key."""
        return self.order[self.starts]


def greatest(keys: list[np.ndarray], value: np.ndarray, table: np.ndarray, ledger: Ledger) -> Cells:
    """Cells of rows with integer keys; the ledger learns which rows of which table stand for one, and that the others were outdone.

    Of equal values the one of the earlier table stands, so that the order of the rows decides nothing.
    """
    if not value.size:
        return Cells(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    packed = pack(keys)
    keyed = pl.DataFrame({str(place): key for place, key in enumerate(packed)})
    order = keyed.select(pl.arg_sort_by(keyed.columns)).to_series().to_numpy()
    starts = np.flatnonzero(changes([key[order] for key in packed]))
    value, table = value[order], table[order]
    top = np.maximum.reduceat(value, starts)
    sizes = np.diff(np.append(starts, value.size))
    wins = value == np.repeat(top, sizes)
    used = np.minimum.reduceat(np.where(wins, table, np.uint8(255)), starts)
    for code, name in enumerate(EVENT_TABLES):
        count = int((used == code).sum())
        ledger.used[name] += count
        ledger.drop(name, "another value of the same time, or the same again", int((table == code).sum()) - count)
    return Cells(order, starts, top)


def changes(keys: list[np.ndarray]) -> np.ndarray:
    """[n] bool: the row begins a run of equal keys."""
    new = np.zeros(keys[0].size, dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new


def pack(keys: list[np.ndarray]) -> list[np.ndarray]:
    """As few int64 keys that sort as `keys` do: neighbours share one where their ranges leave room."""
    packed: list[np.ndarray] = []
    room = 0
    for key in keys:
        key = key.astype(np.int64)
        if key.max() - key.min() > _SECOND_US and not (key % _SECOND_US).any():
            key //= _SECOND_US  # times in whole seconds
        key -= key.min()
        bits = max(int(key.max()).bit_length(), 1)
        if bits <= room:
            packed[-1] = (packed[-1] << bits) | key
            room -= bits
        else:
            packed.append(key)
            room = _BITS - bits
    return packed
