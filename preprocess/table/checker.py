"""A YAML tree against a table of keys: every fault is collected, each with its line and a near miss.

The tree is what the command line's reader makes: nested dicts, and at each end a leaf with `text` (a text or a list of texts), `where`
(file:line) and `quoted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from omnifuse.preprocess.schema import ConfigError, nearest

SHOWN = 12
NONE = ("", "null", "~")


@dataclass(frozen=True)
class Key:
    """What a key takes.

    Args:
        kind: text, column (a name, in lower case), texts, columns (one or several), number, whole, switch, or tree (a mapping).
        check: gives what is wrong with a text, or None.
    """

    kind: str
    default: Any = None
    needed: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None


@dataclass(frozen=True)
class Reference:
    """A column of a table, and the line that names it."""

    table: str
    column: str
    where: str | None


def place(tree: Any) -> str | None:
    """Where a tree or leaf stands; None of an empty mapping."""
    if not isinstance(tree, Mapping):
        return tree.where
    return next((found for found in map(place, tree.values()) if found), None)


class Checker:
    """Collects faults, which `finish` raises all in one ConfigError, and the columns that are named."""

    def __init__(self, name: str):
        self.name = name
        self.faults: list[str] = []
        self.references: list[Reference] = []

    def fault(self, where: str | None, message: str, hint: str | None = None) -> None:
        self.faults.append(f"{where or self.name}: {message}" + (f" ({hint})" if hint else ""))

    def finish(self) -> None:
        if self.faults:
            more = f"; and {len(self.faults) - SHOWN} more" if len(self.faults) > SHOWN else ""
            raise ConfigError("; ".join(self.faults[:SHOWN]) + more)

    def section(self, tree: Any, keys: Mapping[str, Key], what: str, where: str | None = None) -> dict[str, Any]:
        """The value of every key of a mapping, defaults where it has none; a tree is given as it is."""
        values = {name: key.default for name, key in keys.items()}
        where = where or place(tree)
        if not isinstance(tree, Mapping):
            self.fault(where, f"{what} must be a mapping of names to values", nearest("", keys))
            return values
        for name, given in tree.items():
            if name not in keys:
                self.fault(place(given) or where, f"{what} has no key {name}", nearest(name, keys))
                continue
            try:
                values[name] = convert(given, keys[name])
            except ValueError as error:
                self.fault(place(given) or where, f"{what}: {name} {error}")
        for name, key in keys.items():
            if key.needed and name not in tree:
                self.fault(where, f"{what} needs {name}")
        return values

    def refer(self, table: str, tree: Any, values: Mapping[str, Any], keys: Iterable[str]) -> None:
        """Notes the columns under some keys of a section."""
        for key in keys:
            told = values.get(key)
            where = place(tree[key]) if isinstance(tree, Mapping) and key in tree else place(tree) if tree is not None else None
            for column in (told,) if isinstance(told, str) else told or ():
                self.references.append(Reference(table, column, where))

    def keep(self, tree: Any, table: str, what: str) -> dict[str, tuple[str, ...]]:
        """Column -> the values of the rows to keep."""
        kept = {}
        for name, leaf in self.mapping(tree, what).items():
            column = name.strip().lower()
            try:
                kept[column] = convert(leaf, Key("texts"))
            except ValueError as error:
                self.fault(place(leaf), f"{what}: {name} {error}")
            self.references.append(Reference(table, column, place(leaf)))
        return kept

    def mapping(self, tree: Any, what: str, where: str | None = None) -> dict[str, Any]:
        if isinstance(tree, Mapping):
            return dict(tree)
        if tree is not None:
            self.fault(place(tree) or where, f"{what} must be a mapping of names to values")
        return {}


def convert(given: Any, key: Key) -> Any:
    """A leaf as its key wants it. Raises ValueError with what is wanted."""
    if key.kind == "tree":
        return given
    if isinstance(given, Mapping):
        raise ValueError("takes a value, not a mapping")
    if key.kind in ("texts", "columns"):
        texts = given.text if isinstance(given.text, list) else [given.text]
        found = tuple(_text(text, key, bool(given.quoted)) for text in texts)
        if len(set(found)) < len(found):
            raise ValueError("names the same thing twice")
        if not found:
            raise ValueError("is empty")
        return found
    if isinstance(given.text, list):
        raise ValueError("takes one value, not a list")
    if key.kind in ("text", "column"):
        return _text(given.text, key, bool(given.quoted))
    if key.kind == "switch":
        if given.text not in ("true", "false"):
            raise ValueError("must be true or false")
        return given.text == "true"
    return _number(given.text, key)


def _text(text: str, key: Key, quoted: bool) -> str:
    text = text.strip()
    if not text or (text in NONE and not quoted):
        raise ValueError("is empty")
    if key.kind in ("column", "columns"):
        text = text.lower()
    if key.choices and text not in key.choices:
        raise ValueError(f"must be one of {', '.join(key.choices)}")
    if key.check and (wrong := key.check(text)):
        raise ValueError(wrong)
    return text


def _number(text: str, key: Key) -> int | float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(number):
        raise ValueError("must be finite")
    if key.kind == "whole" and number != int(number):
        raise ValueError("must be a whole number")
    if (key.low is not None and number < key.low) or (key.high is not None and number > key.high):
        low, high = (f"{bound:g}" if bound is not None else "any" for bound in (key.low, key.high))
        raise ValueError(f"must be from {low} to {high}")
    return int(number) if key.kind == "whole" else number
