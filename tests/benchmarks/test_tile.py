"""The tiled demos of the benchmarks: N times the patients, every other field as it was."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tile.py"
DEMOS = {
    "mimic-iii": (
        {
            "ICUSTAYS.csv.gz": "row_id,subject_id,hadm_id,icustay_id\n1,10,20,30\n2,11,21,31\n",
            "CHARTEVENTS.csv": 'ROW_ID,SUBJECT_ID,ICUSTAY_ID,VALUE\n7,10,30,"a,\nb"\n8,11,,0.50\n',
            "D_ITEMS.csv": "row_id,itemid\n1,211\n",
        },
        10**6,
    ),
    "mimic-iv": (
        {"icu/icustays.csv.gz": "subject_id,hadm_id,stay_id\n10,20,30\n", "hosp/d_labitems.csv": "itemid\n1\n"},
        10**8,
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_copies_differ_in_their_ids_only(name, tmp_path):
    tables, step = DEMOS[name]
    for table, text in tables.items():
        path = tmp_path / "demo" / table
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if table.endswith(".gz") else text.encode())
    command = [sys.executable, SCRIPT, tmp_path / "demo", tmp_path / "out", "--times", "3"]
    subprocess.run(command, check=True, capture_output=True)
    made = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.csv*")}
    texts = {table: (gzip.decompress if table.endswith(".gz") else bytes)(path.read_bytes()).decode() for table, path in made.items()}
    assert texts.keys() == tables.keys()
    if name == "mimic-iii":
        chart = "ROW_ID,SUBJECT_ID,ICUSTAY_ID,VALUE\n"
        for copy in range(3):
            ids = [7 + copy * 10**9, 10 + copy * step, 30 + copy * step, 8 + copy * 10**9, 11 + copy * step]
            chart += '{},{},{},"a,\nb"\n{},{},,0.50\n'.format(*ids)
        assert texts["CHARTEVENTS.csv"] == chart
        assert texts["D_ITEMS.csv"] == tables["D_ITEMS.csv"]
    else:
        rows = [f"{10 + copy * step},{20 + copy * step},{30 + copy * step}" for copy in range(3)]
        assert texts["icu/icustays.csv.gz"] == "\n".join(["subject_id,hadm_id,stay_id", *rows, ""])
    again = subprocess.run(command, capture_output=True)
    assert again.returncode != 0, "an existing folder is not written into"
