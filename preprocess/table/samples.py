"""The main table to samples: who they are, what they are labelled, and who is left out why.

A row belongs to the sample of its id; a sample has the rows of one patient. Where rows of one sample tell several origins or predictions,
the earliest counts: nothing later may be seen. Rows that are alike in every column that is named are one row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.table import cells, labels
from omnifuse.preprocess.table.description import MAIN, Description
from omnifuse.preprocess.table.reading import Ledger, Rows, Sources, clocked, joined, kept

ENOUGH_NUMBERS = 0.9  # of a column that is described by its quartiles


@dataclass
class Samples:
    """`table`: Sample (UInt32, its row), Sample_id, Patient_id, Y, Origin_us, Prediction_us, perhaps Group, and the described columns.

    Names of our own begin with a capital: those of a table are in small letters, and cannot be the same.
    """

    table: pl.DataFrame
    rows: Rows
    ledger: Ledger
    attrition: list[dict[str, Any]]
    warnings: list[str]
    described: dict[str, str]


def gather(sources: Sources) -> Samples:
    """Reads the main table.

    Raises:
        InputError: no sample with a label is left; a sample of two patients; rows of one sample with different labels.
    """
    told, path = sources.told, sources.paths[MAIN]
    ledger = Ledger(told.tables[MAIN].file)
    every_row = _rows(sources, ledger)
    everyone = _one_row_each(every_row, told, path)
    rows = every_row.join(everyone.select("Sample", "Sample_id"), on="Sample_id", how="left", maintain_order="left")
    attrition = [_step("in the main table", everyone)]
    marked = everyone.join(labels.label(rows, told.label, path), on="Sample", how="left", maintain_order="left")
    table = _labelled(marked, attrition)
    if told.clock.prediction:
        table = _keep(table, pl.col("Prediction_us").is_not_null(), "with a time of prediction", "time of prediction unknown", attrition)
    if told.clock.origin:
        table = _keep(table, pl.col("Origin_us").is_not_null(), "with an origin", "origin unknown", attrition)
    if table.is_empty():
        left = "; ".join(f"{count:,} {reason}" for step in attrition for reason, count in step["left_out"].items())
        raise InputError(f"no sample is left for the task {told.task}", where=path, hint=left or "the table has no rows to keep")
    table = table.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias("Place"))
    rows = rows.join(table.select("Sample", "Place"), on="Sample").drop("Sample", "Sample_id").rename({"Place": "Sample"})
    table = table.drop("Sample").rename({"Place": "Sample"})
    described = _described(rows, told, table.height)
    table = table.with_columns(described.values())
    kinds = {name: "number" if column.dtype == pl.Float64 else "category" for name, column in described.items()}
    return Samples(table, Rows(sources, table, rows), ledger, attrition, _warnings(every_row, table, told), kinds)


def _rows(sources: Sources, ledger: Ledger) -> pl.DataFrame:
    told = sources.told
    table = told.tables[MAIN]
    frame = sources.read(MAIN)
    ledger.rows = frame.height
    whole = frame.unique(subset=[name for name in frame.columns if name != "Row"], keep="first", maintain_order=True)
    ledger.dropped["the same as another row"] += frame.height - whole.height
    whole = kept(whole, told.keep, ledger)
    whole = ledger.drop(whole, pl.col(table.patient).is_not_null(), "no patient id")
    whole = whole.with_columns(joined(table.sample or (table.patient,)).alias("Sample_id"), pl.col(table.patient).alias("Patient_id"))
    whole = ledger.drop(whole, pl.col("Sample_id").is_not_null(), "no sample id")
    if whole.is_empty():
        left = "; ".join(f"{count:,} {reason}" for reason, count in ledger.dropped.items() if count)
        raise InputError("no row is left", where=sources.paths[MAIN], hint=left)
    return clocked(whole, told.clock)


def _one_row_each(rows: pl.DataFrame, told: Description, path) -> pl.DataFrame:
    """Sample, Sample_id, Patient_id, Origin_us, Prediction_us, Group: one row a sample, by patient and sample."""
    group = pl.col(told.group).max() if told.group else pl.lit(None, pl.String)
    people = rows.group_by("Sample_id").agg(
        pl.col("Patient_id").min(),
        pl.col("Patient_id").n_unique().alias("patients"),
        pl.col("Origin_us").min(),
        pl.col("Prediction_us").min(),
        group.alias("Group"),
        pl.col("Row").max(),
    )
    if (shared := people.filter(pl.col("patients") > 1)).height:
        where, hint = f"{path}:{shared['Row'].min()}", "name under sample the columns that tell them apart, for example [patient, sample]"
        raise InputError(f"{shared.height} samples have rows of several patients", where=where, hint=hint)
    people = people.sort("Patient_id", "Sample_id").with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias("Sample"))
    return people.drop("patients", "Row") if told.group else people.drop("patients", "Row", "Group")


def _step(step: str, table: pl.DataFrame, left_out: dict[str, int] | None = None) -> dict[str, Any]:
    return {"step": step, "samples": table.height, "patients": table["Patient_id"].n_unique(), "left_out": left_out or {}}


def _labelled(marked: pl.DataFrame, attrition: list[dict[str, Any]]) -> pl.DataFrame:
    left = Counter(marked["Reason"].drop_nulls().to_list())
    table = marked.filter(pl.col("Reason").is_null()).drop("Reason")
    attrition.append(_step("with a label", table, dict(sorted(left.items()))))
    return table


def _keep(table: pl.DataFrame, keep: pl.Expr, step: str, reason: str, attrition: list[dict[str, Any]]) -> pl.DataFrame:
    some = table.filter(keep)
    attrition.append(_step(step, some, {reason: table.height - some.height} if some.height < table.height else {}))
    return some


def _described(rows: pl.DataFrame, told: Description, count: int) -> dict[str, pl.Series]:
    """Each column for the report: of a sample's cells the greatest, as numbers where nearly all of them are."""
    found = {}
    for name in told.describe:
        values, counts = cells.numbers(rows[name])
        given = counts["cells"] - counts["missing"]
        numeric = given and counts["present"] >= ENOUGH_NUMBERS * given
        cell = pl.Series("cell", values).fill_nan(None) if numeric else rows[name].alias("cell")
        held = pl.DataFrame({"Sample": rows["Sample"], "cell": cell}).group_by("Sample").agg(pl.col("cell").max())
        whole = pl.DataFrame({"Sample": pl.Series(range(count), dtype=pl.UInt32)}).join(
            held, on="Sample", how="left", maintain_order="left"
        )
        found[name] = whole["cell"].alias(name)
    return found


def _warnings(rows: pl.DataFrame, table: pl.DataFrame, told: Description) -> list[str]:
    found = [
        f"label column {column}: {count:,} cells hold a value that is listed nowhere: the label is unknown there"
        for column, count in labels.unlisted(rows, told.label).items()
    ]
    for what, column in (("origin", told.clock.origin), ("prediction", told.clock.prediction)):
        if column is None:
            continue
        unread = int((cells.moments(rows[column], told.clock.unit).is_null() & rows[column].is_not_null()).sum())
        if unread:
            found.append(f"column {column}: {unread:,} cells are no time ({told.clock.unit}): not used as {what}")
    if "Group" in table.columns and (unknown := table["Group"].null_count()):
        found.append(f"{unknown:,} samples have no group ({told.group})")
    return found
