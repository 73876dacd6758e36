"""Speed and memory of `omnifuse preprocess mimic` against a bare polars scan of the same columns, interleaved.

    python benchmarks/tile.py DEMO tiles/10x --times 10 && python benchmarks/tile.py DEMO tiles/40x --times 40
    python benchmarks/preprocess.py tiles/10x tiles/40x

P1  wall of preprocess / wall of the scan of CHARTEVENTS and LABEVENTS
P2  growth of the peak memory from the small to the large tile / the same of the scan
P3  wall of an unchanged rerun (every hash verified) / wall of the first run
CPU per row against mimic3-benchmarks: 42 CPU s for 834,430 rows of the MIMIC-III demo (extract, validate, episodes, split, three tasks,
pandas 1.5.3), measured once on the same kind of machine; its Python loops scale with the rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measure import load, median, ratios, run

PEER_SECONDS_PER_ROW = 42 / 834_430
MIMIC_IV_CHART_ROWS = 432_997_491
COLUMNS = {
    "CHARTEVENTS": ["subject_id", "hadm_id", "icustay_id", "itemid", "charttime", "storetime", "value", "valuenum", "valueuom", "error"],
    "LABEVENTS": ["subject_id", "hadm_id", "itemid", "charttime", "value", "valuenum", "valueuom"],
}
SCAN = """
import sys, json, polars as pl
rows = 0
def count(frame):
    global rows
    rows += frame.height
for path, columns in json.loads(sys.argv[1]):
    lazy = pl.scan_csv(path, infer_schema_length=0).select(columns)
    numbers = [name for name in columns if name in ("subject_id", "hadm_id", "icustay_id", "itemid")]
    lazy.with_columns(pl.col(numbers).cast(pl.Int64)).sink_batches(count)
print(rows)
"""


def scan(tile: Path):
    tables = [(str(next(tile.glob(f"{name}.csv*"))), columns) for name, columns in COLUMNS.items()]
    return run([sys.executable, "-c", SCAN, json.dumps(tables)])


def preprocess(tile: Path, out: Path, compat: str):
    return run(
        [sys.executable, "-m", "omnifuse", "preprocess", "mimic", "--ehr", str(tile), "--out", str(out), "--compat", compat, "--json"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path)
    parser.add_argument("large", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compat", default="none")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=given.large.parent))
    costs = {}
    try:
        for tile in (given.small, given.large):
            scans, firsts, reruns = [], [], []
            for _ in range(given.runs):
                out = place / "cohort"
                shutil.rmtree(out, ignore_errors=True)
                scans.append(scan(tile))
                firsts.append(preprocess(tile, out, given.compat))
                reruns.append(preprocess(tile, out, given.compat))
            costs[tile] = scans, firsts, reruns
            show(tile, scans, firsts, reruns)
    finally:
        shutil.rmtree(place)
    (small_scan, small, _), (large_scan, large, _) = costs[given.small], costs[given.large]
    growth = median(large, "peak_mb") / median(small, "peak_mb")
    bare = median(large_scan, "peak_mb") / median(small_scan, "peak_mb")
    print(f"P2  peak memory grows {growth:.2f}x, the scan's {bare:.2f}x: ratio {growth / bare:.2f}")
    rows = int(large_scan[0].output)
    seconds = median(large, "wall") / rows * MIMIC_IV_CHART_ROWS
    print(f"extrapolated to MIMIC-IV 3.1 ({MIMIC_IV_CHART_ROWS:,} chart rows): {seconds / 60:.1f} minutes on this machine")


def show(tile: Path, scans, firsts, reruns) -> None:
    rows = int(scans[0].output)
    cpu = median(firsts, "cpu")
    print(f"{tile.name}: {rows:,} rows; {load()}")
    for name, costs in (("scan", scans), ("preprocess", firsts), ("unchanged rerun", reruns)):
        print(
            f"  {name:<16} wall {median(costs, 'wall'):6.2f} s  cpu {median(costs, 'cpu'):6.2f} s  peak {median(costs, 'peak_mb'):5.0f} MB"
        )
    low, middle, high = ratios(firsts, scans)
    print(f"  P1  {middle:.2f} ({low:.2f} to {high:.2f})")
    print(f"  P3  {ratios(reruns, firsts)[1]:.3f}")
    print(f"  CPU {cpu / rows * 1e6:.2f} us a row: 1/{PEER_SECONDS_PER_ROW * rows / cpu:.0f} of mimic3-benchmarks'")


if __name__ == "__main__":
    main()
