"""The tables of a description: found below the root, hashed, read as text, and their rows given to samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from omnifuse.preprocess import store, tables
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import ConfigError, InputError, Silent, Unreadable, nearest
from omnifuse.preprocess.table.cells import moments
from omnifuse.preprocess.table.checker import SHOWN
from omnifuse.preprocess.table.description import MAIN, Clock, Description, Modality, Table

EMPTY_TABLE, EMPTY_HINT = "holds no row", "a header and nothing behind it"
JOINED = "/"  # between the parts of an id that stands in several columns
_SAFE = re.compile(r"[a-z_][a-z0-9_ .()-]{0,63}")


@dataclass
class Ledger:
    """Rows of one table for one use: in = used + all that is dropped."""

    table: str
    rows: int = 0
    dropped: Counter = field(default_factory=Counter)

    def drop(self, frame: pl.DataFrame, keep: pl.Expr, reason: str) -> pl.DataFrame:
        """The rows where `keep` is true; the others are counted."""
        kept = frame.filter(keep)
        self.dropped[reason] += frame.height - kept.height
        return kept

    def to_json(self) -> dict:
        dropped = {reason: count for reason, count in self.dropped.items() if count}
        return {"table": self.table, "in": self.rows, "used": self.rows - sum(dropped.values()), "dropped": dropped}


class Sources:
    """The files of a description.

    Raises:
        ConfigError: a file that is not below the root, or lacks a column that is named: all of them together.
    """

    def __init__(self, told: Description, home: Path):
        self.told = told
        self.root = (home / told.root).resolve()
        if not self.root.is_dir():
            raise ConfigError("root is no folder", where=self.root)
        self.paths: dict[str, Path] = {}
        faults: list[str] = []
        for table in told.tables.values():
            try:
                self.paths[table.name] = inside(self.root, table.file)
            except Unreadable as error:
                faults.append(f"{table.where or home}: table {table.file}: {error.reason} (paths are relative to root)")
        if faults:
            raise ConfigError("; ".join(faults))
        self._require_columns()

    def _require_columns(self) -> None:
        faults = []
        for table in self.told.tables.values():
            names = tables.header(self.paths[table.name], table.encoding)
            safe = [name for name in names if _SAFE.fullmatch(name)]  # where the header is missing, the first line holds a patient
            for told in self.told.references:
                if told.table == table.name and told.column not in names:
                    close = nearest(told.column, safe)
                    hint = close if close.startswith("did") else f"none of its {len(names)} columns has a similar name"
                    if len(names) == 1 and set(";\t|") & set(names[0]):
                        hint = "its fields are not separated by commas: write it with commas"
                    faults.append(f"{told.where}: {table.file} has no column {told.column} ({hint})")
        if faults:
            more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise ConfigError("; ".join(faults[:SHOWN]) + more)

    def hash(self, progress=Silent) -> dict[str, str]:
        """sha256 of every table, by its name."""
        with progress("check inputs", len(self.paths), "file") as bar:
            found = {}
            for name, path in self.paths.items():
                found[self.told.tables[name].file] = store.sha256(path)
                bar.update(1)
        return found

    def stream(self, name: str, progress=Silent) -> Iterator[pl.DataFrame]:
        """The named columns as stripped text, null where empty or listed as missing, and `Row`, chunk by chunk."""
        table = self.told.tables[name]
        columns = [tables.Column(f"Cell {column}", pl.String, aliases=(column,)) for column in self.told.columns(name)]
        absent = pl.col(pl.String).is_in(["", *self.told.missing])
        for chunk in tables.stream(self.paths[name], columns, with_row=True, encoding=table.encoding, progress=progress):
            frame = chunk.frame.rename({"row": "Row"}).rename(lambda name: name.removeprefix("Cell "))
            frame = frame.with_columns(pl.col(pl.String).str.strip_chars())
            yield frame.with_columns(pl.when(~absent).then(pl.col(pl.String)).name.keep())

    def read(self, name: str) -> pl.DataFrame:
        frames = list(self.stream(name))
        if not frames:
            raise InputError(EMPTY_TABLE, where=self.paths[name], hint=EMPTY_HINT)
        return pl.concat(frames, rechunk=True)


def joined(columns: tuple[str, ...]) -> pl.Expr:
    """An id that stands in several columns, as one text; null where one of them is."""
    return pl.concat_str([pl.col(column) for column in columns], separator=JOINED)


def kept(frame: pl.DataFrame, keep: dict[str, tuple[str, ...]], ledger: Ledger) -> pl.DataFrame:
    for column, texts in keep.items():
        frame = ledger.drop(frame, pl.col(column).is_in(list(texts)).fill_null(False), f"{column} is none of the values kept")
    return frame


class Rows:
    """Gives the rows of tables to samples.

    Args:
        samples: sample (UInt32, from 0), sample_id, patient_id, and origin_us, prediction_us (Int64, null where there is none).
        main: the rows of the main table that belong to a sample, with `sample`.
    """

    def __init__(self, sources: Sources, samples: pl.DataFrame, main: pl.DataFrame):
        self.sources, self.samples, self.main = sources, samples, main

    def of(self, modality: Modality) -> tuple[pl.DataFrame, Ledger]:
        """The rows that a modality may see, each with `sample`, `since` (Int64 microseconds, null: unknown) and `row`.

        Raises:
            InputError: no row of the table belongs to a sample.
        """
        ledger = Ledger(f"{self.sources.told.tables[modality.table].file} ({modality.name})")
        frames = [self._visible(chunk, modality, ledger) for chunk in self.chunks(modality, ledger)]
        frame = pl.concat(frames, rechunk=True)
        self.require_linked(modality, ledger)
        return frame, ledger

    def chunks(self, modality: Modality, ledger: Ledger, progress=Silent) -> Iterator[pl.DataFrame]:
        """Rows with `sample`; those of nobody are counted."""
        if modality.table == MAIN:
            ledger.rows += self.main.height
            yield kept(self.main, modality.keep, ledger)
            return
        table = self.sources.told.tables[modality.table]
        for chunk in self.sources.stream(modality.table, progress):
            ledger.rows += chunk.height
            yield self._linked(kept(chunk, modality.keep, ledger), table, ledger)
        if not ledger.rows:
            raise InputError(EMPTY_TABLE, where=self.sources.paths[modality.table], hint=EMPTY_HINT)

    def _linked(self, frame: pl.DataFrame, table: Table, ledger: Ledger) -> pl.DataFrame:
        key = "Sample_id" if table.sample else "Patient_id"
        frame = frame.with_columns(joined(table.sample or (table.patient,)).alias("Owner"))
        frame = ledger.drop(frame, pl.col("Owner").is_not_null(), "no id")
        frame = ledger.drop(frame, pl.col("Owner").is_in(self.samples[key].unique().implode()), "of no sample")
        keys = self.samples.select("Sample", pl.col(key).alias("Owner"))
        linked = frame.join(keys, on="Owner", how="inner").drop("Owner")
        ledger.rows += linked.height - frame.height  # a patient's row counts once for each of the samples
        return linked

    def _visible(self, frame: pl.DataFrame, modality: Modality, ledger: Ledger) -> pl.DataFrame:
        if modality.time is None:
            return frame.with_columns(pl.lit(None, pl.Int64).alias("Since"))
        clock = self.sources.told.clock
        frame = self.with_since(frame, modality)
        if clock.prediction is None:
            return frame
        frame = ledger.drop(frame, pl.col("Since").is_not_null(), "time unknown")
        return ledger.drop(frame, pl.col("Since") < pl.col("Until"), "not before the prediction")

    def with_since(self, frame: pl.DataFrame, modality: Modality) -> pl.DataFrame:
        """With `since` and `until`: microseconds from the sample's origin (without one: from the clock's zero) to the row and to the
        prediction."""
        clock = self.sources.told.clock
        at = moments(frame[modality.time], modality.unit)
        ends = self.samples.select("Sample", "Origin_us", pl.col("Prediction_us") - pl.col("Origin_us"))
        frame = frame.with_columns(at.alias("Since")).join(ends, on="Sample", how="left", maintain_order="left")
        same_clock = (modality.unit == "datetime") == (clock.unit == "datetime")
        since = pl.col("Since") - pl.col("Origin_us") if same_clock else pl.col("Since")
        return frame.with_columns(since.alias("Since"), pl.col("Prediction_us").alias("Until")).drop("Origin_us", "Prediction_us")

    def require_linked(self, modality: Modality, ledger: Ledger) -> None:
        if ledger.rows and ledger.dropped["of no sample"] + ledger.dropped["no id"] == ledger.rows:
            where = self.sources.paths[modality.table]
            raise InputError(
                "no row belongs to a sample: its ids are not those of the main table", where=where, hint="compare their spelling"
            )


def clocked(frame: pl.DataFrame, clock: Clock) -> pl.DataFrame:
    """The main table's rows with origin_us and prediction_us; without an origin, the zero of the clock is one."""
    origin = (
        moments(frame[clock.origin], clock.unit) if clock.origin else pl.Series([0], dtype=pl.Int64).extend_constant(0, frame.height - 1)
    )
    prediction = moments(frame[clock.prediction], clock.unit) if clock.prediction else pl.Series([None] * frame.height, dtype=pl.Int64)
    return frame.with_columns(origin.alias("Origin_us"), prediction.alias("Prediction_us"))
