"""What the header of a PET slice says of activity and time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PetSlice:
    """What one header says of activity and time; None where it says nothing. Units: kg, Bq, s; frame times in ms as in DICOM."""

    units: str | None = None
    suv_type: str | None = None
    decay_correction: str | None = None
    corrected: tuple[str, ...] | None = None
    weight_kg: float | None = None
    dose_bq: float | None = None
    half_life_s: float | None = None
    start_datetime: str | None = None
    start_time: str | None = None
    series_date: str | None = None
    series_time: str | None = None
    acquisition_date: str | None = None
    acquisition_time: str | None = None
    frame_reference_ms: float | None = None
    frame_duration_ms: float | None = None
    ge_scan: str | None = None
    philips_suv: float | None = None
    philips_activity: float | None = None


def read_pet(header: Any) -> PetSlice:
    """The PetSlice of a pydicom header."""
    drug = (header.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    corrected = header.get("CorrectedImage")
    names = (corrected,) if isinstance(corrected, str) else tuple(map(str, corrected or ()))
    acquired = _text(header.get("AcquisitionDateTime")) or ""
    return PetSlice(
        units=_text(header.get("Units")),
        suv_type=_text(header.get("SUVType")),
        decay_correction=_text(header.get("DecayCorrection")),
        corrected=tuple(name for name in names if name) or None,
        weight_kg=_number(header.get("PatientWeight")),
        dose_bq=_number(drug.get("RadionuclideTotalDose")),
        half_life_s=_number(drug.get("RadionuclideHalfLife")),
        start_datetime=_text(drug.get("RadiopharmaceuticalStartDateTime")),
        start_time=_text(drug.get("RadiopharmaceuticalStartTime")),
        series_date=_text(header.get("SeriesDate")),
        series_time=_text(header.get("SeriesTime")),
        acquisition_date=_text(header.get("AcquisitionDate")) or acquired[:8] or None,
        acquisition_time=_text(header.get("AcquisitionTime")) or re.sub(r"[+-]\d{4}$", "", acquired[8:]) or None,
        frame_reference_ms=_number(header.get("FrameReferenceTime")),
        frame_duration_ms=_number(header.get("ActualFrameDuration")),
        ge_scan=_text(_private(header, 0x0009, 0x0D, "GEMS_PETD_01")),
        philips_suv=_number(_private(header, 0x7053, 0x00, "Philips PET Private Group")),
        philips_activity=_number(_private(header, 0x7053, 0x09, "Philips PET Private Group")),
    )


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore")
    told = str(value).strip(" \0") if value is not None else ""
    return told or None


def _number(value: Any) -> float | None:
    try:
        number = float(_text(value) or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _private(header: Any, group: int, element: int, creator: str) -> Any:
    """A private value by its creator, wherever the block was reserved."""
    try:
        return header.private_block(group, creator)[element].value
    except (KeyError, AttributeError):
        return None
