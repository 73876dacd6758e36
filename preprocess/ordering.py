"""Which samples share a batch, and the numbers behind everything random: functions of (seed, epoch, sample_id) alone.

    hashed = hash_ids(sample_ids)                          once
    key = keys(hashed, seed, epoch)                        one number a sample and epoch: order, dropout, patterns draw from it
    plan = plan_batches(longest, 128, key=key, ...)        the epoch's batches

Neither the order of the rows, nor the number of processes, nor what was read before has a part in it, so that a resumed run and a
distributed one see the same batches. Source: FNV-1a, splitmix64.
"""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

WINDOW = 32  # batches whose samples are sorted by length together
BLOCK = 1 << 17  # ids hashed at a time
MAX_TOKENS = 1 << 17  # of a batch: 128 samples of 1,024 steps; longer ones share smaller batches


def mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: uint64 to well-spread uint64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_ids(ids: pl.Series) -> np.ndarray:
    """[N] uint64 of the UTF-8 texts; a function of each text alone."""
    return np.concatenate([_hash(ids.slice(start, BLOCK).to_list()) for start in range(0, max(len(ids), 1), BLOCK)])


def _hash(ids: list[str]) -> np.ndarray:
    """FNV-1a, a column of bytes at a time."""
    text = np.array([name.encode() for name in ids] or [b""], dtype=np.bytes_)
    columns = text.view(np.uint8).reshape(len(text), -1)[: len(ids)]
    value = np.full(len(ids), 0xCBF29CE484222325, np.uint64)
    for column in columns.T:
        value = np.where(column > 0, (value ^ column) * np.uint64(0x100000001B3), value)
    return mix(value)


def keys(hashed: np.ndarray, *numbers: int) -> np.ndarray:
    """[N] uint64 of the samples and a few whole numbers (seed, epoch, purpose)."""
    stream = np.zeros(1, np.uint64)
    for number in numbers:
        stream = mix(stream ^ np.uint64(number & 0xFFFFFFFFFFFFFFFF))
    return mix(hashed ^ stream)


def plan_batches(longest: np.ndarray, size: int, *, key: np.ndarray | None = None, max_tokens: int = MAX_TOKENS) -> list[np.ndarray]:
    """The batches of an epoch, as indices.

    Args:
        longest: [N] tokens of each sample.
        key: [N] what to shuffle by. Samples of like length share a batch; the batches are shuffled too. None: sorted by length.
        max_tokens: of a padded batch; what is longer is cut into smaller batches.

    Returns:
        Batches of at most `size` samples whose sizes differ by one at most, but for the bound on tokens.
    """
    if not len(longest):
        return []
    batches = -(-len(longest) // size)
    bounds = np.arange(batches + 1) * len(longest) // batches
    order = np.argsort(longest if key is None else key, kind="stable")
    if key is not None:
        for low, high in zip(bounds[:-1:WINDOW], [*bounds[WINDOW:-1:WINDOW], len(longest)]):
            window = order[low:high]
            order[low:high] = window[np.argsort(longest[window], kind="stable")]
    plan = []
    for low, high in itertools.pairwise(bounds):
        pieces = -(-int(longest[order[high - 1]]) * int(high - low) // max_tokens)
        plan += np.array_split(order[low:high], min(max(pieces, 1), high - low))
    if key is not None:
        first = np.array([key[index].min() for index in plan])
        plan = [plan[number] for number in np.argsort(mix(first), kind="stable")]
    return plan
