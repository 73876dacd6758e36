"""The real CT, PET and PET headers, where they are."""

import os
from pathlib import Path

import pytest

PUBLIC = {
    "suv_headers": "https://github.com/cornerstonejs/calculate-suv",
    "petct_sts001": "https://www.cancerimagingarchive.net/collection/soft-tissue-sarcoma/",
    "ct_lidc0314": "https://www.cancerimagingarchive.net/collection/lidc-idri/",
}


@pytest.fixture(scope="session")
def real():
    """name -> a folder of $OMNIFUSE_TEST_DATA; skips with the public link where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("OMNIFUSE_TEST_DATA") or "/nonexistent") / name
        if not folder.is_dir():
            pytest.skip(f"set OMNIFUSE_TEST_DATA to a folder that holds {name} ({PUBLIC[name]})")
        return folder

    return find
