"""A vocabulary that nothing is fitted for: words are hashed into 2^14 - 1 buckets.

Text is brought to NFKC and lower case and cut into words, single Chinese characters and single punctuation marks. Nothing is counted or
chosen over texts, so nothing of a test patient can get into it, and every fold, site and run has the same ids. The price: some words
share a bucket (of 3,000 distinct ones about a sixth share with another).
Id 0 is no word: it pads.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BUCKETS = 1 << 14  # with 0
_STEP = 10_007  # odd: every word before moves a word to another bucket
# Unified ideographs and their extensions; \w would take a whole Chinese sentence for one word.
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+|[^\w\s]")


def words(text: str) -> list[str]:
    """The words, characters and marks of a text, in order."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def bucket(word: str) -> int:
    """1 to BUCKETS - 1, of the word alone."""
    digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (BUCKETS - 1)


def tokenise(texts: Sequence[str]) -> list[np.ndarray]:
    """[T] int64 of each text; empty for an empty text."""
    known: dict[str, int] = {}
    made = []
    for text in texts:
        found = words(text)
        known |= {word: bucket(word) for word in set(found) - known.keys()}
        made.append(np.fromiter((known[word] for word in found), np.int64, len(found)))
    return made


def pairs(ids: Tensor) -> Tensor:
    """[n, L] buckets of words -> [n, L] of each word with the one before it, the first with none; no two orders share one by design."""
    before = torch.nn.functional.pad(ids, (1, 0))[:, :-1]
    return (before * _STEP + ids) % BUCKETS


def ngrams(ids: Tensor, order: int) -> list[Tensor]:
    """[B, T] buckets of words -> for n = 1 to `order`, [B, T] of the n words that end at each; 0 where there are not n, or one is no word.

    The words may stand anywhere in a row, with zeros around them; no two orders of words share a bucket by design.
    """
    found, gram, whole = [ids], ids, ids > 0
    for n in range(1, order):
        before = torch.nn.functional.pad(ids, (n, 0))[:, : ids.shape[1]]
        gram, whole = gram + before * pow(_STEP, n, BUCKETS), whole & (before > 0)
        found.append(torch.where(whole, 1 + gram % (BUCKETS - 1), 0))
    return found
