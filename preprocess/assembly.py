"""Samples, items and patients of any source to a cohort: what `preprocess lung` and `preprocess table` share.

The folder is the one of docs/artefacts.md without stays: samples/TASK.parquet, items/MODALITY.parquet or MODALITY.npy, parts.parquet,
audit.json. MIMIC writes its own, range by range, since its series do not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import splits, store
from omnifuse.preprocess.schema import InputError, Task

REQUIRED = ("sample_id", "patient_id", "y")


@dataclass
class Modality:
    """One modality of a cohort: `meta` as the manifest tells it (its `kind`: series, vector or items), and either `rows` or `items`.

    Shapes: rows [R, D] float32 of a series or vector; items a table of preprocess/items.py.
    """

    meta: dict[str, Any]
    rows: np.ndarray | None = None
    items: pl.DataFrame | None = None


@dataclass
class Assembly:
    """What is written.

    `samples[task]` has sample_id (text), patient_id, y (list of float32), and `m_start` (int64) and `m_length` (int32) of every modality
    m, length 0 where it is missing; further columns are kept (`group`: sites or calendar; what `describe` names for the report).
    """

    tasks: dict[str, Task]
    samples: dict[str, pl.DataFrame]
    modalities: dict[str, Modality]
    source: dict[str, Any]
    audit: dict[str, Any]
    parts: splits.Parts
    meta: dict[str, Any] = field(default_factory=dict)


def assemble(builder: store.Builder, told: Assembly) -> None:
    """Writes the files of a cohort and fills the builder's meta.

    Raises:
        InputError: a task without samples, sample ids that repeat, a range of rows that is not there.
    """
    heights = {}
    for name, modality in told.modalities.items():
        if modality.items is not None:
            store.write_parquet(builder.path(f"items/{name}.parquet"), modality.items)
            heights[name] = modality.items.height
        else:
            store.write_npy(builder.path(f"{name}.npy"), np.ascontiguousarray(modality.rows, np.float32))
            heights[name] = len(modality.rows)
    for task, samples in told.samples.items():
        _require_sound(task, samples, heights)
        order = samples.with_columns(pl.col("sample_id").cast(pl.String)).sort("patient_id", "sample_id")
        store.write_parquet(builder.path(f"samples/{task}.parquet"), order)
    store.write_parquet(builder.path("parts.parquet"), told.parts.table)
    store.write_json(builder.path("audit.json"), {"warnings": [], "labels": _label_counts(told), **told.audit})
    builder.meta |= {
        "source": told.source,
        "tasks": {name: {**task.to_json(), "samples": told.samples[name].height} for name, task in told.tasks.items()},
        "modalities": {name: modality.meta for name, modality in told.modalities.items()},
        "splits": told.parts.meta,
        **told.meta,
    }


def _require_sound(task: str, samples: pl.DataFrame, heights: dict[str, int]) -> None:
    if samples.is_empty():
        raise InputError(f"no sample is left for the task {task}")
    if missing := [name for name in REQUIRED if name not in samples.columns]:
        raise ValueError(f"samples of {task} lack {missing}")
    if twice := samples.height - samples["sample_id"].n_unique():
        raise InputError(f"{twice} sample ids of the task {task} stand in more than one row", hint="give each sample its own id")
    for name, height in heights.items():
        end = (samples[f"{name}_start"].cast(pl.Int64) + samples[f"{name}_length"].cast(pl.Int64)).max()
        if (end or 0) > height:
            raise ValueError(f"samples of {task} point past the end of {name}")


def _label_counts(told: Assembly) -> list[dict[str, Any]]:
    counts = []
    for name, task in told.tasks.items():
        y = told.samples[name]["y"]
        for index, label in enumerate(task.labels):
            if task.kind == "multiclass":
                known, positive = y.list.get(0), y.list.get(0) == index
            else:
                known, positive = y.list.get(index), y.list.get(index) == 1
            counts.append({"task": name, "label": label, "n": int(known.is_not_null().sum()), "positive": int(positive.sum())})
    return counts
