"""From a YAML mapping to frozen dataclasses: every key known, every number in its range, all faults told at once.

A field's range stands in its metadata (`share()`, `positive()`, ...), so that a knob, its type and its bounds are one line of
`world.py`. PyYAML reads `1e-4` as text; numbers are therefore converted by the type of the field.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omnifuse.preprocess.schema import nearest

T = TypeVar("T")
MISSING = ": missing"


def number(default: Any = dataclasses.MISSING, low: float = -math.inf, high: float = math.inf) -> Any:
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def share(default: Any = dataclasses.MISSING) -> Any:
    return number(default, 0.0, 1.0)


def positive(default: Any = dataclasses.MISSING) -> Any:
    return number(default, 1e-9)


def not_negative(default: Any = dataclasses.MISSING) -> Any:
    return number(default, 0.0)


def slope(default: Any = dataclasses.MISSING) -> Any:
    """Of a probit or logit, per unit of something of unit variance: ten of them decide it."""
    return number(default, -10.0, 10.0)


def parse(cls: type[T], value: Any, faults: list[str], at: str = "") -> T | None:
    """The dataclass `cls` filled from a mapping; what is wrong is appended to `faults`, one phrase each, and None returned.

    Every key that has no default must be there.
    """
    if not isinstance(value, Mapping):
        faults.append(f"{at or 'the world'}: expected keys and values")
        return None
    hints, known = get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}
    before = len(faults)
    for key in value:
        if key not in known:
            faults.append(f"{_join(at, key)}: unknown knob, {nearest(str(key), known)}")
    filled = {}
    for name, field in known.items():
        if name in value:
            filled[name] = _convert(hints[name], value[name], faults, _join(at, name), field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            faults.append(f"{_join(at, name)}{MISSING}")
    return cls(**filled) if len(faults) == before else None


def _join(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _convert(hint: Any, value: Any, faults: list[str], at: str, bounds: Mapping[str, float]) -> Any:
    """One value as the type `hint` asks: number, text, truth value, list, mapping, dataclass, or one of these or nothing."""
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _convert(get_args(hint)[0], value, faults, at, bounds)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, faults, at)
    if get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            faults.append(f"{at}: expected keys and values")
            return None
        return {str(key): _convert(get_args(hint)[1], item, faults, _join(at, key), bounds) for key, item in value.items()}
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            faults.append(f"{at}: expected a list")
            return None
        return tuple(_convert(get_args(hint)[0], item, faults, f"{at}[{i}]", bounds) for i, item in enumerate(value))
    if hint is bool or hint is str:
        if not isinstance(value, hint):
            faults.append(f"{at}: expected {'true or false' if hint is bool else 'text (in quotes where it looks like a number)'}")
            return None
        return value
    return _number(hint, value, faults, at, bounds)


def _number(hint: type, value: Any, faults: list[str], at: str, bounds: Mapping[str, float]) -> Any:
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        result = float(value)
        if not math.isfinite(result) or (hint is int and result != int(result)):
            raise ValueError
    except (TypeError, ValueError):
        faults.append(f"{at}: expected {'a whole number' if hint is int else 'a number'}")
        return None
    low, high = bounds.get("low", -math.inf), bounds.get("high", math.inf)
    if not low <= result <= high:
        asked = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        faults.append(f"{at}: {result:g} is out of range, {asked}")
    return hint(result)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` laid over `base`, mapping by mapping; lists and numbers are replaced."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = merge(base[key], value) if both else value
    return merged
