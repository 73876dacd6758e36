"""Whether fusion loses to its best single modality at any size: the default world with more and more patients.

    python benchmarks/sizes.py --out DIR --patients 500 2000 8000
    python benchmarks/sizes.py --out DIR --setting subtyping --patients 150 500 1500

Each size is the same clinic with more patients, and goes through the public commands as a world of benchmarks/worlds.py does. Prints a
Markdown table: every modality alone beside its ceiling, every fusion beside the best single modality. What is finished stays: the same
command goes on; --tell prints what there is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import worlds

GRID = Path(__file__).with_suffix(".yaml")
SEED = 0


def between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"


def of_cells(results: dict[str, Any]) -> list[str]:
    """AUROC of every cell beside its ceiling on the same test samples."""
    told = []
    for cell in results["cells"]:
        name = cell["column"] if cell["row"] == "single" else results["rows"][cell["row"]]
        ceiling = cell.get("ceiling")
        room = "| - | - |" if ceiling is None else f"| {ceiling:.3f} | {ceiling - cell['auroc']:+.3f} |"
        told.append(f"| {name} | {cell['samples']} | {cell['auroc']:.3f} ({cell['low']:.3f} to {cell['high']:.3f}) {room}")
    return told


def of_questions(results: dict[str, Any]) -> list[str]:
    """Differences with corrected intervals."""
    told = []
    for answer in results["questions"]:
        against = f"best single ({answer['b']})" if answer["question"] == "against the best single modality" else answer["b"]
        p = "-" if answer["p"] is None else f"{answer['p']:.3f}"
        shown = f"{answer['difference']:+.3f}{between(answer['low'], answer['high'])}"
        told.append(f"| {answer['a']} - {against} | {shown} | {p} | {answer['verdict']} |")
    return told


def tell(out: Path, setting: str, sizes: list[int], tune: bool) -> None:
    for size in sizes:
        path = worlds.results_of(out / setting / str(size), setting, GRID.stem, tune)
        if not path.is_file():
            continue
        results = json.loads(path.read_text(encoding="utf-8"))
        print(f"### {setting}: {size} patients, {results['task']['samples']} samples, five folds\n")
        print("| method | tested | AUROC | ceiling | below it |\n|---|---|---|---|---|", *of_cells(results), sep="\n")
        print("\n| question | difference | corrected p | verdict |\n|---|---|---|---|", *of_questions(results), sep="\n")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or that of the same call before")
    parser.add_argument("--setting", choices=worlds.SETTINGS, default="mortality")
    parser.add_argument("--patients", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--keep", action="store_true", help="keep raw files, cohorts and runs")
    parser.add_argument("--tune", action="store_true", help="rates chosen on val, as benchmarks/worlds.py does")
    parser.add_argument("--tell", action="store_true", help="only print what is finished")
    asked = parser.parse_args()
    out = asked.out.absolute()
    for size in [] if asked.tell else asked.patients:
        folder = out / asked.setting / str(size)
        if not worlds.results_of(folder, asked.setting, GRID.stem, asked.tune).is_file():
            seconds = worlds.chain(folder, "default", SEED, asked.setting, size, 1, str(GRID), asked.tune, asked.keep)
            print(f"{asked.setting}, {size} patients: {seconds:.0f} s", file=sys.stderr, flush=True)
    tell(out, asked.setting, asked.patients, asked.tune)


if __name__ == "__main__":
    main()
