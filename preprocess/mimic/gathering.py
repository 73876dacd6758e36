"""Texts that come in the order of a table and leave in the order of the stays, more of them than memory holds.

Pieces are written as they come; `finish` reads them back one range of stays after the other, as Scratch does with events.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from omnifuse.preprocess.schema import InputError

RANGE_BYTES = 1 << 28  # of text sorted at once
PIECE_BYTES = 1 << 25
_GROUP_ROWS = 4_096


class Gathered:
    """Rows with `stay_id`, `time`, `item_id` (text, what ties are sorted by) and `text`, then further columns."""

    def __init__(self, folder: Path, name: str):
        self._folder, self._name = folder, name
        self._pieces: list[Path] = []
        self._waiting: list[pl.DataFrame] = []
        self._bytes = 0
        self._keys: list[pl.DataFrame] = []

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty() and (self._waiting or self._pieces):
            return
        self._waiting.append(frame)
        self._keys.append(frame.select("stay_id", pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes")))
        self._bytes += int(self._keys[-1]["bytes"].sum())
        if self._bytes >= PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._pieces.append(self._write(pl.concat(self._waiting), "piece", len(self._pieces)))
            self._waiting, self._bytes = [], 0

    def _write(self, frame: pl.DataFrame, kind: str, number: int) -> Path:
        path = self._folder / f"{self._name}-{kind}-{number:06d}.arrow"
        frame.write_ipc(path, compression="lz4")
        return path

    def finish(self, path: Path) -> pl.DataFrame:
        """Writes the sorted rows.

        Returns:
            their stay_id and time.

        Raises:
            InputError: the source has no row, or an item_id stands twice in a stay.
        """
        if not self._keys:
            raise InputError(f"there are no {self._name} to link: their table has no row", hint="leave --notes out")
        self._flush()
        sorted_, keys = [], []
        for number, (first, last) in enumerate(self._ranges()):
            some = pl.scan_ipc(self._pieces).filter(pl.col("stay_id").is_between(first, last)).collect()
            some = some.sort("stay_id", "time", "item_id")
            if twice := some.height - some.select("stay_id", "item_id").n_unique():
                raise InputError(f"{twice} notes repeat the id of another of the same stay", hint="each may stand in the table once")
            keys.append(some.select("stay_id", "time"))
            sorted_.append(self._write(some, "sorted", number))
        source = sorted_ or self._pieces  # the one empty piece of a source without any text
        pl.scan_ipc(source).sink_parquet(path, compression="zstd", row_group_size=_GROUP_ROWS, maintain_order=True)
        for piece in (*self._pieces, *sorted_):
            piece.unlink()
        return pl.concat(keys) if keys else pl.scan_parquet(path).select("stay_id", "time").collect()

    def _ranges(self) -> list[tuple[int, int]]:
        """First and last stay of each range, in ascending order."""
        sizes = pl.concat(self._keys).group_by("stay_id").agg(pl.col("bytes").sum()).sort("stay_id")
        if sizes.is_empty():
            return []
        number = sizes.select((pl.col("bytes").cum_sum() // RANGE_BYTES).alias("range"))["range"]
        ranges = sizes.with_columns(number).group_by("range").agg(pl.col("stay_id").min().alias("a"), pl.col("stay_id").max().alias("b"))
        return ranges.sort("range").select("a", "b").rows()
