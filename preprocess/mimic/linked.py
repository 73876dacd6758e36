"""Films, reports, notes and recordings of a cohort: writes their items, and tells how samples find them (linking.Link).

The manifest's `modalities` gets an entry each, audit.json's `linked` the counts: rows = linked to stays + left out, by reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic import discharge, films, linking, notes, radiology, recordings, reports
from omnifuse.preprocess.mimic.beside import Sources
from omnifuse.preprocess.mimic.gathering import Gathered
from omnifuse.preprocess.mimic.linking import Counts, Link, Window
from omnifuse.preprocess.mimic.options import MEDFUSE, Options
from omnifuse.preprocess.schema import InputError

READS = {"cxr": "image", "rep": "text", "dn": "text", "sig": "signal"}


@dataclass
class Linked:
    """What a cohort gets: how samples find their items, what the manifest and audit.json tell, and items/cxr.parquet for radiology."""

    links: list[Link] = field(default_factory=list)
    modalities: dict[str, dict[str, Any]] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    films: pl.DataFrame | None = None


def link(found: Sources, builder: store.Builder, stays: pl.DataFrame, progress) -> Linked:
    """Writes items/MODALITY.parquet of every modality that was found.

    Raises:
        InputError: nothing of a modality belongs to a kept stay.
    """
    told = Linked(warnings=list(found.warnings))
    if not found.modalities:
        return told
    options = found.options
    window = Window(options.lookback_hours, closed=options.compat == MEDFUSE)
    stays = stays.select("stay_id", "patient_id", "hadm_id", "intime", "outtime")
    for name in found.modalities:
        _LINKERS[name](found, builder, stays, window, told, progress)
    return told


def _films(found: Sources, builder: store.Builder, stays: pl.DataFrame, window: Window, told: Linked, progress) -> None:
    options, wants = found.options, radiology.NAME in found.options.tasks
    items, counts = films.link(found.films, found.films_on_disk, stays, window, options.pairing, others=wants)
    store.write_parquet(builder.path("items/cxr.parquet"), items)
    whole = frozenset({"phenotyping"}) if window.closed else frozenset()
    views = films.PAIRINGS[options.pairing]
    about = {"pairing": options.pairing, "views": "any" if views is None else list(views), "root": str(found.films.root)}
    _add(told, "cxr", items, linking.LAST, counts, about, window, whole, allow_none=wants)
    told.films = items if wants else None
    _count_table(told, found.films.files["metadata"], "cxr", found.films.table.height)


def _reports(found: Sources, builder: store.Builder, stays: pl.DataFrame, window: Window, told: Linked, progress) -> None:
    options, reading = found.options, _reading(found.options, progress)
    delay, origin = options.report_delay_hours, "as told"
    if delay is None:
        origin = "90th percentile of storetime - charttime"
        delay = found.radiology_notes.delay_hours(stays["patient_id"].unique(), **reading) if found.radiology_notes else None
    if delay is None:
        delay, origin = notes.DEFAULT_DELAY_HOURS, "no note has both times"
    gathered = Gathered(builder.scratch("reports").parent, "reports")
    counts = reports.link(found.reports, stays, window, gathered, options, delay, **reading)
    keys = gathered.finish(builder.path("items/rep.parquet"))
    about = {name: getattr(options, name) for name in ("sections", "words", "exams")}
    about |= {"source": found.reports.name, "delay_hours": round(delay, 4), "delay_from": origin}
    _add(told, "rep", keys, options.report_pick, counts, about, window)
    if isinstance(found.reports, reports.NoteReports):
        _count_table(told, found.reports.notes.path, "notes", counts.rows)
    if counts.notes[notes.FROM_DELAY] or found.reports.name == "tree":
        told.warnings.append(f"reports without a storetime count as known {delay:g} h after their exam ({origin})")


def _discharge(found: Sources, builder: store.Builder, stays: pl.DataFrame, window: Window, told: Linked, progress) -> None:
    gathered = Gathered(builder.scratch("discharge").parent, "discharge")
    counts = discharge.link(found.discharge, stays, gathered, **_reading(found.options, progress))
    keys = gathered.finish(builder.path("items/dn.parquet"))
    _add(told, "dn", keys, linking.ALL, counts, {"words": None}, window, frozenset(found.options.stay_tasks))
    _count_table(told, found.discharge.path, "notes", counts.rows)
    told.warnings.append("discharge notes are linked: every task of a stay leaks through dn, and its results are marked")


def _signals(found: Sources, builder: store.Builder, stays: pl.DataFrame, window: Window, told: Linked, progress) -> None:
    tolerance = found.options.signal_tolerance_hours
    items, counts = recordings.link(found.recordings, found.records_on_disk, stays, window, tolerance)
    store.write_parquet(builder.path("items/sig.parquet"), items)
    about = {"root": str(found.recordings.root), "tolerance_hours": tolerance if found.recordings.is_ecg else 0.0}
    _add(told, "sig", items, linking.LAST, counts, about, window)
    _count_table(told, found.recordings.list, "sig", found.recordings.records.height)
    if found.recordings.is_ecg:
        told.warnings.append(recordings.CLOCK.format(tolerance))


_LINKERS = {"cxr": _films, "rep": _reports, "dn": _discharge, "sig": _signals}


def _add(
    told: Linked,
    name: str,
    items: pl.DataFrame,
    pick: str,
    counts: Counts,
    about: dict[str, Any],
    window: Window,
    whole: frozenset[str] = frozenset(),
    *,
    allow_none: bool = False,
) -> None:
    if not counts.linked and not allow_none:
        why = "; ".join(f"{reason}: {n}" for reason, n in sorted(counts.left_out.items()) if n)
        raise InputError(f"nothing of modality {name} belongs to a kept stay", hint=why or "its table is empty")
    told.links.append(Link(name, items, pick, closed=window.closed, whole=whole))
    told.modalities[name] = {"kind": "items", "reads": READS[name], "root": None, "decode": {}, "pick": pick, **about}
    told.audit[name] = counts.to_json()


def _count_table(told: Linked, path: Path, folder: str, rows: int) -> None:
    told.tables[f"{folder}/{path.name}"] = rows


def _reading(options: Options, progress) -> dict[str, Any]:
    return {"on_bad_row": options.on_bad_row, "max_bad": options.max_bad, "progress": progress}


def account(meta: dict[str, Any], told: Linked, hashes: dict[str, str]) -> None:
    """Adds to the manifest what was linked: a row a table (rows where they are counted), and by what the files of a modality are known."""
    meta["source"]["tables"] |= {name: {"rows": told.tables.get(name), "sha256": value} for name, value in sorted(hashes.items())}
    for name, about in told.modalities.items():
        if about["root"] is not None:
            about["files"] = hashes[f"{name}/files"]
