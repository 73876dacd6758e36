"""First weights of a method's optional parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from omnifuse.models.parts import keyed


@contextlib.contextmanager
def drawn_apart(name: str) -> Iterator[None]:
    """First weights are drawn from (the seed in force, name): another part more or less does not change them, nor what is drawn after."""
    seed = keyed.number(torch.initial_seed(), name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
