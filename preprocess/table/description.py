"""What the YAML of `omnifuse preprocess table` says, once it is checked (docs/tables.md has its grammar; manifest.py reads it).

Every column that is named is kept with its line in `references`, so that one that a table lacks is told with the line that names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omnifuse.preprocess.table.checker import Reference

MAIN = "main"  # the name of the table under `table`


@dataclass(frozen=True)
class Table:
    """A file, and the columns that tell whose a row is: `sample` (several: joined), else `patient`."""

    name: str
    file: str
    encoding: str
    patient: str | None
    sample: tuple[str, ...]
    where: str | None = None


@dataclass(frozen=True)
class Label:
    """`values[label]` are the texts that mean it: of a multi-label task with `separator`, a part of a cell; else the cell.

    A binary label has `negative` texts too: None means every other one.
    """

    kind: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    negative: tuple[str, ...] | None
    unknown: tuple[str, ...]
    separator: str | None
    several: str


@dataclass(frozen=True)
class Clock:
    """Columns of the main table: where a sample's time begins, and before what its rows must lie."""

    unit: str = "datetime"
    origin: str | None = None
    prediction: str | None = None


@dataclass(frozen=True)
class Modality:
    """`own` holds what only modalities of its kind have."""

    name: str
    kind: str
    table: str
    keep: dict[str, tuple[str, ...]]
    time: str | None
    unit: str
    order: str | None
    take: str
    own: dict[str, Any]


@dataclass
class Description:
    root: str
    tables: dict[str, Table]
    task: str
    label: Label
    clock: Clock
    group: str | None
    describe: tuple[str, ...]
    keep: dict[str, tuple[str, ...]]
    missing: tuple[str, ...]
    splits: dict[str, Any]
    modalities: dict[str, Modality]
    references: list[Reference] = field(default_factory=list)

    def columns(self, table: str) -> list[str]:
        """Every column of a table that is named, once, in order."""
        return list(dict.fromkeys(told.column for told in self.references if told.table == table))
