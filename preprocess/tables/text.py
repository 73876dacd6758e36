"""A stretch of text and what a parser wants to know of each of its bytes, found in one go.

Text comes in pieces that fit the processor's cache. What every byte must be looked at for is done while a piece is there, and survives
joining and splitting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MARKS = b',"\n\r\0'
_REST = bytes(byte for byte in range(256) if byte not in MARKS)
# With fewer than one quote in so many bytes, finding them one by one is faster than comparing every byte.
SPARSE = 1 << 10
_NO_QUOTES = np.empty(0, np.int64)


@dataclass(frozen=True)
class Text:
    """Consecutive text and what is known of it.

    Args:
        marks: the text without all but its MARKS.
        quotes: positions of the quotes.
        ascii: surely nothing but ASCII.
    """

    data: bytes
    marks: bytes
    quotes: np.ndarray
    ascii: bool

    @classmethod
    def of(cls, data: bytes) -> Text:
        marks = data.translate(None, _REST)
        quotes = _find_quotes(data) if b'"' in marks else _NO_QUOTES
        return cls(data, marks, quotes, not data or bool(np.frombuffer(data, np.uint8).max() < 128))

    @classmethod
    def join(cls, pieces: list[Text]) -> Text:
        if len(pieces) == 1:
            return pieces[0]
        starts = np.cumsum([0, *(len(piece.data) for piece in pieces)])
        quotes = [piece.quotes + start for piece, start in zip(pieces, starts) if len(piece.quotes)]
        return cls(
            b"".join(piece.data for piece in pieces),
            b"".join(piece.marks for piece in pieces),
            np.concatenate(quotes) if quotes else _NO_QUOTES,
            all(piece.ascii for piece in pieces),
        )

    def split(self, end: int) -> tuple[Text, Text]:
        """The first `end` bytes and the rest; only the shorter side is looked at again."""
        if end >= len(self.data):
            return self, Text.of(b"")
        if 2 * end < len(self.data):
            front = Text.of(self.data[:end])
            quotes = self.quotes[len(front.quotes) :] - end
            return front, Text(self.data[end:], self.marks[len(front.marks) :], quotes, self.ascii)
        rest = Text.of(self.data[end:])
        quotes = self.quotes[: len(self.quotes) - len(rest.quotes)]
        return Text(self.data[:end], self.marks[: len(self.marks) - len(rest.marks)], quotes, self.ascii), rest


def _find_quotes(data: bytes) -> np.ndarray:
    found, at = [], -1
    while (at := data.find(b'"', at + 1)) >= 0:
        found.append(at)
        if len(found) * SPARSE > len(data):
            return np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))
    return np.array(found, np.int64)
