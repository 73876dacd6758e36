"""Items of CT and PET to slices: the decoder of preprocess/items.py.

An item holds a stack (files in order of position, their places, directions and spacings), the factors from stored values to HU or SUV of
each slice, and a box in millimetres of the patient: around the lesion (`crop_mm` a side, along the CT's directions), or around the lung
field. `slices` planes of size x size are taken from the box by position, linear between pixels and slices; so a thin and a thick series
give comparable planes. A PET is sampled at the CT's points, which is only done where both are in one frame of reference.

- CT: padding and everything below -1024 HU become air before anything is interpolated; a channel each for `windows`, 8 bits.
- PET: SUV is interpolated, not stored values; clipped to 0..suv_max and nothing else, so that patients stay comparable. One channel of
  8 bits: steps of 0.04 SUV at suv_max 10, whose error (0.011 SUV rms) is far below the noise of a voxel, at half of float16's memory.
- Where a plane has larger pixels than its source, the source is blurred first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.lung import hu
from omnifuse.preprocess.lung.geometry import Stack, interpolate, locate_box, smooth
from omnifuse.preprocess.schema import ConfigError, Unreadable

CT, PET = "ct", "pet"
DEFAULTS: dict[str, Any] = {
    "kind": CT,
    "slices": 24,
    "size": 224,
    "crop_mm": 64.0,
    "windows": ["lung", "mediastinum", "bone"],
    "suv_max": 10.0,
    "max_gap_mm": 10.0,
}
# The columns of an item; origins, slopes and intercepts have one entry (or three) a slice. `extent` null: crop_mm of the settings.
COLUMNS = (
    "names", "origins", "slopes", "intercepts", "padding", "padding_limit", "axes", "spacing", "rows", "columns", "centre", "grid",
    "extent",
)  # fmt: skip


def shape(settings: dict[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) of one slice.

    Raises:
        ConfigError: a setting that makes no slices.
    """
    if settings["kind"] not in (CT, PET):
        raise ConfigError("kind of a volume must be ct or pet")
    for name, low, high in (("slices", 1, 512), ("size", 16, 1024), ("crop_mm", 5, 500), ("suv_max", 0.1, 1e6), ("max_gap_mm", 0.1, 1e3)):
        value = settings[name]
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigError(f"{name} of a volume must be from {low:g} to {high:g}")
    for name in settings["windows"]:
        hu.window_limits(name)
    if not settings["windows"]:
        raise ConfigError("a CT needs at least one window")
    channels = 1 if settings["kind"] == PET else len(settings["windows"])
    return channels, int(settings["size"]), int(settings["size"])


def dtype(settings: dict[str, Any]) -> np.dtype:
    return np.dtype(np.uint8)


def decode(root: Path, item: dict[str, Any], settings: dict[str, Any]) -> np.ndarray:
    """[S, C, size, size] uint8.

    Args:
        item: COLUMNS.
        settings: DEFAULTS.

    Raises:
        Unreadable: a slice that is needed cannot be decoded, or is not what its header said.
    """
    values = sample(root, item, settings)
    if settings["kind"] == PET:
        return hu.to_bytes(values, 0.0, settings["suv_max"])[:, None]
    return hu.through_windows(values, settings["windows"])


def sample(root: Path, item: dict[str, Any], settings: dict[str, Any]) -> np.ndarray:
    """[S, size, size] float32: HU or SUV in the box of an item. Raises as `decode`."""
    stack = Stack(
        np.asarray(item["origins"], float).reshape(-1, 3), np.asarray(item["axes"], float), tuple(item["spacing"]), item["rows"],
        item["columns"],
    )  # fmt: skip
    size, count = int(settings["size"]), int(settings["slices"])
    extent = item["extent"] or [settings["crop_mm"]] * 3
    places = locate_box(stack, item["centre"], np.asarray(item["grid"], float), extent, (count, size, size), settings["max_gap_mm"])
    k, within = places[0], (places[0] >= -0.5) & (places[0] <= len(stack.origins) - 0.5)
    if not within.any():
        raise Unreadable("the box lies outside of the series")
    k = k.clip(0, len(stack.origins) - 1)
    needed = np.unique(np.concatenate([np.floor(k[within]), np.ceil(k[within])]).astype(int))
    step = max(extent[1] / size / stack.spacing[0], extent[2] / size / stack.spacing[1])
    planes = np.stack([smooth(_plane(root, item, number, settings["kind"]), step) for number in needed])
    among = np.where(within, np.interp(k, needed, np.arange(len(needed))), -1)
    return interpolate(planes, (among, *places[1:]), hu.AIR if settings["kind"] == CT else 0.0)


def _plane(root: Path, item: dict[str, Any], number: int, kind: str) -> np.ndarray:
    """One slice [rows, columns] in HU or SUV."""
    stored = reading.read_pixels(inside(root, item["names"][number]))
    if stored.shape != (item["rows"], item["columns"]):
        raise Unreadable("a slice has not the rows and columns of its header")
    slope, intercept = item["slopes"][number], item["intercepts"][number]
    if kind == CT:
        return hu.to_hu(stored, slope, intercept, item["padding"], item["padding_limit"])
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
