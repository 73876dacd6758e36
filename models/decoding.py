"""Items on their way into an encoder: decoded by workers while it runs, texts in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from omnifuse.preprocess.schema import Unreadable


class Pack(NamedTuple):
    """Some items, decoded. `values` [R, *shape] holds their rows one after the other, `lengths` how many each has, `reasons` why none."""

    values: Tensor
    lengths: list[int]
    reasons: list[str | None]


class _Packs(Dataset):
    def __init__(self, items: Any, numbers: list[np.ndarray]):
        self.items, self.numbers = items, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Pack:
        found, lengths, reasons = [], [], []
        for number in self.numbers[place].tolist():
            try:
                rows, reason = self.items.decode(number), None
                reason = None if len(rows) else "holds nothing"
            except Unreadable as error:
                rows, reason = [], error.reason
            if reason is None:
                found.append(rows)
            lengths.append(len(rows))
            reasons.append(reason)
        values = np.concatenate(found) if found else np.empty((0,), np.float32)
        return Pack(torch.from_numpy(values), lengths, reasons)


def packs(items: Any, blocks: list[tuple[int, np.ndarray]], size: int, workers: int) -> Iterator[Pack]:
    """The items of the blocks in order, `size` at a time; no pack reaches over a block."""
    numbers = [block[start : start + size] for _, block in blocks for start in range(0, len(block), size)]
    workers = min(workers, len(numbers))
    return iter(DataLoader(_Packs(items, numbers), batch_size=None, num_workers=workers, prefetch_factor=2 if workers else None))


def bucket(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places of texts in batches of like length, each of at most `tokens` with its padding (or one text); empty texts are in none."""
    order = [place for place in np.argsort(lengths, kind="stable").tolist() if lengths[place]]
    batches: list[list[int]] = []
    for place in reversed(order):  # the longest first: memory runs out at once, or never
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def pad(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """[B, T, *shape] and mask [B, T]."""
    length = max(map(len, arrays))
    values = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    mask = np.zeros((len(arrays), length), bool)
    for row, array in enumerate(arrays):
        values[row, : len(array)], mask[row, : len(array)] = array, True
    return torch.from_numpy(values), torch.from_numpy(mask)
