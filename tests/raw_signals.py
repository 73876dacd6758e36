"""WFDB headers and lists in the layouts of MIMIC-IV-ECG and of the matched waveforms, without samples."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from raw_cxr import table


class Ecgs:
    def __init__(self):
        self.rows: list[dict] = []
        self.absent: set[int] = set()

    def ecg(self, subject: int, time: datetime, *, absent: bool = False) -> str:
        study = 40_000_000 + len(self.rows)
        path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        self.rows.append({"subject_id": subject, "study_id": study, "file_name": study, "ecg_time": time, "path": path})
        if absent:
            self.absent.add(study)
        return path

    def write(self, root: Path) -> Path:
        for row in self.rows:
            if row["study_id"] not in self.absent:
                path = root / f"{row['path']}.hea"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{row['study_id']} 12 500 5000 {row['ecg_time']:%H:%M:%S %d/%m/%Y}\n")
        table(root / "record_list.csv.gz", ["subject_id", "study_id", "file_name", "ecg_time", "path"], self.rows)
        return root


def waveforms(root: Path, records: list[tuple[int, datetime, float]], listed: str = "RECORDS-waveforms") -> Path:
    """Records (subject, begin, hours) of the matched subset of MIMIC-III, at 125 Hz."""
    names = []
    for subject, begin, hours in records:
        folder = f"p{subject:06d}"[:3] + f"/p{subject:06d}"
        name = f"p{subject:06d}-{begin:%Y-%m-%d-%H-%M}"
        path = root / folder / f"{name}.hea"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}/2 3 125/125.00(0) {round(hours * 3600 * 125)} {begin:%H:%M:%S}.000 {begin:%d/%m/%Y}\nlayout 0\n")
        names.append(f"{folder}/{name}")
    (root / listed).write_text("\n".join(names) + "\n")
    return root
