"""Real chest films with a planted finding, in the layout of MIMIC-CXR-JPG 2.0.0.

    background   one of the real AP films, turned by up to 5 degrees and cut by up to a tenth: several stays share a film
    z_both       a soft disc in the right lower lung: brighter than the lung by dose x the film's sd x z_both (darker below 0)
    z_film       fine texture of zero mean in both upper lungs: its sd is dose x 0.6 x the film's sd x P(Z < z_film)

Which film, how it is turned and where the disc lies are drawn apart from the outcome, and are the same at every dose. A study has one
film, some time in the first 47 hours of the stay. CheXpert's labels are left empty: nobody has read these films.
"""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from planted import HOURS, SUBJECT
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from omnifuse.preprocess.clinic.film_files import LABELS
from omnifuse.preprocess.clinic.keyed import stream

SIDE, QUALITY = 256, 95
DISC, TEXTURE = 1.0, 0.6  # of the film's sd, a unit of dose
RADIUS, EDGE = 0.12, 0.02  # of the disc, as shares of the side
STUDY = 50_000_000
PLACE = np.arange(SIDE) / SIDE
BASE = ((0.56, 0.66), (0.25, 0.33))  # where its centre lies, down and across: the patient's right lower lung
UPPER, LUNGS = (0.18, 0.46), ((0.16, 0.42), (0.58, 0.84))  # of the texture, down and across, from and to


def read_backgrounds(folder: Path) -> list[np.ndarray]:
    """The AP films, grey levels [H, W] uint8, in the order of their names."""
    told = pl.read_csv(folder / "films.csv").filter(pl.col("projection") == "ap").sort("image_id")
    return [np.asarray(Image.open(folder / f"{name}.jpg").convert("L")) for name in told["image_id"]]


def background(films: list[np.ndarray], seed: int, patient: int) -> np.ndarray:
    """[SIDE, SIDE] float, grey levels: the film of a planted patient before anything is planted."""
    draw = stream(seed, patient, "planted background")
    film = Image.fromarray(films[draw.integers(len(films))])
    turned = film.rotate(draw.uniform(-5, 5), Image.Resampling.BILINEAR)
    wide, high = turned.size
    left, top, right, bottom = draw.uniform(0.02, 0.06, 4) * (wide, high, wide, high)
    box = (left, top, wide - right, high - bottom)
    return np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box), float)


def finding(film: np.ndarray, dose: float, z_film: float, z_both: float, seed: int, patient: int) -> np.ndarray:
    """[SIDE, SIDE] grey levels to add; proportional to dose."""
    draw = stream(seed, patient, "planted finding")
    down, across = draw.uniform(*BASE[0]), draw.uniform(*BASE[1])
    away = np.hypot(PLACE[:, None] - down, PLACE - across)
    disc = 1 / (1 + np.exp((away - RADIUS) / EDGE))
    noise = draw.standard_normal((SIDE, SIDE), np.float32)
    fine = gaussian_filter(noise, 2.0) - gaussian_filter(noise, 5.0)
    upper = np.outer(_between(*UPPER), sum(_between(*lung) for lung in LUNGS))
    return dose * film.std() * (DISC * z_both * disc + TEXTURE * ndtr(z_film) * upper * fine / fine.std())


def _between(start: float, end: float) -> np.ndarray:
    """[SIDE] 1 between the two, 0 outside, with soft borders."""
    return ndtr((PLACE - start) / 0.02) * ndtr((end - PLACE) / 0.02)


def write_films(root: Path, films: list[np.ndarray], truth: pl.DataFrame, dose: float, seed: int) -> None:
    """The archive of the planted patients that have a film.

    Args:
        truth: of planted.draw_truth, with intime (text).
    """
    shown = truth.filter("has_film")
    rows = []
    for subject, intime, z_film, z_both in shown.select("subject_id", "intime", "z_film", "z_both").iter_rows():
        patient = subject - SUBJECT
        draw = stream(seed, patient, "planted study")
        time = datetime.fromisoformat(intime) + timedelta(hours=draw.uniform(0.5, HOURS - 1))
        dicom = "-".join(f"{part:08x}" for part in draw.integers(0, 2**32, 5))
        film = background(films, seed, patient)
        pixels = np.clip(np.round(film + finding(film, dose, z_film, z_both, seed, patient)), 0, 255).astype(np.uint8)
        path = root / f"files/p{str(subject)[:2]}/p{subject}/s{STUDY + patient}/{dicom}.jpg"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path, format="JPEG", quality=QUALITY)
        clock = str(float(time.strftime("%H%M%S")))  # as published: a number
        rows.append((dicom, subject, STUDY + patient, "CHEST (PORTABLE AP)", "AP", SIDE, SIDE, time.strftime("%Y%m%d"), clock))
    root.mkdir(parents=True, exist_ok=True)
    names = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate")
    table = pl.DataFrame(rows, schema=[*names, "StudyTime"], orient="row")
    _write(root, "metadata", table)
    _write(root, "split", table.select("dicom_id", "study_id", "subject_id", split=pl.lit("train")))
    _write(root, "chexpert", table.select("subject_id", "study_id", *(pl.lit(None, pl.String).alias(name) for name in LABELS)))


def _write(root: Path, name: str, table: pl.DataFrame) -> None:
    path = root / f"mimic-cxr-2.0.0-{name}.csv.gz"
    path.write_bytes(gzip.compress(table.write_csv().encode(), 1, mtime=0))
