"""Outputs that grow range by range: arrays of unknown length, and tables larger than memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl

_HEADER_BYTES = 128
_GROUP_ROWS = 65_536


class ArraySpool:
    """An .npy file [n, columns] float32 to whose end rows are written; its header is told at the end.

    Written with write(), not through a memory map, whose touched pages would count as this process's memory.
    """

    def __init__(self, path: Path, columns: int):
        self.rows, self._columns = 0, columns
        self._handle = path.open("wb")
        self._handle.write(self._header())

    def append(self, array: np.ndarray) -> None:
        self._handle.write(np.ascontiguousarray(array, dtype="<f4").tobytes())
        self.rows += array.shape[0]

    def close(self) -> None:
        self._handle.seek(0)
        self._handle.write(self._header())
        self._handle.close()

    def _header(self) -> bytes:
        """Version 1.0, padded to a fixed length, so that it can be written again."""
        written = io.BytesIO()
        np.lib.format.write_array_header_1_0(written, {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._columns)})
        raw = written.getvalue()
        text = raw[10:].rstrip() + b" " * (_HEADER_BYTES - 11 - len(raw[10:].rstrip())) + b"\n"
        return raw[:8] + len(text).to_bytes(2, "little") + text


class TableSpool:
    """A table that comes in pieces, in order; `finish` makes one Parquet file of them."""

    def __init__(self, folder: Path, name: str):
        self.rows, self._folder, self._name = 0, folder, name
        self._pieces: list[Path] = []

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty() and self._pieces:
            return
        piece = self._folder / f"{self._name}-{len(self._pieces):06d}.arrow"
        frame.write_ipc(piece, compression="lz4")
        self._pieces.append(piece)
        self.rows += frame.height

    def finish(self, path: Path) -> None:
        pl.scan_ipc(self._pieces).sink_parquet(path, compression="zstd", row_group_size=_GROUP_ROWS, maintain_order=True)
        for piece in self._pieces:
            piece.unlink()
