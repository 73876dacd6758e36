"""Tables as streams of frames: what every room calls.

    for chunk in stream(path, [Column("itemid", pl.Int64), ...]):
        chunk.frame

One thread inflates and cuts, a few parse, the caller works on the chunk before; at most a handful of blocks are held, whatever the
length of the file. Chunks come in the order of the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.schema import ConfigError, InputError, OmnifuseError, Silent
from omnifuse.preprocess.tables import parquet
from omnifuse.preprocess.tables.block import parse
from omnifuse.preprocess.tables.columns import Column, Layout, locate, split_header
from omnifuse.preprocess.tables.parsed import Fault, Parsed
from omnifuse.preprocess.tables.records import OPEN_QUOTE, BadLine, Block, Records
from omnifuse.preprocess.tables.source import open_text

CHUNK_BYTES = 1 << 23
# Parsing takes about four times as long as inflating: more parsers than that would wait.
PARSERS = max(1, min(4, os.cpu_count() or 1))
SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table, the asked columns under their canonical names.

    `first_row` is the file row of the first record (the header is row 1; Parquet has none and counts from 1), `bad` how many bad rows were
    left out of the table so far. Rows of the file = heights of all chunks + `bad` of the last one.
    """

    frame: pl.DataFrame
    first_row: int
    bad: int


def stream(
    path: Path,
    columns: Sequence[Column],
    *,
    on_bad_row: str = "error",
    max_bad: int = 0,
    progress: Callable[..., Any] = Silent,
    chunk_bytes: int = CHUNK_BYTES,
    with_row: bool = False,
    encoding: str = "utf-8",
) -> Iterator[Chunk]:
    """Reads a table piece by piece, in order, in bounded memory.

    Args:
        on_bad_row: "error" stops at the first bad row; "skip" leaves out and counts up to `max_bad` of them.
        progress: counts bytes of the file.
        chunk_bytes: text of a CSV that makes one chunk.
        with_row: adds a column "row" (UInt64), the file row of each record.
        encoding: of a CSV that is not UTF-8, such as gb18030.

    Missing data:
        Empty fields, quoted or not, are null. A column that is absent and not required is all null.

    Raises:
        InputError: the file, its header or a row is bad.
        ConfigError: an unknown encoding or policy.
    """
    path = Path(path)
    if on_bad_row not in ("error", "skip"):
        raise ConfigError(f"on_bad_row is {on_bad_row!r}", hint="error or skip")
    most = max_bad if on_bad_row == "skip" else 0
    if path.suffix.lower() == ".parquet":
        blocks, row = parquet.blocks(path, columns, most), 1
    else:
        blocks, row = _csv_blocks(path, columns, most, chunk_bytes, encoding), 2
    size = path.stat().st_size if path.is_file() else 0
    bad = told = 0
    with contextlib.closing(blocks), progress(path.name, size, "B") as bar:
        for parsed, taken in blocks:
            _refuse(path, row, parsed, most, bad)
            bad += len(parsed.faults)
            bar.update(taken)
            if parsed.frame.height:
                yield _chunk(parsed, row, bad, with_row)
                told = bad
            row += parsed.records
        if bad > told:
            yield _chunk(Parsed(0, parsed.frame.clear()), row, bad, with_row)


def _chunk(parsed: Parsed, row: int, bad: int, with_row: bool) -> Chunk:
    kept = parsed.kept
    first = row if kept is None else row + int(kept[0])
    frame = parsed.frame
    if with_row:
        rows = np.arange(row, row + frame.height, dtype=np.uint64) if kept is None else kept.astype(np.uint64) + np.uint64(row)
        frame = frame.with_columns(pl.Series("row", rows))
    return Chunk(frame, first, bad)


def _refuse(path: Path, row: int, parsed: Parsed, most: int, before: int) -> None:
    """Raises InputError for the first bad row that is too much, `before` having been left out already."""
    allowed = most - before
    fatal = next((fault for fault in parsed.faults if fault.fatal), None)
    if len(parsed.faults) <= allowed and fatal is None:
        return
    fault = parsed.faults[allowed] if len(parsed.faults) > allowed else fatal
    where = f"{path}:{row + fault.record}" + (f":{fault.column}" if fault.column else "")
    reason = f"{fault.reason}; {most:,} bad rows were left out before" if most and not fault.fatal else fault.reason
    hint = "the file looks cut off: download it again" if fault.short else fault.hint
    raise InputError(reason, where=where, hint=hint)


def _csv_blocks(path: Path, columns: Sequence[Column], most: int, chunk_bytes: int, encoding: str) -> Iterator[tuple[Parsed, int]]:
    """Blocks in order, and the bytes of the file that each one took."""
    position = 0
    with open_text(path, encoding) as source:
        records = Records(source, path, chunk_bytes)
        layout = locate(split_header(records.header(), path), columns, path)
        work = lambda item: (_parsed(item, layout, most), item.position)
        with contextlib.closing(_ahead(records, work)) as results:
            for (parsed, reached), is_last in results:
                if parsed.faults and parsed.faults[-1].short and not (parsed.faults[-1].record == parsed.records - 1 and is_last()):
                    parsed = dataclasses.replace(parsed, faults=tuple(dataclasses.replace(fault, short=False) for fault in parsed.faults))
                yield parsed, reached - position
                position = reached


def _parsed(item: Block | BadLine, layout: Layout, most: int) -> Parsed:
    if isinstance(item, Block):
        return parse(item, layout, most)
    fault = Fault(0, item.reason, short=item.reason == OPEN_QUOTE, fatal=item.fatal)
    return Parsed(1, layout.empty, np.empty(0, np.int64), (fault,))


def _ahead(items: Iterable[Any], work: Callable[[Any], Any]) -> Iterator[tuple[Any, Callable[[], bool]]]:
    """`work` on each item, in order, a few items ahead of the caller; and whether it was the last item.

    Items are drawn by one thread and worked on by PARSERS others.
    """
    end = object()
    source = iter(items)
    ahead: deque = deque()
    with ThreadPoolExecutor(1, "inflate") as reading, ThreadPoolExecutor(PARSERS, "parse") as parsing:

        def start() -> None:
            item = reading.submit(next, source, end)
            ahead.append((item, parsing.submit(lambda: None if item.result() is end else work(item.result()))))

        def is_last() -> bool:
            try:
                return ahead[0][0].result() is end
            except OmnifuseError:
                return False

        try:
            for _ in range(PARSERS + 1):
                start()
            while (result := ahead.popleft()[1].result()) is not None:
                start()
                yield result, is_last
        finally:
            for item, result in ahead:
                item.cancel()
                result.cancel()


def read(path: Path, columns: Sequence[Column], **options: Any) -> pl.DataFrame:
    """A small table as one frame; options as for `stream`."""
    frames = [chunk.frame for chunk in stream(path, columns, **options)]
    if frames:
        return pl.concat(frames, rechunk=True)
    schema = {column.name: column.dtype for column in columns}
    return pl.DataFrame(schema=schema | ({"row": pl.UInt64} if options.get("with_row") else {}))


def header(path: Path, encoding: str = "utf-8") -> tuple[str, ...]:
    """The column names of a table, in lower case."""
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        return tuple(name.lower() for name in parquet.names(path))
    with open_text(path, encoding) as source:
        return split_header(Records(source, path, 1 << 16).header(), path)


def find(folder: Path, name: str, below: Sequence[str] = ("", "hosp", "icu", "core", "ed", "note")) -> Path | None:
    """The file of a table, in any case, .csv, .csv.gz or .parquet, in the folder or one of its subfolders `below`.

    Raises:
        InputError: there are two candidates, which may differ; or the folder cannot be listed.
    """
    wanted = {name.lower() + suffix for suffix in SUFFIXES}
    found: list[Path] = []
    for sub in below:
        place = Path(folder) / sub
        if sub and not place.is_dir():
            continue
        try:
            found += sorted(path for path in place.iterdir() if path.name.lower() in wanted)
        except OSError as error:
            raise InputError(f"cannot be listed: {(error.strerror or 'unknown error').lower()}", where=place) from None
    if len(found) > 1:
        names = " and ".join(path.relative_to(folder).as_posix() for path in found)
        raise InputError(f"holds the table {name.lower()} {len(found)} times: {names}", where=folder, hint="keep one")
    return found[0] if found else None
