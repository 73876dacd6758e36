"""The set of worlds that claims are made over: read from one committed file, which was fixed before any method ran on it.

`worlds/set32.yaml` is written by `worldset_design.py`. A world of it is named `set32/07`, or `set32/null` for a limit. The fingerprint
covers every knob, seed and coordinate of all worlds and both generators: tables print it, and a change of any voids them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, nearest

NAME = "set32"
FILE = Path(__file__).parent / "worlds" / f"{NAME}.yaml"


@dataclass(frozen=True)
class Member:
    """One world of the set: its seed, its place on each axis (none for a limit), and knobs over those of `base`."""

    name: str
    seed: int
    base: str
    coordinates: dict[str, float | str]
    knobs: dict[str, Any]

    @property
    def full_name(self) -> str:
        return f"{NAME}/{self.name}"


@functools.cache
def members() -> tuple[Member, ...]:
    """All 32, in their order."""
    told = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(Member(**entry) for entry in told["worlds"])


def names() -> list[str]:
    """`set32/01` and so on: what `read_world` and `--world` take."""
    return [member.full_name for member in members()]


def find(name: str) -> Member:
    """The member `set32/07`, or `07`.

    Raises:
        ConfigError: there is none.
    """
    by_name = {member.name: member for member in members()}
    short = name.removeprefix(f"{NAME}/")
    if short not in by_name:
        hint = nearest(name, names()) if "/" in name else f"its worlds: {', '.join(names()[:2])} ... {names()[-1]}"
        raise ConfigError(f"no world {name!r}", hint=hint)
    return by_name[short]


def seed_of(world: str) -> int:
    """The seed of a world that belongs to the set, 0 for others."""
    return find(world).seed if str(world).startswith(f"{NAME}/") else 0


def coordinates() -> pl.DataFrame:
    """A row a world: `world`, `seed`, `base`, and its place on each axis; null for the limits."""
    axes = list(members()[0].coordinates)
    rows = [{"world": m.full_name, "seed": m.seed, "base": m.base, **{axis: m.coordinates.get(axis) for axis in axes}} for m in members()]
    return pl.DataFrame(rows, infer_schema_length=None)


@functools.cache
def fingerprint() -> str:
    """sha256 over all worlds and both generators."""
    from omnifuse.preprocess.clinic import generate, lung
    from omnifuse.preprocess.clinic.worldfile import read_world

    worlds = {name: read_world(name) for name in names()}
    return store.digest(
        {
            "generators": [generate.GENERATOR, lung.GENERATOR],
            "worlds": [[m.full_name, m.seed, m.coordinates] for m in members()],
            "knobs": [[world.fingerprint, world.lung_fingerprint] for world in worlds.values()],
        }
    )
