"""Who the patients are and which modalities their samples have, by outcome: of ICU stays (MIMIC), of films, of anybody's own table."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from omnifuse.eval.counting import Row, partition, quartiles, shares, short
from omnifuse.eval.escaping import plain
from omnifuse.eval.wording import modality
from omnifuse.preprocess.schema import Task

Groups = dict[str, pl.DataFrame]


def by_outcome(samples: pl.DataFrame, task: Task) -> Groups:
    """The columns of the tables: all, and where the outcome is one of a few, each of it."""
    first = samples["y"].list.get(0, null_on_oob=True)
    if task.kind == "binary":
        return {"All": samples, "With the outcome": samples.filter(first == 1), "Without": samples.filter(first == 0)}
    if task.kind == "multiclass" and task.outputs <= 4:
        return {"All": samples} | {plain(name): samples.filter(first == index) for index, name in enumerate(task.labels)}
    return {"All": samples}


def counted(title: str, groups: Groups, column: str, min_cell: int) -> Row:
    """Distinct values of a column."""
    return title, partition([[group[column].drop_nulls().n_unique() for group in groups.values()]], min_cell)[0], False


def of_stays(groups: Groups, stays: pl.DataFrame, min_cell: int) -> list[Row]:
    """Samples of ICU stays: age and sex once a patient, at the first stay."""
    per_stay = {
        name: stays.join(group.select("stay_id").unique(), on="stay_id", how="semi").sort("stay_id") for name, group in groups.items()
    }
    per_patient = {name: group.unique("patient_id", keep="first", maintain_order=True) for name, group in per_stay.items()}
    names = (("Patients", "patient_id"), ("ICU stays", "stay_id"), ("Samples", "sample_id"))
    rows = [counted(name, groups, column, min_cell) for name, column in names]
    rows.append(("Age, years: median (quartiles)", [quartiles(group["age"], min_cell) for group in per_patient.values()], False))
    rows += shares("Sex", per_patient, "sex", min_cell)
    days = [quartiles(group["los_hours"] / 24, min_cell) for group in per_stay.values()]
    rows.append(("Days in the ICU: median (quartiles)", days, False))
    died = {
        name: group.with_columns(died=pl.when("died_in_hospital").then(pl.lit("yes")).otherwise(pl.lit("no")))
        for name, group in per_stay.items()
    }
    rows += [row for row in shares("Died in hospital", died, "died", min_cell) if row[0] != "no"]
    return rows + shares("Unit", per_stay, "unit", min_cell)


def of_films(groups: Groups, stays: pl.DataFrame, min_cell: int) -> list[Row]:
    """Films, of which some were taken during a kept stay; of patients without one neither age nor sex is known."""
    first = stays.sort("stay_id").unique("patient_id", keep="first", maintain_order=True).select("patient_id", "age", "sex")
    people = {name: group.select("patient_id").unique().join(first, on="patient_id", how="left") for name, group in groups.items()}
    rows = [counted("Patients", groups, "patient_id", min_cell), counted("Films", groups, "sample_id", min_cell)]
    during = [[group["stay_id"].count() for group in groups.values()], [group["stay_id"].null_count() for group in groups.values()]]
    texts = partition(during, min_cell, [group.height for group in groups.values()])
    rows += [("during an ICU stay of the cohort", texts[0], True), ("not during one", texts[1], True)]
    ages = [quartiles(group["age"], min_cell) for group in people.values()]
    return [*rows, ("Age at the first ICU stay, years: median (quartiles)", ages, False), *shares("Sex", people, "sex", min_cell)]


def of_samples(groups: Groups, unit: str, described: dict[str, str], min_cell: int) -> list[Row]:
    """Samples of any source, and the columns that its maker wants described.

    Args:
        unit: what a sample is, in the plural.
        described: column -> number or category.
    """
    rows = [counted("Patients", groups, "patient_id", min_cell), counted(unit.capitalize(), groups, "sample_id", min_cell)]
    for column, kind in described.items():
        name = plain(column).replace("_", " ")
        if kind == "number":
            rows += _numbers(name, groups, column, min_cell)
        else:
            rows += shares(name, groups, column, min_cell, told=True)
    return rows


def _numbers(name: str, groups: Groups, column: str, min_cell: int) -> list[Row]:
    values = {group: table[column].cast(pl.Float64).fill_nan(None) for group, table in groups.items()}
    rows: list[Row] = [(f"{name}: median (quartiles)", [quartiles(each, min_cell, short) for each in values.values()], False)]
    if any(each.null_count() for each in values.values()):
        counts = [[each.null_count() for each in values.values()], [each.count() for each in values.values()]]
        rows.append(("unknown", partition(counts, min_cell, [len(each) for each in values.values()])[0], True))
    return rows


def presence(groups: Groups, modalities: Iterable[str], min_cell: int) -> list[Row]:
    """How many samples have each modality, and all of them; a modality of which the samples have no columns is none of the task's."""
    every = next(iter(groups.values()))
    names = [name for name in modalities if f"{name}_length" in every.columns]
    has = {name: _has(every, name) for name in names}
    rows = [_share(modality(name), groups, there, min_cell) for name, there in has.items()]
    return [*rows, _share("All of them", groups, pl.all_horizontal(has.values()), min_cell)] if len(has) > 1 else rows


def _has(samples: pl.DataFrame, name: str) -> pl.Expr:
    there = pl.col(f"{name}_length").fill_null(0) > 0
    return there | pl.col(f"{name}_tail").is_not_null() if f"{name}_tail" in samples.columns else there


def _share(name: str, groups: Groups, there: pl.Expr, min_cell: int) -> Row:
    having = [int(group.select(there.sum()).item()) for group in groups.values()]
    sizes = [group.height for group in groups.values()]
    return name, partition([having, [size - has for size, has in zip(sizes, having)]], min_cell, sizes)[0], False
