"""How the compat modes clean one value: the faults of the published pipelines, most of which the demo does not exercise."""

import pytest
from raw_mimic import Hospital, charted

from omnifuse.preprocess.mimic import values

CRR, DBP, FIO2, EYE = "Capillary refill rate", "Diastolic blood pressure", "Fraction inspired oxygen", "Glascow coma scale eye opening"
GLUCOSE, HEIGHT, HR, SPO2 = "Glucose", "Height", "Heart Rate", "Oxygen saturation"
SBP, TEMPERATURE, WEIGHT, PH = "Systolic blood pressure", "Temperature", "Weight", "pH"

# (variable, item, text, unit, what stands in events.parquet, or None)
BOTH = [
    (CRR, 115, "Normal <3 secs", "", "0.0"),
    (CRR, 3348, "Brisk", "", "0.0"),
    (CRR, 8377, "Abnormal >3 secs", "", "1.0"),
    (CRR, 115, "Delayed", "", "1.0"),
    (CRR, 115, "brisk", "", None),  # case matters
    (CRR, 115, "0", "", None),
    (CRR, 115, "Normal <3 Seconds", "", None),
    (SBP, 51, "120/80", "", "120.0"),
    (DBP, 8368, "120/80", "", "80.0"),
    (SBP, 51, "120/", "", None),  # the peer stops here
    (DBP, 8368, "120.5/80", "", None),
    (SBP, 51, "ERR", "", None),
    (SBP, 51, "1e2", "", "100.0"),  # whatever Python's float takes
    (SBP, 51, " 97 ", "", "97.0"),
    (SBP, 51, "-8", "", "-8.0"),
    (SBP, 51, "inf", "", "inf"),
    (FIO2, 189, "0.5", "", "0.005"),  # a fraction is divided too
    (FIO2, 223835, "60", "", "0.6"),
    (FIO2, 223835, "0.21", "%", "0.0021"),
    (FIO2, 189, "50%", "", None),
    (SPO2, 646, "0.5", "", "50.0"),
    (SPO2, 646, "1", "", "100.0"),
    (SPO2, 646, "0", "", "0.0"),
    (SPO2, 646, "1.1", "", "1.1"),
    (SPO2, 646, "98%", "", None),
    (SPO2, 646, " 97 ", "", None),
    (GLUCOSE, 807, "7.", "", "7.0"),
    (GLUCOSE, 807, ".7", "", "0.7"),
    (GLUCOSE, 807, "007", "", "7.0"),
    (GLUCOSE, 807, "-5", "", None),
    (GLUCOSE, 807, "+7", "", None),
    (GLUCOSE, 807, "1e2", "", None),
    (GLUCOSE, 807, ">500", "", None),
    (GLUCOSE, 807, "1,000", "", None),
    (GLUCOSE, 807, "inf", "", None),
    (GLUCOSE, 51478, "300", "", "300.0"),  # urine
    (PH, 1126, "ERROR", "", None),
    (PH, 51491, "5.5", "", "5.5"),  # urine
    (TEMPERATURE, 678, "98.6", "Deg. F", repr((98.6 - 32) * 5.0 / 9)),
    (TEMPERATURE, 678, "79", "Deg. F", repr((79 - 32) * 5.0 / 9)),
    (TEMPERATURE, 223761, "78.9", "?F", "78.9"),  # the test of the unit never fires
    (TEMPERATURE, 676, "ERR", "", None),
    (WEIGHT, 763, "80", "kg", "80.0"),
    (WEIGHT, 3581, "100", "", repr(100 * 0.453592)),  # by its label
    (WEIGHT, 226531, "100", "", repr(100 * 0.453592)),
    (WEIGHT, 3582, "160", "", repr(160 / 16.0 * 0.453592)),
    (HEIGHT, 1394, "75", "", "190.0"),  # 190.5 to even
    (HEIGHT, 1394, "66.9", "", "170.0"),
    (HEIGHT, 226730, "170", "cm", "170.0"),
    (HR, 211, "9", "", "9"),  # never cleaned: text as it is
    (HR, 211, "ERR", "", "ERR"),
    (EYE, 220739, "None", "", "None"),  # a value
]  # fmt: skip
BENCHMARKS = [
    (FIO2, 189, "60", "torr", "60.0"),
    (FIO2, 189, "0.5", "Torr", "0.5"),
    (FIO2, 189, "0.4", "%", "0.004"),
    (WEIGHT, 763, "160", "oz", repr(160 / 16.0 * 0.453592)),
    (WEIGHT, 763, "160", "oz lb", repr(160 / 16.0 * 0.453592)),
    (WEIGHT, 763, "100", "LBS", repr(100 * 0.453592)),
    (HEIGHT, 226707, "75", "Inch", "190.0"),
]
MEDFUSE = [  # the unit is not read: VALUENUM stands in its place
    (FIO2, 223835, "60", "torr", "0.6"),
    (WEIGHT, 224639, "100", "lbs", "100.0"),
    (WEIGHT, 226531, "100", "lbs", repr(100 * 0.453592)),
    (HEIGHT, 226707, "61", "Inch", "61.0"),
    (TEMPERATURE, 223761, "98.6", "°F", repr((98.6 - 32) * 5.0 / 9)),
]


def _written(tmp_path, version: int, compat: str, cases: list[tuple]) -> list[str | None]:
    """Every case an hour of its own; what events.parquet holds of it."""
    hospital = Hospital(version)
    ids = hospital.stay(hours=float(len(cases) + 60))
    labs = (51478, 51491)
    for hour, (_, item, text, unit, _) in enumerate(cases):
        (hospital.lab if item in labs else hospital.chart)(ids, hour, item, text, unit)
        hospital.chart(ids, hour, 220180, "60")  # a row at every hour, except where DBP is tried itself
    cohort = hospital.build(tmp_path, compat=compat)
    found = [dict(charted(cohort, variable)).get(float(hour)) for hour, (variable, *_) in enumerate(cases)]
    # The companion outdoes what is tried at DBP unless that is greater.
    return [None if case[0] == DBP and text == "60.0" else text for case, text in zip(cases, found)]


@pytest.mark.parametrize(
    "version, compat, cases", [(3, "mimic3-benchmarks", BOTH + BENCHMARKS), (4, "medfuse", BOTH + MEDFUSE)], ids=["mimic3", "medfuse"]
)
def test_texts_become_what_the_peer_writes(tmp_path, version, compat, cases):
    written = _written(tmp_path, version, compat, cases)
    wrong = [(case, text) for case, text in zip(cases, written) if text != case[-1]]
    assert not wrong


def test_what_pandas_reads_as_missing_is_no_value(tmp_path):
    hospital = Hospital()
    ids = hospital.stay()
    for hour, text in enumerate(values.NA_TEXTS):
        hospital.chart(ids, hour, 211, text)
    hospital.chart(ids, 40, 211, "80")
    assert charted(hospital.build(tmp_path, compat="mimic3-benchmarks"), HR) == [(40.0, "80")]


def test_what_pandas_does_not_read_as_missing_is_text(tmp_path):
    texts = ["None", "none", "na", " ", "NAN"]
    hospital = Hospital()
    ids = hospital.stay()
    for hour, text in enumerate(texts):
        hospital.chart(ids, hour, 211, text)
    cohort = hospital.build(tmp_path, compat="mimic3-benchmarks")
    assert charted(cohort, HR) == list(enumerate(texts))
    assert any(
        warning.startswith("5 values in words that the published discretiser refuses") for warning in cohort.json("audit.json")["warnings"]
    )


@pytest.mark.parametrize(
    "texts, kept",
    [
        (["9", "10"], "9"),  # text: the last by code point
        (["é", "z"], "é"),
        (["80", "ERR", "90"], "ERR"),
    ],
)
def test_of_several_texts_at_one_time_the_last_by_code_point_is_kept(tmp_path, texts, kept):
    hospital = Hospital()
    ids = hospital.stay()
    for text in texts:
        hospital.chart(ids, 1, 211, text)
    hospital.chart(ids, 3, 220739, "None")
    assert charted(hospital.build(tmp_path, compat="mimic3-benchmarks"), HR) == [(1.0, kept)]


def test_of_several_numbers_at_one_time_the_greatest_is_kept(tmp_path):
    hospital = Hospital()
    ids = hospital.stay()
    for number in ("9", "10", "9.5"):
        hospital.chart(ids, 1, 807, number)
    hospital.lab(ids, 1, 50931, "11")
    cohort = hospital.build(tmp_path, compat="mimic3-benchmarks")
    assert charted(cohort, GLUCOSE) == [(1.0, "11.0")]
    rows = {entry["table"]: (entry["used"], sum(entry["dropped"].values())) for entry in cohort.json("audit.json")["rows"]}
    assert rows == {"chartevents": (0, 3), "labevents": (1, 0)}


def test_what_stops_the_peer_is_counted(tmp_path):
    hospital = Hospital()
    ids = hospital.stay()
    hospital.chart(ids, 1, 676, "ERR")
    hospital.chart(ids, 1, 51, "120/")
    hospital.chart(ids, 2, 211, "80")
    warnings = hospital.build(tmp_path, compat="mimic3-benchmarks").json("audit.json")["warnings"]
    assert any(warning.startswith("2 texts at which") for warning in warnings)


@pytest.mark.parametrize("word, people", [(None, 1), ((220739, "None"), 0), ((999, "some words"), 0), ((999, "-5"), 1)])
def test_patients_with_numbers_only_are_reported(tmp_path, word, people):
    """The peer reads the values of such a patient as numbers; a word in any validated event of any item makes them text."""
    hospital = Hospital()
    ids = hospital.stay()
    hospital.chart(ids, 2, 211, "80")
    if word:
        hospital.chart(ids, 3, *word)
    warnings = hospital.build(tmp_path, compat="mimic3-benchmarks").json("audit.json")["warnings"]
    assert sum(warning.startswith(f"{people} patients have values in numbers only") for warning in warnings) == people
