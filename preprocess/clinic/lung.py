"""The subtyping setting of the clinic: a manifest, CT and PET series, Chinese reports, and the truth beside them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import lung_files
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.lung_tokens import GRADES, MODALITIES, SUBSETS, Lesion, draw_lesion, posterior
from omnifuse.preprocess.schema import ConfigError, Silent

KIND, TRUTH, GENERATOR = "lung_clinic", "lung_clinic_truth", 1
MOST_PATIENTS, BYTES_A_PATIENT = 100_000, 300_000


def generate_lung(raw: Path, *, patients: int, seed: int = 0, progress: Callable[..., Any] = Silent) -> dict[str, Any]:
    """Writes `manifest.csv`, `ct/`, `pet/` and `reports/` to `raw`, and the truth to `raw`-truth (lesions.parquet).

    A patient has one lesion and is the same whatever the number of patients; the same call gives the same bytes.

    Raises:
        ConfigError: a bad number, or a folder that holds something else.
        ResourceError: the disk is too small.
    """
    raw = Path(raw).absolute()
    beside = raw.with_name(f"{raw.name}-truth")
    if not 1 <= patients <= MOST_PATIENTS:
        raise ConfigError(f"{patients} patients: from 1 to {MOST_PATIENTS} can be made", hint="choose another --patients")
    if not 0 <= seed < 2**63:
        raise ConfigError("the seed must not be negative", hint="choose another --seed")
    fingerprint = store.digest({"patients": patients, "seed": seed, "generator": GENERATOR})
    summary = {"patients": patients, "seed": seed, "raw": str(raw), "truth": str(beside)}
    if store.current(raw, KIND, fingerprint) and store.current(beside, TRUTH, fingerprint):
        return summary | {"written": False}
    store.require_free(raw, patients * BYTES_A_PATIENT)
    notice = {"synthetic": "made by omnifuse, no patient"}
    with (
        store.create(raw, KIND, fingerprint=fingerprint, meta=notice) as files,
        store.create(beside, TRUTH, fingerprint=fingerprint) as truth,
        progress("patients", patients, "patient") as bar,
    ):
        rows, told = [], []
        for patient in range(patients):
            lesion = draw_lesion(seed, patient)
            rows.append(_write(files, seed, lesion))
            told.append(_truth_row(lesion))
            bar.update(1)
        pl.DataFrame(rows).write_csv(files.path("manifest.csv"))
        store.write_parquet(truth.path("lesions.parquet"), pl.DataFrame(told))
    return summary | {"written": True}


def name_of(patient: int) -> str:
    return f"L{patient:06d}"


def _write(files: store.Builder, seed: int, lesion: Lesion) -> dict[str, Any]:
    """The series and report of a lesion; returns its row of the manifest."""
    generator, name = stream(seed, lesion.patient, "lung files"), name_of(lesion.patient)
    centre = generator.uniform(-1, 1, 3) * [12.0, 30.0, 36.0]  # z, y, x mm: within the lung
    when = datetime(2021, 1, 4, 8) + timedelta(days=int(generator.integers(700)), minutes=int(generator.integers(500)))
    weight = float(np.round(45 + 40 * generator.random(), 1))
    row: dict[str, Any] = {"patient_id": name, "lesion_id": "1", "ct_series": f"ct/{name}", "pet_series": None, "report": None}
    lung_files.write_series(files.path(f"ct/{name}"), "CT", lung_files.draw_ct(lesion, centre, generator), lung_files.CT_MM, name, when)
    if lesion.scanned:
        pet, row["pet_series"] = lung_files.draw_pet(lesion, centre, generator), f"pet/{name}"
        lung_files.write_series(files.path(f"pet/{name}"), "PT", pet, lung_files.PET_MM, name, when, weight)
    words = stream(seed, lesion.patient, "lung words")
    if lesion.reported:
        row["report"] = f"reports/{name}.txt"
        files.path(row["report"]).write_text(lung_files.write_report(lesion, words), encoding="utf-8")
    row |= {"subtype": GRADES[lesion.grade], "exam_date": f"{when:%Y-%m-%d}", "report_date": f"{when + timedelta(days=1):%Y-%m-%d}"}
    row["pathology_date"] = f"{when + timedelta(days=14):%Y-%m-%d}"
    z, y, x = centre
    return row | {"lesion_xyz_mm": f"{x:.2f} {y:.2f} {z:.2f}"}


def _truth_row(lesion: Lesion) -> dict[str, Any]:
    """Tokens, quality, and P(grade) from every set of modalities."""
    row: dict[str, Any] = {"patient_id": name_of(lesion.patient), "subtype": GRADES[lesion.grade], "diameter_mm": lesion.diameter_mm}
    row |= {"solid": lesion.solid, "log_suv": lesion.log_suv, "density": lesion.density, "spiculation": lesion.spiculation}
    row |= {f"noise_{name}": float(lesion.noise[i]) for i, name in enumerate(MODALITIES)}
    row |= {f"present_{name}": there for name, there in zip(MODALITIES, lesion.present)}
    return row | {"_".join(("p", *chosen)): posterior(lesion, chosen).tolist() for chosen in SUBSETS}
