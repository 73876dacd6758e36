"""What a command works on: the cohort, the task, and where the artefacts of both stand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, nearest
from omnifuse.workspace import Workspace


def cohort(space: Workspace, told: str | None, tasks: Collection[str] = ()) -> tuple[Path, store.Artefact]:
    """The cohort, opened: its manifest is checked here, each file when it is used.

    Args:
        told: its name or place; else it is that of the workspace, or the only one that has all of `tasks`.
    """
    if told is not None or space.settings.values["cohort"] is not None or len(several := space.cohorts()) < 2:
        path = space.cohort(told)
        return path, store.open(path, "cohort")
    having = [(path, opened) for path in several if set(tasks) <= set((opened := store.open(path, "cohort")).meta["tasks"])]
    if tasks and len(having) == 1:
        return having[0]
    known = [path.name for path, _ in having] or [path.name for path in several]
    raise ConfigError(f"holds several cohorts: {', '.join(known)}", where=several[0].parent, hint=f"--cohort {' or '.join(known)}")


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
