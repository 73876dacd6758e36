"""Discharge notes of the stays' admissions, from MIMIC-IV-Note or MIMIC-III's NOTEEVENTS.

They are written when everything is over: every task of a stay leaks through them (windows.LEAKS), so that they are linked with --allow-leak
alone, and then to every sample of the admission, whenever they were written. The texts are whole: not cut to the words of a report.
"""

from __future__ import annotations

import polars as pl

from omnifuse.preprocess import text
from omnifuse.preprocess.mimic import linking
from omnifuse.preprocess.mimic.gathering import Gathered
from omnifuse.preprocess.mimic.linking import Counts
from omnifuse.preprocess.mimic.notes import Notes
from omnifuse.preprocess.mimic.reports import NO_TEXT

NO_ADMISSION = "of no kept stay's admission"


def link(notes: Notes, stays: pl.DataFrame, gathered: Gathered, **reading) -> Counts:
    """Gathers the notes of the admissions: stay_id, time, item_id, patient_id, section, text."""
    counts = Counts()
    known = stays.select("stay_id", "patient_id", "hadm_id")
    for rows in notes.rows(counts, 0.0, **reading):
        counts.rows += rows.height
        mine = rows.join(known, on=["patient_id", "hadm_id"], maintain_order="left").with_row_index("_row")
        counts.left_out[NO_ADMISSION] += rows.height - mine.height
        told = [text.normalise(raw or "", counts.notes) for raw in mine["text"]]
        mine = mine.with_columns(pl.Series("text", told, pl.String), pl.lit("full").alias("section"))
        mine = linking.drop_linked(mine, pl.col("text") != "", NO_TEXT, counts)
        counts.tally(mine, "known")
        gathered.append(linking.linked(mine, counts).select("stay_id", "time", "item_id", "patient_id", "section", "text"))
    return counts
