"""Raw MIMIC tables to a cohort: `build_cohort` composes what the other files of this folder hold.

    detect -> fingerprint -> stays -> films, notes, recordings linked to them -> one pass over the events
           -> series and samples, range by range -> parts -> audit

An unchanged call (same tables, options and code) finds its cohort by the fingerprint and returns it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import splits, store
from omnifuse.preprocess.mimic import audit, beside, events, inputs, labels, linked, radiology
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


def build_cohort(
    source: Path,
    out: Path,
    options: Options = Options(),  # noqa: B008
    progress=Silent,
    folders: beside.Folders = beside.Folders(),  # noqa: B008
) -> store.Artefact:
    """Makes the cohort artefact at `out` from the raw MIMIC tables in `source`, and what `folders` hold beside them.

    Raises:
        ConfigError: options that exclude each other, or do not fit the release or the folders.
        InputError: a table is missing or broken, or nothing is left.
        ResourceError: the disk does not suffice.
    """
    found = detect(source)
    options, warnings = options.fitted(found.dataset)
    require(found, options.tasks)
    others = beside.find(folders, found, options)
    hashes = inputs.hash_tables(found, inputs.tables_read(found, options), progress)
    linked_hashes = others.hashes(progress) if others.modalities else {}
    key = inputs.fingerprint(hashes, options, linked_hashes)
    if (artefact := store.current(out, "cohort", key)) is not None and _same_places(artefact, others):
        return artefact
    store.require_free(out, sum(needed_bytes(found, options, others)))
    with store.create(out, "cohort", fingerprint=key, alone=True) as builder:
        told = _build(found, others, builder, options, hashes, warnings, progress)
        linked.account(builder.meta, told, linked_hashes)
    return store.open(out, "cohort")


def _same_places(cohort: store.Artefact, others: beside.Sources) -> bool:
    """Whether the files are still where the cohort looks for them."""
    known = cohort.meta["modalities"]
    return all(known.get(name, {}).get("root") == root for name, root in others.places().items())


def _build(
    source: Source,
    others: beside.Sources,
    builder: store.Builder,
    options: Options,
    hashes: dict[str, str],
    warnings: list[str],
    progress,
) -> linked.Linked:
    cohort = stays_of.select(source, compat=options.is_compat)
    rows, report, diagnoses = dict(cohort.rows), None, None
    if "phenotyping" in options.tasks:
        diagnoses, report, rows["diagnoses_icd"], lines = read_labels(source, cohort.stays, options)
        warnings += lines
    told = linked.link(others, builder, cohort.stays, progress)
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
    tasks = labels.describe(options, phenotype_names(), tuple(told.modalities))
    writer = Writer(builder, stays, samples, tasks, ledger, options, told.links)
    writer.write(scratch, progress)
    counts = writer.finish()
    _require_samples(counts, samples, source)
    parts = _parts(cohort.stays, options)
    if radiology.NAME in options.tasks:
        counts[radiology.NAME], parts = _write_films(builder, told, parts, options)
    store.write_parquet(builder.path("parts.parquet"), parts.table)
    store.write_parquet(builder.path("stays.parquet"), cohort.stays.drop("died_hours").sort("stay_id"))
    rows |= dict(ledger.rows)
    warnings += [*truncation_warnings(source, rows), *audit.mode_warnings(mode, ledger, options), *_split_warnings(parts), *told.warnings]
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
            **({"linked": told.audit} if told.audit else {}),
        },
    )
    builder.meta |= {
        "source": {"dataset": source.dataset, "version": source.version, "tables": inputs.rows_json(source, hashes, rows)},
        "compat": options.compat,
        "step_hours": float(options.step_hours),
        "lookback_hours": float(options.lookback_hours),
        "time": "charttime" if options.is_compat else options.time,
        "tasks": {name: {**task.to_json(), "samples": counts[name][0]} for name, task in tasks.items()},
        "modalities": {"ehr": {"kind": "series", "columns": list(COLUMNS), "continuous": list(CONTINUOUS)}, **told.modalities},
        "splits": parts.meta,
        "rules": "none" if options.is_compat else _rule_options(options),
    }
    return told


def _write_films(
    builder: store.Builder, told: linked.Linked, parts: splits.Parts, options: Options
) -> tuple[tuple[int, np.ndarray], splits.Parts]:
    """samples/radiology.parquet. Returns the number of films and of their labels, and the parts with the patients of the films."""
    samples, films = radiology.make_samples(told.films, options.uncertain)
    if samples.is_empty():
        raise InputError("no sample is left for the task radiology", hint="no film of the list is there and has CheXpert labels")
    store.write_parquet(builder.path(f"samples/{radiology.NAME}.parquet"), samples)
    parts = radiology.with_outsiders(parts, samples)
    told.audit["cxr"]["radiology"] = {**films, "patients who train only": parts.meta["outside"]["patients"]}
    return (samples.height, audit.label_counts(samples["y"], radiology.TASK)), parts


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
