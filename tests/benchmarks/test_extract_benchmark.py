"""The benchmark of extraction runs, and tells ratios that can be: at small size they are far from those at full size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "extract.py"


@pytest.mark.slow
def test_every_ratio_is_printed_and_possible():
    command = [
        sys.executable,
        SCRIPT,
        "--bert",
        "tiny",
        "--films",
        "4",
        "--reports",
        "32",
        "--runs",
        "1",
        "--workers",
        "0",
        "--dtype",
        "float32",
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    films, reports = told.split("reports: ")
    disk = [float(re.search(r"P13 ([\d.]+) of", part)[1]) for part in (films, reports)]
    assert 1 < disk[1] < 1.05 < disk[0] < 3, "index and manifest weigh little beside word pieces, and much beside four films"
    assert float(re.search(r"P4  ([\d.]+) \(", films)[1]) > 0 and float(re.search(r"P5  ([\d.]+) \(", reports)[1]) > 0
    assert 0 < float(re.search(r"padding ([\d.]+)%", reports)[1]) < 12.5, "a group's shortest text has seven eighths of its longest"
    assert "load average" in films and "load average" in reports
