"""Raw MIMIC tables to a cohort: `build_cohort` composes what the other files of this folder hold.

    detect -> fingerprint -> stays -> one pass over the events -> series and samples, range by range -> parts -> audit

An unchanged call (same tables, options and code) finds its cohort by the fingerprint and returns it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import splits, store
from omnifuse.preprocess.mimic import audit, events, inputs, labels
from omnifuse.preprocess.mimic import cohort as stays_of
from omnifuse.preprocess.mimic.compat import CompatMode
from omnifuse.preprocess.mimic.default import DefaultMode
from omnifuse.preprocess.mimic.diagnoses import read_labels
from omnifuse.preprocess.mimic.grid import Grid
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.options import BENCHMARKS, Options
from omnifuse.preprocess.mimic.phenotypes import phenotype_names
from omnifuse.preprocess.mimic.plan import needed_bytes
from omnifuse.preprocess.mimic.scratch import Scratch
from omnifuse.preprocess.mimic.source import Source, detect, require, truncation_warnings
from omnifuse.preprocess.mimic.variables import COLUMNS, CONTINUOUS
from omnifuse.preprocess.mimic.writing import Writer
from omnifuse.preprocess.schema import InputError, Silent

_LISTS = ("testset_mimic3.csv.gz", "valset_mimic3.csv.gz")


def build_cohort(source: Path, out: Path, options: Options = Options(), progress=Silent) -> store.Artefact:  # noqa: B008
    """Makes the cohort artefact at `out` from the raw MIMIC tables in `source`.

    Raises:
        ConfigError: options that exclude each other, or do not fit the release.
        InputError: a table is missing or broken, or nothing is left.
        ResourceError: the disk does not suffice.
    """
    found = detect(source)
    options, warnings = options.fitted(found.dataset)
    require(found, options.tasks)
    hashes = inputs.hash_tables(found, inputs.tables_read(found, options), progress)
    key = inputs.fingerprint(hashes, options)
    if (artefact := store.current(out, "cohort", key)) is not None:
        return artefact
    store.require_free(out, sum(needed_bytes(found, options)))
    with store.create(out, "cohort", fingerprint=key) as builder:
        _build(found, builder, options, hashes, warnings, progress)
    return store.open(out, "cohort")


def _build(source: Source, builder: store.Builder, options: Options, hashes: dict[str, str], warnings: list[str], progress) -> None:
    cohort = stays_of.select(source, compat=options.is_compat)
    rows, report, diagnoses = dict(cohort.rows), None, None
    if "phenotyping" in options.tasks:
        diagnoses, report, rows["diagnoses_icd"], told = read_labels(source, cohort.stays, options)
        warnings += told
    mode = _mode(cohort.stays, options)
    ledger = Ledger()
    scratch = Scratch(builder.scratch("events").parent, cohort.stays.height)
    events.collect(source, cohort.stays, mode, scratch, ledger, progress=progress, on_bad_row=options.on_bad_row, max_bad=options.max_bad)
    if not scratch.per_stay.any():
        hint = "no kept stay has a value of the 17 variables"
        raise InputError(f"no sample is left for the task {options.tasks[0]}", where=source.folder, hint=hint)
    stays, everyone = _with_comfort(cohort, mode)
    grid = Grid(options.step_hours, options.lookback_hours, options.is_compat)
    samples = labels.Samples(options, grid, diagnoses)
    tasks = labels.describe(options, phenotype_names())
    writer = Writer(builder, stays, samples, tasks, ledger, options)
    writer.write(scratch, progress)
    counts = writer.finish()
    _require_samples(counts, samples, source)
    parts = _parts(cohort.stays, options)
    store.write_parquet(builder.path("parts.parquet"), parts.table)
    store.write_parquet(builder.path("stays.parquet"), cohort.stays.drop("died_hours").sort("stay_id"))
    rows |= dict(ledger.rows)
    warnings += [*truncation_warnings(source, rows), *audit.mode_warnings(mode, ledger, options), *_split_warnings(parts)]
    store.write_json(
        builder.path("audit.json"),
        {
            "attrition": audit.attrition(cohort, samples),
            "rows": ledger.rows_json(),
            "rules": audit.rules_json(options, cohort, ledger, stays, everyone, report),
            "items": ledger.items_json(mode.items),
            "variables": ledger.variables_json(writer.observed, writer.bins),
            "labels": labels.counts(tasks, counts),
            "phenotypes": report,
            "warnings": warnings,
        },
    )
    builder.meta |= {
        "source": {"dataset": source.dataset, "version": source.version, "tables": inputs.rows_json(source, hashes, rows)},
        "compat": options.compat,
        "step_hours": float(options.step_hours),
        "lookback_hours": float(options.lookback_hours),
        "time": "charttime" if options.is_compat else options.time,
        "tasks": {name: {**task.to_json(), "samples": counts[name][0]} for name, task in tasks.items()},
        "modalities": {"ehr": {"kind": "series", "columns": list(COLUMNS), "continuous": list(CONTINUOUS)}},
        "splits": parts.meta,
        "rules": "none" if options.is_compat else _rule_options(options),
    }


def _mode(stays: pl.DataFrame, options: Options) -> CompatMode | DefaultMode:
    if options.is_compat:
        return CompatMode(stays, units=options.compat == BENCHMARKS)
    return DefaultMode(venous_ph=options.venous_ph, storetime=options.time == "storetime")


def _with_comfort(cohort: stays_of.Cohort, mode: CompatMode | DefaultMode) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Kept stays and all ICU stays, each with comfort_hours; the compat modes know none."""
    if isinstance(mode, CompatMode):
        return cohort.stays.with_columns(pl.lit(None, pl.Float64).alias("comfort_hours")), cohort.icustays
    return audit.comfort_hours(cohort.stays, mode.comfort()), audit.comfort_hours(cohort.icustays, mode.comfort())


def _rule_options(options: Options) -> dict[str, Any]:
    told = options.to_json()
    return {name: told[name] for name in ("exclude_comfort_care", "venous_ph", "label_era", "los_thresholds", "los_window_hours")}


def _require_samples(counts: dict[str, tuple[int, np.ndarray]], samples: labels.Samples, source: Source) -> None:
    for task, (total, _) in counts.items():
        if not total:
            left = "; ".join(f"{condition}: {stays}" for condition, (stays, _) in samples.left[task].items())
            raise InputError(f"no sample is left for the task {task}", where=source.folder, hint=left or "no stay has a value")


def _parts(stays: pl.DataFrame, options: Options) -> splits.Parts:
    """Folds and parts of the patients. In the benchmarks a patient in no list trains; otherwise that is refused, or split by hash."""
    people = stays.select("patient_id", outcome=pl.col("died_in_hospital").cast(pl.Int16), group="anchor_year_group")
    lists = options.splits
    if lists is None and options.compat == BENCHMARKS and options.split == "hash":
        frozen = _published_lists()
    elif lists is None:
        return splits.make_parts(people, kind=options.split, seed=options.seed)
    else:
        frozen = splits.read_frozen([Path(lists)])
    new = "hash" if options.assign_new else "train" if options.is_compat else "refuse"
    return splits.make_parts(people, kind="frozen", seed=options.seed, frozen=frozen, new=new)


@functools.cache
def _published_lists() -> pl.DataFrame:
    folder = Path(__file__).parent / "resources"
    return splits.read_frozen([folder / name for name in _LISTS])


def _split_warnings(parts: splits.Parts) -> list[str]:
    told = []
    if parts.meta.get("unlisted"):
        told.append(f"{parts.meta['unlisted']} patients ({parts.meta['unlisted_share']:.1%}) are in no split list: {parts.meta['new']}")
    if parts.meta["refused"]:
        told.append(f"training on this cohort is refused: {parts.meta['refused']}")
    return told
