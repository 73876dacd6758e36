"""Fixtures of every room: the real data, where it is, and no network."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

PUBLIC = {
    "mimic3demo": "https://physionet.org/content/mimiciii-demo/1.4/",
    "mimic4demo": "https://physionet.org/content/mimic-iv-demo/2.2/",
    "cxr_hannover": "https://doi.org/10.25835/0090041",
    "mimic3demo_oracle": "made by mimic3-benchmarks from https://physionet.org/content/mimiciii-demo/1.4/",
}


def real_data(name: str) -> Path:
    """A folder of $OMNIFUSE_TEST_DATA; skips with the public link where it is absent."""
    home = os.environ.get("OMNIFUSE_TEST_DATA")
    folder = Path(home or "/nonexistent") / name
    if not folder.is_dir():
        pytest.skip(f"set OMNIFUSE_TEST_DATA to a folder that holds {name} ({PUBLIC.get(name, 'see its README')})")
    return folder


@pytest.fixture(scope="session")
def mimic3demo() -> Path:
    return real_data("mimic3demo")


@pytest.fixture(scope="session")
def mimic4demo() -> Path:
    return real_data("mimic4demo")


@pytest.fixture(scope="session")
def oracle() -> Path:
    return real_data("mimic3demo_oracle")


@pytest.fixture(scope="session")
def cxr_hannover() -> Path:
    return real_data("cxr_hannover")
