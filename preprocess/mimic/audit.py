"""audit.json: what preprocessing found and did, for the reader of the report and for the reviewer of the cohort."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess.mimic import labels, rules
from omnifuse.preprocess.mimic.cohort import Cohort
from omnifuse.preprocess.mimic.compat import CompatMode
from omnifuse.preprocess.mimic.default import DefaultMode
from omnifuse.preprocess.mimic.grid import to_us
from omnifuse.preprocess.mimic.labels import Samples
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.options import MEDFUSE, Options
from omnifuse.preprocess.schema import Task


def attrition(cohort: Cohort, samples: Samples) -> list[dict[str, Any]]:
    """The exclusions of stays, then of each task's samples; a kept admission has one stay."""
    steps = list(cohort.attrition)
    for task, conditions in samples.left.items():
        for condition, (stays, patients) in conditions.items():
            steps.append({"step": f"{task}: {condition}", "stays": stays, "admissions": stays, "patients": patients, "note": ""})
    return steps


def comfort_hours(stays: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """`stays` with `comfort_hours`: from intime to the first order of comfort care in the stay, null where there is none."""
    first = (
        orders.join(stays.select("stay_id", "intime"), on="stay_id")
        .filter(pl.col("known") >= pl.col("intime"))
        .group_by("stay_id")
        .agg(pl.col("known").min())
    )
    hours = (pl.col("known") - pl.col("intime")).dt.total_microseconds() / to_us(1.0)
    return stays.join(first, on="stay_id", how="left", maintain_order="left").with_columns(hours.alias("comfort_hours")).drop("known")


def rules_json(
    options: Options, cohort: Cohort, ledger: Ledger, stays: pl.DataFrame, icustays: pl.DataFrame, report: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """The rules of the default mode with what each changed; none in a compat mode.

    Args:
        stays: kept stays with comfort_hours.
        icustays: all ICU stays with comfort_hours.
        report: of phenotypes.assign.
    """
    if options.is_compat:
        return []
    told = [{"rule": rule, "changed": ledger.rules[rule], "what": what} for rule, what in rules.TEXTS.items()]
    early = pl.col("comfort_hours") < labels.MORTALITY_HOURS
    kept, every = stays.filter(early).height, icustays.filter(early).height
    about = {rule["rule"]: rule for rule in told}
    about["crr"]["changed"] = sum(ledger.items[item] for item in rules.CRR_ITEMS)
    fate = "left out of tasks that look ahead" if options.exclude_comfort_care else "kept"
    about["comfort"].update(changed=kept, what=f"{rules.TEXTS['comfort']}, {fate}; {every} of {icustays.height} ICU stays")
    if report is not None:
        coded = report["rows"].get("10")
        about["icd10"]["changed"] = round(coded["labelled"] * coded["rows"]) if coded else 0
    return told + cohort.rules


def mode_warnings(mode: CompatMode | DefaultMode, ledger: Ledger, options: Options) -> list[str]:
    """What a reader should know of the rows: what the peer would have stopped at, and warnings of the charting system."""
    if isinstance(mode, DefaultMode):
        return [f"{mode.warned:,} rows of CHARTEVENTS carry WARNING = 1, which marks an abnormal value: kept"] if mode.warned else []
    told = []
    if mode.stopped_peer:
        told.append(f"{mode.stopped_peer:,} texts at which the published pipeline stops without an error: null here")
    if unread := ledger.rules["unreadable for the discretiser"]:
        told.append(f"{unread:,} values in words that the published discretiser refuses: in events.parquet, not in the series")
    if mode.wordless.left:
        told.append(
            f"{mode.wordless.left:,} patients have values in numbers only: the published pipeline reads theirs by rules not imitated here"
        )
    if options.compat == MEDFUSE:
        told.append("capillary refill and the coma scale total are not mapped in MIMIC-IV: never observed")
    return told


def label_counts(y: pl.Series, task: Task) -> np.ndarray:
    """[C] samples that have each label, or are of each class."""
    if y.is_empty():
        return np.zeros(task.outputs, dtype=np.int64)
    values = y.explode().to_numpy().reshape(len(y), -1)
    if task.kind == "multiclass":
        return np.bincount(values[:, 0].astype(np.int64), minlength=task.outputs)
    return np.nansum(values, axis=0).astype(np.int64)
