"""Cells to `y`: what each sample is labelled, and why a sample has no label.

Only what the description lists has a meaning. A cell that is empty, listed as unknown, or listed nowhere leaves the label unknown: null in
a multi-label task, else the sample is left out and counted under one of REASONS. Whole numbers are alike however they are written (1, 1.0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.table.description import Label

EMPTY, UNKNOWN, UNLISTED, CONTRADICTS = range(4)
REASONS = ("label is empty", "label is listed as unknown", "label is none of the values listed", "rows of one sample contradict each other")


def label(rows: pl.DataFrame, told: Label, path: Path) -> pl.DataFrame:
    """y of every sample.

    Args:
        rows: Sample, Row and the label's columns.
        path: of their table, for messages.

    Returns:
        Sample, Y (list of float32; null where the label of a multi-label task is unknown) and Reason (text, null where there is a label),
        one row a sample.

    Raises:
        InputError: rows of one sample are labelled differently and the description does not say what then.
    """
    codes = _codes(rows, told)  # [n, L], NaN unknown
    reasons = _reasons(rows, told, codes)
    names = [str(index) for index in range(codes.shape[1])]
    frame = pl.DataFrame(codes, schema=names).fill_nan(None).with_columns(rows["Sample"], rows["Row"], pl.Series("Reason", reasons))
    merged = (
        frame.group_by("Sample")
        .agg(
            *(pl.col(name).max() for name in names),
            *((pl.col(name).drop_nulls().n_unique() > 1).alias(f"{name} differs") for name in names),
            pl.col("Reason").max(),
            pl.col("Row").max(),
        )
        .sort("Sample")
    )
    differs = pl.any_horizontal(pl.col(f"{name} differs") for name in names)
    if told.several == "refuse" and (some := merged.filter(differs)).height:
        hint = "label: several: drop or greatest; or name under sample what tells the rows apart"
        message = f"{some.height} samples have rows with different labels; the last row of one of them is told"
        raise InputError(message, where=f"{path}:{some['Row'].min()}", hint=hint)
    if told.several == "drop":
        merged = merged.with_columns(pl.when(~pl.col(f"{name} differs")).then(pl.col(name)).alias(name) for name in names)
        merged = merged.with_columns(pl.when(differs).then(pl.lit(CONTRADICTS)).otherwise("Reason").alias("Reason"))
    y = pl.concat_list([pl.col(name).cast(pl.Float32) for name in names])
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in names)
    reason = pl.col("Reason").replace_strict(dict(enumerate(REASONS)), default=None, return_dtype=pl.String)
    return merged.select("Sample", y.alias("Y"), pl.when(~known).then(reason).alias("Reason"))


def outcomes(y: pl.Series, kind: str) -> pl.Series:
    """What the parts are stratified by: the label, the class, or of several labels the one that is nearest to a half."""
    if kind != "multilabel":
        return y.list.get(0).cast(pl.Int16)
    table = np.array(y.to_list(), dtype=np.float64)
    known = ~np.isnan(table)
    share = np.nansum(table, axis=0) / np.maximum(known.sum(0), 1)
    best = int(np.argmin(np.where(known.all(0), 0, 1) + np.abs(share - 0.5)))  # one that is known of everybody, before others
    return pl.Series(table[:, best]).fill_nan(None).cast(pl.Int16)


def unlisted(rows: pl.DataFrame, told: Label) -> dict[str, int]:
    """How many cells of each label column hold something that is listed nowhere."""
    if told.separator or (told.kind != "multiclass" and told.negative is None):
        return {}
    listed = _canonical_texts([text for texts in (*told.values, told.negative or (), told.unknown) for text in texts])
    strange = {column: int((~canonical(rows[column]).is_in(listed)).sum()) for column in told.columns}
    return {column: count for column, count in strange.items() if count}


def canonical(text: pl.Series) -> pl.Series:
    """Whole numbers in one spelling."""
    number = text.cast(pl.Float64, strict=False)
    whole = number.is_finite() & (number == number.round()) & (number.abs() < 1e15)
    plain = number.set(~whole.fill_null(False), None).cast(pl.Int64, strict=False).cast(pl.String)
    return plain.fill_null(text)


def _canonical_texts(texts) -> list[str]:
    return canonical(pl.Series(list(texts), dtype=pl.String)).to_list()


def _codes(rows: pl.DataFrame, told: Label) -> np.ndarray:
    if told.separator:
        return _split(rows[told.columns[0]], told)
    if told.kind == "multiclass":
        meaning = {text: float(index) for index, texts in enumerate(told.values) for text in _canonical_texts(texts)}
        return _mapped(canonical(rows[told.columns[0]]), meaning, None)[:, None]
    columns = []
    for column, positive in zip(told.columns, told.values):
        meaning = dict.fromkeys(_canonical_texts(told.negative or ()), 0.0) | dict.fromkeys(_canonical_texts(positive), 1.0)
        meaning |= dict.fromkeys(_canonical_texts(told.unknown), None)
        columns.append(_mapped(canonical(rows[column]), meaning, 0.0 if told.negative is None else None))
    return np.stack(columns, axis=1)


def _mapped(text: pl.Series, meaning: dict[str, float | None], rest: float | None) -> np.ndarray:
    found = text.replace_strict(meaning, default=rest, return_dtype=pl.Float64)
    return found.set(text.is_null(), None).fill_null(float("nan")).to_numpy()


def _split(text: pl.Series, told: Label) -> np.ndarray:
    parts = text.str.split(told.separator).list.eval(pl.element().str.strip_chars())
    known = (text.is_not_null() & ~text.is_in(list(told.unknown))).fill_null(False).to_numpy()
    held = [parts.list.eval(pl.element().is_in(list(texts))).list.any().fill_null(False).to_numpy() for texts in told.values]
    return np.where(known[:, None], np.stack(held, axis=1).astype(np.float64), np.nan)


def _reasons(rows: pl.DataFrame, told: Label, codes: np.ndarray) -> np.ndarray:
    """[n] why a row has no label; of several columns the weightiest."""
    empty = np.stack([rows[column].is_null().to_numpy() for column in told.columns], axis=1).all(1)
    said = _canonical_texts(told.unknown)
    listed = np.stack([canonical(rows[column]).is_in(said).fill_null(False).to_numpy() for column in told.columns], axis=1).any(1)
    return np.where(empty, EMPTY, np.where(listed, UNKNOWN, UNLISTED))
