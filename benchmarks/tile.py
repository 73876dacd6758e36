"""Tiles a MIMIC demo: every table that names patients N times over, with the ids of each copy shifted.

    python benchmarks/tile.py DEMO OUT --times 40

The benchmarks need millions of rows whose text, gaps and order are real; the full releases may not be passed on, the demos may
(ODbL 1.0). Works for MIMIC-III and MIMIC-IV in any of their layouts. Copy 0 is the demo itself. Tables without a patient (the d_ ones)
are copied once. Times, values and the order of rows stay as they are, so that a tile holds N x the demo's stays, samples and labels;
its gzip is level 1, the demo's is higher, so that a tile inflates a little faster for each byte and has more of them.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

import polars as pl

# Ids of one release share one range (III: below 300,000; IV: below 40,000,000; its event ids are apart), so one step serves all of them.
LINKS = ("subject_id", "hadm_id", "icustay_id", "stay_id", "transfer_id")
SERIALS = ("row_id", "labevent_id", "specimen_id")
STEP_III, STEP_IV, STEP_SERIAL = 10**6, 10**8, 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a MIMIC-III or MIMIC-IV demo")
    parser.add_argument("out", type=Path, help="folder to write, must not exist")
    parser.add_argument("--times", type=int, default=10, metavar="N", help="copies of every patient (default 10)")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    tables = sorted(path for path in options.demo.rglob("*") if path.name.lower().endswith((".csv", ".csv.gz")))
    if not tables:
        parser.error(f"{options.demo} holds no .csv or .csv.gz")
    step = STEP_III if any(path.name.lower().startswith("icustays") and "icustay_id" in header(path) for path in tables) else STEP_IV
    for path in tables:
        target = options.out / path.relative_to(options.demo)
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = tile(path, target, options.times, step)
        print(f"{target.relative_to(options.out)}  {rows:,} rows  {target.stat().st_size / 1e6:.1f} MB", flush=True)


def header(path: Path) -> list[str]:
    """The column names in lower case: the demos and the releases differ in case."""
    return [name.lower() for name in pl.read_csv(path, n_rows=0, infer_schema=False).columns]


def tile(source: Path, target: Path, times: int, step: int) -> int:
    """Writes one table and returns its number of rows. Every field stays the text it was, but for the ids."""
    if "subject_id" not in header(source):
        shutil.copyfile(source, target)
        return pl.scan_csv(source, infer_schema=False).select(pl.len()).collect().item()
    table = pl.read_csv(source, infer_schema=False)
    opener = gzip.open if target.name.lower().endswith(".gz") else open
    with opener(target, "wb", **({"compresslevel": 1} if opener is gzip.open else {})) as out:
        for copy in range(times):
            shifted = table.with_columns(
                shift(pl.col(name), copy * (step if name.lower() in LINKS else STEP_SERIAL))
                for name in table.columns
                if name.lower() in LINKS + SERIALS
            )
            out.write(shifted.write_csv(include_header=copy == 0).encode())
    return table.height * times


def shift(column: pl.Expr, by: int) -> pl.Expr:
    """Text of a whole number, moved by `by`; an empty id stays empty."""
    return (column.cast(pl.Int64) + by).cast(pl.String)


if __name__ == "__main__":
    main()
