"""A download of Lung-PET-CT-Dx to a manifest, and through it to a cohort."""

import csv

import dicoms
import polars as pl
import pytest

from omnifuse.preprocess.lung.build import build_cohort
from omnifuse.preprocess.lung.manifest import read_manifest
from omnifuse.preprocess.lung.options import Options
from omnifuse.preprocess.lung.tcia import write_manifest
from omnifuse.preprocess.schema import InputError

FIELDS = ("Series UID", "Collection", "Subject ID", "Study UID", "Modality", "Number of Images", "File Location")


@pytest.fixture
def download(tmp_path):
    """Two patients as the NBIA Data Retriever leaves them; A0001 has two CT series, of which the smaller is annotated, and a PET."""
    told = [
        ("Lung_Dx-A0001", "s1", "CT", "ct1", 16, {}),
        ("Lung_Dx-A0001", "s1", "CT", "ct2", 8, {}),
        ("Lung_Dx-A0001", "s2", "PT", "pet-other-study", 14, {"modality": "PT"}),
        ("Lung_Dx-A0001", "s1", "PT", "pet", 12, {"modality": "PT"}),
        ("Lung_Dx-G0002", "s3", "CT", "ct3", 6, {}),
        ("Somebody-Else", "s4", "CT", "ct4", 6, {}),
    ]
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for subject, study, modality, name, count, more in told:
            dicoms.write_series(tmp_path / "Lung-PET-CT-Dx" / subject / name, count=count, series=name, **more)
            writer.writerow([name, "Lung-PET-CT-Dx", subject, study, modality, count, f".\\Lung-PET-CT-Dx\\{subject}\\{name}"])
    dicoms.write_boxes(tmp_path / "Annotation" / "A0001", {dicoms.make_uid(f"ct2:{k}"): [(10, 20, 14, 26)] for k in (3, 4, 5)})
    return tmp_path


def test_the_annotated_ct_and_the_pet_of_its_study(download):
    assert write_manifest(download, download / "manifest.csv") == 2
    rows = read_manifest(download / "manifest.csv")
    assert rows["patient_id"].to_list() == ["Lung_Dx-A0001", "Lung_Dx-G0002"]
    assert rows["histology"].to_list() == ["A", "G"]
    assert rows["ct_series"].to_list() == ["Lung-PET-CT-Dx/Lung_Dx-A0001/ct2", "Lung-PET-CT-Dx/Lung_Dx-G0002/ct3"]
    assert rows["pet_series"].to_list() == ["Lung-PET-CT-Dx/Lung_Dx-A0001/pet", None]
    assert rows["lesion_file"].to_list() == ["Annotation/A0001", None]
    assert (download / "manifest.csv").stat().st_mode & 0o777 == 0o600


def test_of_several_pets_the_folder_of_the_study_is_named(download):
    """Fused images are filed as PET beside it: which series gives SUV is found by content."""
    patient = download / "Lung-PET-CT-Dx" / "Lung_Dx-A0001"
    dicoms.write_series(patient / "fused", count=40, series="fused", modality="PT", edit=lambda k, made: made.__delattr__("Units"))
    with (download / "metadata.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["fused", "Lung-PET-CT-Dx", "Lung_Dx-A0001", "s1", "PT", 40, "./Lung-PET-CT-Dx/Lung_Dx-A0001/fused"])
    write_manifest(download, download / "manifest.csv")
    assert read_manifest(download / "manifest.csv")["pet_series"][0] == "Lung-PET-CT-Dx/Lung_Dx-A0001"
    cohort = build_cohort(download / "manifest.csv", download, download / "cohort", Options(classes="histology", slices=3, size=16))
    assert all("/fused/" not in name for name in cohort.table("items/pet.parquet")["names"][0])


def test_it_becomes_a_cohort(download):
    write_manifest(download, download / "manifest.csv")
    cohort = build_cohort(download / "manifest.csv", download, download / "cohort", Options(classes="histology", slices=3, size=16))
    assert cohort.table("items/ct.parquet")["centre"].to_list()[0] == [-8.0, 14.0, 12.0]
    assert cohort.table("samples/subtyping.parquet")["y"].to_list() == [[0.0], [3.0]]
    assert cohort.json("audit.json")["classes"]["empty"] == ["small cell", "large cell"]
    assert cohort.json("audit.json")["input"] == {"crop": 1, "field": 1}


@pytest.mark.parametrize(("spoil", "what"), [("metadata.csv", "NBIA Data Retriever"), ("Annotation", "annotations")])
def test_what_a_download_lacks_is_named(download, spoil, what):
    (download / spoil).rename(download / "moved")
    if spoil == "Annotation":
        for path in (download / "moved").iterdir():
            path.rename(download / "moved" / "x")
    with pytest.raises(InputError, match=what):
        write_manifest(download, download / "manifest.csv")


def test_another_collection_has_no_patient(download):
    told = pl.read_csv(download / "metadata.csv").with_columns(pl.lit("R01-001").alias("Subject ID"))
    told.write_csv(download / "metadata.csv")
    with pytest.raises(InputError, match="no patient"):
        write_manifest(download, download / "manifest.csv")
