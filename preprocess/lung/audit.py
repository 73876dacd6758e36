"""audit.json of a lung cohort: attrition, series, PET warnings, reports and leaks. Counts and phrases of fixed sets; no ids, no dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from omnifuse.preprocess import splits
from omnifuse.preprocess.lung import leaks, reports
from omnifuse.preprocess.lung.imaging import CROP, FIELD, Tally

TOLD = (
    "CT series with gaps in z",
    "PET series with gaps in z",
    "CT without a lung field: the whole range was taken",
    "CT and PET with different patient ids",
)
EASY = 0.65  # AUROC from which on a baseline is worth a warning


def step(name: str, rows: pl.DataFrame, reason: str | None = None, before: pl.DataFrame | None = None) -> dict[str, Any]:
    """One step of the attrition, as `preprocess table` tells its own."""
    gone = before.height - rows.height if before is not None else 0
    return {"step": name, "samples": rows.height, "patients": rows["patient_id"].n_unique(), "left_out": {reason: gone} if gone else {}}


def reasons(tally: Tally) -> str:
    """Why series cannot be used, the commonest first, in one line."""
    return "; ".join(f"{count} {column}: {reason}" for (column, reason), count in _by_count(tally.unusable)[:8])


def _by_count(counts: Counter) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))


def make(
    steps: list[dict[str, Any]],
    tally: Tally,
    samples: pl.DataFrame,
    rows: pl.DataFrame,
    texts: dict[str, str],
    text_counts: Counter[str],
    scanners: pl.DataFrame,
    parts: splits.Parts,
    classes: Sequence[str],
) -> dict[str, Any]:
    """The audit.

    Args:
        rows: of the manifest, those that became samples, in the order of `samples`.
        text_counts: of reports.prepare and the build.
    """
    lengths = [f"{name}_length" for name in ("ct", "pet", "rep") if f"{name}_length" in samples.columns]
    present = {name.removesuffix("_length"): int((samples[name] > 0).sum()) for name in lengths}
    cut = Counter(samples["input"].drop_nulls())
    told = {
        "attrition": steps,
        "classes": {"empty": [name for place, name in enumerate(classes) if not (rows["class"] == place).any()]},
        "present": {name: present.get(name, 0) for name in ("ct", "pet", "rep")},
        "input": {CROP: cut[CROP], FIELD: cut[FIELD]},
        "series": {
            "files": tally.files,
            "left_out": dict(_by_count(tally.left_out)),
            "unusable": [{"column": column, "reason": reason, "rows": count} for (column, reason), count in _by_count(tally.unusable)],
            "listed": tally.listed,
            "notes": {name: count for name, count in _by_count(tally.notes) if count},
        },
        "suv": dict(_by_count(tally.suv)),
        "reports": dict(_by_count(text_counts)),
        "leaks": {
            "reports": len(texts),
            "words": leaks.words_audit([texts[name] for name in rows["sample_id"] if name in texts]),
            "baselines": leaks.baselines(samples, texts, scanners, parts.table, len(classes)),
        },
    }
    return {**told, "warnings": _warnings(told, tally, parts)}


def _warnings(told: dict[str, Any], tally: Tally, parts: splits.Parts) -> list[str]:
    lines = []
    for name, count in told["present"].items():
        if not count:
            lines.append(f"no sample has the modality {name}")
    if told["input"][FIELD]:
        lines.append(f"{told['input'][FIELD]} of {sum(told['input'].values())} samples show whole lung fields (paper mode)")
    if tally.listed:
        lines.append(f"{len(tally.listed)} series or lesion files cannot be used: {reasons(tally)}")
    lines += [f"PET of {count} samples: {warning}" for warning, count in told["suv"].items()]
    lines += [f"{count} samples: {note}" for note, count in told["series"]["notes"].items() if note in TOLD]
    counts = told["reports"]
    for reason in (reports.AFTER, reports.UNDATED):
        if counts.get(reason):
            lines.append(f"{counts[reason]} reports: {reason}")
    if told["leaks"]["words"]:
        hit = max(word["reports"] for word in told["leaks"]["words"])
        lines.append(f"words that name the pathology stand in reports (the commonest in {hit} of {told['leaks']['reports']}): see leaks")
    for one in told["leaks"]["baselines"]:
        if (one["auroc"] or 0) >= EASY:
            lines.append(f"the baseline {one['baseline']} tells the label with AUROC {one['auroc']:.2f}")
    if missing := told["classes"]["empty"]:
        lines.append(f"no lesion is of the class {', '.join(missing)}")
    if parts.meta["refused"]:
        lines.append(f"training on this cohort is refused: {parts.meta['refused']}")
    return lines
