"""CT and PET series of the subtyping clinic as arrays in HU and SUV, by the readers that preprocessing uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.lung import hu
from omnifuse.preprocess.lung.series import Series, list_files, scan
from omnifuse.preprocess.lung.suv import compute_suv


@dataclass(frozen=True)
class Volume:
    """`values` [slices, rows, columns] in HU or SUV; `heights` [slices], `rows` and `columns` in mm of the frame of reference."""

    values: np.ndarray
    heights: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def nearest(self, x: float, y: float, z: float) -> tuple[int, int, int]:
        """Slice, row and column next to a place in mm."""
        return tuple(int(np.abs(axis - place).argmin()) for axis, place in ((self.heights, z), (self.rows, y), (self.columns, x)))


def read_volume(root: Path, folder: str) -> Volume:
    """The one series of a folder, axial and upright as the clinic writes it."""
    (series,) = scan(root, list_files(root, folder)).series
    stored = np.stack([reading.read_pixels(root / piece.name) for piece in series.slices])
    values = _suv(stored, series) if series.first.pet else hu.to_hu(stored, series.first.slope, series.first.intercept, None)
    x, y, _ = series.first.position
    (down, across), (_, height, width) = series.first.spacing, values.shape
    heights = np.array([piece.position[2] for piece in series.slices])
    return Volume(values, heights, y + down * np.arange(height), x + across * np.arange(width))


def _suv(stored: np.ndarray, series: Series) -> np.ndarray:
    factors = compute_suv([piece.pet for piece in series.slices]).factors
    rescaled = [plane * piece.slope + piece.intercept for plane, piece in zip(stored.astype(np.float64), series.slices)]
    return np.stack([plane * factor for plane, factor in zip(rescaled, factors)])
