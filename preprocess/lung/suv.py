"""Stored PET values to SUVbw, by what the headers of a series say.

    SUV = (stored * slope + intercept) [Bq/ml] * weight_kg * 1000 / (dose_Bq * 2 ** (-(t_ref - t_inj) / half_life_s))

The order of decisions follows the QIBA pseudo-code: Units, vendor factors, decay correction, times (pet_times.py). Both Philips factors
multiply rescaled values, as QIBA and Philips say. Differs: DecayCorrection ADMIN is read (QIBA knows START only), and what is implausible
(a dose in MBq, a half-life in minutes, a weight in grams) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnifuse.preprocess.lung.pet_header import PetSlice
from omnifuse.preprocess.lung.pet_times import frames_disagree, injection_time, reference_time
from omnifuse.preprocess.schema import Unreadable

# Warnings, counted by these words.
DATE_SHIFTED = "the injection's date does not fit the scan's: its time of day was taken"
DOSE_UNUSUAL = "RadionuclideTotalDose (0018,1074) lies outside of 10 MBq to 2 GBq"
WEIGHT_ASSUMED = "PatientWeight (0010,1030) is missing: the weight of --assume-weight was taken"
FRAME_TIMES = "the frame times put the reference time more than 120 s elsewhere"
SUV_TYPE_UNTOLD = "Units are GML and SUVType (0054,1006) is not told: taken as body weight"
# Terms of Units (0054,1001) that can be shown: they are the standard's, not a patient's.
UNITS = {"CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "BQML", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML"}
UNITS |= {"PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV"}


@dataclass(frozen=True)
class Suv:
    """`factors[i]` times the rescaled value of slice i is SUVbw. `warnings` are of the fixed set above."""

    factors: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def compute_suv(slices: Sequence[PetSlice], *, mode: str = "bw", assume_weight_kg: float | None = None) -> Suv:
    """The factors from rescaled values to SUVbw of one series.

    Args:
        mode: `bw`, or `none`: values stay in Bq/ml, and only BQML will do.
        assume_weight_kg: taken where the weight is missing, and only there.

    Raises:
        Unreadable: SUV cannot be had; the reason names the tag.

    Source: the QIBA SUV pseudo-code; checked against the golden factors of calculate-suv.
    """
    first = slices[0]
    same = {(told.units, told.decay_correction, told.weight_kg, told.dose_bq, told.half_life_s) for told in slices}
    if len(same) > 1:
        raise Unreadable("PET slices of one series disagree on units, decay correction, weight, dose or half-life")
    if mode == "none" and first.units != "BQML":
        raise Unreadable("Units (0054,1001) are not BQML, which --suv none needs")
    if first.corrected is not None and "ATTN" not in first.corrected:
        raise Unreadable("CorrectedImage (0028,0051) lacks ATTN: not corrected for attenuation")
    if mode == "none":
        return Suv((1.0,) * len(slices))
    if first.units == "GML":
        return _as_grams(slices)
    scale = _to_activity(slices)
    if first.units == "CNTS" and all(told.philips_suv for told in slices):
        return Suv(tuple(scale))
    factor, warnings = _per_activity(slices, assume_weight_kg)
    return Suv(tuple(value * factor for value in scale), warnings)


def _as_grams(slices: Sequence[PetSlice]) -> Suv:
    kind = slices[0].suv_type
    if kind not in (None, "BW"):
        raise Unreadable("SUVType (0054,1006) is not BW")
    return Suv((1.0,) * len(slices), (SUV_TYPE_UNTOLD,) if kind is None else ())


def _to_activity(slices: Sequence[PetSlice]) -> list[float]:
    """The factor of each slice to Bq/ml; to SUV where Philips gives that one."""
    units = slices[0].units
    if units == "BQML":
        return [1.0] * len(slices)
    if units is None:
        raise Unreadable("Units (0054,1001) is missing")
    if units != "CNTS":
        raise Unreadable(f"Units (0054,1001) are {units if units in UNITS else 'unknown'}: no way to SUV")
    if all(told.philips_suv for told in slices):
        return [told.philips_suv for told in slices]
    if all(told.philips_activity for told in slices):
        return [told.philips_activity for told in slices]
    raise Unreadable("Units (0054,1001) are CNTS without the Philips factors (7053,1000) and (7053,1009)")


def _per_activity(slices: Sequence[PetSlice], assume_weight_kg: float | None) -> tuple[float, tuple[str, ...]]:
    """SUV per Bq/ml, and warnings."""
    first, warnings = slices[0], []
    if first.decay_correction not in ("START", "ADMIN"):
        told = "is NONE" if first.decay_correction == "NONE" else "is missing or unknown"
        raise Unreadable(f"DecayCorrection (0054,1102) {told}")
    if first.corrected is None or "DECY" not in first.corrected:
        raise Unreadable("CorrectedImage (0028,0051) is missing or lacks DECY")
    weight, dose, half_life = _weight(first, assume_weight_kg), _dose(first), _half_life(first)
    if not first.weight_kg:
        warnings.append(WEIGHT_ASSUMED)
    if not 1e7 <= dose <= 2e9:
        warnings.append(DOSE_UNUSUAL)
    elapsed = 0.0
    if first.decay_correction == "START":
        reference = reference_time(slices)
        injected, shifted = injection_time(first, reference, half_life)
        elapsed = (reference - injected).total_seconds()
        warnings += [DATE_SHIFTED] * shifted + [FRAME_TIMES] * frames_disagree(slices, reference, half_life)
    return weight * 1000 / (dose * 2 ** (-elapsed / half_life)), tuple(warnings)


def _weight(first: PetSlice, assumed: float | None) -> float:
    weight = first.weight_kg or assumed
    if not weight or weight < 0:
        raise Unreadable("PatientWeight (0010,1030) is missing or zero")
    if weight > 500:
        raise Unreadable("PatientWeight (0010,1030) is above 500 kg: is it in grams?")
    return weight


def _dose(first: PetSlice) -> float:
    if not first.dose_bq or first.dose_bq < 0:
        raise Unreadable("RadionuclideTotalDose (0018,1074) is missing or zero")
    if first.dose_bq < 1e4:
        raise Unreadable("RadionuclideTotalDose (0018,1074) is below 10,000 Bq: is it in MBq?")
    return first.dose_bq


def _half_life(first: PetSlice) -> float:
    if not first.half_life_s or first.half_life_s < 0:
        raise Unreadable("RadionuclideHalfLife (0018,1075) is missing or zero")
    if 109 <= first.half_life_s <= 110.5:
        raise Unreadable("RadionuclideHalfLife (0018,1075) is that of F-18 in minutes")
    return first.half_life_s
