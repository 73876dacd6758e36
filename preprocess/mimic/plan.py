"""What `build_cohort` would read and write: for --dry-run, and to ask for the disk before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isal import isal_zlib

from omnifuse.preprocess.mimic import inputs
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.source import EVENT_TABLES, detect, require

HEAD = 1 << 20  # bytes at the head of a file from which its rows are estimated
# Measured on the MIMIC demos: a cohort with all four tasks takes 4 to 5 bytes an event row, the filtered events on the way 7.
COHORT_BYTES_A_ROW, SCRATCH_BYTES_A_ROW, AT_LEAST = 5, 7, 5_000_000


def plan(source: Path, options: Options) -> dict[str, Any]:
    """Tables with bytes and estimated rows, and the bytes of the cohort and of the work beside it.

    Raises:
        InputError: a table that the tasks need is missing.
    """
    found = detect(source)
    require(found, options.tasks)
    tables, events = [], 0
    for name in inputs.tables_read(found, options):
        rows = estimate_rows(found.files[name])
        events += (rows or 0) if name in EVENT_TABLES else 0
        tables.append({"name": found.name(name), "bytes": found.files[name].stat().st_size, "rows": rows})
    return {
        "source": f"{found.dataset} {found.version}",
        "tables": tables,
        "output_bytes": AT_LEAST + COHORT_BYTES_A_ROW * events,
        "work_bytes": SCRATCH_BYTES_A_ROW * events,
    }


def estimate_rows(path: Path) -> int | None:
    """Rows by the lines at the head of the file; None where it is no CSV. Exact for a file of at most HEAD bytes."""
    if path.suffix == ".parquet":
        import polars as pl

        return pl.scan_parquet(path).select(pl.len()).collect().item()
    with path.open("rb") as handle:
        head = handle.read(HEAD)
    packed = len(head)
    if path.suffix == ".gz":
        try:
            head = isal_zlib.decompressobj(wbits=31).decompress(head)
        except isal_zlib.error:
            return None
    lines = head.count(b"\n")
    return max(lines - 1, 0) if packed == path.stat().st_size else round(lines * path.stat().st_size / max(packed, 1)) - 1
