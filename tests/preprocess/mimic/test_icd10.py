"""ICD-10-CM codes to phenotypes: the reviewed table on the real tables, the rule on made ones."""

import csv
from pathlib import Path

import pytest

from omnifuse.preprocess.mimic import phenotypes
from omnifuse.preprocess.mimic.icd10 import Icd10, Target, normalise, package_file, read_ahrq, read_gem, read_overrides

REVIEWED = list(csv.DictReader((Path(__file__).parent / "icd10_reviewed.csv").read_text(encoding="utf-8").splitlines()))
RULE = Icd10(phenotypes.icd9_codes())
BARE = Icd10(phenotypes.icd9_codes(), overrides={})

# --- on the real tables


@pytest.mark.parametrize("row", REVIEWED, ids=[row["icd10"] for row in REVIEWED])
def test_reviewed_codes_agree(row):
    assert RULE.map(normalise(row["icd10"])).labels == {int(label) for label in row["labels"].split(";") if label}, row["why"]


def test_the_reviewed_table_covers_every_label():
    labels = [int(label) for row in REVIEWED for label in row["labels"].split(";") if label]
    assert set(labels) == set(phenotypes.ccs_ids().values()) and len(labels) >= 200
    assert len({row["icd10"] for row in REVIEWED}) == len(REVIEWED) and all(row["why"] for row in REVIEWED)


RELEASE = package_file("ICD_10_CM_2024_release/icd10cm-codes-2024.txt").decode("latin-1").splitlines()
FY2024 = [line[:7].strip() for line in RELEASE]


@pytest.mark.parametrize("line", sorted(set(read_overrides()) - {"U071"}))  # U07.1 is written down though it changes nothing
def test_every_override_changes_what_the_rule_would_say(line):
    below = [code for code in FY2024 if code == line or (line.endswith("*") and code.startswith(line[:-1]) and code not in read_gem())]
    assert below and all(BARE.map(code).labels != RULE.map(code).labels for code in below)


def test_no_code_of_a_phenotype_family_is_left_undecided():
    """Every code of FY2024 whose 3-character family holds phenotypes has a row, a parent or an override, but for these, reviewed: none."""
    families = {code[:3] for code in read_gem() if RULE.map(code).labels}
    undecided = {code for code in FY2024 if code[:3] in families and RULE.map(code).via == "none"}
    # wasting, chronic migraine, retroperitoneal fibrosis and haematoma, fractures by resuscitation, foreign body sensation, history of
    # neonatal enterocolitis, caregiver's noncompliance
    assert {code[:4] for code in undecided} == {"E88A", "G43E", "K682", "K683", "M96A", "R09A", "Z876", "Z91A"}


# --- on made tables: 2 and 249 are phenotypes, 9 and 8 are not

MADE = {
    "both": [Target("785.52", 1, 1), Target("995.92", 1, 2)],
    "scenarios": [Target("785.52", 1, 1), Target("other9", 1, 2), Target("995.92", 2, 1)],
    "choices": [Target("785.52", 1, 1), Target("995.92", 1, 2), Target("other9", 1, 2), Target("another9", 1, 2)],
    "single beside": [Target("995.92", 0, 0), Target("785.52", 1, 1), Target("other9", 1, 2)],
    "majority": [Target("785.52", 0, 0), Target("995.92", 0, 0), Target("790.7", 0, 0)],
    "outvoted": [Target("785.52", 0, 0), Target("other9", 0, 0), Target("another9", 0, 0)],
    "own group": [Target("785.52", 0, 0), Target("other9", 0, 0), Target("other8", 0, 0)],
    "tie": [Target("785.52", 0, 0), Target("995.92", 0, 0)],
    "tie lost": [Target("other9", 0, 0), Target("785.52", 0, 0)],
    "tie of others": [Target("other9", 0, 0), Target("other8", 0, 0)],
    "no map": [],
    "A001": [Target("785.52", 0, 0)],
    "A0020": [Target("995.92", 0, 0)],
    "A0021": [Target("790.7", 0, 0)],
    "A0022": [Target("other9", 0, 0)],
    "A0030": [Target("995.92", 0, 0)],
    "A0031": [Target("other9", 0, 0)],
    "A00": [Target("785.52", 0, 0)],
    "T000XXA": [Target("785.52", 0, 0)],
    "T000XXD": [Target("other9", 0, 0)],
    "T000XXS": [Target("other9", 0, 0)],
    "X990": [Target("785.52", 0, 0)],
}


@pytest.mark.parametrize(
    "code, labels, via, tie",
    [
        ("both", {2, 249}, "table", False),
        ("scenarios", {249}, "table", False),  # the second scenario is another reading
        ("choices", {249}, "table", False),  # within a choice list the majority counts
        ("single beside", {249}, "table", False),  # the combination says more than the single code
        ("majority", {2}, "table", False),
        ("outvoted", set(), "table", False),
        ("own group", {249}, "table", True),  # two other categories do not vote together
        ("tie", {249}, "table", True),
        ("tie lost", set(), "table", True),
        ("tie of others", set(), "table", False),  # no phenotype at stake: nothing to review
        ("no map", set(), "table", False),
        ("A0011", {249}, "parent", False),  # a code of the table that was split
        ("A0029", {2}, "parent", False),  # a stem: two of three
        ("A002", {2}, "parent", False),  # the stem itself, written as a code
        ("A0039", set(), "parent", False),  # one of two is no majority
        ("A004", set(), "none", False),  # three characters are too few
        ("T0001XA", {249}, "parent", False),  # the same encounter
        ("T0001XS", set(), "parent", False),
        ("X990", {2}, "override", False),
        ("Z0001", {2}, "override", False),  # by its prefix
        ("A0012", set(), "override", False),  # an override goes before the parent
        ("no code", set(), "none", False),
    ],
)
def test_the_rule(code, labels, via, tie):
    icd9 = {"785.52": 249, "995.92": 2, "790.7": 2}
    ccs = {**icd9, "other9": 9, "another9": 9, "other8": 8}
    overrides = {"X990": frozenset({2}), "Z00*": frozenset({2}), "A0012": frozenset()}
    mapped = Icd10(icd9, ccs, MADE, overrides).map(code)
    assert (mapped.labels, mapped.via, mapped.tie) == (labels, via, tie)


def test_a_prefix_override_leaves_the_codes_of_the_table_alone():
    made = {"R05": [Target("786.2", 0, 0)]}
    rule = Icd10({"786.2": 133}, {"786.2": 133}, made, {"R05*": frozenset({2})})
    assert rule.map("R05").labels == {133} and rule.map("R051").labels == {2}


def test_the_dotted_form_of_ahrqs_table_is_read(tmp_path):
    path = tmp_path / "ccs.csv"
    path.write_text("ICD10CM,CCSCM\nI25.10,101\nC7A.010,18\n")
    assert read_ahrq(path) == {"I2510": 101, "C7A010": 18}
