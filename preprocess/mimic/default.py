"""Cleaning of the default mode: the rules of rules.py that look at one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess import tables
from omnifuse.preprocess.mimic import rules, values
from omnifuse.preprocess.mimic.events import BASE_COLUMNS
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.rules import COMFORT, ETT, NEW_CRR, SCORES, SPECIMEN
from omnifuse.preprocess.mimic.source import EVENT_TABLES
from omnifuse.preprocess.mimic.variables import CRR, DBP, FIO2, HEIGHT, SBP, SPO2, TEMPERATURE, VARIABLES, VERBAL, WEIGHT, ranges
from omnifuse.preprocess.tables import Column

# What an item is charted in, where its unit is not told.
_INCHES, _POUNDS, _OUNCES, _FAHRENHEIT = (1394, 226707), (3581, 226531), (3582,), (678, 679, 3654, 223761)
_SPELLED = {"in": ("in", "inch", "inches"), "cm": ("cm",), "lb": ("lb", "lbs", "pounds"), "oz": ("oz", "ounces"), "kg": ("kg", "kgs")}
_CM_PER_INCH, _KG_PER_POUND, _OUNCES_PER_POUND = 2.54, 0.45359237, 16
_IN_WORDS = np.isin(np.arange(NEW_CRR + 1), (*SCORES, SPECIMEN))
_IS_NUMBER = ~_IN_WORDS & (np.arange(NEW_CRR + 1) < len(VARIABLES))
# 0 is a scale that nobody stood on; the table of ranges would let it pass.
_NEVER_ZERO = (WEIGHT, HEIGHT)


class _Lost:
    """Why each row was dropped: the first reason counts."""

    def __init__(self, rows: int):
        self.codes = np.zeros(rows, dtype=np.uint8)
        self._reasons: list[str] = []

    def add(self, rows: np.ndarray, reason: str) -> int:
        new = rows & (self.codes == 0)
        self._reasons.append(reason)
        self.codes[new] = len(self._reasons)
        return int(new.sum())

    def tell(self, table: str, ledger: Ledger) -> None:
        counts = np.bincount(self.codes, minlength=len(self._reasons) + 1)
        for reason, count in zip(self._reasons, counts[1:]):
            ledger.drop(table, reason, count)


class DefaultMode:
    """The mode `none`.

    Args:
        venous_ph: venous pH counts too.
        storetime: a value is known from its storetime on, where there is one, and not from its charttime.
    """

    def __init__(self, *, venous_ph: bool, storetime: bool):
        self.items, self.left_out = rules.default_items(venous_ph), rules.left_out()
        self.refusal, self.warned = "errors", 0
        self._storetime = storetime
        self._comfort: list[pl.DataFrame] = []
        self._ranges = ranges().to_numpy().T  # outlier low, valid low, valid high, outlier high: [17] each

    def columns(self, table: str) -> tuple[Column, ...]:
        more = [Column("valueuom", pl.String)]
        if self._storetime:
            more.append(Column("storetime", pl.String, required=False))
        if table == "chartevents":
            more += [Column("error", pl.Int64, required=False), Column("warning", pl.Int64, required=False)]
        else:
            more.append(Column("specimen_id", pl.Int64, required=False))
        return (*BASE_COLUMNS[table], *more)

    def refused(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Rows that the charting system calls wrong. A warning marks an abnormal value, not a wrong one: it is counted."""
        if "error" not in frame.columns:
            return None
        self.warned += int((frame["warning"] == 1).sum() or 0)
        wrong = (frame["error"] == 1).fill_null(False)
        return wrong.to_numpy() if wrong.any() else None

    def watch_wanted(self, frame: pl.DataFrame, path: Path) -> None:
        """Notes when comfort care was ordered, of any stay: the rule counts those that are not kept too."""
        orders = np.flatnonzero(frame["variable"].to_numpy() == COMFORT)
        orders = orders[values.each(frame["value"].gather(orders), _is_comfort) == 1]
        if orders.size:
            times = [name for name in ("stay_id", "charttime", "storetime", "row") if name in frame.columns]
            self._comfort.append(self._timed(frame.select(times)[orders], path).select("stay_id", "known").drop_nulls())

    def watch_all(self, frame: pl.DataFrame, wanted: pl.DataFrame) -> None:
        return None

    def comfort(self) -> pl.DataFrame:
        """`stay_id` and `known`, when comfort care was ordered: a row an order."""
        return pl.concat([pl.DataFrame(schema={"stay_id": pl.Int64, "known": pl.Datetime("us")}), *self._comfort])

    def clean(self, frame: pl.DataFrame, table: str, path: Path, ledger: Ledger) -> pl.DataFrame:
        """Columns: stay uint32, time and known int64 (microseconds), variable uint8, table uint8, number float64, specimen int64.

        `number` is a value in its unit, for the variables in words a score, and for a specimen 1 where it is arterial.
        """
        lost = _Lost(frame.height)
        variable = frame["variable"].to_numpy().copy()
        lost.add(variable == COMFORT, "code status: read for comfort care")
        lost.add(frame["value"].is_null().to_numpy() & (variable != SPECIMEN), "no value")
        lost.add(frame["charttime"].is_null().to_numpy(), "no charttime")
        variable[variable == NEW_CRR] = CRR
        number = _read(frame["value"], variable)
        lost.add(np.isnan(number), "value not readable")
        _count_scores(frame, number, lost, ledger)
        _as_fraction(number, frame, variable, lost, ledger)
        _in_standard_units(number, frame, variable, lost, ledger)
        self._within_ranges(number, variable, lost, ledger)
        lost.tell(table, ledger)
        keep = np.flatnonzero(lost.codes == 0)
        columns = [name for name in ("stay", "charttime", "storetime", "specimen_id", "row") if name in frame.columns]
        kept = self._timed(frame.select(columns)[keep], path)
        variable = variable[keep]
        ledger.change("known-at", ((kept["known"] > kept["charttime"]).to_numpy() & (variable != SPECIMEN)).sum())
        specimen = pl.col("specimen_id") if "specimen_id" in columns else pl.lit(None, pl.Int64)
        return kept.select(
            "stay",
            pl.col("charttime").dt.epoch("us").alias("time"),
            pl.col("known").dt.epoch("us"),
            pl.Series("variable", variable),
            pl.lit(EVENT_TABLES.index(table), pl.UInt8).alias("table"),
            pl.Series("number", number[keep]),
            specimen.alias("specimen"),
        )

    def _timed(self, frame: pl.DataFrame, path: Path) -> pl.DataFrame:
        """With charttime parsed, and `known`: when the value could be read in the record."""
        frame = tables.parse_datetime(frame, "charttime", path)
        if not self._storetime:
            return frame.with_columns(pl.col("charttime").alias("known"))
        return tables.parse_datetime(frame, "storetime", path).with_columns(pl.coalesce("storetime", "charttime").alias("known"))

    def _within_ranges(self, number: np.ndarray, variable: np.ndarray, lost: _Lost, ledger: Ledger) -> None:
        """Drops outliers and sets the rest of the implausible to the valid bound, in place."""
        rows = np.flatnonzero(_IS_NUMBER[variable] & (lost.codes == 0))
        code, value = variable[rows], number[rows]
        low, valid_low, valid_high, high = self._ranges[:, code]
        outlier = (value < low) | (value > high) | ((value == 0) & np.isin(code, _NEVER_ZERO))
        bounded = np.clip(value, valid_low, valid_high)
        clipped = ~outlier & (bounded != value)
        number[rows[clipped]] = bounded[clipped]
        out = np.zeros(number.size, dtype=bool)
        out[rows[outlier]] = True
        lost.add(out, "outside the outlier bounds")
        for counter, some in ((ledger.nulled, outlier), (ledger.clipped, clipped)):
            found, counts = np.unique(code[some], return_counts=True)
            counter.update(dict(zip(found.tolist(), counts.tolist())))
        ledger.change("ranges", outlier.sum() + clipped.sum())


def _read(value: pl.Series, variable: np.ndarray) -> np.ndarray:
    """[n] float64: numbers, scores of the variables in words, 1 or 0 for a specimen; NaN where the text is none of it."""
    number = values.cast(value)
    odd = np.flatnonzero(~values.plain(value) | _IN_WORDS[variable])
    for code in np.unique(variable[odd]).tolist():
        rows = odd[variable[odd] == code]
        number[rows] = _arterial(value.gather(rows)) if code == SPECIMEN else values.each(value.gather(rows), _reader(code))
    number[~np.isfinite(number)] = np.nan
    return number


def _reader(code: int) -> Callable[[str], float]:
    """How a text of a variable is read that is not a plain number."""
    if code in SCORES:
        return lambda text: SCORES[code].get(text.strip().lower(), np.nan)
    return {SBP: values.systolic, DBP: values.diastolic}.get(code, values.decimal)


def _arterial(value: pl.Series) -> np.ndarray:
    """1 for ART (MIMIC-IV: "ART."), 0 for any other specimen and for none."""
    return (value.str.to_uppercase().str.strip_chars(" .") == "ART").fill_null(False).cast(pl.Float64).to_numpy()


def _is_comfort(text: str) -> float:
    """1 for an order of comfort care."""
    text = text.lower()
    return float("comfort" in text or text.strip() == "cmo")


def _count_scores(frame: pl.DataFrame, number: np.ndarray, lost: _Lost, ledger: Ledger) -> None:
    """What gcs-none, gcs-texts and gcs-ett changed."""
    item, alive = frame["itemid"].to_numpy(), lost.codes == 0
    eyes = np.flatnonzero(alive & (item == rules.METAVISION_EYE))
    ledger.change("gcs-texts", np.count_nonzero(alive & np.isin(item, rules.METAVISION)))
    ledger.change("gcs-none", (frame["value"].gather(eyes).str.to_lowercase() == "none").sum())
    ledger.change("gcs-ett", np.count_nonzero(alive & (frame["variable"].to_numpy() == VERBAL) & (number == ETT)))


def _as_fraction(number: np.ndarray, frame: pl.DataFrame, variable: np.ndarray, lost: _Lost, ledger: Ledger) -> None:
    """FiO2, in place: a fraction stays one, a percentage is divided, torr and the rest are dropped."""
    rows = np.flatnonzero((variable == FIO2) & (lost.codes == 0))
    found = number[rows]
    torr = frame["valueuom"].gather(rows).str.to_lowercase().str.contains("torr", literal=True).fill_null(False).to_numpy()
    fraction, percent = (found > 0.2) & (found <= 1), (found >= 20) & (found <= 100)
    number[rows[percent]] = found[percent] / 100.0
    out = np.zeros(number.size, dtype=bool)
    out[rows[torr]] = True
    lost.add(out, "left out by rule fio2: torr")
    out[rows[~(fraction | percent)]] = True
    lost.add(out, "left out by rule fio2: neither fraction nor percentage")
    ledger.change("fio2", out.sum() + (fraction & ~torr).sum())


def _in_standard_units(number: np.ndarray, frame: pl.DataFrame, variable: np.ndarray, lost: _Lost, ledger: Ledger) -> None:
    """Celsius, centimetres, kilograms and per cent, in place: by the item, and for weight and height by the stated unit before it.

    Temperature goes by the item alone: its unit is "?F" in MIMIC-III, where the degree sign was lost.
    """
    rows = np.flatnonzero(np.isin(variable, (TEMPERATURE, WEIGHT, HEIGHT, SPO2)) & (lost.codes == 0))
    found, code, item = number[rows], variable[rows], frame["itemid"].gather(rows).to_numpy()
    stated = frame["valueuom"].gather(rows).str.to_lowercase().str.strip_chars(" .").fill_null("")
    unit = {name: stated.is_in(spellings).to_numpy() for name, spellings in _SPELLED.items()}
    told = np.logical_or.reduce(list(unit.values()))
    fahrenheit = (code == TEMPERATURE) & np.isin(item, _FAHRENHEIT)
    inches = (code == HEIGHT) & np.where(told, unit["in"], np.isin(item, _INCHES))
    pounds = (code == WEIGHT) & np.where(told, unit["lb"], np.isin(item, _POUNDS))
    ounces = (code == WEIGHT) & np.where(told, unit["oz"], np.isin(item, _OUNCES))
    share = (code == SPO2) & (found <= 1)
    for chosen, convert in (
        (fahrenheit, lambda v: (v - 32) * 5 / 9),
        (inches, lambda v: v * _CM_PER_INCH),
        (pounds, lambda v: v * _KG_PER_POUND),
        (ounces, lambda v: v / _OUNCES_PER_POUND * _KG_PER_POUND),
        (share, lambda v: v * 100),
    ):
        number[rows[chosen]] = convert(found[chosen])
    ledger.change("units", (fahrenheit | inches | pounds | ounces).sum())
