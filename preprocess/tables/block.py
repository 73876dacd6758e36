"""One block of CSV records to a frame, or to the list of its bad records.

Nearly every block is sound and takes the short way: one pass proves that each record has the right number of fields (polars fills short
rows with nulls, and drops what is too much where the last column is not asked for), polars parses the asked columns, and three
vectorised checks follow. Only a block that fails any of this is looked at record by record. Exception text of polars quotes cells: none
of it leaves this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import polars as pl

from omnifuse.preprocess.tables.columns import Column, Layout
from omnifuse.preprocess.tables.parsed import Fault, Parsed
from omnifuse.preprocess.tables.records import Block
from omnifuse.preprocess.tables.text import SPARSE, Text

NOT_OF_TYPE = {pl.Int64: "is no whole number", pl.Float64: "is no number", pl.String: "is no text"}
NOT_FINITE = "is no finite number"
EMPTY = "is empty"


def parse(block: Block, layout: Layout, most: int) -> Parsed:
    """Parses whole records.

    Args:
        most: how many bad records may be left out; one more is looked for.
    """
    text = block.text
    count = _count_records(text, layout.width)
    if count is not None and _is_utf8(text):
        doubled = bool((np.diff(text.quotes) == 1).any())
        frame = _read(text.data, layout, count, doubled)
        if frame is not None:
            return Parsed(count, frame)
    return _Inspection(text, block.offset, layout).parse(most)


def _count_records(text: Text, width: int) -> int | None:
    """The number of records if every one has `width` fields, each line break is LF or CRLF and nothing is NUL; None if in doubt.

    The marks of sound text are the marks of one record, repeated.
    """
    data, marks = text.data, text.marks
    if b"\0" in marks:
        return None
    if len(text.quotes):
        marks = _outside_quotes(marks, dense=len(text.quotes) * SPARSE > len(data))
    if b"\r" in marks:
        if data.count(b"\r") != data.count(b"\r\n"):
            return None
        marks = marks.replace(b"\r\n", b"\n")
    record = b"," * (width - 1) + b"\n"
    count = len(marks) // width
    return count if marks == record * count else None


def _outside_quotes(marks: bytes, dense: bool) -> bytes:
    if dense:
        # Most quoted fields hold no mark: they go at once, as pairs of quotes side by side.
        marks = marks.replace(b'""', b"")
    parts, start = [], 0
    while (opening := marks.find(b'"', start)) >= 0:
        parts.append(marks[start:opening])
        start = marks.index(b'"', opening + 1) + 1
    return b"".join([*parts, marks[start:]])


def _is_utf8(text: Text) -> bool:
    try:
        return text.ascii or bool(str(text.data, "utf-8"))
    except UnicodeDecodeError:
        return False


def _scan(data: bytes, layout: Layout, selection: Sequence[pl.Expr]) -> pl.DataFrame | None:
    try:
        scan = pl.scan_csv(data, has_header=False, schema=layout.schema)
        return scan.select(selection).collect(engine="in-memory")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _read(data: bytes, layout: Layout, count: int, doubled: bool = True) -> pl.DataFrame | None:
    """The asked columns, or None where any value is bad."""
    frame = _scan(data, layout, layout.selection)
    if frame is None or frame.height != count:
        return None
    if doubled:
        frame = _null_for_empty(frame)
    sound = all(_fault_of_values(frame[column.name], column) is None for column, _ in layout.present)
    return frame if sound else None


def _null_for_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """An empty field in quotes is as empty as one without."""
    names = [values.name for values in frame.iter_columns() if values.dtype == pl.String and (values == "").any()]
    return frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in names) if names else frame


def _fault_of_values(values: pl.Series, column: Column) -> str | None:
    if column.dtype == pl.Float64 and not values.is_finite().all():
        return NOT_FINITE
    if not column.nullable and values.null_count():
        return EMPTY
    return None


class _Inspection:
    """The long way, for a block that holds a bad record."""

    def __init__(self, text: Text, offset: int, layout: Layout):
        self._data, self._quotes, self._offset, self._layout = text.data, text.quotes, offset, layout
        self._ends = self._outside(self._positions(b"\n"))
        self._starts = np.concatenate([[0], self._ends[:-1] + 1])
        separators = self._outside(self._positions(b","))
        self._fields = np.diff(np.searchsorted(separators, self._ends), prepend=0) + 1

    def _outside(self, positions: np.ndarray) -> np.ndarray:
        """Those that stand outside quotes."""
        return positions[np.searchsorted(self._quotes, positions) % 2 == 0]

    def parse(self, most: int) -> Parsed:
        count = len(self._ends)
        bad = self._structural()
        # With no bad record allowed, none behind the first one matters.
        upto = min(bad) if bad and most == 0 else count
        sound = np.setdiff1d(np.arange(upto), np.fromiter(bad, np.int64, len(bad)))
        bad.update((fault.record, fault) for fault in islice(self._values(sound), most + 1))
        faults = tuple(bad[record] for record in sorted(bad))[: most + 1]
        if len(faults) > most:
            return Parsed(count, None, None, faults)
        kept = np.setdiff1d(np.arange(count), [fault.record for fault in faults])
        frame = self._frame(kept)
        if frame is None:
            raise RuntimeError("records that are sound one by one do not parse together")
        return Parsed(count, frame, kept, faults)

    def _structural(self) -> dict[int, Fault]:
        """Bad records that need no parsing to be known, by number; of several faults the first one told here counts."""
        bad: dict[int, Fault] = {}
        for record in self._records_of(self._positions(b"\0")):
            bad.setdefault(record, Fault(record, "holds a NUL byte"))
        for record in self._records_of(self._lone_carriage_returns()):
            bad.setdefault(record, Fault(record, "holds a carriage return that ends no line"))
        for record in np.flatnonzero(self._fields != self._layout.width).tolist():
            bad.setdefault(record, self._wrong_width(record))
        for record, at in self._not_utf8():
            told = f"is not UTF-8 at byte {self._offset + at}"
            bad.setdefault(record, Fault(record, told, hint="declare the encoding or convert the file"))
        return bad

    def _positions(self, byte: bytes) -> np.ndarray:
        return np.flatnonzero(np.frombuffer(self._data, np.uint8) == ord(byte))

    def _records_of(self, positions: np.ndarray) -> list[int]:
        return np.unique(np.searchsorted(self._ends, positions)).tolist()

    def _lone_carriage_returns(self) -> np.ndarray:
        at = self._outside(self._positions(b"\r"))
        return at[np.frombuffer(self._data, np.uint8)[at + 1] != ord("\n")]

    def _wrong_width(self, record: int) -> Fault:
        if not self._data[self._starts[record] : self._ends[record]].strip(b"\r"):
            return Fault(record, "is blank")
        fields, width = int(self._fields[record]), self._layout.width
        return Fault(record, f"{fields} field{'s' * (fields != 1)} instead of {width}", short=fields < width)

    def _not_utf8(self) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(self._data):
            try:
                str(memoryview(self._data)[start:], "utf-8")
                return
            except UnicodeDecodeError as error:
                at = start + error.start
            record = int(np.searchsorted(self._ends, at))
            yield record, at
            start = int(self._ends[record]) + 1

    def _values(self, records: np.ndarray) -> Iterator[Fault]:
        """Faults of single values, in order, by halving."""
        if not len(records) or self._frame(records) is not None:
            return
        if len(records) == 1:
            yield self._fault_of(int(records[0]))
            return
        half = len(records) // 2
        yield from self._values(records[:half])
        yield from self._values(records[half:])

    def _frame(self, records: np.ndarray) -> pl.DataFrame | None:
        if not len(records):
            return self._layout.empty
        # Neighbours are cut out together.
        breaks = np.flatnonzero(np.diff(records) != 1) + 1
        runs = zip(self._starts[records[np.r_[0, breaks]]].tolist(), self._ends[records[np.r_[breaks - 1, len(records) - 1]]].tolist())
        return _read(b"".join(self._data[start : end + 1] for start, end in runs), self._layout, len(records))

    def _fault_of(self, record: int) -> Fault:
        """Which column does not parse."""
        data = self._data[self._starts[record] : self._ends[record] + 1]
        for column, place in self._layout.present:
            frame = _scan(data, self._layout, [pl.col(str(place)).alias(column.name)])
            reason = NOT_OF_TYPE[column.dtype] if frame is None else _fault_of_values(frame[column.name], column)
            if reason is not None:
                return Fault(record, reason, column.name)
        return Fault(record, "does not read as CSV")
