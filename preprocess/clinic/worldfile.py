"""The file of a world: named ones in `worlds/`, those of the set (`set32/07`), or any path; one may lay its changes over another.

What is wrong, or cannot hold together, is refused here, before anything is drawn.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from omnifuse.preprocess.clinic import worldset
from omnifuse.preprocess.clinic.contradictions import contradictions, unknown_names
from omnifuse.preprocess.clinic.knobs import MISSING, merge, parse
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.schema import ConfigError, nearest

WORLDS = Path(__file__).parent / "worlds"


def read_world(world: str | Path = "default") -> World:
    """The world of that name or file.

    Raises:
        ConfigError: unknown world, unknown or missing knob, a number out of range, or knobs that contradict each other; one line.
    """
    path, knobs = _read(world)
    faults: list[str] = []
    name = str(world) if _in_the_set(world) else path.stem
    parsed = parse(World, {"name": name, **knobs}, faults)
    if parsed is not None:
        faults = contradictions(parsed)
    else:
        faults = _most_telling(unknown_names(knobs), faults)
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ConfigError("; ".join(faults[:3]) + more, where=path)
    return parsed


def _most_telling(unknown: list[str], faults: list[str]) -> list[str]:
    """What is missing last, and together: whoever forgot the base misses everything, and an unknown name lacks all that is in it."""
    places = tuple(f"{fault.partition(': ')[0]}." for fault in unknown)
    wrong = [fault for fault in faults if not fault.endswith(MISSING) and not (places and fault.startswith(places))]
    missing = [fault for fault in faults if fault.endswith(MISSING) and not (places and fault.startswith(places))]
    if len(missing) > 3:
        missing = [f"{len(missing)} knobs are missing, such as {missing[0].removesuffix(MISSING)} (start with `base: default`)"]
    return [*unknown, *wrong, *missing]


def named_worlds() -> list[str]:
    """Names of the shipped worlds, without those of the set."""
    return sorted(path.stem for path in WORLDS.glob("*.yaml") if path != worldset.FILE)


def _in_the_set(world: str | Path) -> bool:
    return isinstance(world, str) and (world == worldset.NAME or world.startswith(f"{worldset.NAME}/")) and not Path(world).suffix


def _read(world: str | Path, depth: int = 0) -> tuple[Path, dict[str, Any]]:
    """The file of a world and its knobs, laid over those of its base."""
    if _in_the_set(world):
        member = worldset.find(world)
        return worldset.FILE, merge(_read(member.base, depth + 1)[1], member.knobs)
    named = isinstance(world, str) and not Path(world).suffix and Path(world).name == world
    path = WORLDS / f"{world}.yaml" if named else Path(world)
    if named and not path.is_file():
        raise ConfigError(f"no world {world!r}", hint=nearest(str(world), named_worlds()))
    knobs = dict(_shipped(path) if named else _load(path))
    base = knobs.pop("base", None)
    if base is None:
        return path, knobs
    if not isinstance(base, str):
        raise ConfigError("base: expected the name or the file of one world", where=path)
    if depth > 5:
        raise ConfigError("worlds are based on each other in a circle", where=path)
    beside = path.parent / base if Path(base).suffix else base
    return path, merge(_read(beside, depth + 1)[1], knobs)


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeats(yaml.compose(text, Loader=yaml.SafeLoader), path)
        knobs = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError):
        raise ConfigError("the world cannot be read", where=path, hint="name a YAML file or a world that is there") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError("is no valid YAML", where=f"{path}:{mark.line + 1}" if mark else path) from None
    if not isinstance(knobs, dict):
        raise ConfigError("holds no knobs", where=path, hint="start with `base: default` and change what shall differ")
    return knobs


def _refuse_repeats(node: yaml.Node | None, path: Path) -> None:
    """Of a knob that is set twice PyYAML takes the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{key.value} stands twice", where=f"{path}:{key.start_mark.line + 1}", hint="remove one")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            _refuse_repeats(value, path)


_shipped = functools.cache(_load)  # the worlds of the package do not change while it runs
