"""docs/results.md from what `omnifuse eval --ablate` and benchmarks/worlds.py wrote, as it is, below docs/results/head.md.

    python docs/make_results.py --part "Mortality, default world=study/reports/mimic/mortality/ablation/table4" ... --worlds worlds.md

A part is the folder of a grid; its figures are copied to docs/results. Nothing is typed in by hand but the head.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

HERE = Path(__file__).parent
PICTURES = HERE / "results"


def part(title: str, folder: Path) -> str:
    """The table of a grid below a heading, its figures copied and linked."""
    text = (folder / "table.md").read_text(encoding="utf-8")
    name = re.sub(r"\W+", "-", f"{title}-{folder.name}".lower()).strip("-")
    about, _, rest = text.partition("\n")
    for picture in ("table.png", "curves.png"):
        if (folder / picture).is_file():
            shutil.copyfile(folder / picture, PICTURES / f"{name}-{picture}")
    rest = rest.replace("](curves.png)", f"](results/{name}-curves.png)")
    figure = f"![Rows on all modalities](results/{name}-table.png)\n" if (folder / "table.png").is_file() else ""
    return f"## {title}: {about.removeprefix('## ')}\n{rest}\n{figure}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", default=[], metavar="TITLE=FOLDER", help="a grid; may be repeated")
    parser.add_argument("--worlds", type=Path, help="what `benchmarks/worlds.py tell` printed")
    asked = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    parts = [(PICTURES / "head.md").read_text(encoding="utf-8")]
    for told in asked.part:
        title, _, folder = told.partition("=")
        parts.append(part(title, Path(folder)))
    if asked.worlds:
        parts.append("## The 32 worlds\n\n" + asked.worlds.read_text(encoding="utf-8"))
    (HERE / "results.md").write_text("\n".join(text.rstrip() + "\n" for text in parts), encoding="utf-8")


if __name__ == "__main__":
    main()
