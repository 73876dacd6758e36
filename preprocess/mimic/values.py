"""Texts of a chart to numbers and back, as the peers' Python does it.

    lenient   float(text): Temperature, Weight, Height, FiO2, blood pressures
    strict    only what matches ^(\\d+(\\.\\d*)?|\\.\\d+)$: glucose, pH, oxygen saturation ('7.' passes; '-5', '1e2', ' 97 ' do not)

Plain texts are parsed by polars, which rounds as Python does; the few others by Python itself, once each, so that its rules hold to the
letter ('1_0', 'inf', digits of other scripts).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import polars as pl

_PLAIN = r"^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)$"
_STRICT = re.compile(r"^(\d+(\.\d*)?|\.\d+)$")
_RATIO = re.compile(r"^(\d+)/(\d+)$")
_DECIMAL = re.compile(r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$")

# What pandas 1.5.3 reads as missing by default. "None" is a value: eyes do not open.
NA_TEXTS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "n/a",
    "nan", "null",
)  # fmt: skip


def lenient(text: str) -> float:
    """float(text), NaN where Python refuses."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def strict(text: str) -> float:
    return float(text) if _STRICT.match(text) else float("nan")


def decimal(text: str) -> float:
    """A finite decimal number, blanks around it allowed; NaN for anything else ('>500', '60/min', '1e400', 'inf')."""
    text = text.strip()
    number = float(text) if _DECIMAL.match(text) else float("nan")
    return number if np.isfinite(number) else float("nan")


def systolic(text: str) -> float:
    return _of_ratio(text, 1)


def diastolic(text: str) -> float:
    return _of_ratio(text, 2)


def _of_ratio(text: str, group: int) -> float:
    """'120/80' holds both pressures, as integers."""
    if "/" not in text:
        return lenient(text)
    match = _RATIO.match(text)
    return float(match.group(group)) if match else float("nan")


def plain(texts: pl.Series) -> np.ndarray:
    """[n] bool: the text is digits, perhaps with a point; False for a null."""
    return texts.str.contains(_PLAIN).fill_null(False).to_numpy()


def cast(texts: pl.Series) -> np.ndarray:
    """[n] float64 of plain texts; what stands for the others is not defined."""
    return texts.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy(writable=True)


def each(texts: pl.Series, function: Callable[[str], float]) -> np.ndarray:
    """[n] float64: `function` of every text, computed once a distinct text; NaN for a null."""
    if texts.is_empty():
        return np.zeros(0)
    distinct = texts.unique().drop_nulls()
    found = pl.Series([function(text) for text in distinct], dtype=pl.Float64)
    return texts.replace_strict(distinct, found, default=None, return_dtype=pl.Float64).fill_null(float("nan")).to_numpy()


def distinct_texts(numbers: np.ndarray) -> tuple[pl.Series, np.ndarray]:
    """The distinct numbers as Python prints them, and [n] the place of each number among them."""
    distinct, index = np.unique(numbers, return_inverse=True)
    return pl.Series([repr(number) for number in distinct.tolist()], dtype=pl.String), index
