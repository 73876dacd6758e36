"""What a report shows of a cohort: who the patients are, how they were divided, whom each rule left out, what each variable holds.

All counts; no row of a patient. Percentages and quartiles of cells that are too small to show are hidden with them (`disclosure`).
A cohort of MIMIC has stays; one of another source has samples only, and says itself what is to be described.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from omnifuse.eval import audited, characteristics, disclosure
from omnifuse.eval.counting import Row
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import PARTS, ArtefactError, Task
from omnifuse.preprocess.store import Artefact

STAYS = "stays.parquet"
SAMPLES = "samples"
LESIONS = "lesions"
ICU_STAYS = "ICU stays"


@dataclass(frozen=True)
class CohortTables:
    """Rows of text for the page."""

    unit: str  # what is counted beside patients: ICU stays, films, lesions, samples
    count: int
    patients: int
    columns: list[str]  # all, and each outcome
    rows: list[Row]
    presence: list[Row]
    parts_columns: list[str]
    parts: list[tuple[str, list[str]]]
    attrition: list[dict[str, Any]]
    attrition_unit: str
    links: list[dict[str, str]]
    measured: list[dict[str, str]]
    series: list[tuple[str, str]]
    giveaways: list[dict[str, str]]
    warnings: list[str]
    audit: dict[str, Any]
    source: dict[str, Any]

    @property
    def sample(self) -> str:
        """One of what the models are judged on."""
        return "sample" if self.unit == ICU_STAYS else self.unit.removesuffix("s")


def read_cohort(cohort: Artefact, task: Task, min_cell: int = 0) -> CohortTables:
    """Tables of the stays and samples of one task.

    Raises:
        ArtefactError: the cohort holds no samples of the task.
    """
    if not cohort.has(f"samples/{task.name}.parquet"):
        raise ArtefactError(f"this cohort holds no samples of the task {plain(task.name)}", where=cohort.folder)
    samples = cohort.table(f"samples/{task.name}.parquet")
    audit = cohort.json("audit.json") if cohort.has("audit.json") else {}
    unit, groups = sample_unit(cohort, task), characteristics.by_outcome(samples, task)
    parts_columns, parts = _parts(cohort.table("parts.parquet"), samples, task, min_cell)
    attrition, counts = audited.steps(audit, task, cohort.meta.get("tasks") or {}, min_cell)
    return CohortTables(
        unit=unit,
        count=samples["stay_id" if unit == ICU_STAYS else "sample_id"].n_unique(),
        patients=samples["patient_id"].n_unique(),
        columns=list(groups),
        rows=_characteristics(cohort, groups, unit, min_cell),
        presence=characteristics.presence(groups, task.notes.get("modalities") or cohort.meta.get("modalities") or (), min_cell),
        parts_columns=parts_columns,
        parts=parts,
        attrition=attrition,
        attrition_unit="stays" if counts == "stays" else unit,
        links=audited.links(audit, min_cell),
        measured=audited.columns(audit, samples.height, min_cell),
        series=audited.series(audit, min_cell),
        giveaways=audited.giveaways(audit, min_cell),
        warnings=[disclosure.hide_in_text(line, min_cell) for line in audit.get("warnings") or []],
        audit=audit,
        source=cohort.meta.get("source") or {},
    )


def sample_unit(cohort: Artefact, task: Task) -> str:
    """What is counted beside patients: the task's word for a sample, else what its source has."""
    if isinstance(word := task.notes.get("sample"), str):
        return f"{plain(word)}s"
    if (cohort.meta.get("source") or {}).get("dataset") == "lung":
        return LESIONS
    return ICU_STAYS if cohort.has(STAYS) else SAMPLES


def _characteristics(cohort: Artefact, groups: dict[str, pl.DataFrame], unit: str, min_cell: int) -> list[Row]:
    every = next(iter(groups.values()))
    if cohort.has(STAYS) and "stay_id" in every.columns:
        make = characteristics.of_stays if unit == ICU_STAYS else characteristics.of_films
        return make(groups, cohort.table(STAYS), min_cell)
    described = cohort.meta.get("describe") or ({"input": "category"} if unit == LESIONS else {})
    described = {column: kind for column, kind in described.items() if column in every.columns}
    return characteristics.of_samples(groups, unit, described, min_cell)


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
