"""Sections of a radiology report, and which of them is taken."""

import time

import pytest

from omnifuse.preprocess import sections

CXR = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough

 FINDINGS:

 Lungs are clear.
 Heart is normal: yes.

 IMPRESSION:

 No pneumonia.
"""


def body(text: str, wanted: str = "findings") -> tuple[str, str]:
    told, section = sections.choose(text, wanted)
    return " ".join(told.split()), section


def test_headers_are_lines_of_capitals_up_to_a_colon():
    names = [name for name, _ in sections.parse(CXR)]
    assert names == ["preamble", "examination", "indication", "findings", "impression"]
    assert dict(sections.parse(CXR))["findings"] == "\n\n Lungs are clear.\n Heart is normal: yes.\n\n"


@pytest.mark.parametrize(
    "text, wanted, expected",
    [
        (CXR, "findings", ("Lungs are clear. Heart is normal: yes.", "findings")),
        (CXR, "findings+impression", ("Lungs are clear. Heart is normal: yes. No pneumonia.", "findings+impression")),
        (" INDICATION: cough\n\n IMPRESSION: Clear.\n", "findings", ("Clear.", "impression")),
        (" INDICATION: cough\n\n IMPRESSION: Clear.\n", "findings+impression", ("Clear.", "impression")),
        (" FINDINGS: Clear.\n", "findings+impression", ("Clear.", "findings")),
        (" FINDINGS: \n \n IMPRESSION: Clear.\n", "findings", ("Clear.", "impression")),  # empty findings do not count
        (" FINDINGS: \n\n COMPARISON: none\n \n Clear.\n\n Again.", "findings", ("Clear. Again.", "last_paragraph")),
        (" COMPARISON: none\n \n Clear.\n", "findings+impression", ("Clear.", "last_paragraph")),
        ("Portable film\n\nClear.", "findings", ("Clear.", "last_paragraph")),  # no header at all
        (" COMPARISON: none", "findings", ("", "empty")),
        ("", "findings", ("", "empty")),
        ("  \n \n", "full", ("", "empty")),
        (" COMPARISON: none", "full", ("COMPARISON: none", "full")),
        (" FINDINGS: first\n\n FINDINGS: second\n", "findings", ("second", "findings")),  # of two of one name the last
        ("EXAMINATION: CHEST\n\nFINDINGS: \n \nClear.\n", "findings", ("Clear.", "findings")),  # MIMIC-IV-Note does not indent
        ("FINAL REPORT\n   FINDINGS:  Clear.\r\n   IMPRESSION: Ok\r\n", "findings", ("Clear.", "findings")),  # MIMIC-III indents by more
    ],
)
def test_findings_come_first_and_each_fallback_is_told(text, wanted, expected):
    assert body(text, wanted) == expected


@pytest.mark.parametrize(
    "header, name",
    [
        ("FINDINGS", "findings"),
        ("FINDINS", "findings"),
        ("FINDINGS AND IMPRESSION", "findings"),
        ("IMPRESSON", "impression"),
        ("CONCLUSION", "impression"),
        ("IMPRESSION (PRELIMINARY)", "impression"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE", "findings"),
        ("PA AND LATERAL", "findings"),
        ("SEMI-UPRIGHT PORTABLE AP CHEST RADIOGRAPH", "findings"),
        ("CHEST CT", "chest ct"),
        ("EXAMINATION", "examination"),
        ("REASON FOR EXAM", "reason for exam"),
        ("COMPARISON", "comparison"),
    ],
)
def test_names_are_folded(header, name):
    assert sections.fold(header) == name


# As long as what callers hand on (text.MAX_CHARACTERS).
@pytest.mark.parametrize("text", [" " * 200_000, "A" * 200_000, " A:\n" * 50_000, "\n" * 200_000, "\n \n" * 66_000])
def test_the_time_is_linear(text):
    start = time.process_time()
    sections.choose(text)
    assert time.process_time() - start < 5
