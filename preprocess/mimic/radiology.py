"""The task radiology: what CheXpert read in a film's report, film by film; what an image encoder is tuned on before it is frozen.

A sample is a film (sample_id is its dicom_id) that has a CheXpert row, of whatever view; its items are one row of items/cxr.parquet.
MedFuse's rule: not mentioned is 0, and so is uncertain (-1); `uncertain: ignore` makes an uncertain label unknown instead.

A patient of the cohort keeps his or her part in every fold. Patients who have films but no kept stay train in every fold: they are tested
on nowhere. So nobody outside the part train of a fold has a film in what an encoder of that fold is tuned on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from omnifuse.preprocess import splits
from omnifuse.preprocess.mimic.films import CHEXPERT
from omnifuse.preprocess.schema import Task

NAME = "radiology"
UNCERTAIN = ("zero", "ignore")
TASK = Task(NAME, "multilabel", CHEXPERT, {"sample": "film", "modalities": ["cxr"]})


def make_samples(items: pl.DataFrame, uncertain: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """samples/radiology.parquet, and counts. A film has no series, reports or recordings: the table has no columns of theirs.

    Args:
        items: items/cxr.parquet.
    """
    films = items.with_row_index("item").unique("dicom_id", keep="first", maintain_order=True)
    labelled = films.filter(pl.col("chexpert").is_not_null())
    value = pl.element()
    unknown = pl.lit(None, pl.Float32) if uncertain == "ignore" else pl.lit(0, pl.Float32)
    label = pl.when(value.is_null()).then(pl.lit(0, pl.Float32)).when(value == -1).then(unknown).otherwise(value)
    samples = labelled.select(
        pl.col("dicom_id").alias("sample_id"),
        "patient_id",
        "stay_id",
        pl.col("time").alias("prediction_time"),
        pl.lit(None, pl.Float64).alias("prediction_hours"),
        pl.col("chexpert").list.eval(label).alias("y"),
        pl.col("item").cast(pl.Int64).alias("cxr_start"),
        pl.lit(1, pl.Int32).alias("cxr_length"),
    ).sort("patient_id", "sample_id")
    return samples, {"films": films.height, "without CheXpert labels": films.height - labelled.height, "samples": samples.height}


def with_outsiders(parts: splits.Parts, samples: pl.DataFrame) -> splits.Parts:
    """The parts, and `train` in every fold for patients of the samples who are not in the cohort."""
    outside = samples.select("patient_id").unique().join(parts.table, on="patient_id", how="anti")
    meta: dict[str, Any] = {**parts.meta, "outside": {"patients": outside.height, "part": "train"}}
    if outside.is_empty():
        return replace(parts, meta=meta)
    folds = parts.table.select("fold").unique()
    added = outside.join(folds, how="cross").select("fold", "patient_id", pl.lit("train").alias("part"))
    table = pl.concat([parts.table, added]).sort("fold", "patient_id")
    return splits.Parts(table, {**meta, "sha256": splits.content_hash(table)})
