"""A film table in the published layout of the public COVID-19 image set (metadata.csv), with its awkward cells, generated.

Several films a patient, offsets in days (negative, empty, in words), labels that are empty or unclear, infinite laboratory values, blanks
and commas in numbers, duplicate rows, notes with commas, quotes and line breaks, a byte order mark, and files that are not there.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

CANARY = "Zyxwvut"  # stands in notes and ids, and may stand in no message
HEADER = [
    "patientid",
    "offset",
    "sex",
    "age",
    "finding",
    "RT_PCR_positive",
    "survival",
    "intubated",
    "temperature",
    "pO2_saturation",
    "leukocyte_count",
    "neutrophil_count",
    "lymphocyte_count",
    "view",
    "modality",
    "date",
    "location",
    "folder",
    "filename",
    "doi",
    "url",
    "license",
    "clinical_notes",
    "other_notes",
]
COVID = "Pneumonia/Viral/COVID-19"
FINDINGS = (COVID, "Pneumonia/Bacterial", "No Finding", "todo", "")
OFFSETS = ("0", "3", "-2", "", "10 or more", "7.5")
LABS = ("37.2", " 38.1 ", "", "inf", "-inf", "36,9", "high", "NaN", "1e400", "40")

MANIFEST = """table: metadata.csv
patient: patientid
task: covid
label:
  column: finding
  positive: Pneumonia/Viral/COVID-19
  negative: [Pneumonia/Bacterial, No Finding]
  unknown: todo
  several: drop
modalities:
  film:
    kind: image
    path: filename
    folder: images
    keep: {modality: X-ray}
    order: offset
  labs:
    kind: columns
    numeric: [age, temperature, leukocyte_count]
    categorical: [sex]
    order: offset
"""


def table(patients: int = 60, seed: int = 0) -> list[dict[str, str]]:
    random = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        finding = FINDINGS[number % 5]
        for film in range(1 + number % 3):
            rows.append(_row(random, number, film, finding))
    rows.append(dict(rows[4]))  # the same row again
    return rows


def _row(random, number: int, film: int, finding: str) -> dict[str, str]:
    row = dict.fromkeys(HEADER, "")
    severe = finding == COVID
    row |= {
        "patientid": f"{CANARY}{number}",
        "offset": OFFSETS[(number + film) % 6],
        "sex": ("M", "F", "", "Unclear")[number % 4],
        "age": str(20 + number) if number % 7 else "",
        "finding": finding,
        "RT_PCR_positive": ("Y", "N", "Unclear", "")[number % 4],
        "survival": ("Y", "N", "")[number % 3],
        "temperature": LABS[(number + 3 * film) % 10],
        "leukocyte_count": f"{random.normal(9 + 2 * severe, 2):.2f}" if random.random() < 0.5 else "",
        "modality": "X-ray" if film < 2 else "CT",
        "view": "PA",
        "date": "January 22, 2020",
        "location": f"Hospital {number % 3}",
        "folder": "images",
        "filename": f"film{number}_{film}.png",
        "clinical_notes": f'A "{CANARY}", febrile,\nfor {number} days; 37,5 °C',
    }
    return row


def write(folder: Path, rows: list[dict[str, str]], *, name: str = "metadata.csv", absent: int = 5, encoding: str = "utf-8-sig") -> Path:
    """The table and its films (empty files: preprocessing does not decode them), of which every `absent`-th is not there."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, film in enumerate(sorted({row["filename"] for row in rows if row["filename"]})):
        if number % absent:
            (folder / "images" / Path(film).name).write_bytes(b"film")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / name).write_bytes(text.getvalue().encode(encoding))
    return folder
