"""What became of every row: in = used + dropped, reason by reason, table by table; and what each rule changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic.variables import VARIABLES


class Ledger:
    """Counters that the pass over the event tables and the time series fill, and that audit.json prints."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.dropped: dict[str, Counter[str]] = defaultdict(Counter)
        self.used: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.items: Counter[int] = Counter()
        self.nulled: Counter[int] = Counter()
        self.clipped: Counter[int] = Counter()
        self.values: Counter[int] = Counter()
        self.stays: Counter[int] = Counter()

    def drop(self, table: str, reason: str, count: int) -> None:
        if count:
            self.dropped[table][reason] += int(count)

    def change(self, rule: str, count: int) -> None:
        self.rules[rule] += int(count)

    def rows_json(self) -> list[dict[str, Any]]:
        """One entry a table. Raises AssertionError where a row was lost without a reason."""
        entries = []
        for table, total in self.rows.items():
            dropped = dict(sorted(self.dropped[table].items()))
            assert total == self.used[table] + sum(dropped.values()), f"{table}: rows in and rows told apart differ"
            entries.append({"table": table, "in": total, "used": self.used[table], "dropped": dropped})
        return entries

    def items_json(self, items: pl.DataFrame) -> list[dict[str, Any]]:
        """Rows of every item id, also of those that hit nothing."""
        return [
            {"variable": variable, "itemid": itemid, "rows": self.items[itemid]}
            for variable, itemid in items.select("name", "itemid").sort("name", "itemid").iter_rows()
        ]

    def variables_json(self, bins: np.ndarray, total: int) -> list[dict[str, Any]]:
        """Values, stays with any, values out of range, and the share of bins with a value.

        Args:
            bins: [17] number of observed bins of each channel.
            total: number of bins.
        """
        return [
            {
                "variable": name,
                "values": self.values[code],
                "stays": self.stays[code],
                "clipped": self.clipped[code],
                "nulled": self.nulled[code],
                "bins_observed": round(float(bins[code]) / total, 6) if total else 0.0,
            }
            for code, name in enumerate(VARIABLES)
        ]
