"""The rules of the default mode by name: which items they take in, leave out or read for another purpose, and what each is for.

The faults are those of the published pipelines; the compat modes keep them. `TEXTS` is what audit.json says of a
rule, beside how many rows, values or stays it changed.

Of the 76 columns, 16 stay zero in the default mode, because one score has one column: the MetaVision texts of the Glasgow coma scale
(eye: To Pain, None, To Speech, Spontaneously; motor: Abnormal extension, No response, Localizes Pain, Flex-withdraws, Obeys Commands,
Abnormal Flexion; verbal: No Response, Confused, Inappropriate Words, Oriented, No Response-ETT, Incomprehensible sounds). Intubated
patients stand in "verbal response->1.0 ET/Trach", and their total in no column.
"""

from __future__ import annotations

import polars as pl

from omnifuse.preprocess.mimic.events import LEFT_OUT
from omnifuse.preprocess.mimic.variables import CATEGORIES, CRR, EYE, MOTOR, TOTAL, VARIABLES, VERBAL, items

# Codes beside the 17 variables.
SPECIMEN, COMFORT, NEW_CRR = 17, 18, 19

_LEFT_OUT: dict[str, tuple[int, ...]] = {
    "mbp": (224322, 224),  # both are "IABP Mean"
    "resp-rate": (224689, 224422, 614, 651),
    "ph": (51094, 51491, 50831, 1673),  # urine, urine, other fluid, and "PH" of an unnamed one
    "glucose": (51478,),
}
_VENOUS_PH = (860, 220274)
CRR_ITEMS = (223951, 224308)
_ADDED = {NEW_CRR: CRR_ITEMS, COMFORT: (128, 223758)}
_SPECIMEN = (50800, 52033)  # SPECIMEN TYPE; MIMIC-IV moved it

TEXTS = {
    "gcs-none": "eye opening charted as None: a category, no response, and not a missing value",
    "gcs-texts": "coma scale readings in MetaVision's words put into the columns of CareVue's: one column a score",
    "gcs-ett": "verbal readings of intubated patients: a category of its own (column 1.0 ET/Trach), not the score 1",
    "gcs-total": "coma scale totals computed as eye + motor + verbal charted at one time; none while intubated",
    "crr": "rows of capillary refill items 223951 and 224308, which the benchmarks do not map",
    "fio2": "FiO2 values taken as the fraction they are, or dropped: torr, or outside (0.2, 1] and [20, 100]",
    "ph": "rows of pH items that are urine, another fluid, unnamed, or (unless asked for) venous",
    "glucose": "rows of urine glucose (51478) left out",
    "spo2": "oxygen saturations of blood gases (50817) whose specimen is not stated to be arterial, left out",
    "resp-rate": "rows of spontaneous respiratory rates (224689, 224422, 614, 651) left out: 0 under ventilation",
    "mbp": "rows of a balloon pump's mean pressure (224322, 224) left out",
    "units": "values converted by item and unit from Fahrenheit, inches, pounds or ounces",
    "ranges": "values outside the outlier bounds dropped, or outside the valid bounds set to them, before they are carried forward",
    "errors": "rows of CHARTEVENTS with ERROR = 1 dropped, whatever their item",
    "known-at": "values that enter at their storetime, later than their charttime",
    "before-icu": "values known before the series begins: used nowhere",
    "window": "values at the very end of a stay or of the 48 hours: half-open windows leave them to what follows",
    "comfort": "stays with comfort care ordered in the first 48 hours",
    "icd10": "rows of ICD-10 diagnoses that give a phenotype through the GEM and CCS tables",
}

# The words of both charting systems, case folded, to the score; ETT stands for intubated and outdoes a score of the same time.
ETT = 9.0
SCORES: dict[int, dict[str, float]] = {
    EYE: {
        "1 no response": 1, "none": 1, "2 to pain": 2, "to pain": 2, "3 to speech": 3, "to speech": 3,
        "4 spontaneously": 4, "spontaneously": 4,
    },
    MOTOR: {
        "1 no response": 1, "no response": 1, "2 abnorm extensn": 2, "abnormal extension": 2, "3 abnorm flexion": 3,
        "abnormal flexion": 3, "4 flex-withdraws": 4, "flex-withdraws": 4, "5 localizes pain": 5, "localizes pain": 5,
        "6 obeys commands": 6, "obeys commands": 6,
    },
    VERBAL: {
        "1.0 et/trach": ETT, "no response-ett": ETT, "1 no response": 1, "no response": 1, "2 incomp sounds": 2,
        "incomprehensible sounds": 2, "3 inapprop words": 3, "inappropriate words": 3, "4 confused": 4, "confused": 4, "5 oriented": 5,
        "oriented": 5,
    },
    TOTAL: {str(score): score for score in range(3, 16)},
    CRR: {
        "normal <3 secs": 0, "normal <3 seconds": 0, "brisk": 0, "abnormal >3 secs": 1, "abnormal >3 seconds": 1, "delayed": 1,
    },
}  # fmt: skip

# The category that holds each score.
_HELD = {
    EYE: {1: "1 No Response", 2: "2 To pain", 3: "3 To speech", 4: "4 Spontaneously"},
    MOTOR: {
        1: "1 No Response", 2: "2 Abnorm extensn", 3: "3 Abnorm flexion", 4: "4 Flex-withdraws", 5: "5 Localizes Pain",
        6: "6 Obeys Commands",
    },
    VERBAL: {1: "1 No Response", 2: "2 Incomp sounds", 3: "3 Inapprop words", 4: "4 Confused", 5: "5 Oriented", 9: "1.0 ET/Trach"},
    TOTAL: {score: str(score) for score in range(3, 16)},
    CRR: {0: "0.0", 1: "1.0"},
}  # fmt: skip
CATEGORY_OF: dict[int, dict[int, int]] = {
    code: {score: CATEGORIES[VARIABLES[code]].index(text) for score, text in held.items()} for code, held in _HELD.items()
}

# Words of one of the two systems only: what gcs-texts counts.
METAVISION_EYE = 220739
METAVISION = (METAVISION_EYE, 223901, 223900)


def left_out() -> dict[int, str]:
    """The codes of items that are left out, and the rule that does it."""
    return {LEFT_OUT + number: rule for number, rule in enumerate(_LEFT_OUT)}


def default_items(venous_ph: bool) -> pl.DataFrame:
    """The items of the default mode: `variable` (code), `itemid`, `table`, `name` of the variable or of what the item is read for."""
    dropped = {item: LEFT_OUT + number for number, group in enumerate(_LEFT_OUT.values()) for item in group}
    if not venous_ph:
        dropped |= dict.fromkeys(_VENOUS_PH, LEFT_OUT + list(_LEFT_OUT).index("ph"))
    benchmark = items().select(
        pl.col("itemid").replace_strict(dropped, default=pl.col("variable"), return_dtype=pl.UInt8).alias("variable"),
        "itemid",
        "table",
        name=pl.Series(VARIABLES).gather(items()["variable"]),
    )
    purposes = {NEW_CRR: VARIABLES[CRR], COMFORT: "(comfort care)"}
    more = [(code, item, "chartevents", purposes[code]) for code, group in _ADDED.items() for item in group]
    more += [(SPECIMEN, item, "labevents", "(specimen)") for item in _SPECIMEN]
    added = pl.DataFrame(more, schema={"variable": pl.UInt8, "itemid": pl.Int64, "table": pl.String, "name": pl.String}, orient="row")
    return pl.concat([benchmark, added])
