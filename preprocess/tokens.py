"""One modality of a dataset on disk: memory-mapped rows, where each sample's rows stand, and what normalises them.

A sample's tokens are the rows [start, start + length) of one array, then perhaps one row of a second array, its tail
(docs/artefacts.md). A row is a vector of a series or a feature, a film, a moment of a signal, or the number of a word piece. A batch of
them is one gather: no loop over samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SERIES, VECTOR = "series", "vector"


@dataclass(frozen=True)
class Tokens:
    """Shapes: rows [R, *shape], tails [S, *shape] or None; start, length, tail [N], tail -1 where there is none; mean, std [D] or None.

    A `vector` modality has one row a sample, and its batches are [B, D] instead of [B, T, D]. Bytes stay bytes (films), whole numbers
    become int64 (word pieces), all else float32. With `gaps`, NaN in a row is a cell that was never measured; a batch holds 0 there, the
    mean of the training part.
    """

    kind: str
    rows: np.ndarray
    tails: np.ndarray | None
    start: np.ndarray
    length: np.ndarray
    tail: np.ndarray
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    gaps: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        if self.rows.dtype == np.uint8:
            return np.dtype(np.uint8)
        return np.dtype(np.int64 if np.issubdtype(self.rows.dtype, np.integer) else np.float32)

    @property
    def count(self) -> np.ndarray:
        """[N] tokens of each sample, the tail included; 0 where the modality is absent."""
        return self.length + (self.tail >= 0)

    def collate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values [B, T, *shape], normalised where there is something to normalise by, and mask [B, T] of the samples `index`.

        Zeros where there is no token.
        """
        start, length, tail = self.start[index], self.length[index], self.tail[index]
        has_tail = tail >= 0
        total = length + has_tail  # [B]
        steps = np.arange(max(int(total.max(initial=0)), 1))
        inside = steps < length[:, None]  # [B, T]
        where = np.where(inside, start[:, None] + steps, 0)
        if len(self.rows):
            values = self.rows.take(where.ravel(), axis=0).astype(self.dtype, copy=False).reshape(*where.shape, *self.shape)
        else:
            values = np.zeros((*where.shape, *self.shape), self.dtype)
        if has_tail.any():
            values[has_tail, length[has_tail]] = self.tails[tail[has_tail]]
        if self.mean is not None:
            values -= self.mean
            values /= self.std
        if self.gaps:
            values[np.isnan(values)] = 0.0
        mask = steps < total[:, None]
        if not mask.all():
            values[~mask] = 0
        return values, mask

    def hidden(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """What `collate` gives where all `size` samples lack the modality, without touching the disk."""
        return np.zeros((size, 1, *self.shape), self.dtype), np.zeros((size, 1), bool)
