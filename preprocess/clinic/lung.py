"""The subtyping setting of the clinic: a manifest, CT and PET series, Chinese reports, and the truth beside them; block by block."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import lung_files, lung_truth
from omnifuse.preprocess.clinic.blocks import Blocks, forget_unless_begun, read_journal, write_journal
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.lung_tokens import Lesion, draw_lesions
from omnifuse.preprocess.clinic.lung_world import GRADES, Lung
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.clinic.worldfile import read_world
from omnifuse.preprocess.schema import ConfigError, LockedError, Silent

KIND, TRUTH = "lung_clinic", "lung_clinic_truth"
GENERATOR = 2  # to be raised with every change that alters a number: clinics made before are then made anew
MOST_PATIENTS, BYTES_A_PATIENT = 100_000, 300_000
BLOCK = 20  # patients
MANIFEST = {
    "patient_id": pl.String, "lesion_id": pl.String, "ct_series": pl.String, "pet_series": pl.String, "report": pl.String,
    "subtype": pl.String, "exam_date": pl.String, "report_date": pl.String, "pathology_date": pl.String, "lesion_xyz_mm": pl.String,
}  # fmt: skip


def generate_lung(
    raw: Path, *, patients: int, seed: int = 0, world: str | Path = "default", progress: Callable[..., Any] = Silent
) -> dict[str, Any]:
    """Writes `manifest.csv`, `ct/`, `pet/` and `reports/` to `raw`, and the truth to `raw`-truth (lesions.parquet, design.json).

    A patient has one lesion and is the same whatever the number of patients; the same call gives the same bytes, and goes on with what an
    interrupted one left after its last whole block.

    Args:
        world: a name or file; its block `lung` holds the knobs.

    Returns:
        A summary: folders, counts, AUROC of the ceiling by set of modalities.

    Raises:
        ConfigError: a bad knob or number, or a folder that holds something else.
        ResourceError: the disk is too small.
    """
    raw = Path(raw).absolute()
    beside = raw.with_name(f"{raw.name}-truth")
    if not 1 <= patients <= MOST_PATIENTS:
        raise ConfigError(f"{patients} patients: from 1 to {MOST_PATIENTS} can be made", hint="choose another --patients")
    if not 0 <= seed < 2**63:
        raise ConfigError("the seed must not be negative", hint="choose another --seed")
    knobs = read_world(world)
    key = {"patients": patients, "seed": seed, "knobs": knobs.lung_fingerprint, "generator": GENERATOR}
    fingerprint, places = store.digest(key), {"raw": str(raw), "truth": str(beside)}
    done, told = store.current(raw, KIND, fingerprint), store.current(beside, TRUTH, fingerprint)
    if done and told:
        return {**told.meta["summary"], **places, "written": False}
    store.require_free(raw, patients * BYTES_A_PATIENT)
    notice = {"synthetic": "made by omnifuse, no patient"}
    try:
        with (
            store.create(raw, KIND, fingerprint=fingerprint, meta=notice, keep_partial=True, alone=True) as files,
            store.create(beside, TRUTH, fingerprint=fingerprint, keep_partial=True, alone=True) as truth,
        ):
            _write_blocks(knobs.lung, seed, patients, files, truth, fingerprint, progress)
            truth.meta["summary"] = _finish(knobs, seed, patients, files, truth)
            summary = truth.meta["summary"]
    except LockedError:
        raise
    except BaseException:
        forget_unless_begun(raw, beside)
        raise
    return {**summary, **places, "written": True}


def _write_blocks(
    lung: Lung, seed: int, patients: int, files: store.Builder, truth: store.Builder, fingerprint: str, progress: Callable[..., Any]
) -> None:
    start = (read_journal(files, truth, fingerprint) or {"next": 0})["next"]
    with progress("patients", patients, "patient") as bar:
        bar.update(start)
        for first in range(start, patients, BLOCK):
            lesions = draw_lesions(lung, seed, np.arange(first, min(first + BLOCK, patients)))
            rows = []
            for i in range(len(lesions)):
                rows.append(_write(files, lung, seed, lesions.one(i)))
                bar.update(1)
            frames = {"manifest": pl.DataFrame(rows, schema=MANIFEST), "lesions": lung_truth.lesion_rows(lung, lesions)}
            Blocks(truth).keep(first, frames)
            write_journal(files, fingerprint, {"next": first + len(lesions), "bytes": {}})


def _finish(world: World, seed: int, patients: int, files: store.Builder, truth: store.Builder) -> dict[str, Any]:
    Blocks(truth).whole("manifest").write_csv(files.path("manifest.csv"))
    lesions = Blocks(truth).whole("lesions")
    design = lung_truth.write_truth(world, seed, truth, lesions)
    counts = {"patients": patients, "seed": seed, "world": world.name, "lesions": len(lesions)}
    return counts | {"rates": design["rates"], "auroc_by_set": design["auroc"]}


def _write(files: store.Builder, lung: Lung, seed: int, lesion: Lesion) -> dict[str, Any]:
    """The series and report of a lesion; returns its row of the manifest."""
    generator, name = stream(seed, lesion.patient, "lung files"), lung_truth.name_of(lesion.patient)
    centre = generator.uniform(-1, 1, 3) * [12.0, 30.0, 36.0]  # z, y, x mm: within the lung
    when = datetime(2021, 1, 4, 8) + timedelta(days=int(generator.integers(700)), minutes=int(generator.integers(500)))
    weight = float(np.round(45 + 40 * generator.random(), 1))
    row: dict[str, Any] = {"patient_id": name, "lesion_id": "1", "ct_series": f"ct/{name}", "pet_series": None, "report": None}
    ct, kernel = lung_files.draw_ct(lesion, centre, generator), "SOFT" if lesion.marks[0] else "LUNG"
    lung_files.write_series(files.path(f"ct/{name}"), "CT", ct, lung_files.CT_MM, name, when, kernel=kernel)
    if lesion.scanned:
        own = stream(seed, lesion.patient, "lung pet")
        pet, row["pet_series"] = lung_files.draw_pet(lesion, centre, own, own.uniform(5.0, 11.0)), f"pet/{name}"
        lung_files.write_series(files.path(f"pet/{name}"), "PT", pet, lung_files.PET_MM, name, when, weight)
    if lesion.reported:
        row["report"] = f"reports/{name}.txt"
        text = lung_files.write_report(lesion, lung, stream(seed, lesion.patient, "lung words"), stream(seed, lesion.patient, "lung slips"))
        files.path(row["report"]).write_text(text, encoding="utf-8")
    row |= {"subtype": GRADES[lesion.grade], "exam_date": f"{when:%Y-%m-%d}", "report_date": f"{when + timedelta(days=1):%Y-%m-%d}"}
    row["pathology_date"] = f"{when + timedelta(days=14):%Y-%m-%d}"
    z, y, x = centre
    return row | {"lesion_xyz_mm": f"{x:.2f} {y:.2f} {z:.2f}"}
