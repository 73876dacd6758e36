"""Patients whose values are numbers only: the published pipeline reads theirs as numbers, by rules that are not imitated here.

pandas makes a column of a patient's events text as soon as one value of any item is no number. Nearly every patient has one among the
coma scales, so that these are looked at first; only patients without are looked for among all rows.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic import values

_STRIDE = 61


class Wordless:
    """The kept patients in whose events of kept admissions no word was met yet, by a table of their ids. `left` counts them."""

    def __init__(self, stays: pl.DataFrame):
        patients = stays["patient_id"].to_numpy()
        self._pending = np.zeros(int(patients.max()) + 2, dtype=bool)  # the last is of nobody
        self._pending[patients] = True
        self._admissions = stays["hadm_id"].implode()
        self.left = int(self._pending.sum())

    def look(self, frame: pl.DataFrame, scales: np.ndarray, wanted: pl.DataFrame) -> None:
        """Crosses off who has a word among some rows: first a few rows are looked at, then those of whom nothing was found.

        Args:
            frame: rows with subject_id, hadm_id and value.
            wanted: some of them, and `scales` [m] the places of the coma scales therein.
        """
        self._cross_off(wanted, scales)
        rows = self._of_pending(frame, np.arange(frame.height))
        self._cross_off(frame, rows[::_STRIDE])
        self._cross_off(frame, rows)

    def _of_pending(self, frame: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
        patients = frame["subject_id"].to_numpy()[rows]
        return rows[self._pending[np.clip(patients, -1, self._pending.size - 1)]]

    def _cross_off(self, frame: pl.DataFrame, rows: np.ndarray) -> None:
        rows = self._of_pending(frame, rows)
        if not rows.size:
            return
        some = pl.DataFrame([frame[name].gather(rows) for name in ("subject_id", "hadm_id", "value")])
        some = some.filter(pl.col("hadm_id").is_in(self._admissions) & pl.col("value").is_not_null())
        words = some.filter(pl.col("value").cast(pl.Float64, strict=False).is_null() & ~pl.col("value").is_in(values.NA_TEXTS))
        self._pending[words["subject_id"].to_numpy()] = False
        self.left = int(self._pending.sum())
