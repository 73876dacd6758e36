"""A description and its tables to a cohort: `build_cohort` composes what the other files of this folder hold.

    describe -> hash -> main table: samples, labels -> items -> fingerprint -> vectors, series -> parts -> audit -> write

An unchanged call finds its cohort by the fingerprint: the tables' bytes, the description, the code, and the size and time of change of
every file that an item names. It writes nothing then.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import splits, store
from omnifuse.preprocess.assembly import Assembly, assemble
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import ConfigError, Silent, Task, Unreadable
from omnifuse.preprocess.table import columns, labels, leaks, links, series
from omnifuse.preprocess.table.description import Description
from omnifuse.preprocess.table.manifest import describe
from omnifuse.preprocess.table.reading import Sources
from omnifuse.preprocess.table.samples import Samples, gather

KEPT = ("Sample_id", "Patient_id", "Y")


def build_cohort(tree: Any, name: str, home: Path, out: Path, seed: int = 0, progress=Silent) -> store.Artefact:
    """Makes the cohort artefact at `out` from what a YAML describes.

    Args:
        tree: the YAML, as nested dicts with leaves (checker.py).
        name: of the YAML file, for messages.
        home: its folder, to which `root` is relative.

    Raises:
        ConfigError: the description is wrong: all of it together, each with its line.
        InputError: a table is broken, or no sample is left.
    """
    told = describe(tree, name)
    linking = [modality for modality in told.modalities.values() if modality.kind not in ("columns", "series")]
    for modality in linking:
        links.settings(modality)
    sources = Sources(told, home)
    hashes = sources.hash(progress)
    found = gather(sources)
    linked, ledgers = {}, [found.ledger]
    for modality in linking:
        rows, ledger = found.rows.of(modality)
        linked[modality.name] = links.build(rows, modality, found.table, sources.root, progress)
        ledgers.append(ledger)
    frozen = _frozen(told, sources)
    key = _fingerprint(told, hashes, seed, frozen, {name: modality.stamp for name, modality in linked.items()})
    if (artefact := store.current(out, "cohort", key)) is not None:
        return artefact
    with store.create(out, "cohort", fingerprint=key, alone=True) as builder:
        assembly = _assembly(told, sources, found, linked, ledgers, frozen, hashes, seed, progress)
        store.require_free(out, _bytes(assembly))
        assemble(builder, assembly)
    return store.open(out, "cohort")


def plan(tree: Any, name: str, home: Path) -> dict[str, Any]:
    """What would be read, for --dry-run: the description and the headers of the tables are checked."""
    told = describe(tree, name)
    sources = Sources(told, home)
    tables = [{"name": told.tables[name].file, "bytes": path.stat().st_size} for name, path in sources.paths.items()]
    return {"task": told.task, "tables": tables, "modalities": {name: modality.kind for name, modality in told.modalities.items()}}


def _assembly(told: Description, sources: Sources, found: Samples, linked, ledgers, frozen, hashes, seed: int, progress) -> Assembly:
    made: dict[str, Any] = {}
    for modality in told.modalities.values():
        if modality.kind == "columns":
            rows, ledger = found.rows.of(modality)
            made[modality.name] = columns.build(rows, modality, found.table, sources.paths[modality.table])
            ledgers.append(ledger)
        elif modality.kind == "series":
            made[modality.name], ledger = series.build(found.rows, modality, sources.paths[modality.table], progress)
            ledgers.append(ledger)
    every = {name: made[name] if name in made else linked[name] for name in told.modalities}
    samples = _placed(found.table, every, told)
    warnings = [*found.warnings, *(warning for one in every.values() for warning in one.warnings), *_untimed(told)]
    warnings += leaks.audit(_single(found, every, made), found.table["Y"], told.label.kind, told.label.names)
    parts = _parts(found.table, told, frozen, seed)
    if parts.meta.get("unlisted"):
        warnings.append(f"{parts.meta['unlisted']} patients ({parts.meta['unlisted_share']:.1%}) are in no split list: {parts.meta['new']}")
    warnings += [f"no sample has {name}: it cannot be trained on" for name, one in every.items() if not (one.length > 0).any()]
    present = np.stack([one.length > 0 for one in every.values()], axis=1).any(1)
    some = found.table.filter(pl.Series(present))
    step = {"step": "with at least one modality (the others are kept, and left out of training)", "samples": some.height,
            "patients": some["Patient_id"].n_unique(), "left_out": {}}  # fmt: skip
    audit = {
        "attrition": [*found.attrition, step],
        "rows": [ledger.to_json() for ledger in ledgers],
        "columns": [row for one in made.values() for row in one.audit],
        "links": [one.audit(name) for name, one in linked.items()],
        "warnings": warnings,
    }
    task = Task(told.task, told.label.kind, told.label.names)
    source = {
        "dataset": "table",
        "version": "",
        "tables": {table: {"rows": _height(ledgers, table), "sha256": sha} for table, sha in hashes.items()},
    }
    meta = {"describe": found.described, "group": told.group}
    modalities = {name: one.written for name, one in every.items()}
    return Assembly({told.task: task}, {told.task: samples}, modalities, source, audit, parts, meta)


def _bytes(assembly: Assembly) -> int:
    frames = [*assembly.samples.values(), *(one.items for one in assembly.modalities.values() if one.items is not None)]
    arrays = [one.rows for one in assembly.modalities.values() if one.rows is not None]
    return sum(int(frame.estimated_size()) for frame in frames) + sum(rows.nbytes for rows in arrays)


def _height(ledgers, table: str) -> int | None:
    return next((ledger.rows for ledger in ledgers if ledger.table == table or ledger.table.startswith(f"{table} (")), None)


def _placed(table: pl.DataFrame, every: dict[str, Any], told: Description) -> pl.DataFrame:
    """The samples as they are written: with a start and a length for every modality."""
    own = [pl.col(name).alias(name.lower()) for name in (*KEPT, *(["Group"] if told.group else []))]
    placed = table.select(*own, *told.describe, *_times(told))
    for name, one in every.items():
        start, length = np.asarray(one.start, np.int64), np.asarray(one.length, np.int32)
        placed = placed.with_columns(pl.Series(f"{name}_start", start), pl.Series(f"{name}_length", length, dtype=pl.Int32))
    return placed


def _times(told: Description) -> list[pl.Expr]:
    if not told.clock.prediction:
        return []
    since = ((pl.col("Prediction_us") - pl.col("Origin_us")) / 3_600_000_000).alias("prediction_hours")
    at = [pl.from_epoch("Prediction_us", time_unit="us").alias("prediction_time")] if told.clock.unit == "datetime" else []
    return at + ([since] if told.clock.origin or told.clock.unit != "datetime" else [])


def _single(found: Samples, every: dict[str, Any], made: dict[str, Any]) -> dict[str, tuple[np.ndarray, bool]]:
    """What the leak audit looks at: every column, whether a modality is there, the group."""
    single = {f"{name}: {column}": value for name, one in made.items() for column, value in one.single.items()}
    for name, one in every.items():
        single[f"modality {name}"] = (np.where(one.length > 0, 1.0, np.nan), True)
    if "Group" in found.table.columns:
        codes = found.table["Group"].rank("dense").cast(pl.Float64)
        single["group"] = (codes.fill_null(float("nan")).to_numpy(), False)
    return single


def _untimed(told: Description) -> list[str]:
    if not told.clock.prediction:
        return []
    names = [name for name, modality in told.modalities.items() if modality.time is None]
    return [f"{name} has no time: all of its rows count as known before the prediction" for name in names]


def _parts(table: pl.DataFrame, told: Description, frozen: pl.DataFrame | None, seed: int) -> splits.Parts:
    people = table.select(pl.col("Patient_id").alias("patient_id"), labels.outcomes(table["Y"], told.label.kind).alias("outcome"))
    if told.group:
        people = people.with_columns(table["Group"].alias("group"))
    way = told.splits
    return splits.make_parts(people, kind=way["kind"], seed=seed, folds=way["folds"], frozen=frozen, new=way["new"])


def _frozen(told: Description, sources: Sources) -> pl.DataFrame | None:
    if not told.splits["file"]:
        return None
    try:
        return splits.read_frozen([inside(sources.root, told.splits["file"])])
    except Unreadable as error:
        raise ConfigError(f"splits: file: {error.reason} (paths are relative to root)") from None


def _fingerprint(told: Description, hashes: dict[str, str], seed: int, frozen: pl.DataFrame | None, stamps: dict[str, str]) -> str:
    lists = None if frozen is None else frozen.write_csv()
    return store.digest([_plain(told), hashes, seed, lists, stamps, code_hash()])


def _plain(value: Any) -> Any:
    """A description as JSON, without the lines of the file: a comment more makes no other cohort."""
    if isinstance(value, Description):
        return {name: _plain(part) for name, part in vars(value).items() if name != "references"}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__ if name not in ("where", "quoted")}
    if isinstance(value, dict):
        return [[key, _plain(part)] for key, part in value.items()]  # the order of modalities and classes counts
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def code_hash() -> str:
    """sha256 over the source that a cohort is made with: another version of a rule makes another cohort."""
    root = Path(str(resources.files("omnifuse.preprocess")))
    files = [root / f"{name}.py" for name in ("splits", "frozen", "assembly", "items", "inside", "text", "sections")]
    for folder in ("tables", "table", "dicom", "lung"):
        files += sorted((root / folder).glob("*.py"))
    return store.digest([[file.relative_to(root).as_posix(), store.sha256(file)] for file in files])
