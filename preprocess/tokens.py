"""One modality of a dataset on disk: memory-mapped rows, where each sample's rows stand, and what normalises them.

A sample's tokens are the rows [start, start + length) of one array, then perhaps one row of a second array, its tail
(docs/artefacts.md). A batch of them is one gather: no loop over samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SERIES, VECTOR = "series", "vector"


@dataclass(frozen=True)
class Tokens:
    """Shapes: rows [R, D], tails [S, D] or None; start, length, tail [N], tail -1 where there is none; mean, std [D].

    A `vector` modality has one row a sample, and its batches are [B, D] instead of [B, T, D].
    """

    kind: str
    rows: np.ndarray
    tails: np.ndarray | None
    start: np.ndarray
    length: np.ndarray
    tail: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def dim(self) -> int:
        return self.rows.shape[1]

    @property
    def count(self) -> np.ndarray:
        """[N] tokens of each sample, the tail included; 0 where the modality is absent."""
        return self.length + (self.tail >= 0)

    def collate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalised values [B, T, D] float32 and mask [B, T] of the samples `index`; zeros where there is no token."""
        start, length, tail = self.start[index], self.length[index], self.tail[index]
        has_tail = tail >= 0
        total = length + has_tail  # [B]
        steps = np.arange(max(int(total.max(initial=0)), 1))
        inside = steps < length[:, None]  # [B, T]
        where = np.where(inside, start[:, None] + steps, 0)
        if len(self.rows):
            values = self.rows.take(where.ravel(), axis=0).astype(np.float32, copy=False).reshape(*where.shape, self.dim)
        else:
            values = np.zeros((*where.shape, self.dim), np.float32)
        if has_tail.any():
            values[has_tail, length[has_tail]] = self.tails[tail[has_tail]]
        values -= self.mean
        values /= self.std
        mask = steps < total[:, None]
        if not mask.all():
            values[~mask] = 0.0
        return values, mask

    def hidden(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """What `collate` gives where all `size` samples lack the modality, without touching the disk."""
        return np.zeros((size, 1, self.dim), np.float32), np.zeros((size, 1), bool)
