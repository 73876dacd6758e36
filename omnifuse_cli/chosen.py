"""What a command works on: the cohort, the task, and where the artefacts of both stand."""

from __future__ import annotations

from pathlib import Path

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, nearest
from omnifuse.workspace import Workspace


def cohort(space: Workspace, told: str | None) -> tuple[Path, store.Artefact]:
    """The cohort, opened: its manifest is checked here, each file when it is used."""
    path = space.cohort(told)
    return path, store.open(path, "cohort")


def task(cohort: store.Artefact, told: str | None, preferred: str | None = None) -> str:
    """The task told, the workspace's, or the only one of the cohort."""
    known = list(cohort.meta["tasks"])
    name = told or preferred
    if name is None:
        if len(known) == 1:
            return known[0]
        raise ConfigError("which task?", hint=f"--task {' or '.join(known)}")
    if name not in known:
        raise ConfigError(f"this cohort has no task {name!r}", hint=nearest(name, known))
    return name


def features_path(space: Workspace, cohort: Path, task: str, told: Path | None = None) -> Path:
    return told or space.output("features", cohort.name, task)


def runs_path(space: Workspace, cohort: Path, task: str, told: Path | None = None) -> Path:
    return told or space.output("runs", cohort.name, task)


def report_path(space: Workspace, cohort: Path, task: str, told: Path | None = None) -> Path:
    return told or space.output("reports", cohort.name, task)
