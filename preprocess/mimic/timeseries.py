"""From the irregular series to the 76 columns: the last value of each bin, the one before where there is none, a normal one at first.

Every row that a model will read, a full bin or the tail of an unfinished one, is answered by one question: which is the last value of each
channel at its end? `maximum.accumulate` over the rows of the series answers it for all at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic.grid import Grid, hours_since
from omnifuse.preprocess.mimic.variables import CATEGORIES, COLUMNS, MASKS, NORMAL, STARTS, VARIABLES

NO_SCORE = -1.0  # in place of a category that cannot be told: the coma scale's total while the patient is intubated
_IN_CATEGORIES = np.array([bool(CATEGORIES[name]) for name in VARIABLES])


@dataclass
class Episodes:
    """Rows of the irregular series of the stays [0, S) of one range, sorted by stay and time.

    Shapes:
        stay: [E] index of the stay in the range.
        since: [E] int64, microseconds since intime.
        values: [E, 17] float64: a number, or the index of a category; NaN where nothing was charted.
        texts: 17 columns of E texts, as events.parquet holds them.
    """

    stay: np.ndarray
    since: np.ndarray
    values: np.ndarray
    texts: pl.DataFrame

    def frame(self, stay_ids: pl.Series) -> pl.DataFrame:
        """The rows of events.parquet."""
        keys = pl.DataFrame({"stay_id": stay_ids.gather(self.stay), "hours": hours_since(self.since)})
        return pl.concat([keys, self.texts], how="horizontal")


class Tokens:
    """The rows that models read, of one range of stays.

    Args:
        end_hours: [S] where each stay's series ends.
    """

    def __init__(self, episodes: Episodes, grid: Grid, end_hours: np.ndarray):
        self.grid, self.episodes = grid, episodes
        self.lengths = grid.rows(end_hours)
        stays = np.arange(end_hours.size)
        self._width = int(self.lengths.max(initial=0)) + 2  # keys of a stay: before, its bins, after
        bins = grid.bins(episodes.since, end_hours[episodes.stay])
        bins = np.where(bins == -2, self._width - 2, bins)
        self._keys = episodes.stay * self._width + bins + 1
        self._first = np.searchsorted(self._keys, stays * self._width + 1)  # the first row inside each stay's series
        inside = (bins >= 0) & (bins < self.lengths[episodes.stay])
        self.first_since = _first_inside(episodes, inside, end_hours.size)
        row = np.arange(episodes.stay.size)[:, None]
        self._last = np.maximum.accumulate(np.where(np.isnan(episodes.values), -1, row), axis=0)

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and masks [R, 17] of all bins, stay after stay."""
        stay = np.repeat(np.arange(self.lengths.size), self.lengths)
        bin_ = np.arange(stay.size) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        lower, upper = self._rows_of(stay, bin_)
        return self._at(stay, lower, upper)

    def tails(self, stay: np.ndarray, full: np.ndarray, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and masks [n, 17] of unfinished bins.

        Args:
            stay: [n] index of the stay, ascending.
            full: [n] full bins before.
            hours: [n] end of the window.
        """
        lower, upper = self._rows_of(stay, full)
        begins = np.searchsorted(self.episodes.stay, np.arange(self.lengths.size + 1))
        known = np.empty(stay.size, dtype=np.int64)
        for index in np.unique(stay):
            mine = stay == index if stay.size < 64 else slice(*np.searchsorted(stay, [index, index + 1]))
            begin = begins[index]
            known[mine] = begin + self.grid.known_by(self.episodes.since[begin : begins[index + 1]], hours[mine])
        return self._at(stay, lower, np.maximum(np.minimum(upper, known), lower))

    def _rows_of(self, stay: np.ndarray, bin_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = stay * self._width + bin_ + 1
        return np.searchsorted(self._keys, key, side="left"), np.searchsorted(self._keys, key, side="right")

    def _at(self, stay: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The last values before row `upper`, and whether they stand at `lower` or after it."""
        if not self.episodes.stay.size:
            return np.tile(NORMAL, (stay.size, 1)), np.zeros((stay.size, len(NORMAL)), dtype=bool)
        last = np.where((upper > 0)[:, None], self._last[np.maximum(upper, 1) - 1], -1)  # [n, 17]
        known = last >= self._first[stay][:, None]
        values = np.where(known, np.take_along_axis(self.episodes.values, np.maximum(last, 0), axis=0), NORMAL)
        return values, (last >= lower[:, None]) & known & ~(_IN_CATEGORIES & (values == NO_SCORE))


def _first_inside(episodes: Episodes, inside: np.ndarray, stays: int) -> np.ndarray:
    """[S] microseconds since intime of each stay's first row in its series; the greatest integer where there is none."""
    first = np.full(stays, np.iinfo(np.int64).max)
    rows = np.flatnonzero(inside)
    np.minimum.at(first, episodes.stay[rows], episodes.since[rows])
    return first


def columns_of(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """[n, 17] values and masks to [n, 76] float32: one-hot categories, numbers, masks."""
    out = np.zeros((values.shape[0], len(COLUMNS)), dtype=np.float32)
    for channel, (start, name) in enumerate(zip(STARTS, VARIABLES)):
        if CATEGORIES[name]:
            told = np.flatnonzero(values[:, channel] >= 0)
            out[told, start + values[told, channel].astype(np.int64)] = 1.0
        else:
            out[:, start] = values[:, channel]
    out[:, MASKS:] = observed
    return out
