"""What a parser hands on: sound rows and bad ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Fault:
    """A bad record.

    Args:
        record: its number within its block.
        reason: what is wrong; never a value.
        column: the canonical name of the column to blame, if one is.
        hint: what to do.
        short: it ends too early: the last one of a file tells that the file was cut off.
        fatal: nothing behind it can be read, so that it cannot be skipped.
    """

    record: int
    reason: str
    column: str | None = None
    hint: str | None = None
    short: bool = False
    fatal: bool = False


@dataclass(frozen=True)
class Parsed:
    """A block of `records` records. `frame` holds the sound ones, `kept` their numbers (None: all of them).

    With more faults than are allowed, `faults` ends with the first that is too much and `frame` is None.
    """

    records: int
    frame: pl.DataFrame | None
    kept: np.ndarray | None = None
    faults: tuple[Fault, ...] = ()
