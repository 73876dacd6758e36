"""Items of samples: films, DICOM series, texts, signals (preprocess/items.py), judged by their files and headers, not decoded.

A cell that is empty, and a file that is not there or leaves the root, is no item: counted by reason, and the sample lacks the modality
where nothing else is left. Of several items of a sample all are kept, or the last or first by the order column, else by time; ties go by
path or text, so that no order of the file decides.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import items, sections, text
from omnifuse.preprocess.assembly import Modality as Written
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import ConfigError, Silent, Unreadable, nearest
from omnifuse.preprocess.table import cells, volumes
from omnifuse.preprocess.table.checker import Key, convert, place
from omnifuse.preprocess.table.description import Modality
from omnifuse.preprocess.table.reading import joined

TEXT_BYTES = 1 << 26


@dataclass
class Linked:
    """Items of one modality, where each sample's stand, and what a rerun compares: `stamp`, of the files behind them.

    Attributes:
        start, length: [N].
        left_out: rows or files that gave no item, by reason.
    """

    written: Written
    start: np.ndarray
    length: np.ndarray
    stamp: Any
    left_out: Counter
    counts: Counter = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def audit(self, name: str) -> dict[str, Any]:
        told = {"modality": name, "items": self.written.items.height, "samples": int((self.length > 0).sum())}
        counts = {reason: count for reason, count in self.counts.items() if count}
        return told | {"left_out": {reason: count for reason, count in self.left_out.items() if count}, "counts": counts}


def settings(told: Modality) -> dict[str, Any]:
    """The decoder's settings that a description gives, checked by the decoder.

    Raises:
        ConfigError: it has no such setting, or a value is out of range.
    """
    given = told.own.get("decode") or {}
    if told.kind == items.TEXT:
        return {}
    decoder = importlib.import_module(items.DECODERS[told.kind])
    found = {}
    for name, leaf in given.items():
        if name not in decoder.DEFAULTS:
            message = f"{told.name}: a decoder of {told.kind}s has no setting {name}"
            raise ConfigError(message, where=place(leaf), hint=nearest(name, decoder.DEFAULTS))
        try:
            found[name] = _as(decoder.DEFAULTS[name], leaf)
        except ValueError as error:
            raise ConfigError(f"{told.name}: {name} {error}", where=place(leaf)) from None
    decoder.shape({**decoder.DEFAULTS, **found})
    return found


def _as(default: Any, leaf: Any) -> Any:
    kind = {bool: "switch", int: "whole", float: "number", list: "texts", tuple: "texts"}.get(type(default), "text")
    value = convert(leaf, Key(kind))
    return list(value) if isinstance(value, tuple) else value


def build(rows: pl.DataFrame, told: Modality, samples: pl.DataFrame, root: Path, progress=Silent) -> Linked:
    """The items of a modality.

    Args:
        rows: of the modality, with sample and since.
        samples: sample, patient_id of all N samples.
        root: below which paths lie.
    """
    columns = told.own.get("path") or told.own.get("file") or (told.own["column"],)
    when = cells.order(rows[told.order]) if told.order else rows["Since"]
    frame = pl.DataFrame({"Sample": rows["Sample"], "when": when, "cell": rows.select(joined(columns)).to_series()})
    left = Counter({"cell is empty": frame["cell"].null_count()})
    frame = frame.drop_nulls("cell")
    if told.kind == items.TEXT and told.own["column"]:
        made = _Judged(pl.DataFrame({"cell": frame["cell"].unique(maintain_order=True)}))
        made.contents(told.own)
    else:
        frame = frame.with_columns(pl.Series("cell", [_path(told.own, cell) for cell in frame["cell"]], dtype=pl.String))
        made = _Judged(pl.DataFrame({"cell": frame["cell"].unique(maintain_order=True)}))
        made.files(told, root, progress)
    found = frame.join(made.table, on="cell", how="left", maintain_order="left")
    left.update(found["reason"].drop_nulls().to_list())
    found = found.filter(pl.col("reason").is_null())
    moment = pl.col("when").min() if told.take == "first" else pl.col("when").max()
    once = found.with_columns(moment.over("Sample", "key")).unique(["Sample", "key"], keep="any")
    left["the same item again"] += found.height - once.height
    chosen = _taken(once, told.take)
    left[f"not the {told.take}"] += once.height - chosen.height
    length = np.bincount(chosen["Sample"].to_numpy(), minlength=samples.height)
    drop = ["Sample", "when", "cell", "key", "reason", "stamp"]
    stamp = chosen.select("Sample", *(name for name in ("cell", "stamp", "text") if name in chosen.columns)).write_csv()
    table = chosen.drop(name for name in drop if name in chosen.columns)
    meta = {"kind": items.KIND, "reads": told.kind, "root": None if told.kind == items.TEXT else str(root), "decode": settings(told)}
    warnings = [*_shared(chosen, samples, told), *_doubtful(left, frame, told)]
    return Linked(Written(meta, items=table), np.cumsum(length) - length, length, stamp, left, made.counts, warnings)


def _path(own: dict[str, Any], cell: str) -> str:
    name = f"{cell}{own['suffix']}"
    return str(PurePosixPath(own["folder"]) / name) if own["folder"] and not name.startswith("/") else name


def _taken(frame: pl.DataFrame, take: str) -> pl.DataFrame:
    """All items by sample and order, or of each sample the last or first; what has no order is the last choice of both."""
    frame = frame.sort("Sample", "when", "key", nulls_last=take == "first")
    groups = frame.group_by("Sample", maintain_order=True)
    return frame if take == "all" else groups.last() if take == "last" else groups.first()


class _Judged:
    """Each distinct cell: its item's columns, or `reason`. `key` breaks ties, `stamp` changes when the file does."""

    def __init__(self, table: pl.DataFrame):
        self.table, self.counts = table, Counter()

    def contents(self, own: dict[str, Any]) -> None:
        """Cells that are texts."""
        rows = [self._text(cell, own) for cell in self.table["cell"]]
        self.table = self.table.with_columns(
            pl.Series("text", [row[0] for row in rows], dtype=pl.String),
            pl.Series("reason", [row[1] for row in rows], dtype=pl.String),
        ).with_columns(pl.col("text").alias("key"))

    def _text(self, content: str, own: dict[str, Any]) -> tuple[str | None, str | None]:
        chosen, which = sections.choose(content, own["sections"])
        if own["sections"] != sections.FULL:
            self.counts[f"section: {which}"] += 1
        found = text.cut(text.normalise(chosen, self.counts), own["words"])
        return (found, None) if found else (None, "text is empty")

    def files(self, told: Modality, root: Path, progress) -> None:
        """Cells that are paths."""
        judge = {"text": self._text_file, "volume": self._volume, "signal": self._signal}.get(told.kind, self._file)
        rows: list[dict[str, Any]] = []
        with progress(f"look at {told.name}", self.table.height, "file") as bar:
            for cell in self.table["cell"]:
                try:
                    rows.append({**judge(root, cell, told), "reason": None})
                except Unreadable as error:
                    rows.append({"reason": error.reason})
                bar.update(1)
        columns = {"text": {"text": pl.String}, "volume": volumes.SCHEMA}.get(told.kind, {"path": pl.String})
        made = pl.DataFrame(rows, schema={**columns, "stamp": pl.String, "reason": pl.String}, orient="row")
        self.table = pl.concat([self.table, made], how="horizontal").with_columns(pl.col("cell").alias("key"))

    def _file(self, root: Path, name: str, told: Modality) -> dict[str, Any]:
        return {"path": name, "stamp": _stamp(inside(root, name))}

    def _signal(self, root: Path, name: str, told: Modality) -> dict[str, Any]:
        record = name.removesuffix(".hea")
        return {"path": record, "stamp": _stamp(inside(root, f"{record}.hea"))}

    def _text_file(self, root: Path, name: str, told: Modality) -> dict[str, Any]:
        path = inside(root, name)
        if path.stat().st_size > TEXT_BYTES:
            raise Unreadable("text is too large")
        try:
            content = path.read_bytes()
        except OSError:
            raise Unreadable("cannot be read") from None
        found, reason = self._text(text.decode(content, told.own["encoding"]), told.own)
        if reason:
            raise Unreadable(reason)
        return {"text": found, "stamp": ""}

    def _volume(self, root: Path, name: str, told: Modality) -> dict[str, Any]:
        found = volumes.item(root, name, settings(told).get("kind", "ct"), self.counts)
        return {**found, "stamp": ",".join(_stamp(inside(root, slice_)) for slice_ in found["names"])}


def _stamp(path: Path) -> str:
    """Size and time of change: enough to notice that a file is another one, without reading it."""
    told = path.stat()
    return f"{told.st_size}:{told.st_mtime_ns}"


def _shared(chosen: pl.DataFrame, samples: pl.DataFrame, told: Modality) -> list[str]:
    """Files of several patients: whatever the split, one of them may stand on both sides."""
    if told.kind == items.TEXT:
        return []
    owners = (
        chosen.join(samples.select("Sample", "Patient_id"), on="Sample").group_by("key").agg(pl.col("Patient_id").n_unique().alias("n"))
    )
    shared = owners.filter(pl.col("n") > 1).height
    return [f"{told.name}: {shared:,} files belong to several patients: the parts of the split share them"] if shared else []


def _doubtful(left: Counter, frame: pl.DataFrame, told: Modality) -> list[str]:
    warnings = []
    if told.order and (unread := frame["when"].null_count()):
        what = f"the order column is empty, or neither number nor date-time, in {unread:,} rows: the last choice"
        warnings.append(f"{told.name}: {what}")
    usual = {"cell is empty", "the same item again", f"not the {told.take}"}
    lost = {reason: count for reason, count in left.items() if count and reason not in usual}
    if lost:
        warnings.append(f"{told.name}: {', '.join(f'{count:,} {reason}' for reason, count in lost.items())}: left out")
    return warnings
