"""Notes in the layouts of MIMIC-IV-Note 2.2 and of MIMIC-III's NOTEEVENTS, written note by note."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from raw_cxr import table

NOTE = ["note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"]
DETAIL = ["note_id", "subject_id", "field_name", "field_value", "field_ordinal"]
EVENTS = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION", "CGID", "ISERROR", "TEXT"]
RADIOLOGY = "EXAMINATION:  CHEST (PORTABLE AP)\n\nINDICATION:  ___ year old man\n\nFINDINGS: \n \n{}\n\nIMPRESSION: \n\n{}\n"


class Notes:
    """MIMIC-IV-Note. Ids are dicts with subject_id and hadm_id, as of raw_mimic.Hospital.stay."""

    def __init__(self):
        self.radiology: list[dict] = []
        self.details: list[dict] = []
        self.discharge: list[dict] = []

    def report(
        self,
        ids: dict,
        charttime: datetime,
        storetime: datetime | None = None,
        text: str | None = None,
        exam: str = "CHEST (PORTABLE AP)",
        **fields,
    ) -> str:
        note = f"{ids['subject_id']}-RR-{len(self.radiology)}"
        told = RADIOLOGY.format("Lungs are clear.", "Normal.") if text is None else text
        row = {**ids, "note_id": note, "note_type": "RR", "note_seq": 1, "charttime": charttime, "storetime": storetime or "", "text": told}
        self.radiology.append({**row, **fields})
        for name, value in (("exam_code", "C11"), ("exam_name", exam), ("cpt_code", "71010")):
            self.details.append(
                {"note_id": note, "subject_id": ids["subject_id"], "field_name": name, "field_value": value, "field_ordinal": 1}
            )
        return note

    def summary(self, ids: dict, charttime: datetime, text: str = "Discharge Diagnosis: ___ \n essential hypertension") -> str:
        note = f"{ids['subject_id']}-DS-{len(self.discharge)}"
        row = {"note_id": note, "note_type": "DS", "note_seq": 1, "charttime": charttime, "storetime": charttime, "text": text}
        self.discharge.append({**ids, **row})
        return note

    def write(self, folder: Path, detail: bool = True) -> Path:
        table(folder / "note" / "radiology.csv.gz", NOTE, self.radiology)
        if detail:
            table(folder / "note" / "radiology_detail.csv.gz", DETAIL, self.details)
        if self.discharge:
            table(folder / "note" / "discharge.csv.gz", NOTE, self.discharge)
        return folder


class NoteEvents:
    """MIMIC-III's NOTEEVENTS."""

    def __init__(self):
        self.rows: list[dict] = []

    def note(self, ids: dict, category: str, text: str, *, time: datetime | None = None, date: datetime | None = None, **fields) -> None:
        day = (date or time).strftime("%Y-%m-%d")
        row = {
            "ROW_ID": len(self.rows) + 1,
            "SUBJECT_ID": ids["subject_id"],
            "HADM_ID": ids["hadm_id"],
            "CHARTDATE": day,
            "CHARTTIME": time or "",
        }
        self.rows.append({**row, "CATEGORY": category, "TEXT": text, **fields})

    def write(self, folder: Path) -> Path:
        table(folder / "NOTEEVENTS.csv.gz", EVENTS, self.rows)
        return folder
