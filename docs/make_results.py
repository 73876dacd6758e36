"""docs/results.md and the tables below docs/results, from what `omnifuse eval --ablate` and the benchmarks wrote, as it is.

    python docs/make_results.py --part "Mortality=study/reports/mimic/mortality-ablation/table4" ... --told "The 32 worlds=worlds.md"

A part is the folder of a grid. results.md is docs/results/head.md with the figure of each part and a link to its tables; nothing is typed
in by hand but the head.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

HERE = Path(__file__).parent
TABLES = HERE / "results"


def name_of(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def part(title: str, folder: Path) -> str:
    """Writes the tables of a grid and its figures; gives what results.md shows of it."""
    name = name_of(f"{title}-{folder.name}")
    about, _, rest = (folder / "table.md").read_text(encoding="utf-8").partition("\n")
    about = about.removeprefix("## ").strip()
    for picture in ("table.png", "curves.png"):
        if (folder / picture).is_file():
            shutil.copyfile(folder / picture, TABLES / f"{name}-{picture}")
    rest = rest.replace("](curves.png)", f"]({name}-curves.png)")
    (TABLES / f"{name}.md").write_text(f"# {title}: {about}\n{rest.rstrip()}\n", encoding="utf-8")
    shown = [f"![Rows on all modalities](results/{name}-table.png)"] if (folder / "table.png").is_file() else []
    shown += [f"![Test samples that lost a modality](results/{name}-curves.png)"] if (folder / "curves.png").is_file() else []
    return "\n\n".join([f"### {title}", f"{about} [All its tables](results/{name}.md)", *shown])


def told(title: str, file: Path) -> str:
    """Writes what a benchmark printed; gives a link to it, with its figures."""
    name, text = name_of(title), file.read_text(encoding="utf-8")
    (TABLES / f"{name}.md").write_text(f"# {title}\n\n{text.replace('](results/', '](').rstrip()}\n", encoding="utf-8")
    return "\n\n".join([f"### {title}", f"[Its tables](results/{name}.md)", *re.findall(r"!\[.*?\]\(results/.*?\)", text)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", default=[], metavar="TITLE=FOLDER", help="a grid; may be repeated")
    parser.add_argument("--told", action="append", default=[], metavar="TITLE=FILE", help="what a benchmark printed; may be repeated")
    asked = parser.parse_args()
    for old in TABLES.glob("*.md"):
        if old.name != "head.md":
            old.unlink()
    shown = [(TABLES / "head.md").read_text(encoding="utf-8").rstrip(), "## Tables and figures"]
    for write, pairs in ((part, asked.part), (told, asked.told)):
        for pair in pairs:
            title, _, place = pair.partition("=")
            shown.append(write(title, Path(place)))
    (HERE / "results.md").write_text("\n\n".join(shown) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
