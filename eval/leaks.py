"""The mark of models that see what gives the outcome away.

A cohort made with --allow-leak says in the notes of its tasks which modalities do so, and why: `leaks`, {modality: reason}. Whatever is
told of a model that saw one of them carries the mark, in its name (`tables.Model.name`), in its inputs and in the column `leak`.
"""

from __future__ import annotations

from collections.abc import Iterable

from omnifuse.preprocess.schema import Task

MARK = "†leak"


def reasons(task: Task) -> dict[str, str]:
    """Modality -> why it leaks in this task."""
    told = task.notes.get("leaks")
    return {str(name): str(reason) for name, reason in told.items()} if isinstance(told, dict) else {}


def among(modalities: str, task: Task) -> str:
    """Of `ehr+dn` those that leak, as `dn`; empty where none does."""
    told = reasons(task)
    return "+".join(name for name in modalities.split("+") if name in told)


def mark(modalities: str, leak: str | None) -> str:
    """`ehr+dn` as `ehr+dn†leak`."""
    return "+".join(mark_each(modalities.split("+"), leak))


def mark_each(modalities: Iterable[str], leak: str | None, names: dict[str, str] | None = None) -> list[str]:
    """The names of the modalities, those in `leak` (`dn`) marked."""
    leaking = (leak or "").split("+")
    shown = names or {}
    return [shown.get(name, name) + (MARK if name and name in leaking else "") for name in modalities]


def together(*leaks: str) -> str:
    """Those of several models, each once."""
    return "+".join(dict.fromkeys(name for leak in leaks for name in leak.split("+") if name))
