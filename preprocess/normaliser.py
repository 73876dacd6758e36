"""Means and standard deviations of a task's bins, from the part `train` of one fold and from nothing else.

As the Normalizer of mimic3-benchmarks (only continuous columns, n - 1, floor 1e-7), but fitted on every fold's own training part, at the
chosen step, and never taken from another data set. A bin that several samples share counts once, tails (no whole bins) do not count, and
a constant column keeps its scale: the same rule by which `extract` normalises what models see. In a modality with `gaps` a cell that is
NaN was never measured: it does not count, and a column without any measured cell has mean 0 and standard deviation 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import InputError

FLOOR = 1e-7
BLOCK = 65_536


def fit_normaliser(cohort: store.Artefact, task: str, fold: int, modality: str = "ehr") -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column.

    Returns:
        mean, std: [D] float64 each; 0 and 1 for columns that are not continuous (one-hot codes and masks).

    Raises:
        InputError: the part train of this fold holds no bin of this task.
    """
    about = cohort.meta["modalities"][modality]
    columns = np.asarray(about["continuous"], dtype=np.intp)
    train = cohort.table("parts.parquet").filter(fold=fold, part="train")["patient_id"]
    rows = cohort.array(f"{modality}.npy")
    used = _used(cohort, task, modality, train, len(rows))
    if not used.any():
        told = f"the part train of fold {fold} holds no bin of {modality} for {task}: there is nothing to normalise by"
        raise InputError(told, where=cohort.folder, hint=f"leave {modality} out of --modalities")
    told = _measured if about.get("gaps") else lambda x: x
    count = _total(rows, used, columns, lambda x: ~np.isnan(x)) if about.get("gaps") else int(used.sum())
    mean, std = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    mean[columns] = _total(rows, used, columns, told) / np.maximum(count, 1)
    deviation = np.sqrt(_total(rows, used, columns, lambda x: told((x - mean[columns]) ** 2)) / np.maximum(count - 1, 1))
    std[columns] = np.where(deviation < FLOOR, 1.0, deviation)
    return mean, std


def _measured(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0.0, values)


def _used(cohort: store.Artefact, task: str, modality: str, train: pl.Series, rows: int) -> np.ndarray:
    """[rows] bool: the rows that some training sample reads.

    A sample adds one where its rows begin and takes one away behind their end: the running sum counts the samples over a row, so that
    millions of prefixes of the same stays cost as little as the stays.
    """
    change = np.zeros(rows + 1, np.int64)
    for batch in cohort.batches(f"samples/{task}.parquet", ["patient_id", f"{modality}_start", f"{modality}_length"]):
        mine = batch.filter(pl.col("patient_id").is_in(train.implode())).filter(pl.col(f"{modality}_length") > 0)
        start = mine[f"{modality}_start"].to_numpy()
        np.add.at(change, start, 1)
        np.add.at(change, start + mine[f"{modality}_length"].to_numpy(), -1)
    return np.cumsum(change)[:-1] > 0


def _total(rows: np.ndarray, used: np.ndarray, columns: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The sum of `of(values)` over the rows that are used, [len(columns)] float64."""
    total = np.zeros(len(columns))
    for start in range(0, len(rows), BLOCK):
        piece = used[start : start + BLOCK]
        if piece.any():
            total += of(rows[start : start + BLOCK][piece][:, columns].astype(np.float64)).sum(0)
    return total
