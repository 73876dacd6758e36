"""What each task may see of each modality, and which of them leak: the table of docs/tasks.md, and the rule that linking follows.

Every window is half-open: what happens at its end is not seen; --compat medfuse closes them. `--lookback-hours` moves every begin.
"""

from __future__ import annotations

from dataclasses import dataclass

MODALITIES = ("cxr", "rep", "dn", "sig")

_DN = "the discharge note of the admission"
LEAKS: dict[str, dict[str, str]] = {
    "mortality": {"dn": "a discharge note is written when the stay is over, and tells whether the patient died"},
    "phenotyping": {"dn": "a discharge note sums up the diagnoses that are to be predicted"},
    "los": {"dn": "a discharge note is written when the stay is over, and tells how long it was"},
    "los_remaining": {"dn": "a discharge note is written when the stay is over, and tells how long it was"},
}

KNOWN_AT = {
    "ehr": "storetime (`--time charttime`: charttime)",
    "cxr": "study time",
    "rep": "storetime; MIMIC-CXR's files: study time + `report_delay_hours`; a CHARTDATE alone: the end of the day",
    "dn": "not judged",
    "sig": "start of the ECG + `signal_tolerance_hours`; end of the piece of a waveform",
}


@dataclass(frozen=True)
class Seen:
    """What a sample of a task sees of a modality; `leaks` says why that is refused without --allow-leak."""

    task: str
    modality: str
    window: str
    leaks: str | None = None


_SPANS = {
    "mortality": "[intime, intime + 48 h)",
    "phenotyping": "the whole stay, [intime, outtime): retrospective",
    "los": "[intime, intime + `los_window_hours`)",
    "los_remaining": "[intime, t)",
}
_TAKEN = {
    "ehr": "the series in",
    "cxr": "the last film of the pairing's views in",
    "rep": "the reports available in",
    "sig": "the last recording in",
}


def table() -> list[Seen]:
    """Every task of the stays by every modality."""
    told = []
    for task, span in _SPANS.items():
        told += [Seen(task, name, f"{taken} {span}") for name, taken in _TAKEN.items()]
        told.append(Seen(task, "dn", f"refused; with `--allow-leak`: {_DN}", LEAKS[task]["dn"]))
    told.append(Seen("radiology", "cxr", "the film itself, of any view"))
    return told


def leaks(task: str, modalities: tuple[str, ...]) -> dict[str, str]:
    """Of these modalities those through which the task leaks, each with the reason."""
    return {name: reason for name, reason in LEAKS.get(task, {}).items() if name in modalities}


def markdown() -> str:
    """The table for docs/tasks.md."""
    names = ("ehr", "cxr", "rep", "sig", "dn")
    cells = {(seen.task, seen.modality): seen.window for seen in table()}
    tasks = (*_SPANS, "radiology")
    lines = [f"| task | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| `{task}` | {' | '.join(cells.get((task, name), '-') for name in names)} |" for task in tasks]
    lines.append(f"| known at | {' | '.join(KNOWN_AT[name] for name in names)} |")
    return "\n".join(lines) + "\n"
