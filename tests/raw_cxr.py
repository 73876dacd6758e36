"""Films and reports in the layout of MIMIC-CXR-JPG 2 and MIMIC-CXR 2, written film by film: to move one, or to break it."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import datetime
from pathlib import Path

LABELS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
          "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices")  # fmt: skip
METADATA = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate",
            "StudyTime", "ProcedureCodeSequence_CodeMeaning"]  # fmt: skip
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old woman with dyspnea // pneumonia?

 COMPARISON:  ___.

 FINDINGS:

 {findings}

 IMPRESSION:

 {impression}
"""


class Films:
    """Rows of the tables, and the files. `film` gives the dicom_id."""

    def __init__(self):
        self.films: list[dict] = []
        self.labels: dict[int, dict[str, float]] = {}
        self.subjects: dict[int, int] = {}
        self.reports: dict[tuple[int, int], str | bytes] = {}
        self.bytes: dict[str, bytes | None] = {}

    def film(
        self,
        subject: int,
        time: datetime | None,
        *,
        view: str = "AP",
        study: int | None = None,
        labels: dict[str, float] | None = None,
        content: bytes | None = b"\xff\xd8 a film",
        **fields,
    ) -> str:
        """A film; `labels=None` gives its study no row in CheXpert's table, `content=None` no file."""
        study = study or 50_000_000 + len(self.films)
        dicom = fields.pop("dicom_id", f"{len(self.films):08x}-00000000-11111111-22222222-33333333")
        # As published: a number, so that 09:30:14.531 lost its zero.
        clock = str(float(time.strftime("%H%M%S.%f"))) if time else ""
        when = {"StudyDate": time.strftime("%Y%m%d") if time else "", "StudyTime": clock}
        self.films.append({"dicom_id": dicom, "subject_id": subject, "study_id": study, "ViewPosition": view, **when, **fields})
        self.subjects[study] = subject
        self.bytes[dicom] = content
        if labels is not None:
            self.labels[study] = labels
        return dicom

    def report(
        self, study: int, findings: str = "The lungs are clear.", impression: str = "No pneumonia.", text: str | bytes | None = None
    ):
        told = text if text is not None else REPORT.format(findings=findings, impression=impression)
        self.reports[self.subjects[study], study] = told

    def write(self, root: Path, suffix: str = ".jpg") -> Path:
        folder = lambda subject: root / "files" / f"p{str(subject)[:2]}" / f"p{subject}"
        for row in self.films:
            content = self.bytes[row["dicom_id"]]
            if content is not None:
                path = folder(row["subject_id"]) / f"s{row['study_id']}" / f"{row['dicom_id']}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self.write_reports(root)
        root.mkdir(parents=True, exist_ok=True)
        table(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, self.films)
        table(
            root / "mimic-cxr-2.0.0-split.csv.gz",
            ["dicom_id", "study_id", "subject_id", "split"],
            [{**row, "split": "train"} for row in self.films],
        )
        labels = [{"subject_id": self.subjects[study], "study_id": study, **told} for study, told in self.labels.items()]
        table(root / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *LABELS], labels)
        return root

    def write_reports(self, root: Path) -> Path:
        for (subject, study), told in self.reports.items():
            path = root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(told if isinstance(told, bytes) else told.encode())
        return root


def table(path: Path, columns: list[str], rows: list[dict]) -> None:
    """A .csv.gz with these columns; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
