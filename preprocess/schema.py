"""The vocabulary that every room of omnifuse shares: names, columns, kinds of task, and the errors a user can cause.

Free of torch, polars and numpy, so that `omnifuse --help` and the import rules stay cheap.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

MODALITIES = ("ehr", "cxr", "rep", "dn", "ct", "pet", "sig")
PARTS = ("train", "val", "calib", "probe", "test")
KINDS = ("binary", "multilabel", "multiclass")
METRICS = ("auroc", "auprc", "brier", "log_loss", "ece")

# Shares of the patients that are not in the test fold; the rest is `train`.
PART_SHARES = {"val": 0.125, "calib": 0.10, "probe": 0.10}
FOLDS = 5

# One row a sample, label and head; the only thing that `models` hands to `eval`.
PREDICTION_COLUMNS = (
    "run_id", "method", "seed", "fold", "part", "head", "sample_id", "patient_id", "label_name", "y_true", "y_mask", "y_score",
)  # fmt: skip


class OmnifuseError(Exception):
    """Something a user can mend. Its text is one line: what, where, why, and the fix; never a value of a patient.

    Args:
        message: what is wrong.
        where: the file, `file:row` or `file:row:column` it is about.
        hint: what to do, printed in brackets.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: object = None, hint: str | None = None):
        self.message, self.where, self.hint = message, where, hint
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where is not None else ""
        hint = f" ({self.hint})" if self.hint else ""
        return " ".join(f"{where}{self.message}{hint}".split())


class ConfigError(OmnifuseError):
    """A wrong option, key or combination of them."""

    exit_code = 2


class InputError(OmnifuseError):
    """The data given are broken, or hold nothing to work on."""

    exit_code = 3


class ArtefactError(OmnifuseError):
    """A cohort, features, run or report is missing, unfinished or was altered."""

    exit_code = 4


class ResourceError(OmnifuseError):
    """Disk or memory does not suffice, or may not be used."""

    exit_code = 5


class LockedError(OmnifuseError):
    """Another process is writing the same artefact."""

    exit_code = 6


class NumericalError(OmnifuseError):
    """NaN or infinity in an input, an activation or a loss."""

    exit_code = 7


class PartialResult(OmnifuseError):
    """Some of the work was done, the rest is named."""

    exit_code = 8


class Unreadable(Exception):
    """One item (a film, a series, a record) that cannot be used. It is counted and listed, and never stops the rest.

    `reason` is one short phrase from a fixed set: no path, id or value of a patient, so that reasons can be counted and shown.
    """

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Task:
    """What is predicted.

    `labels` names the outputs: one for a binary task, L for a multi-label one, the C classes for a multi-class one. A sample's `y` holds
    one float a label (null where unknown), or for a multi-class task a single class index.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"task {self.name}: kind {self.kind!r} is none of {', '.join(KINDS)}")

    @property
    def outputs(self) -> int:
        """Number of logits C."""
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "labels": list(self.labels), **self.notes}

    @classmethod
    def from_json(cls, name: str, text: dict[str, Any]) -> Task:
        notes = {key: value for key, value in text.items() if key not in ("kind", "labels")}
        return cls(name, text["kind"], tuple(text["labels"]), notes)


def nearest(name: str, known) -> str:
    """The hint for an unknown name: the nearest known one, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"


class Silent:
    """A progress bar that shows nothing. Rooms take `progress(description, total, unit)`, which returns one of these or a tqdm."""

    def __init__(self, description: str = "", total: int | None = None, unit: str = "it"):
        self.n = 0

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, n: int = 1) -> None:
        self.n += n
