"""What a report shows of a cohort: who the patients are, how they were divided, whom each rule left out, what each variable holds.

All counts; no row of a patient. Percentages and quartiles of cells that are too small to show are hidden with them (`disclosure`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from omnifuse.eval import disclosure
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import PARTS, ArtefactError, Task
from omnifuse.preprocess.store import Artefact

SHOWN_UNITS = 8


@dataclass(frozen=True)
class CohortTables:
    """Rows of text for the page. Each row is (name, cells, whether it is indented)."""

    columns: list[str]
    rows: list[tuple[str, list[str], bool]]
    parts_columns: list[str]
    parts: list[tuple[str, list[str]]]
    attrition: list[dict[str, Any]]
    audit: dict[str, Any]
    source: dict[str, Any]
    stays: int
    patients: int


def read_cohort(cohort: Artefact, task: Task, min_cell: int = 0) -> CohortTables:
    """Tables of the stays and samples of one task.

    Raises:
        ArtefactError: the cohort holds no samples of the task.
    """
    if not cohort.has(f"samples/{task.name}.parquet"):
        raise ArtefactError(f"this cohort holds no samples of the task {plain(task.name)}", where=cohort.folder)
    samples, stays = cohort.table(f"samples/{task.name}.parquet"), cohort.table("stays.parquet")
    audit = cohort.json("audit.json") if cohort.has("audit.json") else {}
    columns, rows = _characteristics(samples, stays, task, min_cell)
    parts_columns, parts = _parts(cohort.table("parts.parquet"), samples, task, min_cell)
    return CohortTables(
        columns,
        rows,
        parts_columns,
        parts,
        disclosure.merge_small_steps(_steps_to(task.name, audit, cohort), min_cell),
        audit,
        cohort.meta.get("source") or {},
        samples["stay_id"].n_unique(),
        samples["patient_id"].n_unique(),
    )


def _steps_to(task: str, audit: dict[str, Any], cohort: Artefact) -> list[dict[str, Any]]:
    """The steps of the attrition that lead to this task: those of all tasks, and its own (`TASK: condition`)."""
    others = tuple(f"{name}: " for name in cohort.meta.get("tasks", {}) if name != task)
    return [step for step in audit.get("attrition") or [] if not step["step"].startswith(others)]


def _groups(samples: pl.DataFrame, task: Task) -> dict[str, pl.DataFrame]:
    """The columns of the table: all, and where the outcome is one of a few, each of it."""
    first = samples["y"].list.get(0, null_on_oob=True)
    if task.kind == "binary":
        return {"All": samples, "With the outcome": samples.filter(first == 1), "Without": samples.filter(first == 0)}
    if task.kind == "multiclass" and task.outputs <= 4:
        return {"All": samples} | {plain(name): samples.filter(first == index) for index, name in enumerate(task.labels)}
    return {"All": samples}


def _characteristics(samples: pl.DataFrame, stays: pl.DataFrame, task: Task, min_cell: int):
    groups = _groups(samples, task)
    per_stay = {
        name: stays.join(group.select("stay_id").unique(), on="stay_id", how="semi").sort("stay_id") for name, group in groups.items()
    }
    per_patient = {name: group.unique("patient_id", keep="first", maintain_order=True) for name, group in per_stay.items()}
    rows: list[tuple[str, list[str], bool]] = []
    for name, table, column in (("Patients", groups, "patient_id"), ("ICU stays", groups, "stay_id"), ("Samples", groups, "sample_id")):
        rows.append((name, _partition([[group[column].n_unique() for group in table.values()]], min_cell)[0], False))
    rows.append(("Age, years: median (quartiles)", [_quartiles(group["age"], min_cell) for group in per_patient.values()], False))
    rows += _shares("Sex", per_patient, "sex", min_cell)
    rows.append(
        ("Days in the ICU: median (quartiles)", [_quartiles(group["los_hours"] / 24, min_cell) for group in per_stay.values()], False)
    )
    died = {
        name: group.with_columns(died=pl.when("died_in_hospital").then(pl.lit("yes")).otherwise(pl.lit("no")))
        for name, group in per_stay.items()
    }
    rows += [row for row in _shares("Died in hospital", died, "died", min_cell) if row[0] != "no"]
    rows += _shares("Unit", per_stay, "unit", min_cell)
    return list(groups), rows


def _partition(counts: list[list[int]], min_cell: int, denominators: list[int] | None = None) -> list[list[str]]:
    """Counts [rows][All, outcome 1, outcome 2 ..] as text, small ones hidden; `All` is the total of the others and follows them."""
    table = np.array(counts)
    hidden = disclosure.hide_small(table[:, 1:] if table.shape[1] > 1 else table, min_cell)
    if table.shape[1] > 1:
        alone = disclosure.hide_small(table[:, :1], min_cell)
        hidden = np.concatenate([alone, hidden], axis=1)
    show: Callable[[int, int], str] = lambda count, column: (
        f"{count:,}"
        if denominators is None
        else f"{count:,} ({100 * count / denominators[column]:.1f}%)"
        if denominators[column]
        else f"{count:,}"
    )
    small = f"under {min_cell}"
    return [
        [
            (small if disclosure.is_small(count, min_cell) else "hidden") if hide else show(count, column)
            for column, (count, hide) in enumerate(zip(row, mask))
        ]
        for row, mask in zip(counts, hidden)
    ]


def _shares(title: str, groups: dict[str, pl.DataFrame], column: str, min_cell: int) -> list[tuple[str, list[str], bool]]:
    values = next(iter(groups.values()))[column].fill_null("unknown").value_counts(sort=True)[column].to_list()
    values = sorted(values, key=lambda value: value == "unknown")
    others, values = values[SHOWN_UNITS:], values[:SHOWN_UNITS]
    filled = [group[column].fill_null("unknown") for group in groups.values()]
    counts = [[int((series == value).sum()) for series in filled] for value in values]
    if others:
        counts.append([int(series.is_in(others).sum()) for series in filled])
    texts = _partition(counts, min_cell, [len(series) for series in filled]) if counts else []
    names = [plain(value) for value in values] + (["other"] if others else [])
    return [(title, [""] * len(groups), False), *((name, text, True) for name, text in zip(names, texts))]


def _quartiles(values: pl.Series, min_cell: int) -> str:
    values = values.drop_nulls().drop_nans()
    if not len(values):
        return "unknown"
    if disclosure.is_small(len(values), min_cell):
        return "hidden"
    low, middle, high = (values.quantile(q, interpolation="linear") for q in (0.25, 0.5, 0.75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _parts(parts: pl.DataFrame, samples: pl.DataFrame, task: Task, min_cell: int):
    """Patients by fold and part, those of them with the outcome in brackets (binary tasks)."""
    first = pl.col("y").list.get(0, null_on_oob=True)
    owners = samples.group_by("patient_id").agg((first == 1).any().fill_null(False).alias("positive"))
    table = parts.join(owners, on="patient_id").group_by("fold", "part").agg(pl.len().alias("n"), pl.col("positive").sum().alias("with"))
    found = {(fold, part): (n, positive) for fold, part, n, positive in table.iter_rows()}
    names = [part for part in PARTS if any(key[1] == part for key in found)]
    rows = []
    for fold in sorted({fold for fold, _ in found}):
        counts = [[found.get((fold, part), (0, 0))[0] for part in names]]
        if task.kind == "binary":
            positive = [found.get((fold, part), (0, 0))[1] for part in names]
            counts = [positive, [n - p for n, p in zip(counts[0], positive)]]
        hidden = disclosure.hide_small(np.array(counts), min_cell)
        cells = []
        for column in range(len(names)):
            total, known = sum(row[column] for row in counts), not hidden[:, column].any()
            total_known = known or (task.kind == "binary" and not disclosure.is_small(total, min_cell))
            text = f"{total:,}" if total_known else f"under {min_cell}" if total < min_cell else "hidden"
            cells.append(f"{text} ({counts[0][column]:,})" if known and task.kind == "binary" else text)
        rows.append((str(fold), cells))
    return names, rows
