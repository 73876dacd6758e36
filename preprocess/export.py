"""A cohort for other tools: arrays of one task as .npz, the irregular series as .csv.gz.

    export_arrays   X, length, y, sample_id, patient_id, stay_id, part, fold, header, labels (and offsets, remaining_hours)
    export_events   stay_id, hours and the 17 variables of every kept stay, in a task or not
    export_layout   the folders and listfiles of mimic3-benchmarks and MedFuse (preprocess/mimic/layouts.py)

Each streams, so that memory does not grow with the cohort, and gives the same bytes for the same cohort. What is written is patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from isal import igzip

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic.layouts import export_layout
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.npz import NpzWriter
from omnifuse.preprocess.schema import PARTS, ConfigError, Silent, Task, nearest

__all__ = ["export_arrays", "export_events", "export_layout"]

PADDED = ("mortality",)  # the task whose samples all have the same number of bins
BINS = 65_536  # rows of X in memory at once: 20 MB of 76 columns


def export_arrays(
    cohort: store.Artefact, task: str, out: Path, *, fold: int = 0, normalise: bool = False, progress: Any = Silent
) -> dict[str, Any]:
    """Writes one task's samples as one .npz, which loads with allow_pickle=False.

    Args:
        fold: of which the parts are told, and on whose part train `normalise` fits.
        normalise: (X - mean) / std of the continuous columns; one-hot codes, masks and padding stay as they are.

    Shapes:
        X: float32 [N, T, 76] for mortality, T = window / step, zeros behind `length`; for other tasks [sum of length, 76], sample i being
            `X[offsets[i]:offsets[i + 1]]`. Imputed, not normalised. length: int32 [N]. offsets: int64 [N + 1].
        y: float32 [N] for a binary task (0 or 1) or a multi-class one (the class), [N, L] for a multi-label one, in the order of `labels`.
        sample_id, part: text [N]. stay_id: int64 [N]. patient_id: int64 or text [N]. fold: int8 [N], the fold whose test part holds
            the patient. remaining_hours: float64 [N], of los and los_remaining. header: text [76], labels: text [L].

    Missing data:
        y is NaN where a label is unknown; fold is -1 for patients that no fold tests (frozen and temporal splits).

    Raises:
        ConfigError: the cohort has no such task or fold, or `out` is a folder.
        InputError: `normalise` without a training sample.
        ResourceError: the disk is full.
    """
    _check(cohort, task, fold)
    _check_file(out)
    samples, names = f"samples/{task}.parquet", cohort.meta["modalities"]["ehr"]["columns"]
    scale = fit_normaliser(cohort, task, fold) if normalise else None
    length = np.concatenate([np.zeros(0, np.int32), *(_lengths(batch) for batch in cohort.batches(samples, ["ehr_length", "ehr_tail"]))])
    with store.atomic(out) as partial, progress(f"export {task}", int(length.sum()), "bin") as bar, NpzWriter(partial) as archive:
        archive.write("header", _text(pl.Series(names)))
        archive.write("labels", _text(pl.Series(cohort.meta["tasks"][task]["labels"], dtype=pl.String)))
        archive.write("length", length)
        for name, column in _columns(cohort, task, fold).items():
            blocks = (column.of(batch) for batch in cohort.batches(samples, [column.source]))
            archive.write_blocks(name, column.dtype, (len(length), *column.shape), blocks)
        pieces = _expanded(cohort, samples, scale, bar)
        if task in PADDED:
            shape = (len(length), _width(cohort, task, length), len(names))
            archive.write_blocks("X", np.float32, shape, _padded(pieces, shape[1:]))
        else:
            shape = (int(length.sum()), len(names))
            archive.write("offsets", np.concatenate([[0], np.cumsum(length, dtype=np.int64)]))
            archive.write_blocks("X", np.float32, shape, (values for values, _ in pieces))
    return {"files": 1, "rows": len(length), "bytes": Path(out).stat().st_size, "bins": int(length.sum()), "shape": list(shape)}


def export_events(cohort: store.Artefact, out: Path, *, progress: Any = Silent) -> dict[str, Any]:
    """Writes the irregular series of every kept stay as .csv.gz: stay_id, hours since intime, the 17 variables as text.

    Missing data:
        An empty field where nothing was charted. "None" is a text (no response): read with keep_default_na=False in pandas.

    Raises:
        ConfigError: `out` is a folder.
        ResourceError: the disk is full.
    """
    _check_file(out)
    rows, names = cohort.height("events.parquet"), pl.read_parquet_schema(cohort.file("events.parquet"))
    with (
        store.atomic(out) as partial,
        progress("export events", rows, "row") as bar,
        partial.open("wb") as file,
        # No name and no time in the gzip header: the same cohort gives the same bytes.
        igzip.GzipFile(filename="", mode="wb", compresslevel=2, fileobj=file, mtime=0) as gz,
    ):
        gz.write((",".join(names) + "\n").encode())
        for batch in cohort.batches("events.parquet"):
            gz.write(batch.write_csv(include_header=False).encode())
            bar.update(batch.height)
    return {"files": 1, "rows": rows, "bytes": Path(out).stat().st_size}


def _check(cohort: store.Artefact, task: str, fold: int) -> None:
    if task not in cohort.meta["tasks"]:
        raise ConfigError(f"the cohort has no task {task}", where=cohort.folder, hint=nearest(task, cohort.meta["tasks"]))
    if fold not in cohort.meta["splits"]["folds"]:
        folds = ", ".join(map(str, cohort.meta["splits"]["folds"]))
        raise ConfigError(f"the cohort has no fold {fold}", where=cohort.folder, hint=f"its folds: {folds}")


def _check_file(out: Path) -> None:
    if Path(out).is_dir():
        raise ConfigError("is a folder, and the export is one file", where=out, hint="give it a name: --out FOLDER/NAME")


@dataclass(frozen=True)
class _Column:
    """An array with one entry a sample: which column of the samples it is made from, and how, a batch at a time."""

    source: str
    dtype: np.dtype | str
    of: Callable[[pl.DataFrame], np.ndarray]
    shape: tuple[int, ...] = ()


def _columns(cohort: store.Artefact, task: str, fold: int) -> dict[str, _Column]:
    path = cohort.file(f"samples/{task}.parquet")
    kinds = pl.read_parquet_schema(path)
    parts = cohort.table("parts.parquet")
    part = parts.filter(fold=fold).select("patient_id", value="part")
    tested = parts.filter(part="test").unique("patient_id", keep="first", maintain_order=True).select("patient_id", value="fold")

    def of_patient(table: pl.DataFrame) -> Callable[[pl.DataFrame], pl.Series]:
        return lambda batch: batch.join(table, on="patient_id", how="left", maintain_order="left")["value"]

    def as_it_is(name: str) -> _Column:
        if kinds[name] != pl.String:
            return _Column(name, np.float64 if kinds[name].is_float() else np.int64, lambda batch: batch[name].to_numpy())
        width = pl.scan_parquet(path).select(pl.col(name).str.len_chars().max()).collect().item()
        return _Column(name, f"<U{max(width or 0, 1)}", lambda batch: _text(batch[name]))

    about = Task.from_json(task, cohort.meta["tasks"][task])
    columns = {name: as_it_is(name) for name in ("sample_id", "patient_id", "stay_id", "remaining_hours") if name in kinds}
    return {
        "y": _Column("y", np.float32, lambda batch: _labels(batch["y"], about), (about.outputs,) if about.kind == "multilabel" else ()),
        **columns,
        "part": _Column("patient_id", f"<U{max(map(len, PARTS))}", lambda batch: _text(of_patient(part)(batch))),
        "fold": _Column("patient_id", np.int8, lambda batch: of_patient(tested)(batch).fill_null(-1).to_numpy()),
    }


def _text(column: pl.Series) -> np.ndarray:
    """Fixed-width unicode; numpy would make objects of it."""
    width = max(int(column.str.len_chars().max() or 0), 1)
    return np.fromiter(column, dtype=f"<U{width}", count=len(column))


def _labels(y: pl.Series, task: Task) -> np.ndarray:
    """[N, L] float32 for a multi-label task, else [N]; NaN where unknown."""
    width = task.outputs if task.kind == "multilabel" else 1
    columns = [y.list.get(i, null_on_oob=True).cast(pl.Float32).fill_null(float("nan")).to_numpy() for i in range(width)]
    return np.stack(columns, axis=1) if task.kind == "multilabel" else columns[0]


def _lengths(batch: pl.DataFrame) -> np.ndarray:
    """Bins of each sample: its rows, and its tail where it has one."""
    return (batch["ehr_length"] + batch["ehr_tail"].is_not_null().cast(pl.Int32)).to_numpy().astype(np.int32)


def _width(cohort: store.Artefact, task: str, length: np.ndarray) -> int:
    """T of the padded array: the bins of the task's window."""
    hours, step = cohort.meta["tasks"][task].get("window_hours", 0), cohort.meta["step_hours"]
    return max(int(np.ceil(hours / step - 1e-6)), int(length.max(initial=0)))


def _expanded(
    cohort: store.Artefact, samples: str, scale: tuple[np.ndarray, np.ndarray] | None, bar: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(values [n, 76] float32, bins of each sample) of consecutive samples, few enough for memory.

    The samples of a stay share their rows in the cohort; here each gets its own copy.
    """
    series = cohort.array("ehr.npy")
    tails = cohort.array("ehr_tails.npy") if cohort.has("ehr_tails.npy") else series[:0]
    mean, std = (part.astype(np.float32) for part in scale) if scale else (None, None)
    for batch in cohort.batches(samples, ["ehr_start", "ehr_length", "ehr_tail"]):
        length = _lengths(batch)
        start, tail = batch["ehr_start"].to_numpy(), batch["ehr_tail"].fill_null(-1).to_numpy()
        behind = np.cumsum(length, dtype=np.int64)
        first = 0
        while first < len(length):
            limit = BINS + (behind[first - 1] if first else 0)
            last = max(int(np.searchsorted(behind, limit, side="right")), first + 1)
            piece = slice(first, last)
            values = _gather(series, tails, start[piece], length[piece], tail[piece])
            yield (values if mean is None else (values - mean) / std), length[piece]
            bar.update(len(values))
            first = last


def _gather(series: np.ndarray, tails: np.ndarray, start: np.ndarray, length: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """The rows [start, start + length) of each sample, the last of them from `tails` where the sample has one."""
    behind = np.cumsum(length, dtype=np.int64)
    row = np.arange(length.sum()) + np.repeat(start - (behind - length), length)
    tailed = tail >= 0
    last = behind[tailed] - 1
    row[last] = 0
    values = series[row]
    values[last] = tails[tail[tailed]]
    return values


def _padded(pieces: Iterator[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """[n, T, 76] of each piece, zeros behind the length of a sample."""
    for values, length in pieces:
        padded = np.zeros((len(length), *shape), np.float32)
        padded[np.arange(shape[0]) < length[:, None]] = values
        yield padded
