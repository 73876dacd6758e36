"""A DICOM film (CR, DX) to 8 bits, bright where the body is dense.

    stored value -> modality LUT or rescale -> VOI LUT or window -> 0..255 over the range in use -> inverted where MONOCHROME1

Each step is a function of a single stored value, so it is computed once for each of the 65,536 values, and the film looks its pixels
up: pydicom's own functions, without their 8 bytes a pixel. Pixels of PixelPaddingValue take part in no step and become black
(PS3.3 C.7.5.1.1.2). PresentationLUTShape INVERSE only repeats MONOCHROME1 (PS3.3 C.8.11.3.1.2), and is not applied a second time.

MIMIC-CXR-JPG differs: no look-up tables, and its histograms are equalised; `equalise` does the latter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from omnifuse.preprocess.dicom.reading import guarded, read_image, read_pixels
from omnifuse.preprocess.schema import Unreadable

STRIPS = 16


def read_film(path: Path, *, equalise: bool = False) -> np.ndarray:
    """One film.

    Args:
        equalise: the histogram, as MIMIC-CXR-JPG does.

    Shapes: [rows, columns] uint8.

    Raises:
        Unreadable: see dicom/reading.py; several frames, colours, or pixels of more than 16 bits.
    """
    dataset = read_image(path)
    with guarded():
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise Unreadable("has several frames")
        if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
            raise Unreadable("is no grey film")
        if dataset.BitsAllocated not in (8, 16):
            raise Unreadable("pixels of a kind that is not supported")
        stored = read_pixels(dataset)
        codes = stored.view(f"u{stored.itemsize}")  # the bits of a value, as the place where it is looked up
        every = np.arange(2 ** (8 * stored.itemsize), dtype=codes.dtype)
        # In strips: numpy takes 8 bytes for each index.
        strips = np.array_split(codes, STRIPS)
        counts = sum(np.bincount(strip.ravel(), minlength=len(every)) for strip in strips)
        levels = _levels(dataset, every.view(stored.dtype).astype(np.int64), counts, equalise)
        return np.concatenate([levels[strip] for strip in strips])


def _levels(dataset: Dataset, values: np.ndarray, counts: np.ndarray, equalise: bool) -> np.ndarray:
    """The grey level of each stored value.

    Shapes: values and counts (of pixels) [V]; the levels [V] uint8.
    """
    if "ModalityLUTSequence" not in dataset and dataset.get("RescaleSlope") == 0:
        raise Unreadable("RescaleSlope is 0")
    shown = np.asarray(apply_voi_lut(apply_modality_lut(values, dataset), dataset), dtype=np.float64)
    if not np.isfinite(shown).all():
        raise Unreadable("look-up tables that are not finite")
    counts = np.where(_is_padding(dataset, values), 0, counts)
    used = shown[counts > 0]
    if not len(used) or used.min() == used.max():
        raise Unreadable("is blank")
    levels = (shown - used.min()) / (used.max() - used.min())  # [V] 0..1 of what is used
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 1 - levels
    levels = np.rint(255 * levels.clip(0, 1)).astype(np.uint8)
    if equalise:
        levels = _equalised(levels, counts)
    return np.where(_is_padding(dataset, values), 0, levels).astype(np.uint8)


def _is_padding(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return np.zeros(len(values), dtype=bool)
    first, last = sorted((int(padding), int(dataset.get("PixelPaddingRangeLimit", padding))))
    return (values >= first) & (values <= last)


def _equalised(levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Histogram equalisation over 256 levels: that of OpenCV's equalizeHist, which MIMIC-CXR-JPG used."""
    histogram = np.bincount(levels, weights=counts, minlength=256)
    cumulative = np.cumsum(histogram)
    darkest = histogram[np.flatnonzero(histogram)[0]]
    return np.rint(255 * (cumulative - darkest).clip(0) / (cumulative[-1] - darkest)).astype(np.uint8)[levels]
