"""CT and PET of the clinic beside one real patient each: CT of LIDC-IDRI-0314 (Philips, ten slices), PET of STS-001 (GE, 59 slices).

One patient says little of patients. Real slices are averaged to the clinic's voxels in the plane (2.5 mm, 5 mm), which lowers their noise.
Both are read and turned into HU and SUV by the readers of preprocessing. Source: TCIA, CC BY 3.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from clinic_realism_apart import Apart, compare, told_apart
from scipy.ndimage import gaussian_filter, label, zoom

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.lung import hu
from omnifuse.preprocess.lung.series import list_files, scan
from omnifuse.preprocess.lung.suv import compute_suv

CT_MM, PET_MM = 2.5, 5.0
LUNG, SOFT, AIR = (-1000, -500), (-150, 150), -900  # HU
PATCH, PATIENTS = 12, 60  # voxels; patients of the clinic that are read
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CT_NAMES = [*(f"lung, HU, {100 * q:.0f}% of the voxels" for q in QUANTILES), *(f"soft tissue, HU, {100 * q:.0f}%" for q in QUANTILES)]
CT_NAMES += ["grain in lung, HU (sd)", "grain in soft tissue, HU (sd)", "air around the body, % of the slice", "grain in that air, HU (sd)"]
PET_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
PET_NAMES = [f"SUV of the body, {100 * q:g}% of the voxels" for q in PET_QUANTILES] + ["largest SUV of the slice"]


def read_planes(root: Path, folder: str, millimetres: float) -> list[np.ndarray]:
    """Slices of the series of a folder in HU or SUV, at that size of voxel in the plane."""
    planes = []
    for series in scan(root, list_files(root, folder)).series:
        stored = [reading.read_pixels(root / piece.name).astype(np.float64) for piece in series.slices]
        if series.first.pet:
            factors = compute_suv([piece.pet for piece in series.slices]).factors
            found = [(plane * p.slope + p.intercept) * factor for plane, p, factor in zip(stored, series.slices, factors)]
        else:
            found = [hu.to_hu(plane, p.slope, p.intercept, p.padding, p.padding_limit) for plane, p in zip(stored, series.slices)]
        planes += [shrink(plane, series.first.spacing[0], millimetres) for plane in found]
    return planes


def shrink(plane: np.ndarray, spacing: float, millimetres: float) -> np.ndarray:
    """Averages over the coarser voxel, then samples; finer planes than that are not made of coarser ones."""
    if spacing >= 0.9 * millimetres:
        return plane
    width = millimetres / spacing
    return zoom(gaussian_filter(plane, 0.29 * width), 1 / width, order=1)  # 0.29: the sd of a box of that width


def outside(plane: np.ndarray) -> np.ndarray:
    """Air that touches the border of the slice."""
    parts, _ = label(plane < AIR + 200)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, edge[edge > 0])


def grain(plane: np.ndarray, where: np.ndarray) -> float:
    """Robust sd of the difference to the left neighbour over sqrt 2, where both lie inside."""
    both = where[:, 1:] & where[:, :-1]
    return float(1.4826 * np.median(np.abs(np.diff(plane, axis=1)[both])) / np.sqrt(2)) if both.sum() > 50 else np.nan


def ct_statistics(plane: np.ndarray) -> np.ndarray:
    around = outside(plane)
    lung = (plane > LUNG[0]) & (plane < LUNG[1]) & ~around
    soft = (plane > SOFT[0]) & (plane < SOFT[1])
    quantiles = [np.quantile(plane[where], QUANTILES) if where.sum() > 50 else np.full(5, np.nan) for where in (lung, soft)]
    return np.array([*quantiles[0], *quantiles[1], grain(plane, lung), grain(plane, soft), 100 * around.mean(), grain(plane, around)])


def patches(plane: np.ndarray) -> np.ndarray:
    """[N, 8] statistics of squares that are lung for the most part: these ask about texture, not about the shape of a chest."""
    lung, rows = (plane > LUNG[0]) & (plane < LUNG[1]) & ~outside(plane), []
    for i in range(0, plane.shape[0] - PATCH + 1, PATCH):
        for j in range(0, plane.shape[1] - PATCH + 1, PATCH):
            square, inside = plane[i : i + PATCH, j : j + PATCH], lung[i : i + PATCH, j : j + PATCH]
            if inside.mean() > 0.8:
                rows.append([*np.quantile(square, QUANTILES), square.std(), grain(square, inside), (square > SOFT[0]).mean()])
    return np.array(rows).reshape(-1, 8)


def pet_statistics(plane: np.ndarray) -> np.ndarray:
    body = plane[plane > 0.1]
    return np.array([*np.quantile(body, PET_QUANTILES), plane.max()]) if len(body) > 50 else np.full(len(PET_NAMES), np.nan)


def _of_the_clinic(lung: Path, column: str, millimetres: float) -> list[list[np.ndarray]]:
    """Planes of the first patients that have the series."""
    folders = pl.read_csv(lung / "manifest.csv")[column].drop_nulls().head(PATIENTS)
    return [read_planes(lung, folder, millimetres) for folder in folders]


def _lung_apart(real: list[np.ndarray], made: list[list[np.ndarray]]) -> Apart:
    """Squares of lung; a real slice (they lie 16 mm and more apart) counts as an item, as does a clinic's patient."""
    ours, theirs = [patches(plane) for plane in real], [np.vstack([patches(plane) for plane in planes[::6]]) for planes in made]
    groups = [np.repeat(np.arange(len(part)), [len(one) for one in part]) for part in (ours, theirs)]
    return told_apart(np.vstack(ours), np.vstack(theirs), *groups)


def report(lung: Path, data: Path) -> list[str]:
    real_ct, made_ct = read_planes(data / "ct_lidc0314", ".", CT_MM), _of_the_clinic(lung, "ct_series", CT_MM)
    real_pet, made_pet = read_planes(data / "petct_sts001", "pet", PET_MM), _of_the_clinic(lung, "pet_series", PET_MM)
    tables = []
    for names, statistics, real, made in ((CT_NAMES, ct_statistics, real_ct, made_ct), (PET_NAMES, pet_statistics, real_pet, made_pet)):
        form = ".0f" if names is CT_NAMES else ".2f"
        rows = [np.array([statistics(plane) for plane in planes]) for planes in (real, [p for one in made for p in one])]
        tables.append(compare(names, *rows, [form] * len(names)))
    counts = f"{len(real_ct)} real slices, {sum(map(len, made_ct)):,} of {len(made_ct)} patients of the clinic"
    pets = f"{len(real_pet)} real slices, {sum(map(len, made_pet)):,} of {len(made_pet)} patients of the clinic"
    apart = f"Squares of {PATCH * CT_MM:.0f} mm of lung are told apart with AUROC {_lung_apart(real_ct, made_ct)}."
    return [f"CT at {CT_MM} mm: {counts}.", "", *tables[0], "", apart, "", f"PET at {PET_MM:.0f} mm: {pets}.", "", *tables[1]]
