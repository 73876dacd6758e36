"""films.png: one body with one token changed at a time, and films as the clinic wrote them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.special import ndtr

from clinic_pictures.style import SOFT, bare, new_figure, save, styled
from omnifuse.preprocess.clinic.film import EXTENT_MIDDLE, EXTENT_SCALE, FilmTokens, draw_body, draw_film
from omnifuse.preprocess.clinic.film_files import study_id
from omnifuse.preprocess.clinic.keyed import stream

USUAL = FilmTokens(heart=0.0, texture=0.0, fluid=-1.0, noise=1.0, blurred=False, mark=False)
CHANGES = (
    ("The usual film", {}),
    ("Heart small", {"heart": -2.5}),
    ("Heart large", {"heart": 2.5}),
    ("Little texture", {"texture": -1.5}),
    ("Much texture", {"texture": 3.0}),
    ("Small effusion", {"fluid": 0.8}),
    ("Large effusion", {"fluid": 3.5}),
    ("Poor quality", {"noise": 2.2}),
    ("Corrupted: smeared", {"blurred": True}),
    ("Spurious mark", {"mark": True}),
)


SHOWN = ("heart", "texture", "fluid")


@dataclass(frozen=True)
class Film:
    title: str
    note: str
    pixels: np.ndarray  # [size, size] uint8


def extent(texture: float) -> float:
    """Share of the lungs that the texture fills."""
    return float(ndtr(EXTENT_SCALE * (texture - EXTENT_MIDDLE)))


def collect(raw: Path, truth: Path, seed: int = 0, size: int = 96, written: int = 5) -> tuple[list[Film], list[Film]]:
    """Films drawn for the page, and the first AP films of the archive, each of another patient."""
    return [_changed(title, change, seed, size) for title, change in CHANGES], _written(raw, truth, written)


def _changed(title: str, change: dict, seed: int, size: int) -> Film:
    tokens = dataclasses.replace(USUAL, **change)
    body = draw_body(stream(seed, 5, "film body"), generator := stream(seed, 5, "film of the page"))
    return Film(title, _note(tokens, change), draw_film(tokens, body, generator, size))


def _note(tokens: FilmTokens, change: dict) -> str:
    """Which token was set, and what it means."""
    if not change:
        return "heart 0, texture 0, fluid -1 (none)"
    if tokens.blurred:
        return "shows no token at all"
    if tokens.mark:
        return "without meaning here"
    name = next(iter(change))
    if name == "noise":
        return f"noise x {tokens.noise:.1f}: blur and grain"
    more = {"texture": f": {100 * extent(tokens.texture):.0f}% of the lungs"}
    return f"{name} {getattr(tokens, name):+.1f}{more.get(name, '')}"


def _written(raw: Path, truth: Path, count: int) -> list[Film]:
    exams, stays = (pl.read_parquet(truth / f"{name}.parquet") for name in ("exams", "stays"))
    patients = pl.read_parquet(truth / "patients.parquet").select("subject_id", "noise_cxr")
    metadata = pl.read_csv(raw / "cxr/mimic-cxr-2.0.0-metadata.csv.gz").filter(pl.col("ViewPosition") == "AP")
    numbered = stays.with_columns(stay_number=pl.int_range(pl.len()).over("patient"))  # a patient's first stay is number 0 of the files
    shown = (
        exams.filter(pl.col("archived") & ~pl.col("upright") & ~pl.col("before"))
        .join(numbered.select("stay_id", "subject_id", "patient", "stay_number"), on="stay_id", maintain_order="left")
        .join(patients, on="subject_id", maintain_order="left")
        .filter(pl.col("stay_number") == 0)
        .unique("subject_id", keep="first", maintain_order=True)
    )
    films = []
    for row in shown.iter_rows(named=True):
        study = study_id(row["patient"], 0, row["number"])
        found = metadata.filter((pl.col("study_id") == study) & (pl.col("subject_id") == row["subject_id"]))
        if len(found) and len(films) < count:
            films.append(_read(raw, row, study, found["dicom_id"][0]))
    return films


def _read(raw: Path, row: dict, study: int, dicom: str) -> Film:
    subject = row["subject_id"]
    with Image.open(raw / f"cxr/files/p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.jpg") as image:
        pixels = np.asarray(image)
    told = "smeared" if row["blurred"] else "  ".join(f"{name} {row[name]:+.1f}" for name in SHOWN)
    return Film(f"patient {row['patient']}: noise x {row['noise_cxr']:.1f}", told, pixels)


def draw(films: tuple[list[Film], list[Film]], path: Path) -> None:
    drawn, written = films
    with styled():
        figure = new_figure(10.2, 7.6)
        above, below = figure.subfigures(2, 1, height_ratios=(2, 1.02), hspace=0.02)
        above.suptitle("One patient's chest, one token changed at a time", x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        below.suptitle("As they lie in the archive, with the tokens that the truth tells of them", x=0.01, ha="left", fontweight="bold",
                       fontsize=10.5)  # fmt: skip
        for part, rows, chosen in ((above, 2, drawn), (below, 1, written)):
            for axes, film in zip(part.subplots(rows, 5, squeeze=False).flat, chosen):
                axes.imshow(film.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_title(film.title, pad=3)
                axes.set_xlabel(film.note, fontsize=7.8, color=SOFT, labelpad=3)
                bare(axes)
        save(figure, path, colours=64)
