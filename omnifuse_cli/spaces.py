"""What a tuning varies: axes by parameter, from a YAML file, checked against the parameters that methods really have.

    train.lr: {log: [1e-4, 3e-3]}               the logarithm is uniform
    method.dropout: {uniform: [0, 0.5]}
    train.batch_size: {choice: [64, 128, 256]}
    fusion.encoder.*.dropout: {choice: [0.1, 0.3]}          one value for all modalities
    encoder.ehr.hidden: {log: [64, 512], points: 4}          points: for the grid

Names are those of --set (choices.py) but for one: `train.*` is tuned of the fusion alone, as `fusion.train.*`, because all trials start
from the same stage-1 encoders. Nothing given, the space is configs/spaces/default.yaml and the block `space:` of the method's config.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omnifuse import choices, config
from omnifuse.preprocess.schema import MODALITIES, ConfigError, nearest
from omnifuse.trainings import INCIDENTAL, STAGE_ONE

KINDS = ("log", "uniform", "choice")
POINTS = "points"
ALL = "*"
DIGITS = 3  # significant ones of a value that was drawn: what is found can be typed


@dataclass(frozen=True)
class Axis:
    """A parameter that is varied. `keys` are those of the configuration that it sets; `values` the choices, or lowest and highest."""

    name: str
    keys: tuple[str, ...]
    kind: str
    values: tuple
    points: int | None = None
    whole: bool = False

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the way from lowest to highest, or through the choices."""
        if self.kind == "choice":
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = self.values
        value = math.exp(math.log(low) + share * math.log(high / low)) if self.kind == "log" else low + share * (high - low)
        value = min(max(float(f"{value:.{DIGITS}g}"), low), high)
        return min(max(round(value), math.ceil(low)), math.floor(high)) if self.whole else value

    def grid(self) -> list:
        """Every choice, or `points` values from lowest to highest."""
        if self.kind == "choice":
            return list(self.values)
        return list(dict.fromkeys(self.at(place / (self.points - 1)) for place in range(self.points)))

    def to_json(self) -> dict[str, Any]:
        return {"sets": list(self.keys), self.kind: list(self.values), **({POINTS: self.points} if self.points else {})}


@dataclass(frozen=True)
class Written:
    """An axis as it stands in a file: its parts by name, and where it stands."""

    name: str
    parts: dict[str, config.Leaf]
    where: str


@dataclass(frozen=True)
class Space:
    """What is varied of one method, and what of the file it does not have."""

    axes: list[Axis]
    left_out: list[str]


def build(file: Path | None, methods: list[tuple[str, dict[str, str]]], grid: bool = False) -> list[Space]:
    """The space of each method.

    Args:
        file: None: the default, and what each method's own config adds.
        methods: each with its encoders by modality; none where it reads no value.
        grid: axes between two numbers must say how many points they have.

    Raises:
        ConfigError: with all that is wrong.
    """
    known = _known(methods)
    spaces, problems = [], []
    for method, encoders in methods:
        spaces.append(Space([], []))
        for written in _read(file, method, known):
            if _bare(written.name) not in known:
                problems.append(f"{written.where}: unknown key {written.name} ({nearest(_bare(written.name), known)})")
                continue
            fields = _fields(written.name, method, encoders)
            if not fields:
                spaces[-1].left_out.append(written.name)
                continue
            try:
                spaces[-1].axes.append(_axis(written, fields, grid))
            except ValueError as error:
                problems.append(f"{written.where}: {written.name} {error}")
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))
    return spaces


def _known(methods: list[tuple[str, dict[str, str]]]) -> set[str]:
    """Every parameter that anything has, without its scope."""
    known, options = _packaged()
    modalities = {*MODALITIES, ALL, *(name for _, encoders in methods for name in encoders)}
    return known | {f"encoder.{modality}.{name}" for modality in modalities for name in options}


@cache
def _packaged() -> tuple[frozenset[str], frozenset[str]]:
    """train.* and method.* of every method, and the options of every encoder."""
    known = {f"train.{name}" for name in config.packaged("train", "default")[0]}
    known |= {f"method.{name}" for method in config.packaged_names("methods") for name in config.packaged("methods", method)[0]}
    options = {name for encoder in config.packaged_names("encoders") for name in config.packaged("encoders", encoder)[0]}
    return frozenset(known), frozenset(options)


def _bare(name: str) -> str:
    return name.removeprefix(choices.FUSION).removeprefix(choices.STAGE1)


def _read(file: Path | None, method: str, known: set[str]) -> list[Written]:
    if file is not None:
        return list(_walk(config.read_tree(file), known))
    packaged = lambda folder, name: config.read_yaml(config.packaged_text(folder, name), f"configs/{folder}/{name}.yaml")
    shared, own = packaged("spaces", "default"), packaged("methods", method).get("space", {})
    written = {axis.name: axis for tree in (shared, {"method": own} if own else {}) for axis in _walk(tree, known)}
    return list(written.values())


def _walk(tree: dict[str, Any], known: set[str], prefix: str = "") -> Iterator[Written]:
    """Every axis below: what bears a parameter's name or holds one of the kinds; a plain value is an axis without a kind."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, config.Leaf):
            yield Written(name, {}, value.where)
        elif _bare(name) in known or set(value) & {*KINDS, POINTS}:
            parts = config.flatten(value)
            yield Written(name, parts, next((leaf.where for leaf in parts.values()), name))
        else:
            yield from _walk(value, known, f"{name}.")


def _fields(name: str, method: str, encoders: dict[str, str]) -> dict[str, config.Field]:
    """The parameters of the method that an axis sets, by the keys that set them."""
    bare, of_stage_one = _bare(name), name.startswith(choices.STAGE1)
    if of_stage_one and config.packaged("methods", method)[1].get("stage1", STAGE_ONE) is None:
        return {}
    table = choices.fields_of(STAGE_ONE if of_stage_one else method, encoders)
    scope = name.removesuffix(bare) or (choices.FUSION if bare.startswith("train.") else "")
    names = [bare.replace(ALL, modality, 1) for modality in encoders] if bare.startswith(f"encoder.{ALL}.") else [bare]
    return {f"{scope}{key}": table[key] for key in names if key in table}


def _axis(written: Written, fields: dict[str, config.Field], grid: bool) -> Axis:
    """Raises ValueError with what is wrong about it."""
    for name in written.parts:
        if name not in (*KINDS, POINTS):
            raise ValueError(f"has no {name} ({nearest(name, (*KINDS, POINTS))})")
    kinds = [kind for kind in KINDS if kind in written.parts]
    if len(kinds) != 1:
        raise ValueError(f"needs one of {', '.join(KINDS)}, as in {{log: [1e-4, 1e-2]}}")
    if any(_bare(key) in INCIDENTAL for key in fields):
        raise ValueError("does not change what is learnt")
    (kind,), leaf = kinds, written.parts[kinds[0]]
    values = _values(leaf, fields)
    whole = kind != "choice" and all(isinstance(field.default, int) for field in fields.values())
    points = _points(written.parts.get(POINTS))
    if kind == "choice":
        if len(set(values)) != len(values) or not values:
            raise ValueError("needs choices that differ")
    else:
        if len(values) != 2 or not all(_is_number(value) for value in values) or not values[0] < values[1]:
            raise ValueError(f"{kind} needs two numbers, the lower one first")
        if kind == "log" and values[0] <= 0:
            raise ValueError("log needs numbers above 0")
        if grid and points is None:
            raise ValueError("has no points, and a grid needs them ({log: [1e-4, 1e-2], points: 3}, or a choice)")
    return Axis(written.name, tuple(fields), kind, tuple(values), points, whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _values(leaf: config.Leaf, fields: dict[str, config.Field]) -> list:
    """As the type of the parameters, each within its range."""
    if not isinstance(leaf.text, list):
        raise ValueError("takes a list")
    told: list = []
    for field in fields.values():
        told = [config.convert(config.Leaf(text, leaf.where), field) for text in leaf.text]
    return told


def _points(leaf: config.Leaf | None) -> int | None:
    if leaf is None:
        return None
    try:
        return config.convert(leaf, config.Field(2, low=2, high=1000))
    except ValueError as error:
        raise ValueError(f"points {error}") from None
