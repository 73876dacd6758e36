"""CT values: stored to Hounsfield units, and the windows that a radiologist looks through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnifuse.preprocess.schema import ConfigError, nearest

AIR = -1024.0
# (centre, width) in HU.
WINDOWS = {"lung": (-600.0, 1500.0), "mediastinum": (40.0, 400.0), "bone": (300.0, 1500.0)}


def to_hu(stored: np.ndarray, slope: float, intercept: float, padding: float | None, padding_limit: float | None = None) -> np.ndarray:
    """Stored values to HU in float32; what is padding, or below -1024 HU, becomes air, before anything is interpolated.

    Args:
        padding: PixelPaddingValue, a stored value; with `padding_limit` every stored value between the two.
    """
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if padding is not None:
        low, high = sorted((padding, padding if padding_limit is None else padding_limit))
        hu[(stored >= low) & (stored <= high)] = AIR
    return np.maximum(hu, np.float32(AIR), out=hu)


def window_limits(name: str) -> tuple[float, float]:
    """Lowest and highest HU of a window by name. Raises ConfigError where there is none."""
    if name not in WINDOWS:
        raise ConfigError(f"unknown CT window {name!r}", hint=nearest(name, WINDOWS))
    centre, width = WINDOWS[name]
    return centre - width / 2, centre + width / 2


def through_windows(hu: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[S, H, W] HU to [S, C, H, W] uint8, a channel a window; 0 and 255 are its ends."""
    return np.stack([to_bytes(hu, *window_limits(name)) for name in names], axis=1)


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clips to [low, high] and rounds to 0..255."""
    scaled = (np.clip(values, low, high) - np.float32(low)) * np.float32(255 / (high - low))
    return np.rint(scaled).astype(np.uint8)
