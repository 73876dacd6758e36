"""The kept events on disk between the pass over the raw tables and the time series: sorted pieces, read back by ranges of stays.

Each piece is sorted by stay and written in small row groups with their least and greatest stay, so that a range reads only the groups it
needs. Memory stays at one buffer while writing and one range while reading, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

BUFFER_ROWS = 400_000
RANGE_ROWS = 400_000
_GROUP_ROWS = 16_384


class Scratch:
    """Rows of events by `stay`: the index of a kept stay.

    Args:
        folder: where the pieces go; whoever made it removes it.
        stays: number of kept stays.
    """

    def __init__(self, folder: Path, stays: int):
        self.folder = folder
        self.per_stay = np.zeros(stays, dtype=np.int64)
        self._pieces: list[Path] = []
        self._buffer: list[pl.DataFrame] = []
        self._rows = 0

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        self.per_stay += np.bincount(frame["stay"].to_numpy(), minlength=self.per_stay.size)
        self._buffer.append(frame)
        self._rows += frame.height
        if self._rows >= BUFFER_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._buffer:
            return
        piece = self.folder / f"events-{len(self._pieces):06d}.parquet"
        pl.concat(self._buffer).sort("stay").write_parquet(piece, compression="lz4", statistics=True, row_group_size=_GROUP_ROWS)
        self._pieces.append(piece)
        self._buffer, self._rows = [], 0

    def ranges(self, borders: np.ndarray) -> Iterator[tuple[int, int]]:
        """Half-open ranges of stays of about RANGE_ROWS rows that end only at `borders`.

        Args:
            borders: stays at which a patient's stays begin, ascending, and the number of stays at the end.
        """
        total = np.concatenate([[0], np.cumsum(self.per_stay)])
        start = 0
        while start < self.per_stay.size:
            inside = borders[(borders > start) & (total[borders] - total[start] <= RANGE_ROWS)]
            stop = int(inside[-1]) if inside.size else int(borders[borders > start][0])
            yield start, stop
            start = stop

    def read(self, start: int, stop: int) -> pl.DataFrame:
        """The rows of the stays [start, stop), in no particular order."""
        self.flush()
        inside = pl.col("stay").is_between(start, stop, closed="left")
        frames = [pl.scan_parquet(piece).filter(inside).collect() for piece in self._pieces]
        return pl.concat(frames) if frames else pl.DataFrame()
