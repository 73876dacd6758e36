"""The subtyping clinic: DICOM series that an independent reader takes, SUV by the standard formula, calibrated posteriors, same bytes."""

import csv
from datetime import datetime

import numpy as np
import polars as pl
import pydicom
import pytest

from omnifuse.preprocess.clinic import lung_tokens as tokens
from omnifuse.preprocess.clinic.lung import generate_lung
from omnifuse.preprocess.clinic.lung_files import CT_MM, LUNG_HU, draw_ct
from omnifuse.preprocess.schema import ConfigError

COLUMNS = [
    "patient_id",
    "lesion_id",
    "ct_series",
    "pet_series",
    "report",
    "subtype",
    "exam_date",
    "report_date",
    "pathology_date",
    "lesion_xyz_mm",
]


@pytest.fixture(scope="module")
def lung(tmp_path_factory):
    raw = tmp_path_factory.mktemp("lung") / "raw"
    generate_lung(raw, patients=14, seed=1)
    with (raw / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return raw, rows, pl.read_parquet(raw.with_name("raw-truth") / "lesions.parquet")


def series(folder):
    """Slices by position, and their files."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(files, key=lambda one: float(one.ImagePositionPatient[2]))


def test_the_manifest_points_at_what_is_there(lung):
    raw, rows, truth = lung
    assert list(rows[0]) == COLUMNS and len(rows) == 14
    for row, present in zip(rows, truth.select("present_pet", "present_rep").rows()):
        assert (bool(row["pet_series"]), bool(row["report"])) == present
        assert all((raw / row[name]).exists() for name in ("ct_series", "pet_series", "report") if row[name])
        assert row["exam_date"] < row["report_date"] < row["pathology_date"]
    assert not any("truth" in path.as_posix() for path in raw.rglob("*"))
    reports = [(raw / row["report"]).read_text(encoding="utf-8") for row in rows if row["report"]]
    assert all("检查所见" in text and "结节" in text for text in reports)
    assert not any(word in text for text in reports for word in ("腺癌", "浸润", "原位", "AIS", "MIA", "病理"))


def test_a_ct_shows_the_lesion_where_and_as_large_as_told(lung):
    raw, rows, truth = lung
    for row, told in zip(rows, truth.to_dicts()):
        slices = series(raw / row["ct_series"])
        hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
        x, y, z = (float(value) for value in row["lesion_xyz_mm"].split())
        origin = np.array([float(value) for value in slices[0].ImagePositionPatient])
        column, line, number = np.rint((np.array([x, y, z]) - origin) / CT_MM).astype(int)
        assert np.allclose(slices[0].PixelSpacing, CT_MM) and slices[0].Modality == "CT" and 5 <= told["diameter_mm"] <= 40
        inside = hu[number, line, column]
        assert inside > LUNG_HU + 80


def test_suv_by_the_standard_formula_is_the_token(lung):
    raw, rows, truth = lung
    seen = 0
    for row, told in zip(rows, truth.to_dicts()):
        if not row["pet_series"]:
            continue
        slices = series(raw / row["pet_series"])
        bq = np.stack([one.pixel_array * float(one.RescaleSlope) for one in slices])
        head = slices[0]
        tracer = head.RadiopharmaceuticalInformationSequence[0]
        start = datetime.strptime(head.SeriesDate + head.SeriesTime, "%Y%m%d%H%M%S")
        waited = (start - datetime.strptime(tracer.RadiopharmaceuticalStartDateTime, "%Y%m%d%H%M%S")).total_seconds()
        left = float(tracer.RadionuclideTotalDose) * 2 ** (-waited / float(tracer.RadionuclideHalfLife))
        suv = bq * float(head.PatientWeight) * 1000 / left
        assert head.Units == "BQML" and head.DecayCorrection == "START" and len({float(one.RescaleSlope) for one in slices}) > 1
        assert suv.max() == pytest.approx(max(np.exp(told["log_suv"]), 0.5), rel=0.12)
        assert head.FrameOfReferenceUID == series(raw / row["ct_series"])[0].FrameOfReferenceUID
        seen += 1
    assert seen > 3


def test_posteriors_are_calibrated_and_more_is_known_from_more():
    lesions = [tokens.draw_lesion(0, patient) for patient in range(4000)]
    grade = np.array([lesion.grade for lesion in lesions])
    loss = {}
    for chosen in tokens.SUBSETS:
        p = np.array([tokens.posterior(lesion, chosen) for lesion in lesions])
        loss[chosen] = -np.log(p[np.arange(len(grade)), grade]).mean()
        for risk in range(6):
            told, there = p[:, risk], grade == risk
            z = ((there - told) * np.log(told / (1 - told))).sum() / np.sqrt((told * (1 - told) * np.log(told / (1 - told)) ** 2).sum())
            assert abs((there - told).sum() / np.sqrt((told * (1 - told)).sum())) < 4 and abs(z) < 4
    prior = -np.log(tokens.PRIOR[grade]).mean()
    for one in tokens.MODALITIES:
        assert loss[tokens.MODALITIES] < loss[(one,)] < prior
    diameters = np.array([lesion.diameter_mm for lesion in lesions])
    assert diameters.min() >= 5 and diameters.max() <= 40 and np.corrcoef(diameters, grade)[0, 1] > 0.4


def test_the_solid_core_is_drawn():
    """Mean density of the lesion grows with the solid share, its outline does not."""
    lesion = tokens.draw_lesion(0, 1)
    means = []
    for solid in (-2.0, 0.0, 1.5):
        shown = tokens.Lesion(**{**vars(lesion), "solid": solid, "diameter_mm": 25.0})
        means.append(draw_ct(shown, np.zeros(3), np.random.default_rng(0))[9:15, 29:35, 29:35].mean())
    assert means[0] + 100 < means[1] < means[2] - 50


def test_a_patient_is_the_same_in_any_clinic_and_the_same_call_gives_the_same_bytes(lung, tmp_path):
    raw = lung[0]
    generate_lung(tmp_path / "raw", patients=3, seed=1)
    files = [path.relative_to(tmp_path / "raw") for path in (tmp_path / "raw").rglob("*.*") if path.suffix in (".dcm", ".txt")]
    assert len(files) > 70 and all((raw / name).read_bytes() == (tmp_path / "raw" / name).read_bytes() for name in files)
    assert not generate_lung(tmp_path / "raw", patients=3, seed=1)["written"]


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 patients"):
        generate_lung(tmp_path / "raw", patients=0)
