"""Cuts the text of a CSV into blocks of whole records.

A block ends at a line break that stands outside quotes. Quotes are strict (RFC 4180): one opens a field or closes it, and a quote inside
is written twice. A stray one would shift the meaning of everything that follows, so it is found here, before the text is handed to
parallel parsers: its line is set apart as a bad row, and reading goes on at the next line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables.source import Recoded, Source

MAX_ROW_BYTES = 1 << 26
CACHED = 1 << 18  # bytes that stay in the processor's cache
SPARSE = 1 << 12  # with fewer than one quote in so many bytes, finding them one by one is faster than comparing every byte
BOM = b"\xef\xbb\xbf"
OPEN_QUOTE = "a quote is opened and never closed"
STRAY_QUOTE = "a quote stands inside a field, or text behind its closing quote"

_BEFORE_OPENING = np.zeros(256, bool)
_BEFORE_OPENING[list(b',\n"')] = True
_AFTER_CLOSING = np.zeros(256, bool)
_AFTER_CLOSING[list(b',\n\r"')] = True


@dataclass(frozen=True)
class Block:
    """Whole records with sound quotes.

    Args:
        offset: where they stand in the text.
        position: how much of the file was read for them.
        doubled: two quotes stand side by side somewhere, as those of an empty field do.
    """

    data: bytes
    offset: int
    position: int
    doubled: bool


@dataclass(frozen=True)
class BadLine:
    """A line that is no record, with the reason; `fatal` where no line break ends it, so that nothing behind it can be read."""

    reason: str
    position: int
    fatal: bool = False


class Records:
    """The records of a CSV: first `header()`, then iterate over the blocks.

    Args:
        block_bytes: size of a block; a record that is longer makes a longer one, up to MAX_ROW_BYTES.
    """

    def __init__(self, source: Source | Recoded, path: Path, block_bytes: int):
        self._source, self._path, self._block_bytes = source, path, block_bytes
        self._buffer = bytearray(block_bytes + 1)  # one spare byte, for a last line without a line break
        self._filled = self._offset = 0
        self._room = block_bytes  # how much of the text is looked at
        self._ended = False

    def header(self) -> bytes:
        """The first line, without BOM and line break."""
        self._read()
        while (end := self._buffer.find(b"\n", 0, self._filled)) < 0 and not self._ended:
            if self._filled >= MAX_ROW_BYTES:
                raise InputError("has no line break: it is no CSV file", where=self._path)
            self._look_further()
        line = self._take(end + 1 if end >= 0 else self._filled)
        if not line:
            raise InputError("is empty: it inflates to 0 bytes", where=self._path, hint="download it again")
        return line.removeprefix(BOM).rstrip(b"\r\n")

    def __iter__(self) -> Iterator[Block | BadLine]:
        self._read()
        while self._filled:
            quotes = self._quotes()
            end, reason = self._survey(quotes)
            if end:
                doubled = bool((np.diff(quotes) == 1).any())
                yield Block(self._take(end), self._offset - end, self._source.position, doubled)
                self._read()
            elif reason is None:
                self._look_further()
            elif line := self._buffer.find(b"\n", 0, self._seen) + 1:
                self._take(line)
                yield BadLine(reason, self._source.position)
                self._read()
            elif self._at_end or self._seen >= MAX_ROW_BYTES:
                yield BadLine(reason, self._source.position, fatal=not self._at_end)
                return
            else:
                self._look_further()

    @property
    def _seen(self) -> int:
        return min(self._filled, self._room)

    @property
    def _at_end(self) -> bool:
        return self._ended and self._filled <= self._room

    def _look_further(self) -> None:
        self._room *= 2
        self._read()

    def _read(self) -> None:
        """Fills the room."""
        if self._room >= len(self._buffer):
            self._buffer = self._buffer + bytes(self._room + 1 - len(self._buffer))
        with memoryview(self._buffer) as view:
            while self._filled < self._room and not self._ended:
                count = self._source.readinto(view[self._filled : self._room])
                self._filled += count
                self._ended = count == 0

    def _take(self, count: int) -> bytes:
        """Removes the first bytes of the buffer."""
        with memoryview(self._buffer) as view:
            taken = bytes(view[:count])
        rest = self._filled - count
        self._buffer[:rest] = self._buffer[count : self._filled]
        self._filled = rest
        self._offset += count
        self._room = self._block_bytes
        return taken

    def _survey(self, quotes: np.ndarray) -> tuple[int, str | None]:
        """How many bytes of whole, sound records stand in front; if none, what is wrong with the first line (None: it goes on)."""
        stray = self._first_stray(quotes)
        if stray is not None:
            return self._last_record_end(quotes, stray), STRAY_QUOTE
        if self._at_end:
            if len(quotes) % 2:
                return self._last_record_end(quotes, int(quotes[-1])), OPEN_QUOTE
            return self._finish(), None
        end = self._without_blank_lines(self._last_record_end(quotes, self._seen))
        if end == 0 and self._seen >= MAX_ROW_BYTES:
            return 0, OPEN_QUOTE if len(quotes) % 2 else f"is longer than {MAX_ROW_BYTES >> 20} MB"
        return end, None

    def _quotes(self) -> np.ndarray:
        """Positions of all quotes: even ones open, odd ones close."""
        few = []
        at = self._buffer.find(b'"', 0, self._seen)
        while at >= 0 and len(few) * SPARSE < self._seen:
            few.append(at)
            at = self._buffer.find(b'"', at + 1, self._seen)
        if at < 0:
            return np.array(few, np.int64)
        text = self._text()
        pieces = range(0, self._seen, CACHED)
        return np.concatenate([np.flatnonzero(text[start : start + CACHED] == ord('"')) + start for start in pieces])

    def _text(self) -> np.ndarray:
        return np.frombuffer(self._buffer, np.uint8, self._seen)

    def _first_stray(self, quotes: np.ndarray) -> int | None:
        """Position of the first quote that neither opens nor closes a field (of its opening partner, if it closes)."""
        if not len(quotes):
            return None
        text = self._text()
        opening, closing = quotes[::2], quotes[1::2]
        strays = opening[~_BEFORE_OPENING.take(text.take(opening - 1, mode="wrap")) & (opening > 0)][:1].tolist()
        wrong = np.flatnonzero(~_AFTER_CLOSING.take(text.take(closing + 1, mode="clip")))[:1]
        return min(strays + opening[wrong].tolist(), default=None)

    def _last_record_end(self, quotes: np.ndarray, before: int) -> int:
        """Behind the last line break before `before` that stands outside quotes; 0 if there is none."""
        while (at := self._buffer.rfind(b"\n", 0, before)) >= 0:
            count = int(np.searchsorted(quotes, at))
            if count % 2 == 0:
                return at + 1
            before = int(quotes[count - 1])
        return 0

    def _without_blank_lines(self, end: int) -> int:
        """Leaves blank lines to the next block: at the end of the file they are passed over, before another record they are bad."""
        last = self._buffer.rfind(b"\n", 0, max(0, end - 1)) + 1
        if self._buffer[last : end - 1] not in (b"", b"\r"):
            return end
        text = len(self._buffer[:end].rstrip(b"\r\n"))
        # A carriage return that ends no line is text.
        text = max(text, self._buffer.rfind(b"\r\r", text, end) + 1)
        return self._buffer.find(b"\n", text, end) + 1 if text else 0

    def _finish(self) -> int:
        """At the end of the file: the last record gets its line break, blank lines behind it go."""
        if self._filled and self._buffer[self._filled - 1] != ord("\n"):
            self._buffer[self._filled] = ord("\n")
            self._filled += 1
        self._filled = self._without_blank_lines(self._filled)
        return self._filled
