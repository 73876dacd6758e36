"""The subtyping clinic: DICOM series that an independent reader takes, SUV by the standard formula, calibrated posteriors, same bytes."""

import csv
import dataclasses
import os
import subprocess
import sys
from datetime import datetime

import numpy as np
import polars as pl
import pydicom
import pytest

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import lung
from omnifuse.preprocess.clinic import lung_tokens as tokens
from omnifuse.preprocess.clinic.lung import generate_lung
from omnifuse.preprocess.clinic.lung_ceiling import SUBSETS, posteriors
from omnifuse.preprocess.clinic.lung_files import CT_MM, DENSITY_BY_ORDER, LUNG_HU, draw_ct, draw_pet, write_report
from omnifuse.preprocess.clinic.lung_world import MODALITIES
from omnifuse.preprocess.clinic.worldfile import read_world
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


PUBLISHED = {
    "grade": [3, 3, 2],
    "density": [2, 2, 1],
    "diameter_mm": [9.694669263173681, 20.00915849112407, 12.357781335327884],
    "solid": [-0.10834095249358243, -1.7040854161116872, -1.5117242910351556],
    "log_suv": [0.22145814876142278, 0.942131015760074, 0.4945471448774925],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    raw = tmp_path_factory.mktemp("lung") / "raw"
    generate_lung(raw, patients=14, seed=1)
    with (raw / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return raw, rows, pl.read_parquet(raw.with_name("raw-truth") / "lesions.parquet")


def series(folder):
    """Slices by position, and their files."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(files, key=lambda one: float(one.ImagePositionPatient[2]))


def test_the_manifest_points_at_what_is_there(files):
    raw, rows, truth = files
    assert list(rows[0]) == COLUMNS and len(rows) == 14
    for row, present in zip(rows, truth.select("present_pet", "present_rep").rows()):
        assert (bool(row["pet_series"]), bool(row["report"])) == present
        assert all((raw / row[name]).exists() for name in ("ct_series", "pet_series", "report") if row[name])
        assert row["exam_date"] < row["report_date"] < row["pathology_date"]
    assert not any("truth" in path.as_posix() for path in raw.rglob("*"))
    reports = [(raw / row["report"]).read_text(encoding="utf-8") for row in rows if row["report"]]
    assert all("检查所见" in text and "结节" in text for text in reports)
    assert not any(word in text for text in reports for word in ("腺癌", "浸润", "原位", "AIS", "MIA", "病理"))


def test_a_ct_shows_the_lesion_where_and_as_large_as_told(files):
    raw, rows, truth = files
    for row, told in zip(rows, truth.to_dicts()):
        slices = series(raw / row["ct_series"])
        hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
        x, y, z = (float(value) for value in row["lesion_xyz_mm"].split())
        origin = np.array([float(value) for value in slices[0].ImagePositionPatient])
        column, line, number = np.rint((np.array([x, y, z]) - origin) / CT_MM).astype(int)
        assert np.allclose(slices[0].PixelSpacing, CT_MM) and slices[0].Modality == "CT" and 5 <= told["diameter_mm"] <= 40
        inside = hu[number, line, column]
        assert inside > LUNG_HU + 80


def test_suv_by_the_standard_formula_is_the_token(files):
    raw, rows, truth = files
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


@pytest.mark.parametrize("name", ["default", "spurious", "set32/05", "set32/09"])
def test_posteriors_are_calibrated_and_more_is_known_from_more(name):
    """Also where scans are corrupt, marks are tied to the grade, presence depends on it, and inflammation turns the uptake."""
    knobs = read_world(name).lung
    lesions = tokens.draw_lesions(knobs, 0, np.arange(3000))
    found, loss = posteriors(knobs, lesions), {}
    for column, p in found.items():
        loss[column] = -np.log(p[np.arange(len(p)), lesions.grade]).mean()
        for risk in range(6):
            told, there = p[:, risk], lesions.grade == risk
            logit = np.log(told / (1 - told))
            z = ((there - told) * logit).sum() / np.sqrt((told * (1 - told) * logit**2).sum())
            assert abs((there - told).sum() / np.sqrt((told * (1 - told)).sum())) < 4 and abs(z) < 4
    prior = -np.log(np.array(knobs.grades)[lesions.grade]).mean()
    for one in MODALITIES:
        assert loss["p_ct_pet_rep"] < loss[f"p_{one}"] < prior
    assert lesions.diameter_mm.min() >= 5 and lesions.diameter_mm.max() <= 40


def default_lesion(**change):
    """A lesion of the default world that shows everything, with fields changed."""
    lesions = tokens.draw_lesions(read_world("default").lung, 0, np.arange(1))
    return dataclasses.replace(lesions.one(0), scanned=True, reported=True, **change)


def test_the_default_lesions_are_those_that_were_published():
    """Tokens of three patients, as the first version of the generator drew them: what was told of the default world holds."""
    lesions = tokens.draw_lesions(read_world("default").lung, 0, np.array([0, 1, 2]))
    assert lesions.grade.tolist() == PUBLISHED["grade"] and lesions.density.tolist() == PUBLISHED["density"]
    for name in ("diameter_mm", "solid", "log_suv"):
        assert getattr(lesions, name) == pytest.approx(PUBLISHED[name], rel=1e-12)


def test_the_solid_core_is_drawn():
    """Mean density of the lesion grows with the solid share, its outline does not."""
    means = []
    for solid in (-2.0, 0.0, 1.5):
        shown = default_lesion(solid=solid, diameter_mm=25.0)
        means.append(draw_ct(shown, np.zeros(3), np.random.default_rng(0))[9:15, 29:35, 29:35].mean())
    assert means[0] + 100 < means[1] < means[2] - 50


def rendered(lesion):
    def generator():
        return np.random.default_rng(0)

    knobs = read_world("default").lung
    report = write_report(lesion, knobs, generator(), generator())
    return draw_ct(lesion, np.zeros(3), generator()), draw_pet(lesion, np.zeros(3), generator()), report


OTHER = {"diameter_mm": 38.0, "solid": 2.0, "log_suv": 2.2, "density": 0, "spiculation": 1, "grade": 5}


def test_what_is_corrupt_shows_nothing_and_can_be_told():
    bad = np.ones(3, bool)
    one, other, clear = rendered(default_lesion(corrupt=bad)), rendered(default_lesion(corrupt=bad, **OTHER)), rendered(default_lesion())
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and one[2] == other[2]
    assert one[0].max() > 1500 > 800 > clear[0].max() and one[1].max() < 0.8 * clear[1].max() + 1 and len(one[2]) < len(clear[2]) / 2


def test_a_pet_knows_nothing_of_the_diameter():
    """Else it would tell more than its ceiling."""
    small, large = (rendered(default_lesion(diameter_mm=size))[1] for size in (6.0, 38.0))
    assert np.array_equal(small, large)


def test_density_by_order_uses_the_same_words():
    assert len({"".join(sorted(text)) for texts in DENSITY_BY_ORDER.values() for text in texts}) == 1


def test_a_patient_is_the_same_in_any_clinic_and_the_same_call_gives_the_same_bytes(files, tmp_path):
    raw = files[0]
    generate_lung(tmp_path / "raw", patients=3, seed=1)
    written = [path.relative_to(tmp_path / "raw") for path in (tmp_path / "raw").rglob("*.*") if path.suffix in (".dcm", ".txt")]
    assert len(written) > 70 and all((raw / name).read_bytes() == (tmp_path / "raw" / name).read_bytes() for name in written)
    assert not generate_lung(tmp_path / "raw", patients=3, seed=1)["written"]


def test_patient_17_does_not_depend_on_his_neighbours():
    knobs = read_world("set32/03").lung
    few, many = (tokens.draw_lesions(knobs, 5, np.arange(n)) for n in (20, 200))
    alone = tokens.draw_lesions(knobs, 5, np.array([17]))
    for field in dataclasses.fields(tokens.Lesion):
        here, there, own = (getattr(lesions, field.name) for lesions in (few, many, alone))
        assert np.array_equal(here[17], there[17]) and np.array_equal(here[17], own[0])


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from omnifuse.preprocess.clinic import lung
lung.BLOCK = 2

class Bar:
    done = 0
    def update(self, n):
        self.done += n
        if self.done == 5:  # two whole blocks, and half of the third
            os.kill(os.getpid(), signal.SIGKILL)

@contextmanager
def bar(*told):
    yield Bar()

lung.generate_lung(Path(sys.argv[1]), patients=7, seed=2, progress=bar)
"""


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_killed_run_goes_on_after_its_last_whole_block_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(lung, "BLOCK", 2)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    stopped = subprocess.run([sys.executable, script, tmp_path / "killed"], env=os.environ, check=False)
    assert stopped.returncode == -9 and not (tmp_path / "killed").exists()
    begun = []
    monkeypatch.setattr(lung, "_write", lambda *arguments, write=lung._write: begun.append(arguments[-1].patient) or write(*arguments))
    for name in ("killed", "whole"):
        begun.clear()
        generate_lung(tmp_path / name, patients=7, seed=2)
        assert begun == list(range(4 if name == "killed" else 0, 7))
    for suffix in ("", "-truth"):
        killed, whole = contents(tmp_path / f"killed{suffix}"), contents(tmp_path / f"whole{suffix}")
        assert killed == whole and len(killed) > 3
        assert store.open(tmp_path / f"killed{suffix}", lung.TRUTH if suffix else lung.KIND)


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 patients"):
        generate_lung(tmp_path / "raw", patients=0)


def test_the_truth_tells_ceilings_and_information(files):
    design = store.read_json(files[0].with_name("raw-truth") / "design.json")
    assert design["knobs_sha256"] == read_world("default").lung_fingerprint and design["seed"] == 1
    sets = {"_".join(("p", *chosen)) for chosen in SUBSETS}
    assert set(design["designed"]["auroc"]) == set(design["auroc"]) == set(design["information_bits"]) == sets
    assert design["designed"]["auroc"]["p_ct_pet_rep"]["auroc"] == pytest.approx(0.898, abs=0.004)
    bits = design["designed"]["information_bits"]
    for name in MODALITIES:
        rest = "_".join(("p", *(other for other in MODALITIES if other != name)))
        assert design["designed"]["unique_bits"][name] == pytest.approx(bits["p_ct_pet_rep"] - bits[rest]) and bits[f"p_{name}"] > 0.1
