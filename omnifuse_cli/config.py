"""Configuration: packaged YAML, then the workspace's, then --config FILE, then --set, then flags; every value with its origin.

A field's type is that of its packaged default; texts are converted by it, so that `1e-4` is a number and `NO` is a text where a text is
wanted. Unknown keys, wrong types and values out of range are collected and shown together, each with file, line and a near miss. There
is no interpolation, no alias, no tag, no dotted class path.

A packaged file may hold, beside its parameters: `about` (one sentence), `reads` (of an encoder), `flags` (command-line flags of a
method; {parameter: null} takes the value that is given), `ranges` ({name: [low, high]}), `choices` ({name: [..]}), `stage1` (null: the
method starts from no unimodal runs) and `space` (what `omnifuse tune` varies of a method; see spaces.py).
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from omnifuse.preprocess.schema import ConfigError, nearest

META = ("about", "reads", "flags", "ranges", "choices", "stage1", "space")
MAX_BYTES, MAX_DEPTH = 1_000_000, 16
DEFAULT = "default"  # the origin of what no layer tells


@dataclass(frozen=True)
class Leaf:
    """A scalar or list as written, with the place it stands at."""

    text: Any
    where: str
    quoted: bool = False


@dataclass(frozen=True)
class Field:
    """A parameter: its default tells the type; None takes a number, a text or none."""

    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple = ()


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Nested dicts with a Leaf at each end. Raises ConfigError with file and line for anything but plain mappings, lists and scalars."""
    import yaml

    if len(text) > MAX_BYTES:
        raise ConfigError("is larger than a configuration may be (1 MB)", where=name)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ConfigError("anchors and aliases are not allowed", where=f"{name}:{line}", hint="write the value out")
            if getattr(event, "tag", None) not in (None, "!"):
                raise ConfigError("tags are not allowed", where=f"{name}:{line}", hint="write a plain value")
            if event.start_mark.column > 40 * MAX_DEPTH:
                raise ConfigError("is nested too deeply", where=f"{name}:{line}")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ConfigError(f"is no valid YAML ({getattr(error, 'problem', None) or 'cannot be read'})", where=f"{name}:{line}") from None
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("must be a mapping of names to values", where=f"{name}:1")
    return _mapping(node, name, 0)


def _mapping(node, name: str, depth: int) -> dict[str, Any]:
    import yaml

    if depth > MAX_DEPTH:
        raise ConfigError("is nested too deeply", where=f"{name}:{node.start_mark.line + 1}")
    tree: dict[str, Any] = {}
    for key, value in node.value:
        where = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError("a name must be plain text", where=where)
        if key.value in tree:
            raise ConfigError(f"{key.value} stands twice", where=where, hint="remove one")
        tree[key.value] = _mapping(value, name, depth + 1) if isinstance(value, yaml.MappingNode) else _leaf(value, where)
    return tree


def _leaf(node, where: str) -> Leaf:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise ConfigError("a list may hold plain values only", where=where)
        return Leaf([item.value for item in node.value], where)
    return Leaf(node.value, where, quoted=node.style in ("'", '"'))


def plain(leaf: Leaf) -> Any:
    """The value of a leaf whose type nobody told: number, truth value, none or text."""
    if isinstance(leaf.text, list):
        return [plain(Leaf(text, leaf.where)) for text in leaf.text]
    if leaf.quoted:
        return leaf.text
    if leaf.text in ("", "null", "~", "none"):
        return None
    if leaf.text in ("true", "false"):
        return leaf.text == "true"
    for kind in (int, float):
        try:
            return kind(leaf.text)
        except ValueError:
            continue
    return leaf.text


def packaged(folder: str, name: str) -> tuple[dict[str, Field], dict[str, Any]]:
    """Parameters and meta of configs/FOLDER/NAME.yaml. Raises ConfigError with the nearest name where there is none."""
    fields, meta = _packaged(folder, name)
    return dict(fields), copy.deepcopy(meta)


@functools.cache  # a grid asks for each of them hundreds of times
def _packaged(folder: str, name: str) -> tuple[dict[str, Field], dict[str, Any]]:
    tree = read_yaml(packaged_text(folder, name), f"configs/{folder}/{name}.yaml")
    told = {key: tree.pop(key) for key in META if key in tree}
    meta = {key: _plain_tree(value) for key, value in told.items()}
    return _fields(tree, meta.get("ranges", {}), told.get("choices", {})), meta


def packaged_text(folder: str, name: str) -> str:
    """configs/FOLDER/NAME.yaml. Raises ConfigError with the nearest name where there is none."""
    known = packaged_names(folder)
    if name not in known:
        raise ConfigError(f"no {folder.removesuffix('s')} {name!r}", hint=nearest(name, known))
    return (resources.files("omnifuse.configs") / folder / f"{name}.yaml").read_text(encoding="utf-8")


def packaged_names(folder: str) -> list[str]:
    home = resources.files("omnifuse.configs") / folder
    return sorted(file.name.removesuffix(".yaml") for file in home.iterdir() if file.name.endswith(".yaml")) if home.is_dir() else []


def _plain_tree(tree: Any) -> Any:
    return {key: _plain_tree(value) for key, value in tree.items()} if isinstance(tree, dict) else plain(tree)


def _fields(tree: dict[str, Any], ranges: dict, choices: dict, prefix: str = "") -> dict[str, Field]:
    fields = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            fields |= _fields(value, ranges, choices, f"{name}.")
        else:
            low, high = ranges.get(name, (None, None))
            default = plain(value)
            known = [_convert(Leaf(text, value.where), default) for text in choices[name].text] if name in choices else []
            fields[name] = Field(default, low, high, tuple(known))
    return fields


@dataclass
class Resolved:
    """Parameters by dotted name, and where each comes from."""

    values: dict[str, Any]
    origins: dict[str, str]

    def section(self, name: str) -> dict[str, Any]:
        """The parameters below `name.` as a flat dict without the prefix; nested names keep their dots as nested dicts."""
        tree: dict[str, Any] = {}
        for key, value in self.values.items():
            if key.startswith(f"{name}."):
                *path, last = key[len(name) + 1 :].split(".")
                branch = tree
                for step in path:
                    branch = branch.setdefault(step, {})
                branch[last] = value
        return tree

    def to_yaml(self) -> str:
        width = max((len(key) for key in self.values), default=0)
        return "".join(f"{key + ':':<{width + 1}} {show(value)}  # {self.origins[key]}\n" for key, value in sorted(self.values.items()))


def show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return str(value)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Leaf]:
    flat: dict[str, Leaf] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def overrides(pairs: tuple[str, ...]) -> dict[str, Leaf]:
    """`--set train.lr=1e-4` as leaves."""
    leaves = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {pair!r} has no '='", hint="for example --set train.lr=1e-4")
        text = text.strip()
        value: Any = [item.strip() for item in text[1:-1].split(",") if item.strip()] if text[:1] == "[" and text[-1:] == "]" else text
        leaves[name.strip()] = Leaf(value, f"--set {name.strip()}")
    return leaves


def resolve(fields: dict[str, Field], layers: list[dict[str, Leaf]], origin: str = DEFAULT) -> Resolved:
    """Later layers win. Every problem of every layer is collected into one ConfigError."""
    values = {name: field.default for name, field in fields.items()}
    origins = dict.fromkeys(fields, origin)
    problems = []
    for layer in layers:
        for name, leaf in layer.items():
            if name not in fields:
                problems.append(f"{leaf.where}: unknown key {name} ({nearest(name, fields)})")
                continue
            try:
                values[name] = convert(leaf, fields[name])
                origins[name] = leaf.where
            except ValueError as error:
                problems.append(f"{leaf.where}: {name} {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return Resolved(values, origins)


def convert(leaf: Leaf, field: Field) -> Any:
    """The leaf as the type of the field's default, within its range and choices. Raises ValueError with what is wanted."""
    value = _convert(leaf, field.default)
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if (field.low is not None and number < field.low) or (field.high is not None and number > field.high):
            raise ValueError(f"must be {_range(field)}")
    if field.choices and value not in field.choices:
        raise ValueError(f"must be one of {', '.join(show(choice) for choice in field.choices)}")
    return value


def _range(field: Field) -> str:
    if field.low is None or field.high is None:
        return f"at most {show(field.high)}" if field.low is None else f"at least {show(field.low)}"
    return f"between {show(field.low)} and {show(field.high)}"


def _convert(leaf: Leaf, default: Any) -> Any:
    if default is None:
        return plain(leaf)
    if isinstance(default, list):
        texts = leaf.text if isinstance(leaf.text, list) else [leaf.text]
        return [_convert(Leaf(text, leaf.where), default[0]) if default else plain(Leaf(text, leaf.where)) for text in texts]
    if isinstance(leaf.text, list):
        raise ValueError("takes one value, not a list")
    if isinstance(default, bool):
        if leaf.text not in ("true", "false"):
            raise ValueError("must be true or false")
        return leaf.text == "true"
    if isinstance(default, str):
        return leaf.text
    return _number(leaf.text, type(default))


def _number(text: str, kind: type) -> int | float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(number):
        raise ValueError("must be finite")
    if kind is int:
        if number != int(number):
            raise ValueError("must be a whole number")
        return int(number)
    return number


def read_file(path: Path, name: str | None = None) -> dict[str, Leaf]:
    """The leaves of a user's YAML file. `name` stands in their origins, which are kept in runs and reports, instead of the whole path."""
    return flatten(read_tree(path, name))


def read_tree(path: Path, name: str | None = None) -> dict[str, Any]:
    """A user's YAML file as it is written. Raises ConfigError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", where=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=path) from None
    return read_yaml(text, name or path.name)
