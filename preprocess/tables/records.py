"""Cuts the text of a CSV into blocks of whole records.

A block ends at a line break that stands outside quotes. Quotes are strict (RFC 4180): one opens a field or closes it, and a quote inside
is written twice. A stray one would shift the meaning of everything that follows, so it is found here, before the text is handed to
parallel parsers: its line is set apart as a bad row, and reading goes on at the next line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.tables.source import PIECE_BYTES, Recoded, Source
from omnifuse.preprocess.tables.text import Text

MAX_ROW_BYTES = 1 << 26
BOM = b"\xef\xbb\xbf"
OPEN_QUOTE = "a quote is opened and never closed"
STRAY_QUOTE = "a quote stands inside a field, or text behind its closing quote"

_BEFORE_OPENING = np.zeros(256, bool)
_BEFORE_OPENING[list(b',\n"')] = True
_AFTER_CLOSING = np.zeros(256, bool)
_AFTER_CLOSING[list(b',\n\r"')] = True


@dataclass(frozen=True)
class Block:
    """Whole records with sound quotes. `offset` is where they stand in the text, `position` how much of the file was read for them."""

    text: Text
    offset: int
    position: int


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
        self._pieces: deque[Text] = deque()
        self._room = block_bytes  # how much text is looked at
        self._offset = 0
        self._ended = False

    def header(self) -> bytes:
        """The first line, without BOM and line break."""
        while (end := (text := self._look()).data.find(b"\n") + 1) == 0 and text.data:
            if self._room >= MAX_ROW_BYTES:
                raise InputError("has no line break: it is no CSV file", where=self._path)
            self._look_further(text)
        if not text.data:
            raise InputError("is empty: it inflates to 0 bytes", where=self._path, hint="download it again")
        return self._take(text, end).data.removeprefix(BOM).rstrip(b"\r\n")

    def __iter__(self) -> Iterator[Block | BadLine]:
        while (text := self._look()).data:
            end, reason = self._survey(text)
            if end:
                yield Block(self._take(text, end), self._offset - end, self._source.position)
            elif reason is not None and (line := text.data.find(b"\n") + 1):
                self._take(text, line)
                yield BadLine(reason, self._source.position)
            elif reason is not None and self._room >= MAX_ROW_BYTES:
                yield BadLine(reason, self._source.position, fatal=True)
                return
            elif not self._at_end:
                self._look_further(text)
            else:
                return  # nothing but blank lines at the end of the file

    @property
    def _at_end(self) -> bool:
        """No text is left behind what was looked at."""
        return self._ended and not self._pieces

    def _look(self) -> Text:
        """Takes as much text as there is room for, up to its last line break; at the end of the file, all of it, and a line break."""
        seen, count = [], 0
        while count < self._room and (piece := self._next(self._room - count)).data:
            seen.append(piece)
            count += len(piece.data)
        if not seen:
            return Text.of(b"")
        end = seen[-1].data.rfind(b"\n") + 1
        if self._at_end:
            seen += [] if end == len(seen[-1].data) else [Text.of(b"\n")]
        elif end:
            # Cut before joining: what is cut off later is copied once more.
            seen[-1], rest = seen[-1].split(end)
            self._put_back(rest)
        return Text.join(seen)

    def _next(self, room: int) -> Text:
        if self._pieces:
            piece, rest = self._pieces.popleft().split(room)
            self._put_back(rest)
            return piece
        data = b"" if self._ended else self._source.read(min(PIECE_BYTES, room))
        self._ended = not data
        return Text.of(data)

    def _put_back(self, text: Text) -> None:
        if text.data:
            self._pieces.appendleft(text)

    def _look_further(self, text: Text) -> None:
        self._put_back(text)
        self._room *= 2

    def _take(self, text: Text, end: int) -> Text:
        """The first bytes of the text; the rest is looked at again."""
        taken, rest = text.split(end)
        self._put_back(rest)
        self._offset += end
        self._room = self._block_bytes
        return taken

    def _survey(self, text: Text) -> tuple[int, str | None]:
        """How many bytes of whole, sound records stand in front; if none, what is wrong with the first line (None: it goes on)."""
        stray = _first_stray(text)
        if stray is not None:
            return _last_record_end(text, stray), STRAY_QUOTE
        is_open = len(text.quotes) % 2 == 1
        if is_open and self._at_end:
            return _last_record_end(text, int(text.quotes[-1])), OPEN_QUOTE
        end = _without_blank_lines(text.data, _last_record_end(text, len(text.data)))
        if end == 0 and self._room >= MAX_ROW_BYTES:
            return 0, OPEN_QUOTE if is_open else f"is longer than {MAX_ROW_BYTES >> 20} MB"
        return end, None


def _first_stray(text: Text) -> int | None:
    """Position of the first quote that neither opens nor closes a field (of its opening partner, if it closes)."""
    if not len(text.quotes):
        return None
    data = np.frombuffer(text.data, np.uint8)
    opening, closing = text.quotes[::2], text.quotes[1::2]
    strays = opening[~_BEFORE_OPENING.take(data.take(opening - 1, mode="wrap")) & (opening > 0)][:1].tolist()
    wrong = np.flatnonzero(~_AFTER_CLOSING.take(data.take(closing + 1, mode="clip")))[:1]
    return min(strays + opening[wrong].tolist(), default=None)


def _last_record_end(text: Text, before: int) -> int:
    """Behind the last line break before `before` that stands outside quotes; 0 if there is none."""
    while (at := text.data.rfind(b"\n", 0, before)) >= 0:
        count = int(np.searchsorted(text.quotes, at))
        if count % 2 == 0:
            return at + 1
        before = int(text.quotes[count - 1])
    return 0


def _without_blank_lines(data: bytes, end: int) -> int:
    """Leaves blank lines to the next block: at the end of the file they are passed over, before another record they are bad."""
    last = data.rfind(b"\n", 0, max(0, end - 1)) + 1
    if data[last : end - 1] not in (b"", b"\r"):
        return end
    text = len(data[:end].rstrip(b"\r\n"))
    # A carriage return that ends no line is text.
    text = max(text, data.rfind(b"\r\r", text, end) + 1)
    return data.find(b"\n", text, end) + 1 if text else 0
