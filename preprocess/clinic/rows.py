"""Rows on their way to chartevents and labevents, collected as numpy arrays and made into one frame a block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from omnifuse.preprocess.clinic import items

CHART, LAB = 0, 1
LAGS = tuple(items.STORE_MINUTES)
TEXTS = (
    *items.EYE_TEXTS.values(),
    *items.VERBAL_TEXTS.values(),
    *items.MOTOR_TEXTS.values(),
    items.INTUBATED,
    *items.REFILL_TEXTS,
    "ART.",
    "VEN.",
)
NO_TEXT = -1
COLUMNS = {
    "stay": np.int64,  # row of the stay in its block
    "minute": np.int64,  # since the first full hour of the stay
    "itemid": np.int64,
    "table": np.int8,
    "lag": np.int8,  # index into LAGS
    "number": np.float64,  # NaN: none
    "text": np.int16,  # index into TEXTS; NO_TEXT: the number as text
}


def text_codes(texts) -> np.ndarray:
    return np.array([TEXTS.index(text) for text in texts], np.int16)


@dataclass
class Rows:
    """Collects rows; each column is an array or one value for all of them."""

    parts: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, stay, minute, itemid, *, table: int = CHART, lag="chart", number=np.nan, text=NO_TEXT) -> None:
        codes = LAGS.index(lag) if isinstance(lag, str) else lag
        given = (stay, minute, itemid, table, codes, number, text)
        length = len(minute)
        self.parts.append({name: np.broadcast_to(np.asarray(value, kind), length) for (name, kind), value in zip(COLUMNS.items(), given)})

    def frame(self) -> pl.DataFrame:
        """All rows by stay, time and item; the order depends on nothing else, so that later draws belong to their rows."""
        columns = {name: np.concatenate([part[name] for part in self.parts]) for name in COLUMNS}
        order = np.lexsort((columns["table"], columns["itemid"], columns["minute"], columns["stay"]))
        return pl.DataFrame({name: values[order] for name, values in columns.items()})
