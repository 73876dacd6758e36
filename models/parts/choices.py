"""Options that take one of a few words."""

from __future__ import annotations

from collections.abc import Sequence

from omnifuse.preprocess.schema import ConfigError

VARIANTS = ("fixed", "released")  # of a method whose public code is defective: repaired, or as it was released


def require_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Raises ConfigError where `value` is none of the known words."""
    if value not in known:
        raise ConfigError(f"unknown {option} {value!r}", hint=f"one of {', '.join(known)}")
