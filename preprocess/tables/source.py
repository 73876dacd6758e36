"""The bytes of a table: a regular file, inflated where it ends in .gz, recoded to UTF-8 where another encoding is declared.

gzip is inflated by ISA-L (about seven times as fast as zlib), which checks the CRC and length of every member and reads concatenated
members as one. A file that inflates beyond all reason is refused while it streams, before it fills memory or a disk.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib

from omnifuse.preprocess.schema import ConfigError, InputError

GZIP = b"\x1f\x8b"
PIECE_BYTES = 1 << 18  # stays in the processor's cache
# Real tables inflate 8 to 12 times; gzip's limit is 1032 times. Judged over windows of the text, so that a bomb behind a table is seen too.
BOMB_RATIO = 200
BOMB_WINDOW = 1 << 28


def open_regular(path: Path) -> io.FileIO:
    """Opens a regular file for reading; a symbolic link is followed, then judged by what it leads to.

    Raises:
        InputError: it is missing, may not be read, or is a folder, pipe or device.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for a writer, for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot be opened: {(error.strerror or 'unknown error').lower()}", where=path) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError("is no regular file", where=path, hint="folders, pipes and devices are not read")
    return open(handle, "rb", buffering=0)


class Source:
    """The inflated bytes of an open file. `position` counts the bytes of the file that were taken so far, `size` all of them."""

    def __init__(self, path: Path, file: io.FileIO):
        self.path, self._file = path, file
        self.size, self.position = os.fstat(file.fileno()).st_size, 0
        if self.size == 0:
            raise InputError("is empty: it has 0 bytes", where=path, hint="download it again")
        zipped = file.read(2) == GZIP
        file.seek(0)
        named = path.name.lower().endswith(".gz")
        if named and not zipped:
            raise InputError("is named .gz, but is not gzip", where=path, hint="remove .gz from its name, or download it again")
        if zipped and not named:
            raise InputError("is gzip, but is not named .gz", where=path, hint="add .gz to its name")
        self._stream: Any = igzip.IGzipFile(fileobj=file, mode="rb") if zipped else file
        self._zipped = zipped
        self._window = [0, 0]

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end of the file.

        Raises:
            InputError: the gzip data end too early, are damaged, or inflate beyond BOMB_RATIO.
        """
        try:
            data = self._stream.read1(size) if self._zipped else self._stream.read(size)
        except EOFError:
            raise InputError("is cut off: its gzip data end too early", where=self.path, hint="download it again") from None
        except (igzip.BadGzipFile, isal_zlib.error):
            raise InputError("is damaged: its gzip data or checksum are wrong", where=self.path, hint="download it again") from None
        except OSError as error:
            raise InputError(f"cannot be read: {(error.strerror or 'unknown error').lower()}", where=self.path) from None
        taken = self._file.tell() - self.position
        self.position += taken
        if self._zipped:
            self._refuse_bomb(len(data), taken)
        return data

    def close(self) -> None:
        self._stream.close()

    def _refuse_bomb(self, count: int, taken: int) -> None:
        self._window[0] += count
        self._window[1] += taken
        if self._window[0] >= BOMB_WINDOW:
            if self._window[0] > BOMB_RATIO * self._window[1]:
                told = f"inflates more than {BOMB_RATIO} times, which no table of patients does"
                raise InputError(told, where=self.path, hint="do not trust this file")
            self._window = [0, 0]


class Recoded:
    """A source in another encoding, as UTF-8."""

    def __init__(self, source: Source, encoding: str):
        self._source, self._encoding = source, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._ready, self._offset, self._ended = b"", 0, False

    @property
    def position(self) -> int:
        return self._source.position

    @property
    def size(self) -> int:
        return self._source.size

    def read(self, size: int) -> bytes:
        while not self._ready and not self._ended:
            data = self._source.read(PIECE_BYTES)
            waiting = len(self._decoder.getstate()[0])
            try:
                self._ready = self._decoder.decode(data, final=not data).encode("utf-8")
            except UnicodeError as error:
                told = f"is not {self._encoding} at byte {self._offset - waiting + getattr(error, 'start', 0)}"
                raise InputError(told, where=self._source.path, hint="declare its true encoding") from None
            self._offset += len(data)
            self._ended = not data
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


@contextlib.contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[Source | Recoded]:
    """Opens a .csv or .csv.gz as UTF-8 bytes.

    Raises:
        ConfigError: no such encoding.
        InputError: no regular file, empty, or its name and content disagree about gzip.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except LookupError:
        raise ConfigError(f"unknown encoding {encoding!r}", hint="utf-8, gb18030, latin-1, ...") from None
    with open_regular(path) as file:
        source = Source(path, file)
        with contextlib.closing(source):
            yield source if name in ("utf-8", "ascii") else Recoded(source, name)
