"""With what options a `preprocess` command makes its cohort: those of its `Options`, from four layers; later ones win.

    the defaults of the class; preprocess.NAME in omnifuse.yaml; --set preprocess.NAME=VALUE; the flags of the command

A workspace may hold cohorts of MIMIC and of lungs: what omnifuse.yaml says of the options that only the other has is not this one's affair.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from omnifuse import config
from omnifuse.workspace import Workspace

SOURCES = ("mimic", "lung")  # those with options in omnifuse.yaml, omnifuse.preprocess.SOURCE.options
PREFIX = "preprocess."


def options(source: str, space: Workspace, given: dict[str, Any], sets: tuple[str, ...], seed: int | None) -> Any:
    """The checked `Options` of a source.

    Args:
        given: by name, what the flags say; None and () where they say nothing.

    Raises:
        ConfigError: an option that neither this source nor, in omnifuse.yaml, another one has; an impossible value.
    """
    kind = _kind(source)
    fields, types = _fields(kind), {field.name: field.default for field in dataclasses.fields(kind)}
    others = {name for other in SOURCES if other != source for name in _fields(_kind(other))} - fields.keys()
    told = {name: leaf for name, leaf in space.layers["preprocess"].items() if name not in others}
    flags = {
        f"{PREFIX}{name}": config.Leaf(_text(value, isinstance(types[name], tuple)), f"--{name.replace('_', '-')}")
        for name, value in given.items()
        if value is not None and value != ()
    }
    resolved = config.resolve(fields, [told, config.overrides(sets), flags])
    values = {name: resolved.values[name] for name in fields if resolved.origins[name] != config.DEFAULT}
    values = {name.removeprefix(PREFIX): value for name, value in values.items()}
    values["seed"] = seed if seed is not None else space.settings.values["seed"]
    return kind(**{name: tuple(value) if isinstance(types[name], tuple) else value for name, value in values.items()})


def _kind(source: str) -> type:
    return importlib.import_module(f"omnifuse.preprocess.{source}.options").Options


def _fields(kind: type) -> dict[str, config.Field]:
    fields = {}
    for field in dataclasses.fields(kind):
        default = None if "None" in str(field.type) else field.default  # takes null as well as a value
        fields[f"{PREFIX}{field.name}"] = config.Field(list(default) if isinstance(default, tuple) else default)
    return fields


def _text(value: Any, is_list: bool) -> str | list[str]:
    """A flag's value as YAML has it; `a,b` of an option that is a list as its items."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_list:
        return [str(item).strip() for item in (value.split(",") if isinstance(value, str) else value)]
    return str(value)
