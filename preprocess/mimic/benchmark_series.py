"""The irregular series of each stay as mimic3-benchmarks cuts it out of the patient's events, leaks included.

Values are deduplicated and pivoted by patient, not by stay: of several values of a variable at one time the greatest is kept, by number, or
for words by code point ('9' beats '10'). The rows of a stay are those of its own events, and all others of the patient between INTIME and
OUTTIME; so values charted under another admission at the same instant come along, and an episode may hold a row twice.

Source: convert_events_to_timeseries and get_events_for_stay in mimic3benchmark/subject.py at ea0314c7.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic import values
from omnifuse.preprocess.mimic.cells import changes, greatest
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.timeseries import Episodes
from omnifuse.preprocess.mimic.variables import CATEGORIES, EYE, HR, MBP, MOTOR, RR, TOTAL, VARIABLES, VERBAL

IN_WORDS = (HR, RR, MBP, EYE, MOTOR, VERBAL, TOTAL)  # what the benchmark does not clean: text, even where it is a number


def benchmark_episodes(events: pl.DataFrame, stays: pl.DataFrame, first_stay: int, ledger: Ledger) -> Episodes:
    """Episodes of a range of stays, which holds all stays of each of its patients.

    Args:
        events: rows of the scratch.
        stays: the stays of the range: patient_id, intime, outtime.
        first_stay: index in the scratch of the first of them.
    """
    words = events["text"].drop_nulls().unique().sort()  # by bytes of UTF-8, which is by code point
    rank = events["text"].cast(pl.Enum(words)).to_physical()
    value = pl.select(pl.coalesce(events["number"], rank.cast(pl.Float64))).to_series().to_numpy()
    patients = (stays["patient_id"].rank("dense") - 1).to_numpy()
    stay = events["stay"].to_numpy().astype(np.int64) - first_stay
    patient, time, variable = patients[stay], events["time"].to_numpy(), events["variable"].to_numpy()

    cells = greatest([patient, time, variable], value, events["table"].to_numpy(), ledger)
    begins = changes([patient[cells.row], time[cells.row]])
    instant = np.cumsum(begins) - 1  # of each cell
    place = np.full((int(begins.sum()), len(VARIABLES)), -1, dtype=np.int64)  # [instants, 17] the cell
    place[instant, variable[cells.row]] = np.arange(cells.row.size)
    at = cells.row[begins]  # a row of each instant
    own = _distinct(np.repeat(instant, np.diff(np.append(cells.starts, value.size))), stay[cells.order])
    row_stay, row_instant = _with_leaks(*own, patient[at], time[at], stays, patients)
    since = time[at][row_instant] - stays["intime"].dt.epoch("us").to_numpy()[row_stay]
    return Episodes(row_stay, since, *_fill(variable[cells.row], cells.value, words, place[row_instant], ledger))


def _distinct(instant: np.ndarray, stay: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of the rows, which stand in the order of their instants."""
    some = np.flatnonzero(changes([instant, stay]))
    pairs = np.unique(np.stack([instant[some], stay[some]], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _with_leaks(
    instant: np.ndarray, stay: np.ndarray, patient: np.ndarray, time: np.ndarray, stays: pl.DataFrame, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stay and instant of every row of every episode, sorted: the stay's own, and the patient's others between intime and outtime.

    Args:
        instant, stay: the pairs in which an event stands.
        patient, time: of each instant.
    """
    others = stays.select(
        pl.Series("patient", patients),
        pl.int_range(pl.len()).alias("other"),
        pl.col("intime").dt.epoch("us").alias("start"),
        pl.col("outtime").dt.epoch("us").alias("end"),
    ).filter(pl.len().over("patient") > 1)
    own = pl.DataFrame({"instant": instant, "stay": stay, "patient": patient[instant], "time": time[instant]})
    leaked = own.join(others, on="patient").filter(
        (pl.col("other") != pl.col("stay")) & pl.col("time").is_between(pl.col("start"), pl.col("end"))
    )
    row_stay = np.concatenate([stay, leaked["other"].to_numpy()])
    row_instant = np.concatenate([instant, leaked["instant"].to_numpy()])
    order = np.lexsort((row_instant, row_stay))
    return row_stay[order], row_instant[order]


def _fill(variable: np.ndarray, value: np.ndarray, words: pl.Series, place: np.ndarray, ledger: Ledger) -> tuple[np.ndarray, pl.DataFrame]:
    """[E, 17] values and the 17 columns of texts.

    Args:
        variable, value: of each cell; the value is a number, or for the variables in words the place of the word in `words`.
        place: [E, 17] the cell, -1 where nothing was charted.
    """
    out, texts = np.full(place.shape, np.nan), {}
    for code, name in enumerate(VARIABLES):
        rows = np.flatnonzero(place[:, code] >= 0)
        found = value[place[rows, code]]
        if code in IN_WORDS:
            distinct, index = words, found.astype(np.int64)
            found = _read_words(name, words)[index]
        else:
            distinct, index = values.distinct_texts(found)
        out[rows, code] = found
        texts[name] = spread(distinct, index, rows, place.shape[0])
        ledger.values[code] += rows.size
        ledger.change("unreadable for the discretiser", np.isnan(found).sum())
    return out, pl.DataFrame(texts)


def _read_words(name: str, words: pl.Series) -> np.ndarray:
    """What the discretiser makes of each word in a variable that was not cleaned: a number or the index of a category."""
    categories = CATEGORIES[name]
    read = (lambda word: float(categories.index(word)) if word in categories else np.nan) if categories else values.lenient
    return np.array([read(word) for word in words.to_list()], dtype=np.float64)


def spread(distinct: pl.Series, index: np.ndarray, rows: np.ndarray, total: int) -> pl.Series:
    """A column of `total` texts, null but at `rows`, where the texts `distinct[index]` stand."""
    whole = np.full(total, len(distinct))
    whole[rows] = index
    return distinct.extend_constant(None, 1).gather(whole)
