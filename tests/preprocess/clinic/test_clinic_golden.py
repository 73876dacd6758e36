"""The tables of three patients, pinned beside the number of the generator that made them."""

import csv
import gzip
import hashlib

import pytest

from omnifuse.preprocess.clinic.generate import GENERATOR, generate
from omnifuse.preprocess.clinic.tables import COLUMNS, file_name

PUBLISHED = {
    "generator": 2,
    "hosp/patients": "a2ff252f3f4e795f",
    "hosp/admissions": "a0da8ad48c73b7d4",
    "hosp/diagnoses_icd": "8c1cc031832bb33b",
    "hosp/d_icd_diagnoses": "7ad8881fb97f1bcc",
    "hosp/labevents": "3dc5ec2bb3747c58",
    "hosp/d_labitems": "aad924ca44829734",
    "icu/icustays": "b422962c5dbbdd8c",
    "icu/chartevents": "d3fff6aff37a186f",
    "icu/d_items": "b64be89274d645a6",
    "cxr/mimic-cxr-2.0.0-metadata": "5b29ed434cae47b8",
    "cxr/mimic-cxr-2.0.0-split": "19c0b79b183b1c49",
    "cxr/mimic-cxr-2.0.0-chexpert": "905274080669c765",
    "note/radiology": "055c25e05f0f243b",
    "note/radiology_detail": "2689ff25d0889d8b",
    "note/discharge": "f737213d89635417",
    "note/discharge_detail": "d4ec92c089bc6f75",
    "ecg/record_list": "096acb4f31110f71",
}
CHANGED = """the numbers of the clinic changed in %s.
A changed number needs GENERATOR in preprocess/clinic/generate.py raised, and voids the tables of results made with the old one.
Then pin the generator and what this test found: %s"""


def rounded(cell: str) -> str:
    """Text as it is; numbers to six decimals, beyond which builds of numpy may differ."""
    try:
        return f"{float(cell):.6f}"
    except ValueError:
        return cell


def digest(table: bytes) -> str:
    """Of the values of a CSV file, whatever wrote it."""
    rows = csv.reader(table.decode().splitlines(keepends=True), strict=True)
    return hashlib.sha256(repr([[rounded(cell) for cell in row] for row in rows]).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    raw = tmp_path_factory.mktemp("golden") / "raw"
    generate(raw, patients=3, seed=5)
    files = {name: raw / file_name(name) for name in COLUMNS}
    return {name: digest(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()) for name, path in files.items()}


def test_the_tables_are_those_that_this_generator_has_always_made(found):
    found = {"generator": GENERATOR, **found}
    changed = [name for name in PUBLISHED | found if PUBLISHED.get(name) != found.get(name)]
    assert not changed, CHANGED % (", ".join(changed), found)


def test_a_digest_sees_a_changed_value_and_not_the_last_bit_of_one():
    assert digest(b"a,b\nx,0.3\n") == digest(b"a,b\nx,0.30000000000000004\n")
    others = [b"a,b\nx,0.31\n", b"a,b\ny,0.3\n", b"a,c\nx,0.3\n", b"a,b\nx,\n", b"a,b\n", b"a,b\nx,0.3\nx,0.3\n"]
    assert len({digest(table) for table in [b"a,b\nx,0.3\n", *others]}) == 7
