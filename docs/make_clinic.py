"""Draws the pictures of docs/clinic.md from a freshly made clinic, and writes the page's block of texts.

    python docs/make_clinic.py [--out docs/clinic] [--only worlds ...] [--patients 2000] [--lesions 200] [--work DIR]

Both settings are made with seed 0 in a folder that is thrown away (with --work in one that is kept, and used again). The same patients
give the same numbers and arrays; the bytes of a PNG also depend on matplotlib. With fewer patients the pictures are rougher.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from clinic_pictures import films, information, missingness, series, slices, texts, worlds

from omnifuse.preprocess.clinic.generate import generate
from omnifuse.preprocess.clinic.lung import generate_lung

HERE = Path(__file__).parent
SEED, PATIENTS, LESIONS = 0, 2000, 200
ICU = {"films": films, "series": series, "missingness": missingness, "information": information}
LUNG = {"slices": slices, "texts": texts}
NAMES = (*ICU, *LUNG, "worlds")
BEGIN, END = "<!-- texts: written by docs/make_clinic.py -->", "<!-- end of texts -->"


def collect(work: Path, patients: int, lesions: int, only: tuple[str, ...] = NAMES) -> dict[str, object]:
    """What each picture shows, by its name; a clinic is made where one of its pictures is wanted."""
    shown: dict[str, object] = {}
    for modules, name, make, count in ((ICU, "raw", generate, patients), (LUNG, "raw-lung", generate_lung, lesions)):
        wanted = {picture: module for picture, module in modules.items() if picture in only}
        if wanted:
            made = make(work / name, patients=count, seed=SEED)
            shown |= {picture: module.collect(Path(made["raw"]), Path(made["truth"])) for picture, module in wanted.items()}
    return shown | ({"worlds": worlds.collect()} if "worlds" in only else {})


def draw(shown: dict[str, object], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, module in {**ICU, "slices": slices, "worlds": worlds}.items():
        if name in shown:
            module.draw(shown[name], out / f"{name}.png")


def with_texts(page: str, block: str) -> str:
    """The page with its block of texts replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{block}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "clinic", help="folder of the pictures")
    parser.add_argument("--page", type=Path, default=HERE / "clinic.md", help="the page whose block of texts is replaced")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--lesions", type=int, default=LESIONS)
    parser.add_argument("--work", type=Path, help="where the clinics are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shown = collect(options.work or Path(scratch), options.patients, options.lesions, tuple(options.only))
        draw(shown, options.out)
    page = options.page.read_text(encoding="utf-8")
    if BEGIN in page and "texts" in shown:
        options.page.write_text(with_texts(page, texts.as_markdown(shown["texts"])), encoding="utf-8")


if __name__ == "__main__":
    main()
