"""What MIMIC-IV's MetaVision and laboratory call the things the clinic charts: item ids, labels, units and texts.

Published facts, no knobs (d_items and d_labitems of MIMIC-IV v2.2; ICD titles from the CMS code tables). Only the items the clinic
uses are listed, so that its dictionaries are short ones.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MEASURED = (
    "Heart Rate",
    "Respiratory rate",
    "Oxygen saturation",
    "Mean blood pressure",
    "Systolic blood pressure",
    "Diastolic blood pressure",
    "Temperature",
    "Glucose",
    "pH",
)
COMA, OXYGEN, REFILL = "Glasgow coma scale", "Fraction inspired oxygen", "Capillary refill rate"
ORDINALS = (COMA, OXYGEN, REFILL)
BODY = ("height", "admission_weight", "daily_weight")

# (variable, round) -> the item of a reading; blood pressures have two sources, see ARTERIAL.
READINGS = {
    ("Heart Rate", "vitals"): 220045,
    ("Respiratory rate", "vitals"): 220210,
    ("Oxygen saturation", "vitals"): 220277,
    ("Mean blood pressure", "vitals"): 220181,
    ("Systolic blood pressure", "vitals"): 220179,
    ("Diastolic blood pressure", "vitals"): 220180,
    ("Temperature", "temperature"): 223761,
    ("Glucose", "fingerstick"): 225664,
    ("Glucose", "chemistry"): 50931,
    ("pH", "gas"): 50820,
    ("Oxygen saturation", "gas"): 50817,
}
ARTERIAL = {220181: 220052, 220179: 220050, 220180: 220051}  # cuff -> arterial line
GLUCOSE_SERUM, PH_BLOOD = 50931, 50820
CHARTED_COPIES = {GLUCOSE_SERUM: 220621, PH_BLOOD: 223830}  # laboratory result -> the same number in the chart
VENOUS_PH, TEMPERATURE_F, TEMPERATURE_C, SPECIMEN, URINE_PH, URINE_GLUCOSE, SATURATION = 220274, 223761, 223762, 52033, 51491, 51478, 50817
HEIGHT_CM, HEIGHT_INCH, WEIGHT_ADMISSION, WEIGHT_POUNDS, WEIGHT_DAILY = 226730, 226707, 226512, 226531, 224639
EYE, VERBAL, MOTOR, FIO2, REFILL_RIGHT, REFILL_LEFT = 220739, 223900, 223901, 223835, 223951, 224308
SPONTANEOUS_RATE = 224689
ORDINAL_ROUNDS = {COMA: "neuro", OXYGEN: "ventilator", REFILL: "perfusion"}
ROUNDS = ("vitals", "temperature", "neuro", "fingerstick", "chemistry", "gas", "ventilator", "perfusion", "weight")

# MetaVision stores GCS eye "None": the eyes do not open. It is an answer, not a missing one.
EYE_TEXTS = {4: "Spontaneously", 3: "To Speech", 2: "To Pain", 1: "None"}
VERBAL_TEXTS = {5: "Oriented", 4: "Confused", 3: "Inappropriate Words", 2: "Incomprehensible sounds", 1: "No Response"}
MOTOR_TEXTS = {
    6: "Obeys Commands",
    5: "Localizes Pain",
    4: "Flex-withdraws",
    3: "Abnormal Flexion",
    2: "Abnormal extension",
    1: "No response",
}
INTUBATED = "No Response-ETT"
REFILL_TEXTS = ("Normal <3 Seconds", "Abnormal >3 Seconds")


def coma_scores(level: str) -> tuple[int, int, int]:
    """Eye, verbal and motor score of a level written "4/5/6"."""
    eye, verbal, motor = (int(score) for score in level.split("/"))
    if eye not in EYE_TEXTS or verbal not in VERBAL_TEXTS or motor not in MOTOR_TEXTS:
        raise ValueError("no such score")
    return eye, verbal, motor


def known_level(ordinal: str, level: str) -> bool:
    """Whether MetaVision could chart this level of an ordinal variable."""
    if ordinal == REFILL:
        return level in REFILL_TEXTS
    try:
        return bool(coma_scores(level)) if ordinal == COMA else 21 <= int(level) <= 100
    except ValueError:
        return False


@dataclass(frozen=True)
class ChartItem:
    """A row of d_items."""

    itemid: int
    label: str
    abbreviation: str
    category: str
    unitname: str | None
    param_type: str = "Numeric"


VITAL, LUNG, LAB, NEURO, GENERAL = "Routine Vital Signs", "Respiratory", "Labs", "Neurological", "General"
CHART_ITEMS = (
    ChartItem(220045, "Heart Rate", "HR", VITAL, "bpm"),
    ChartItem(220050, "Arterial Blood Pressure systolic", "ABPs", VITAL, "mmHg"),
    ChartItem(220051, "Arterial Blood Pressure diastolic", "ABPd", VITAL, "mmHg"),
    ChartItem(220052, "Arterial Blood Pressure mean", "ABPm", VITAL, "mmHg"),
    ChartItem(220179, "Non Invasive Blood Pressure systolic", "NBPs", VITAL, "mmHg"),
    ChartItem(220180, "Non Invasive Blood Pressure diastolic", "NBPd", VITAL, "mmHg"),
    ChartItem(220181, "Non Invasive Blood Pressure mean", "NBPm", VITAL, "mmHg"),
    ChartItem(220210, "Respiratory Rate", "RR", LUNG, "insp/min"),
    ChartItem(220274, "PH (Venous)", "PH (Venous)", LAB, "units"),
    ChartItem(220277, "O2 saturation pulseoxymetry", "SpO2", LUNG, "%"),
    ChartItem(220621, "Glucose (serum)", "Glucose (serum)", LAB, "mg/dL"),
    ChartItem(220739, "GCS - Eye Opening", "Eye Opening", NEURO, None, "Text"),
    ChartItem(223761, "Temperature Fahrenheit", "Temperature F", VITAL, "°F"),
    ChartItem(223762, "Temperature Celsius", "Temperature C", VITAL, "°C"),
    ChartItem(223830, "PH (Arterial)", "PH (Arterial)", LAB, "units"),
    ChartItem(223835, "Inspired O2 Fraction", "FiO2", LUNG, None),
    ChartItem(223900, "GCS - Verbal Response", "Verbal Response", NEURO, None, "Text"),
    ChartItem(223901, "GCS - Motor Response", "Motor Response", NEURO, None, "Text"),
    ChartItem(223951, "Capillary Refill R", "Capillary Refill R", "Cardiovascular (Pulses)", None, "Text"),
    ChartItem(224308, "Capillary Refill L", "Capillary Refill L", "Cardiovascular (Pulses)", None, "Text"),
    ChartItem(224639, "Daily Weight", "Daily Weight", GENERAL, "kg"),
    ChartItem(224689, "Respiratory Rate (spontaneous)", "Respiratory Rate (spontaneous)", LUNG, "insp/min"),
    ChartItem(225664, "Glucose finger stick (range 70-100)", "Glucose FS (range 70 -100)", LAB, None),
    ChartItem(226512, "Admission Weight (Kg)", "Admission Weight (Kg)", GENERAL, "kg"),
    ChartItem(226531, "Admission Weight (lbs.)", "Admission Weight (lbs.)", GENERAL, None),
    ChartItem(226707, "Height", "Height", GENERAL, "Inch"),
    ChartItem(226730, "Height (cm)", "Height (cm)", GENERAL, "cm"),
)
CHART_UNITS = {item.itemid: item.unitname for item in CHART_ITEMS}

# itemid, label, fluid, category; then unit and reference range, which stand in labevents
LAB_ITEMS = (
    (50817, "Oxygen Saturation", "Blood", "Blood Gas", "%", None, None),
    (50820, "pH", "Blood", "Blood Gas", "units", 7.35, 7.45),
    (50931, "Glucose", "Blood", "Chemistry", "mg/dL", 70.0, 105.0),
    (51478, "Glucose", "Urine", "Hematology", "mg/dL", None, None),
    (51491, "pH", "Urine", "Hematology", "units", 5.0, 8.0),
    (52033, "Specimen Type", "Blood", "Blood Gas", None, None, None),
)

# Minutes from charttime to storetime: median and log spread, from the MetaVision rows of the MIMIC-III demo; laboratory results
# appear in the chart when they are known (median 66 minutes for serum glucose, 3 for a blood gas).
STORE_MINUTES = {"chart": (20.0, 1.2), "chemistry": (66.0, 0.35), "gas": (3.0, 0.5), "urine": (75.0, 0.5)}


@dataclass(frozen=True)
class Code:
    """An ICD code and the condition it stands for; "" for codes outside the 25 phenotypes."""

    condition: str
    version: int
    code: str
    title: str


@cache
def codes() -> tuple[Code, ...]:
    with (Path(__file__).parent / "codes.csv").open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle)
        return tuple(Code(row["condition"], int(row["icd_version"]), row["icd_code"], row["long_title"]) for row in rows)


@cache
def conditions() -> tuple[str, ...]:
    """The conditions that have codes: the 25 phenotypes of the benchmarks, in their order."""
    return tuple(dict.fromkeys(code.condition for code in codes() if code.condition))
