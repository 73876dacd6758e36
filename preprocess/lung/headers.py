"""One DICOM file of a CT or PET series, by its header; or why it is none.

What is not a slice is named by a phrase of a fixed set and counted: localizers, dose reports, segmentations, structure sets, secondary
captures, Enhanced multi-frame objects, other modalities. Nothing that names a patient is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.lung.pet_header import PetSlice, read_pet
from omnifuse.preprocess.schema import Unreadable

CT, PET = "CT", "PT"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
CT_CLASS, PET_CLASS = f"{_STORAGE}2", f"{_STORAGE}128"
SEG_CLASS, RTSTRUCT_CLASS = f"{_STORAGE}66.4", f"{_STORAGE}481.3"
# The longest prefix that fits decides.
OTHER_CLASSES = {
    f"{_STORAGE}2.1": "Enhanced multi-frame CT",
    f"{_STORAGE}2.2": "Enhanced multi-frame CT",
    f"{_STORAGE}128.1": "Enhanced multi-frame PET",
    f"{_STORAGE}130": "Enhanced multi-frame PET",
    SEG_CLASS: "segmentation",
    RTSTRUCT_CLASS: "structure set",
    f"{_STORAGE}481": "radiotherapy object",
    f"{_STORAGE}7": "secondary capture",
    f"{_STORAGE}88.67": "dose report",
    f"{_STORAGE}88": "structured report",
    f"{_STORAGE}11": "presentation state",
    f"{_STORAGE}104": "document",
    "1.2.840.10008.1.3.10": "DICOMDIR",
}
REQUIRED = {
    "ImagePositionPatient": "(0020,0032)",
    "ImageOrientationPatient": "(0020,0037)",
    "PixelSpacing": "(0028,0030)",
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "RescaleSlope": "(0028,1053)",
    "SeriesInstanceUID": "(0020,000E)",
}


@dataclass(frozen=True)
class Slice:
    """One image. `name` is relative to the root of the data; positions and spacings in mm, `spacing` as PixelSpacing (rows, columns)."""

    name: str
    bytes: int
    modality: str
    series: str
    instance: str
    frame: str
    patient: str = field(repr=False)  # compared in memory, never written
    position: tuple[float, float, float]
    axes: tuple[float, ...]
    spacing: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    padding: float | None = None
    padding_limit: float | None = None
    split: tuple[str, ...] = ()
    thickness: float | None = None
    kernel: str = ""
    contrast: bool = False
    maker: str = ""
    model: str = ""
    voltage: float | None = None
    pet: PetSlice | None = None


def read_slice(root: Path, name: str) -> Slice:
    """The slice in a file below `root`.

    Raises:
        Unreadable: it is no slice of a CT or PET, or lacks what a slice needs.
    """
    path = inside(root, name)
    header = reading.read_header(path)
    with reading.guarded():
        _require_slice(header)
        size = path.stat().st_size
        stored = header.Rows * header.Columns * int(header.get("BitsAllocated") or 16) // 8
        if reading.transfer_syntax(header) in reading.NATIVE and size < stored:
            reading.read_image(path)  # says what is wrong, unless the file was deflated as a whole
        is_pet = header.get("Modality") == PET
        return Slice(
            name=name,
            bytes=size,
            modality=str(header.Modality),
            series=str(header.SeriesInstanceUID),
            instance=str(header.get("SOPInstanceUID") or ""),
            frame=str(header.get("FrameOfReferenceUID") or ""),
            patient=str(header.get("PatientID") or ""),
            position=_numbers(header.ImagePositionPatient, 3),
            axes=_numbers(header.ImageOrientationPatient, 6),
            spacing=_numbers(header.PixelSpacing, 2),
            rows=int(header.Rows),
            columns=int(header.Columns),
            slope=float(header.RescaleSlope),
            intercept=float(header.get("RescaleIntercept") or 0.0),
            padding=_optional(header.get("PixelPaddingValue")),
            padding_limit=_optional(header.get("PixelPaddingRangeLimit")),
            split=tuple(str(header.get(key) or "") for key in ("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex")),
            thickness=_optional(header.get("SliceThickness")),
            kernel=_word(header.get("ConvolutionKernel") or header.get("ReconstructionMethod")),
            contrast=bool(header.get("ContrastBolusAgent")),
            maker=_word(header.get("Manufacturer")),
            model=_word(header.get("ManufacturerModelName")),
            voltage=_optional(header.get("KVP")),
            pet=read_pet(header) if is_pet else None,
        )


def _require_slice(header: Any) -> None:
    kind = str(header.get("SOPClassUID") or "")
    fitting = [prefix for prefix in OTHER_CLASSES if kind == prefix or kind.startswith(f"{prefix}.")]
    if fitting:
        raise Unreadable(OTHER_CLASSES[max(fitting, key=len)])
    modality = header.get("Modality")
    if modality not in (CT, PET) or (kind and kind not in (CT_CLASS, PET_CLASS)):
        raise Unreadable("neither CT nor PET")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise Unreadable("multi-frame")
    told = header.get("ImageType") or ()
    words = [word.upper() for word in ((told,) if isinstance(told, str) else map(str, told))]
    if "LOCALIZER" in words:
        raise Unreadable("localizer")
    if words[:2] == ["DERIVED", "SECONDARY"] or "SCREEN SAVE" in words:
        raise Unreadable("secondary capture")
    for name, tag in REQUIRED.items():
        if header.get(name) in (None, ""):
            raise Unreadable(f"{name} {tag} is missing")
    if float(header.RescaleSlope) == 0:
        raise Unreadable("RescaleSlope (0028,1053) is zero")
    if min(_numbers(header.PixelSpacing, 2)) <= 0:
        raise Unreadable("PixelSpacing (0028,0030) is not positive")
    along_row, along_column = (_numbers(header.ImageOrientationPatient, 6)[half] for half in (slice(3), slice(3, 6)))
    lengths = [sum(x * x for x in axis) for axis in (along_row, along_column)]
    if any(abs(length - 1) > 0.01 for length in lengths) or abs(sum(a * b for a, b in zip(along_row, along_column))) > 0.01:
        raise Unreadable("ImageOrientationPatient (0020,0037) is no pair of directions")


def _numbers(value: Sequence[Any], count: int) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in value)
    if len(numbers) != count or not all(abs(number) < 1e6 for number in numbers):
        raise Unreadable("cannot be decoded")
    return numbers


def _optional(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _word(value: Any) -> str:
    """A technical term of the scanner, cut: makers write what they like."""
    told = value if isinstance(value, str) else "/".join(map(str, value or ()))
    return " ".join(told.upper().split())[:40]
