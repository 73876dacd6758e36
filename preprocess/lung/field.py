"""The lung field of a CT: the range of positions to take slices from where no lesion is placed ("paper mode").

Lung is air (-950 to -400 HU) that does not touch the border of the image; a slice belongs to the field where it holds at least a fifth of
what the fullest slice holds, in the longest such run. Only every tenth millimetre is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.lung.headers import Slice
from omnifuse.preprocess.lung.hu import to_hu
from omnifuse.preprocess.lung.series import Series

EVERY_MM = 10.0
COARSE_MM = 3.0
SHARE = 0.2
LEAST_MM2 = 5000.0  # a cross-section of both lungs has 20,000 to 40,000; a gas bubble of the bowel has less than this


def lung_range(root: Path, series: Series) -> tuple[float, float] | None:
    """Lowest and highest position of the lungs along the normal; None where no lung is found.

    Raises:
        Unreadable: a slice cannot be decoded.
    """
    heights = series.stack.heights
    picks = np.unique(np.searchsorted(heights, np.arange(heights[0], heights[-1] + EVERY_MM, EVERY_MM)).clip(0, len(heights) - 1))
    areas = np.array([lung_area(*_read(root, series.slices[pick])) for pick in picks])
    if areas.max() < LEAST_MM2:
        return None
    first, last = _longest_run(areas >= SHARE * areas.max())
    return float(heights[picks[first]]), float(heights[picks[last]])


def _read(root: Path, piece: Slice) -> tuple[np.ndarray, Sequence[float]]:
    stored = reading.read_pixels(inside(root, piece.name))
    every = max(1, round(COARSE_MM / max(piece.spacing)))
    hu = to_hu(stored, piece.slope, piece.intercept, piece.padding, piece.padding_limit)[::every, ::every]
    return hu, [length * every for length in piece.spacing]


def lung_area(hu: np.ndarray, spacing: Sequence[float]) -> float:
    """mm2 of lung in one slice [H, W] of HU."""
    labels, count = ndimage.label(hu < -400)
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inner = ~np.isin(labels, outside) & (hu > -950) & (labels > 0)
    return float(inner.sum() * spacing[0] * spacing[1]) if count else 0.0


def _longest_run(wanted: np.ndarray) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(int), [0]])))
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best]) - 1
