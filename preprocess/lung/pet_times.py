"""When a PET was measured and when the dose was given: the two times that the decay runs between.

Dates are judged before they are believed, since de-identification shifts them unevenly. The published pseudo-code takes the day of the
injection from the series; here it is the day of t_ref, which is the same wherever t_ref is the series' time, and right where a
post-processed series was saved days later. The frame back-computation of IBSI (t_acq - FrameReferenceTime + t_avg) is only a cross-check:
for some vendors it is minutes off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta

from omnifuse.preprocess.lung.pet_header import PetSlice
from omnifuse.preprocess.schema import Unreadable

CLOSE_S = 120.0
LONGEST_UPTAKE_S = 12 * 3600.0
LONG_LIVED_S = 4 * 3600.0  # Cu-64, Zr-89 and the like are scanned days after injection: no limit is known for them


def reference_time(slices: Sequence[PetSlice]) -> datetime:
    """When the values are as of: the series' time unless it is later than the first acquisition (a series saved again later)."""
    acquired = [_acquired(told) for told in slices]
    acquired = [moment for moment in acquired if moment is not None]
    if not acquired:
        raise Unreadable("AcquisitionDate or AcquisitionTime (0008,0022; 0008,0032) is missing")
    earliest = min(acquired)
    series = _moment(slices[0].series_date, slices[0].series_time)
    if series is not None and series <= earliest:
        return series
    told = [scan for piece in slices if (scan := _datetime(piece.ge_scan))]
    return min(told) if told else earliest


def injection_time(first: PetSlice, reference: datetime, half_life: float) -> tuple[datetime, bool]:
    """When the dose was given, and whether its date had to be set aside."""
    told = _datetime(first.start_datetime)
    if told is not None and is_plausible(reference - told, half_life):
        return told, False
    clock = told.time() if told else _clock(first.start_time)
    if clock is None:
        raise Unreadable("RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime (0018,1078; 0018,1072) are missing")
    injected = datetime.combine(reference.date(), clock)
    if injected > reference:
        injected -= timedelta(days=1)
    if not is_plausible(reference - injected, half_life):
        raise Unreadable("the injection lies after the scan, or more than 12 hours before it (0018,1078; 0018,1072)")
    return injected, told is not None


def is_plausible(elapsed: timedelta, half_life: float) -> bool:
    seconds = elapsed.total_seconds()
    return seconds >= 0 and (half_life > LONG_LIVED_S or seconds <= LONGEST_UPTAKE_S)


def frames_disagree(slices: Sequence[PetSlice], reference: datetime, half_life: float) -> bool:
    """Whether t_acq - FrameReferenceTime + t_avg of the earliest slice lies elsewhere than t_ref; t_avg = ln(lT / (1 - e^-lT)) / l."""
    known = [told for told in slices if told.frame_duration_ms and told.frame_reference_ms is not None and _acquired(told)]
    if not known:
        return False
    told = min(known, key=_acquired)
    decay = math.log(2) / half_life
    fraction = decay * told.frame_duration_ms / 1000
    average = math.log(fraction / -math.expm1(-fraction)) / decay
    back = _acquired(told) + timedelta(seconds=average - told.frame_reference_ms / 1000)
    return abs((back - reference).total_seconds()) > CLOSE_S


def _acquired(told: PetSlice) -> datetime | None:
    return _moment(told.acquisition_date or told.series_date, told.acquisition_time)


def _moment(date: str | None, clock: str | None) -> datetime | None:
    at = _clock(clock)
    day = re.fullmatch(r"(\d{4})[.:/-]?(\d{2})[.:/-]?(\d{2})", date or "")
    if at is None or day is None:
        return None
    try:
        return datetime(*map(int, day.groups()), at.hour, at.minute, at.second, at.microsecond)
    except ValueError:
        return None


def _clock(told: str | None) -> time | None:
    parts = re.fullmatch(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?\d*", told or "")
    if parts is None:
        return None
    hour, minute, second = (int(part or 0) for part in parts.groups()[:3])
    try:
        return datetime(2000, 1, 1, hour, minute, min(second, 59), int((parts[4] or "0").ljust(6, "0"))).time()
    except ValueError:
        return None


def _datetime(text: str | None) -> datetime | None:
    """A DICOM DT. Its offset from UTC is set aside: the other times of the header are local and carry none."""
    bare = re.sub(r"[+-]\d{4}$", "", text or "")
    return _moment(bare[:8], bare[8:]) if len(bare) >= 10 else None
