"""A grid: the rows, columns and conditions of a table of results, as a packaged YAML file (configs/grids) or one of your own.

    about: one sentence
    columns: combinations | all            every set of two and more modalities; all: the whole set alone
    singles: true                          the unimodal runs beside
    rows:
      NAME: {title: ..., method: ..., trained_on: column | all, options: {of the method}, fusion: {train: ...}, stage1: {train: ...}}
    rows: methods                          instead: every method of fusion as it is, a row by its name
    questions: [b - a, b - each]           does b do better than a, or than each other row?
    drop: [random, each, MODALITY]         what test samples lose, in a share `rates` of them, drawn `masks` times
    rates: [0.1, ...]
    masks: 5

A row that is trained on all is tested on a column by hiding the rest from it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnifuse import config
from omnifuse.preprocess.schema import ConfigError, nearest

COLUMN, ALL = "column", "all"
COMBINATIONS = "combinations"
METHODS, SINGLE = "methods", "unimodal"
RANDOM, EACH = "random", "each"
EVERY = ("table2", "table3", "table4", "fig4", "fig5")  # what --grid all stands for: the tables and curves of the paper
TOP = ("about", "columns", "singles", "questions", "drop", "rates", "masks")
OF_A_ROW = ("title", "method", "trained_on")
LAYERS = {"options": "method", "fusion": "fusion", "stage1": "stage1"}  # what a row lays over the configuration, and where


@dataclass(frozen=True)
class Row:
    """One method with its options; `layer` is laid over the configuration of its runs."""

    name: str
    title: str
    method: str
    trained_on: str
    layer: dict[str, config.Leaf]


@dataclass(frozen=True)
class Grid:
    name: str
    about: str
    rows: tuple[Row, ...]
    columns: str
    singles: bool
    questions: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]
    rates: tuple[float, ...]
    masks: int

    def columns_of(self, modalities: list[str]) -> list[tuple[str, ...]]:
        """The sets of modalities that are columns, the smallest first."""
        if self.columns == ALL:
            return [tuple(modalities)]
        return [chosen for size in range(2, len(modalities) + 1) for chosen in itertools.combinations(modalities, size)]

    def dropped(self, column: tuple[str, ...]) -> list[str]:
        """What samples of a column lose, one curve each."""
        found = []
        for what in self.drop:
            found += column if what == EACH else [what] if what == RANDOM or what in column else []
        return list(dict.fromkeys(found)) if self.rates else []


def known() -> list[str]:
    """The packaged grids."""
    return config.packaged_names("grids")


def names(told: str) -> list[str]:
    """`all`, the names of packaged grids with commas between, or the path of a file."""
    return list(EVERY) if told == "all" else [name.strip() for name in told.split(",") if name.strip()]


def read(name: str) -> Grid:
    """A packaged grid by its name, or the file of one.

    Raises:
        ConfigError: with all that is wrong with it.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            text, where, name = path.read_text(encoding="utf-8"), path.name, path.stem
        except (OSError, UnicodeDecodeError):
            raise ConfigError("cannot be read", where=path) from None
    else:
        text, where = config.packaged_text("grids", name), f"configs/grids/{name}.yaml"
    return _Reader(where).grid(name, config.read_yaml(text, where))


class _Reader:
    """Collects all that is wrong with one file."""

    def __init__(self, where: str):
        self.where, self.faults = where, []

    def grid(self, name: str, tree: dict[str, Any]) -> Grid:
        rows = tree.pop("rows", None)
        if isinstance(rows, config.Leaf) and rows.text == METHODS:
            named = [name for name in config.packaged_names("methods") if name != SINGLE]
            rows = {name: {"method": config.Leaf(name, self.where)} for name in named}
        unknown = [key for key in tree if key not in TOP]
        self.faults += [f"unknown key {key} ({nearest(key, (*TOP, 'rows'))})" for key in unknown]
        if not isinstance(rows, dict) or not rows:
            raise ConfigError("has no rows", where=self.where, hint="rows: {a: {method: concat}}")
        told = {key: leaf for key, leaf in tree.items() if key not in unknown}
        made = tuple(self._row(key, row) for key, row in rows.items())
        grid = Grid(
            name,
            str(self._value(told, "about", "")),
            made,
            self._choice(told, "columns", (COMBINATIONS, ALL)),
            bool(self._value(told, "singles", True)),
            self._questions(told.get("questions"), list(rows)),
            tuple(map(str, self._value(told, "drop", []))),
            tuple(self._rates(self._value(told, "rates", []))),
            self._masks(self._value(told, "masks", 1)),
        )
        if self.faults:
            raise ConfigError("; ".join(self.faults), where=self.where)
        return grid

    def _value(self, tree: dict[str, Any], key: str, default: Any) -> Any:
        leaf = tree.get(key)
        if leaf is None:
            return default
        if not isinstance(leaf, config.Leaf):
            self.faults.append(f"{key} must be a value, not a mapping")
            return default
        value = config.plain(leaf)
        return [value] if isinstance(default, list) and not isinstance(value, list) else value

    def _choice(self, tree: dict[str, Any], key: str, known: tuple[str, ...]) -> str:
        value = self._value(tree, key, known[0])
        if value not in known:
            self.faults.append(f"{key} must be {' or '.join(known)}")
        return value

    def _row(self, name: str, tree: Any) -> Row:
        if not isinstance(tree, dict):
            self.faults.append(f"rows.{name} must be a mapping with a method")
            return Row(name, name, "", COLUMN, {})
        layer = {}
        for section, prefix in LAYERS.items():
            inside = tree.get(section) or {}
            layer |= config.flatten({prefix: inside}) if isinstance(inside, dict) else {}
        self.faults += [f"rows.{name}: unknown key {key}" for key in tree if key not in (*OF_A_ROW, *LAYERS)]
        method = str(self._value(tree, "method", ""))
        if method not in config.packaged_names("methods"):
            self.faults.append(f"rows.{name}: no method {method!r} ({nearest(method, config.packaged_names('methods'))})")
        return Row(name, str(self._value(tree, "title", name)), method, self._choice(tree, "trained_on", (COLUMN, ALL)), layer)

    def _questions(self, leaf: Any, rows: list[str]) -> tuple[tuple[str, str], ...]:
        found = []
        for text in leaf.text if isinstance(leaf, config.Leaf) and isinstance(leaf.text, list) else []:
            first, minus, second = (part.strip() for part in text.partition(" - "))
            others = [row for row in rows if row != first] if second == EACH else [second]
            if not minus or first not in rows or not set(others) <= set(rows):
                self.faults.append(f"question {text!r} is not of the form 'b - a' with rows of the grid")
            else:
                found += [(first, other) for other in others]
        return tuple(found)

    def _rates(self, values: list[Any]) -> list[float]:
        good = [float(value) for value in values if isinstance(value, (int, float)) and 0 < value < 1]
        if len(good) != len(values):
            self.faults.append("rates must lie between 0 and 1")
        return sorted(good)

    def _masks(self, value: Any) -> int:
        if not isinstance(value, int) or not 1 <= value <= 100:
            self.faults.append("masks must be a whole number from 1 to 100")
            return 1
        return value
