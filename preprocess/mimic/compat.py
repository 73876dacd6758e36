"""Cleaning as mimic3-benchmarks and MedFuse do it, bug for bug.

    capillary refill     two pairs of texts to 0.0 and 1.0, any other text is lost
    blood pressure       'a/b' split
    FiO2                 every value whose unit lacks 'torr' is divided by 100, fractions too: numpy makes one True of a Python 3 map
    oxygen saturation    up to 1 is a fraction
    temperature          from 79 on Fahrenheit; the test of the unit compares 'F' with lower-cased text and never fires
    weight, height       ounces, pounds and inches by words in the unit or the label
    HR, RR, mean BP, GCS as they stand, words or numbers

MedFuse writes VALUENUM where VALUEUOM belongs, so that a test of the unit sees a number and only labels are left.
What makes the peer stop ('ERR' as a temperature: it prints, exits with status 0 and writes no further episode) is null here, and counted.

Source: mimic3benchmark/preprocessing.py and subject.py at ea0314c7, MedFuse's mimic4extract at 3f8b54ec.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic import values
from omnifuse.preprocess.mimic.events import BASE_COLUMNS
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.source import EVENT_TABLES
from omnifuse.preprocess.mimic.variables import (
    CRR,
    DBP,
    EYE,
    FIO2,
    GLUCOSE,
    HEIGHT,
    MOTOR,
    PH,
    SBP,
    SPO2,
    TEMPERATURE,
    VARIABLES,
    VERBAL,
    WEIGHT,
    items,
)
from omnifuse.preprocess.mimic.wordless import Wordless
from omnifuse.preprocess.tables import Column

_NORMAL_REFILL = ("Normal <3 secs", "Brisk")
_SLOW_REFILL = ("Abnormal >3 secs", "Delayed")


class CompatMode:
    """The mode `mimic3-benchmarks`, or with `units=False` the mode `medfuse`."""

    def __init__(self, stays: pl.DataFrame, *, units: bool):
        self.units = units
        self.items = items().with_columns(name=pl.Series(VARIABLES).gather(items()["variable"]))
        labels = self.items.select("itemid", pl.col("label").str.to_lowercase())
        self._labels = {word: labels.filter(pl.col("label").str.contains(word, literal=True))["itemid"] for word in ("oz", "lb", "in")}
        self.left_out: dict[int, str] = {}
        self.refusal = ""
        self.wordless = Wordless(stays)
        self.stopped_peer = 0

    def columns(self, table: str) -> tuple[Column, ...]:
        return (*BASE_COLUMNS[table], Column("valueuom", pl.String)) if self.units else BASE_COLUMNS[table]

    def refused(self, frame: pl.DataFrame) -> None:
        return None  # the benchmarks use rows that CHARTEVENTS.ERROR calls wrong

    def watch_wanted(self, frame: pl.DataFrame, path: Path) -> None:
        return None

    def watch_all(self, frame: pl.DataFrame, wanted: pl.DataFrame) -> None:
        if self.wordless.left:
            self.wordless.look(frame, np.flatnonzero(_IN_WORDS[wanted["variable"].to_numpy()]), wanted)

    def clean(self, frame: pl.DataFrame, table: str, path: Path, ledger: Ledger) -> pl.DataFrame:
        """Columns: stay uint32, time int64 (microseconds), variable uint8, table uint8, number float64 or text."""
        absent = (frame["value"].is_null() | frame["value"].is_in(values.NA_TEXTS)).to_numpy()
        number, text = self._values(frame, absent)
        readable = ~np.isnan(number) | text.is_not_null().to_numpy()
        untimed = frame["charttime"].is_null().to_numpy()
        ledger.drop(table, "no value", np.count_nonzero(absent))
        ledger.drop(table, "value not readable", np.count_nonzero(~absent & ~readable))
        ledger.drop(table, "no charttime", np.count_nonzero(~absent & readable & untimed))
        keep = np.flatnonzero(~absent & readable & ~untimed)
        kept = tables.parse_datetime(frame.select("stay", "charttime", "variable", "row")[keep], "charttime", path)
        return kept.select(
            "stay",
            pl.col("charttime").dt.epoch("us").alias("time"),
            "variable",
            pl.lit(EVENT_TABLES.index(table), pl.UInt8).alias("table"),
            pl.Series("number", number[keep], nan_to_null=True),
            text.gather(keep).alias("text"),
        )

    def _values(self, frame: pl.DataFrame, absent: np.ndarray) -> tuple[np.ndarray, pl.Series]:
        """The cleaned values: [n] numbers, NaN for null, and texts of the variables that are not cleaned.

        Args:
            absent: [n] bool, what the peer reads as missing.
        """
        variable, value = frame["variable"].to_numpy(), frame["value"]
        is_plain, number, numeric = values.plain(value), values.cast(value), _NUMERIC[variable]
        number[~numeric] = np.nan
        odd = np.flatnonzero(numeric & (~is_plain | (variable == CRR)))
        for code in np.unique(variable[odd]).tolist():
            rows = odd[variable[odd] == code]
            number[rows] = values.each(value.gather(rows), _PARSERS[code])
            self.stopped_peer += np.count_nonzero(np.isnan(number[rows]) & ~absent[rows]) if code in _STOPS_THE_PEER else 0
        for code in (FIO2, SPO2, TEMPERATURE, WEIGHT, HEIGHT):
            rows = np.flatnonzero(variable == code)
            if rows.size:
                number[rows] = self._convert(code, number[rows], frame.select("itemid", "^valueuom$")[rows])
        return number, pl.select(pl.when(~pl.Series(numeric)).then(value)).to_series()

    def _convert(self, code: int, v: np.ndarray, frame: pl.DataFrame) -> np.ndarray:
        """Units to the benchmark's. Divisions stay in numpy: polars turns x / 100 into x * 0.01."""
        if code == FIO2:
            return np.where(self._unit(frame, "torr"), v, v / 100.0)
        if code == SPO2:
            return np.where(v <= 1, v * 100.0, v)
        if code == TEMPERATURE:
            return np.where(v >= 79, (v - 32) * 5.0 / 9, v)
        if code == WEIGHT:
            ounces = self._unit(frame, "oz") | self._label(frame, "oz")
            pounds = ounces | self._unit(frame, "lb") | self._label(frame, "lb")
            v = np.where(ounces, v / 16.0, v)
            return np.where(pounds, v * 0.453592, v)
        if code == HEIGHT:
            return np.where(self._unit(frame, "in") | self._label(frame, "in"), np.round(v * 2.54), v)
        raise ValueError(f"no conversion of variable {code}")

    def _unit(self, frame: pl.DataFrame, word: str) -> np.ndarray:
        if not self.units:
            return np.zeros(frame.height, dtype=bool)
        return frame["valueuom"].str.to_lowercase().str.contains(word, literal=True).fill_null(False).to_numpy()

    def _label(self, frame: pl.DataFrame, word: str) -> np.ndarray:
        return frame["itemid"].is_in(self._labels[word].to_list()).to_numpy()


def _refill(text: str) -> float:
    return 0.0 if text in _NORMAL_REFILL else 1.0 if text in _SLOW_REFILL else float("nan")


# How the text of each cleaned variable becomes a number; the others stay text.
_PARSERS: dict[int, Callable[[str], float]] = {
    TEMPERATURE: values.lenient, WEIGHT: values.lenient, HEIGHT: values.lenient, FIO2: values.lenient,
    SBP: values.systolic, DBP: values.diastolic, GLUCOSE: values.strict, PH: values.strict, SPO2: values.strict, CRR: _refill,
}  # fmt: skip
_STOPS_THE_PEER = (TEMPERATURE, WEIGHT, HEIGHT, FIO2, SBP, DBP)
_NUMERIC, _IN_WORDS = np.zeros(len(VARIABLES), dtype=bool), np.zeros(len(VARIABLES), dtype=bool)
_NUMERIC[list(_PARSERS)] = True
_IN_WORDS[[EYE, MOTOR, VERBAL]] = True
