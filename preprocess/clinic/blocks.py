"""What is kept of finished blocks while a clinic is made, so that a killed run goes on after its last whole block.

The tables' journal tells the next block, how many bytes and rows of each table are whole, and the counters; truth rows of each block lie
as Parquet beside. Both are scratch: they are gone when the clinic is finished. Films and records are made again to the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError

JOURNAL = "journal.json"


class Blocks:
    """Frames of the truth, block by block."""

    def __init__(self, folder: store.Builder):
        self.folder = folder

    def keep(self, first: int, frames: dict[str, pl.DataFrame]) -> None:
        """The frames of the block that starts with this patient."""
        for name, frame in frames.items():
            store.write_parquet(self.folder.scratch(f"{name}/{first:09d}.parquet"), frame)

    def parts(self, name: str, rows: int) -> Iterator[pl.DataFrame]:
        """All rows in their order, in frames of about `rows`."""
        waiting: list[pl.DataFrame] = []
        for path in sorted(self.folder.scratch(name).glob("*.parquet")):
            waiting.append(pl.read_parquet(path))
            if sum(len(frame) for frame in waiting) > rows:
                yield pl.concat(waiting)
                waiting = []
        if waiting:
            yield pl.concat(waiting)

    def whole(self, name: str) -> pl.DataFrame:
        return pl.concat(pl.read_parquet(path) for path in sorted(self.folder.scratch(name).glob("*.parquet")))


def write_journal(tables: store.Builder, fingerprint: str, told: dict[str, Any]) -> None:
    store.write_json(tables.scratch(JOURNAL), {"fingerprint": fingerprint, **told})


def read_journal(tables: store.Builder, beside: store.Builder, fingerprint: str) -> dict[str, Any] | None:
    """What an interrupted run of the same clinic left; where it was another one, or nothing is whole, both folders are emptied."""
    try:
        told = store.read_json(tables.scratch(JOURNAL))
        whole = told["fingerprint"] == fingerprint and all((tables.folder / n).stat().st_size >= size for n, size in told["bytes"].items())
    except (ArtefactError, OSError, KeyError, TypeError):
        whole = False
    if whole:
        return told
    for builder in (tables, beside):
        shutil.rmtree(builder.folder)
        store.make_folder(builder.folder)
    return None


def forget_unless_begun(*paths) -> None:
    """Removes what a run left that has no whole block."""
    buildings = [store.building_folder(path) for path in paths]
    if not any((building / "scratch" / JOURNAL).exists() for building in buildings):
        for building in buildings:
            shutil.rmtree(building, ignore_errors=True)
