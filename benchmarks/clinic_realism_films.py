"""Films of the clinic beside 41 real ones of 14 patients (Hannover Medical School, CC BY 3.0), decoded and downscaled by the same code."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from clinic_realism_apart import compare, told_apart
from scipy.ndimage import gaussian_filter

from omnifuse.preprocess import image

SIZE = 96
SETTINGS = {**image.DEFAULTS, "size": SIZE, "draft": False}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CYCLES = (2, 4, 8, 16, 32, 45)  # edges of the bands of the spectrum, in cycles a film
NAMES = [f"grey level, {100 * q:.0f}% of the pixels" for q in QUANTILES]
NAMES += ["sd of the grey levels", "slope of the spectrum's power, 2 to 45 cycles a film (log-log)"]
NAMES += [f"log10 power, {low} to {high} cycles" for low, high in pairwise(CYCLES)]
NAMES += ["correlation with its mirror image", "sd of the finest grain, grey levels"]
FORMS = [".0f"] * 6 + [".2f"] * (len(NAMES) - 6)


def statistics(grey: np.ndarray) -> np.ndarray:
    """In the order of NAMES; `grey` [SIZE, SIZE] in 0..255."""
    grey = grey.astype(float)
    frequency, power = radial_power(grey)
    kept = (frequency >= CYCLES[0]) & (frequency <= CYCLES[-1])
    slope = np.polyfit(np.log(frequency[kept]), np.log(power[kept]), 1)[0]
    bands = [np.log10(power[(frequency >= low) & (frequency < high)].mean()) for low, high in pairwise(CYCLES)]
    mirror = np.corrcoef(grey.ravel(), grey[:, ::-1].ravel())[0, 1]
    return np.array([*np.quantile(grey, QUANTILES), grey.std(), slope, *bands, mirror, (grey - gaussian_filter(grey, 0.7)).std()])


def radial_power(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cycles a film, and the mean power at that distance, of the film in units of its own spread under a Hann window."""
    window = np.hanning(len(grey))
    centred = (grey - grey.mean()) / max(grey.std(), 1e-9) * np.outer(window, window)
    power = np.abs(np.fft.fft2(centred)) ** 2 / grey.size
    cycles = np.fft.fftfreq(len(grey)) * len(grey)
    distance = np.rint(np.hypot(cycles[:, None], cycles[None])).astype(int)
    mean = np.bincount(distance.ravel(), power.ravel()) / np.bincount(distance.ravel())
    upto = len(grey) // 2
    return np.arange(1, upto), mean[1:upto]


def read_film(folder: Path, name: str) -> np.ndarray:
    return image.decode(folder, {"path": name}, SETTINGS)[0, 0]


def real_films(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """[N, F] statistics and the patients."""
    listed = pl.read_csv(data / "cxr_hannover/films.csv").filter(pl.col("projection").is_in(["ap", "pa"]))
    rows = [statistics(read_film(data / "cxr_hannover", f"{name}.jpg")) for name in listed["image_id"]]
    return np.array(rows), listed["patient_id"].to_numpy()


def made_films(raw: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first frontal film of that many patients, so that the two have a like number of films."""
    listed = pl.read_csv(raw / "cxr/mimic-cxr-2.0.0-metadata.csv.gz").filter(pl.col("ViewPosition") != "LATERAL")
    listed = listed.unique("subject_id", keep="first", maintain_order=True).head(count)
    rows = []
    for subject, study, dicom in listed.select("subject_id", "study_id", "dicom_id").iter_rows():
        rows.append(statistics(read_film(raw / "cxr/files", f"p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.jpg")))
    return np.array(rows), listed["subject_id"].to_numpy()


def report(raw: Path, data: Path) -> list[str]:
    """Median of films and the middle 90% of them; and how well the two are told apart by these statistics."""
    (real, patients), (made, subjects) = real_films(data), made_films(raw, 41)
    apart = told_apart(real, made, patients, subjects)
    counts = f"{len(real)} real ones of {len(np.unique(patients))} patients, {len(made)} of as many patients of the clinic"
    head = f"Frontal films at {SIZE} x {SIZE}: {counts}."
    return [head, "", *compare(NAMES, real, made, FORMS), "", f"Films of the two are told apart with AUROC {apart}."]
