"""Millimetres of the patient and indices of a stack of slices.

A stack has a place for each slice (ImagePositionPatient, its first pixel's centre), and common directions and spacings. Places need not be
evenly apart, nor one above the other (gantry tilt): a point finds its height between two slices, then its row and column from the place
interpolated at that height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


def normal_of(axes: Sequence[float]) -> np.ndarray:
    """Unit normal [3] of ImageOrientationPatient: the direction of slices."""
    normal = np.cross(np.asarray(axes[:3], float), np.asarray(axes[3:], float))
    return normal / np.linalg.norm(normal)


def pixel_to_mm(origin: Sequence[float], axes: Sequence[float], spacing: Sequence[float], row: float, column: float) -> np.ndarray:
    """The point [3] of a pixel; the centre of the first is (0, 0). `spacing` as PixelSpacing: between rows, between columns."""
    along_row, along_column = np.asarray(axes[:3], float), np.asarray(axes[3:], float)
    return np.asarray(origin, float) + column * spacing[1] * along_row + row * spacing[0] * along_column


@dataclass(frozen=True)
class Stack:
    """Shapes: origins [N, 3] in order of height; axes [6]; spacing [2] mm between rows and between columns."""

    origins: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    rows: int
    columns: int

    @property
    def heights(self) -> np.ndarray:
        """[N] position of each slice along the normal."""
        return self.origins @ normal_of(self.axes)

    def middle(self) -> np.ndarray:
        """[3]: the centre of the stack."""
        ends = [pixel_to_mm(self.origins[k], self.axes, self.spacing, (self.rows - 1) / 2, (self.columns - 1) / 2) for k in (0, -1)]
        return np.mean(ends, axis=0)

    def holds(self, point: Sequence[float]) -> bool:
        """Whether a point lies inside, half a slice or pixel beyond the outermost centres included."""
        k, row, column = self.locate(np.asarray(point, float), np.inf)
        return -0.5 <= k <= len(self.origins) - 0.5 and -0.5 <= row <= self.rows - 0.5 and -0.5 <= column <= self.columns - 0.5

    def locate(self, points: np.ndarray, max_gap_mm: float) -> np.ndarray:
        """[..., 3] mm to [3, ...]: slice, row and column as fractions. In a gap wider than `max_gap_mm` the nearest slice is meant."""
        heights = self.heights
        k = _fractional(heights, points @ normal_of(self.axes))
        if len(heights) > 1:
            below = np.clip(np.floor(k).astype(int), 0, len(heights) - 2)
            wide = np.diff(heights)[below] > max_gap_mm
            k = np.where(wide, np.rint(k), k)
        places = np.stack([np.interp(k, np.arange(len(heights)), self.origins[:, axis]) for axis in range(3)], axis=-1)
        off = points - places
        return np.stack([k, off @ self.axes[3:] / self.spacing[0], off @ self.axes[:3] / self.spacing[1]])


def _fractional(heights: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The index of each height, linear between slices and, beyond the ends, by the spacing at that end."""
    if len(heights) == 1:
        return height - heights[0]
    k = np.interp(height, heights, np.arange(len(heights)))
    step = np.diff(heights)
    k = np.where(height < heights[0], (height - heights[0]) / step[0], k)
    return np.where(height > heights[-1], len(heights) - 1 + (height - heights[-1]) / step[-1], k)


def locate_box(
    stack: Stack, centre: Sequence[float], axes: np.ndarray, extent: Sequence[float], shape: Sequence[int], max_gap_mm: float = np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the centres of S x H x W cells, that fill a box of `extent` (depth, height, width) mm around `centre`, lie in a stack.

    Returns:
        slice, row and column, each of a shape that broadcasts to [S, H, W]. Where the box lies along the stack, which is nearly always, the
        slice depends on S alone, the row on S and H, the column on S and W.
    """
    steps = [(np.arange(n) + 0.5) / n * length - length / 2 for n, length in zip(shape, extent)]
    directions = normal_of(axes), axes[3:], axes[:3]
    depth, down, across = (step[:, None] * np.asarray(direction, float) for step, direction in zip(steps, directions))
    planes = np.asarray(centre, float) + depth[:, None, None]  # [S, 1, 1, 3]
    if not np.allclose(axes, stack.axes, atol=1e-6):
        return tuple(stack.locate(planes + down[None, :, None] + across[None, None, :], max_gap_mm))
    k, rows, _ = stack.locate(planes + down[None, :, None], max_gap_mm)
    return k[:, :1], rows, stack.locate(planes + across[None, None, :], max_gap_mm)[2]


def interpolate(slices: np.ndarray, places: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """[S, H, W]: linear values at the places of `locate_box` in a stack [N, rows, columns]; `fill` more than half a step outside."""
    ends = slices.shape
    outside = [(place < -0.5) | (place > end - 0.5) for place, end in zip(places, ends)]
    k, rows, columns = (np.clip(place, 0, end - 1) for place, end in zip(places, ends))
    if k.shape[1:] == (1, 1):
        values = np.stack([_resample(_between(slices, at[0, 0]), down[:, 0], across[0]) for at, down, across in zip(k, rows, columns)])
    else:
        values = ndimage.map_coordinates(slices, np.stack([k, rows, columns]), order=1, mode="nearest", output=np.float32)
    values[np.broadcast_to(outside[0] | outside[1] | outside[2], values.shape)] = fill
    return values


def _between(slices: np.ndarray, k: float) -> np.ndarray:
    """The plane at a fractional slice."""
    below = int(k)
    share = np.float32(k - below)
    return slices[below] if share == 0 else slices[below] * (1 - share) + slices[below + 1] * share


def _resample(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[H, W] at fractional rows [H] and columns [W]."""
    for places in (rows, columns):
        below = np.minimum(places.astype(int), len(plane) - 1)
        above = np.minimum(below + 1, len(plane) - 1)
        share = (places - below).astype(np.float32)[:, None]
        plane = (plane[below] * (1 - share) + plane[above] * share).T
    return plane


def smooth(image: np.ndarray, factor: float) -> np.ndarray:
    """An image that is to be shown `factor` times smaller, blurred so that detail finer than its new pixels does not alias."""
    return ndimage.gaussian_filter(image, (factor - 1) / 2, mode="nearest") if factor > 1 else image
