"""What `build_cohort` would read and write: for --dry-run, and to ask for the disk before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from isal import isal_zlib

from omnifuse.preprocess.mimic import beside, radiology
from omnifuse.preprocess.mimic.grid import Grid
from omnifuse.preprocess.mimic.inputs import tables_read
from omnifuse.preprocess.mimic.labels import longest_window
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.source import EVENT_TABLES, Source, detect, require
from omnifuse.preprocess.mimic.variables import COLUMNS

_HEAD = 1 << 20  # bytes at the head of a file from which its rows are estimated
_BIN_BYTES, _SAMPLE_BYTES, _AT_LEAST = 4 * len(COLUMNS), 12, 1_000_000
# Measured on the MIMIC-III demo: 12% of the event rows are kept; each takes 2 bytes in events.parquet and 6 on the way.
_EVENT_BYTES, _WORK_BYTES = 0.12 * 2, 0.12 * 6
_ITEM_BYTES, _WORD_BYTES, _INFLATED = 120, 7, 4


def plan(source: Path, options: Options, folders: beside.Folders = beside.Folders()) -> dict[str, Any]:  # noqa: B008
    """Tables with bytes and estimated rows, and the bytes of the cohort and of the work beside it.

    Raises:
        ConfigError, InputError: as build_cohort, as far as it shows before the tables are read.
    """
    found = detect(source)
    options, warnings = options.fitted(found.dataset)
    require(found, options.tasks)
    others = beside.find(folders, found, options)
    tables = [
        {"name": found.name(name), "bytes": found.files[name].stat().st_size, "rows": estimate_rows(found.files[name])}
        for name in tables_read(found, options)
    ]
    tables += [{"name": name, "bytes": path.stat().st_size, "rows": estimate_rows(path)} for name, path in sorted(others.tables.items())]
    output, work = needed_bytes(found, options, others)
    return {
        "source": f"{found.dataset} {found.version}",
        "tables": tables,
        "output_bytes": output,
        "work_bytes": work,
        "warnings": [*warnings, *others.warnings],
    }


def needed_bytes(source: Source, options: Options, others: beside.Sources | None = None) -> tuple[int, int]:
    """Bytes of the cohort, estimated from above by the lengths of all ICU stays, and bytes of the files on the way to it."""
    rows = sum(estimate_rows(source.files[table]) or 0 for table in EVENT_TABLES)
    hours = np.maximum(24.0 * source.read("icustays")["los"].drop_nulls().to_numpy(), 0)
    bins = int(Grid(options.step_hours, options.lookback_hours).rows(np.minimum(hours, longest_window(options))).sum())
    samples = int(hours.sum()) if "los_remaining" in options.tasks else 0
    output = _AT_LEAST + _BIN_BYTES * (bins + samples) + _SAMPLE_BYTES * samples + round(_EVENT_BYTES * rows)
    items = _item_bytes(others) if others is not None else 0
    return output + items, round(_WORK_BYTES * rows) + round(_EVENT_BYTES * rows) + 2 * items


def _item_bytes(others: beside.Sources) -> int:
    """Of the tables of items, from above: every film, record and note of the tables, notes cut to their words or whole."""
    names = {"cxr": 2 if radiology.NAME in others.options.tasks else 1, "sig": 1, "notes": 0}
    total = sum(_ITEM_BYTES * names[name.split("/")[0]] * (estimate_rows(path) or 0) for name, path in others.tables.items())
    words = others.options.words
    for name, path in others.tables.items():
        if name.startswith("notes/") and "detail" not in name:
            whole = path.stat().st_size * (_INFLATED if path.suffix == ".gz" else 1)
            is_cut = words is not None and "dn" not in others.modalities
            total += min(whole, _WORD_BYTES * words * (estimate_rows(path) or 0)) if is_cut else whole
    return total


def estimate_rows(path: Path) -> int | None:
    """Rows by the lines at the head of the file; None where it cannot be told. Exact for a file of at most _HEAD bytes."""
    if path.suffix == ".parquet":
        return pl.scan_parquet(path).select(pl.len()).collect().item()
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    packed = len(head)
    if path.suffix == ".gz":
        try:
            head = isal_zlib.decompressobj(wbits=31).decompress(head)
        except isal_zlib.error:
            return None
    lines = head.count(b"\n")
    return max(lines - 1, 0) if packed == path.stat().st_size else round(lines * path.stat().st_size / max(packed, 1)) - 1
