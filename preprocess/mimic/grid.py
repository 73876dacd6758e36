"""How time becomes bins: the benchmarks' grid, closed on the right with an epsilon, and ours, half-open.

    compat    t in (-eps, end + eps), bin int(t / step - eps), int(end / step + 1 - eps) bins
    default   t in [-lookback, end), bin floor((t + lookback) / step), in whole microseconds

A value at 2.0 h falls into the first 2-hour bin of the one and into the second of the other.

A window that ends inside a bin keeps the full bins before it, and a row of its own, the tail, for what is known of the unfinished one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EPS = 1e-6
HOUR_US = 3_600_000_000


def hours_since(microseconds: np.ndarray) -> np.ndarray:
    """Hours as the benchmark computes them: seconds / 60 / 60, which is not seconds / 3600 to the last bit."""
    return microseconds / 1e6 / 60.0 / 60.0


def to_us(hours: np.ndarray | float) -> np.ndarray:
    return np.rint(np.asarray(hours, dtype=np.float64) * HOUR_US).astype(np.int64)


@dataclass(frozen=True)
class Grid:
    """Bins of `step_hours` from intime, or in the default mode from `lookback_hours` before it."""

    step_hours: float
    lookback_hours: float = 0.0
    compat: bool = False

    def rows(self, end_hours: np.ndarray) -> np.ndarray:
        """[n] number of bins of a series that ends at `end_hours` (0 where unknown): the last may be unfinished."""
        end = np.nan_to_num(np.asarray(end_hours, dtype=np.float64), nan=-1.0)
        if self.compat:
            return np.maximum((end / self.step_hours + 1.0 - EPS).astype(np.int64), 0) * (end >= 0)
        length = to_us(end) + to_us(self.lookback_hours)
        return np.maximum(-(-length // to_us(self.step_hours)), 0) * (end >= 0)

    def bins(self, since: np.ndarray, end_hours: np.ndarray) -> np.ndarray:
        """[n] bin of each event, -1 before the series, -2 after it.

        Args:
            since: [n] microseconds since intime.
            end_hours: [n] end of the event's series.
        """
        end = np.nan_to_num(end_hours, nan=-1.0)
        if self.compat:
            hours = hours_since(since)
            found = np.trunc(hours / self.step_hours - EPS).astype(np.int64)
            return np.where(hours <= -EPS, -1, np.where(hours < end + EPS, found, -2))
        start = since + to_us(self.lookback_hours)
        return np.where(start < 0, -1, np.where(since < to_us(end), start // to_us(self.step_hours), -2))

    def cut(self, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For windows that end at `hours`: [n] number of full bins, and [n] bool, whether an unfinished one follows."""
        hours = np.asarray(hours, dtype=np.float64)
        if self.compat:
            count = self.rows(hours)
            full = np.minimum(count, np.floor(hours / self.step_hours + EPS).astype(np.int64))
            return full, full < count
        full, rest = np.divmod(to_us(hours) + to_us(self.lookback_hours), to_us(self.step_hours))
        return full, rest > 0

    def known_by(self, since: np.ndarray, hours: np.ndarray) -> np.ndarray:
        """How many of one stay's events, in the order of time, a window that ends at each of `hours` holds."""
        if self.compat:
            return np.searchsorted(hours_since(since), np.asarray(hours) + EPS, side="right")
        return np.searchsorted(since, to_us(hours), side="left")
