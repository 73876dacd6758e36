"""The workspace: a folder with omnifuse.yaml, found from any folder below it, and a place for each artefact.

    study/omnifuse.yaml   cohorts/NAME   features/NAME/TASK   runs/NAME/TASK/METHOD-MODALITIES/KEY/foldK   reports/NAME/TASK

Outside of a workspace every path has to be given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, nearest

FILE = "omnifuse.yaml"
FOLDERS = ("cohorts", "features", "runs", "reports")

# What omnifuse.yaml may say beside its sections: where the data and the published weights are, and what commands work on by default.
TOP = {name: config.Field(None) for name in ("ehr", "cxr", "notes", "signals", "manifest", "cohort", "task", "model_dir")}
TOP["seed"] = config.Field(0, low=0, high=2**31)
SECTIONS = ("train", "method", "encoder", "fusion", "stage1", "preprocess", "extract")

TEMPLATE = """# An omnifuse workspace. Commands run anywhere below this folder find it.
ehr: {ehr}            # the folder with MIMIC-III's or MIMIC-IV's tables; `omnifuse demo --raw raw` writes synthetic ones
seed: {seed}
# cxr, notes, signals:    folders of films, notes and recordings beside the tables; manifest: of your own tables; model_dir
# preprocess:             # options of `omnifuse preprocess mimic` and `lung`, for example
#   step_hours: 2
# train:                  # see `omnifuse config` for every key, its value and where it comes from
#   lr: 2e-4
"""


@dataclass(frozen=True)
class Workspace:
    """Where things are. `root` None means that there is no workspace here."""

    root: Path | None
    settings: config.Resolved
    layers: dict[str, dict[str, config.Leaf]]

    def require(self) -> Path:
        if self.root is None:
            raise ConfigError("not inside a workspace", hint="omnifuse init DIR makes one; or give every path")
        return self.root

    def place(self, name: str) -> Path | None:
        """The path that omnifuse.yaml gives under this name, relative to the workspace; None where it gives none."""
        told = self.settings.values[name]
        return None if told is None else (self.require() / str(told))

    @property
    def ehr(self) -> Path | None:
        return self.place("ehr")

    def cohort(self, told: str | None) -> Path:
        """The cohort to work on: the one told (a path, or a name in cohorts/), the setting, or the only one there is."""
        told = told or self.settings.values["cohort"]
        if told is not None:
            return self._named("cohorts", str(told))
        if not (found := self.cohorts()):
            raise ArtefactError("holds no cohort", where=self.require() / "cohorts", hint="omnifuse preprocess mimic makes one")
        if len(found) > 1:
            raise ConfigError(f"holds several cohorts: {', '.join(path.name for path in found)}", where=found[0].parent, hint="name one")
        return found[0]

    def cohorts(self) -> list[Path]:
        """All that are finished."""
        return sorted(path.parent for path in (self.require() / "cohorts").glob("*/manifest.json"))

    def _named(self, kind: str, told: str) -> Path:
        path = Path(told)
        if path.is_absolute() or path.exists() or self.root is None:
            return path
        inside = self.root / kind / told
        return inside if inside.exists() or len(path.parts) == 1 else self.root / told

    def output(self, kind: str, *names: str) -> Path:
        return self.require().joinpath(kind, *names)


def find(start: Path | None = None) -> Workspace:
    """The workspace that holds `start` (the working folder), read and checked; its root is None where there is none."""
    here = (start or Path.cwd()).absolute()
    root = next((folder for folder in (here, *here.parents) if (folder / FILE).is_file()), None)
    settings, layers = check(config.read_file(root / FILE, FILE) if root else {})
    return Workspace(root, settings, layers)


def check(leaves: dict[str, config.Leaf]) -> tuple[config.Resolved, dict[str, dict[str, config.Leaf]]]:
    """The settings of omnifuse.yaml, and its sections as layers. Raises ConfigError for an unknown section or setting."""
    layers: dict[str, dict[str, config.Leaf]] = {section: {} for section in SECTIONS}
    top = {}
    for name, leaf in leaves.items():
        section, _, rest = name.partition(".")
        if section in SECTIONS and rest:
            layers[section][name] = leaf
        elif rest:
            raise ConfigError(f"unknown section {section}", where=leaf.where, hint=nearest(section, SECTIONS))
        else:
            top[name] = leaf
    return config.resolve(TOP, [top]), layers


def make(root: Path, ehr: str | None, *, seed: int | None = None, sets: tuple[str, ...] = ()) -> Workspace:
    """Writes omnifuse.yaml and the folders. Raises ConfigError where there is a workspace already."""
    if (root / FILE).exists():
        raise ConfigError("is a workspace already", where=root)
    text = TEMPLATE.format(ehr=json.dumps(ehr or "raw", ensure_ascii=False), seed=seed or 0)
    tree: dict = {}
    for name, leaf in config.overrides(sets).items():
        *path, last = name.split(".")
        branch = tree
        for step in path:
            branch = branch.setdefault(step, {})
        branch[last] = leaf.text
    text += _nested(tree)
    check(config.flatten(config.read_yaml(text, FILE)))
    store.make_folder(root)
    for folder in FOLDERS:
        store.make_folder(root / folder)
    store.write_text(root / FILE, text)
    return find(root)


def _nested(tree: dict, depth: int = 0) -> str:
    indent = "  " * depth
    return "".join(
        f"{indent}{name}:\n{_nested(value, depth + 1)}" if isinstance(value, dict) else f"{indent}{name}: {config.show(value)}\n"
        for name, value in tree.items()
    )
