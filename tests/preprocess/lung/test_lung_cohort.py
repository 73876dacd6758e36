"""A manifest to a cohort: samples, items, folds, audit; what is refused, and what is skipped and counted."""

import csv
import json

import dicoms
import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess import items, schema
from omnifuse.preprocess.lung.build import build_cohort, describe_plan
from omnifuse.preprocess.lung.manifest import read_manifest
from omnifuse.preprocess.lung.options import Options
from omnifuse.preprocess.schema import ConfigError, InputError

SMALL = Options(slices=3, size=16, crop_mm=20.0)


def write_manifest(root, rows, name="manifest.csv"):
    fields = list(dict.fromkeys(field for row in rows for field in row))
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    return root / name


def row(patient="p1", **told):
    return {"patient_id": patient, "subtype": "MIA", "lesion_xyz_mm": "0 0 15", **told}


DATED = {"report_date": "2020-01-05", "pathology_date": "2020-02-01"}


@pytest.fixture
def root(tmp_path):
    """A CT, its PET on the same frame, a PET on another, and a study with three kinds of file."""
    dicoms.write_series(tmp_path / "ct", series="ct")
    dicoms.write_series(tmp_path / "pet", modality="PT", series="pet")
    dicoms.write_series(tmp_path / "pet2", modality="PT", series="pet2", frame="other")
    dicoms.write_series(tmp_path / "study" / "a", series="thick", edit=lambda k, image: setattr(image, "SliceThickness", 5.0))
    dicoms.write_series(tmp_path / "study" / "b", series="thin", edit=lambda k, image: setattr(image, "SliceThickness", 1.0))
    dicoms.write_series(
        tmp_path / "study" / "c",
        count=2,
        series="scout",
        edit=lambda k, image: setattr(image, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    (tmp_path / "r.txt").write_text("所见：右肺结节。", encoding="utf-8")
    return tmp_path


def build(root, rows, options=SMALL, out="cohort"):
    return build_cohort(write_manifest(root, rows), root, root / out, options)


def test_a_lesion_with_everything(root):
    cohort = build(root, [row(ct_series="ct", pet_series="pet", report="r.txt", **DATED)])
    sample = cohort.table("samples/subtyping.parquet").row(0, named=True)
    assert sample["sample_id"] == "p1/1" and sample["y"] == [1.0] and sample["input"] == "crop"
    assert [sample[f"{name}_length"] for name in ("ct", "pet", "rep")] == [1, 1, 1]
    assert cohort.meta["tasks"]["subtyping"]["labels"] == ["L1", "L2", "L3"]
    for name, channels in (("ct", 3), ("pet", 1)):
        opened = items.open_items(cohort, name)
        assert opened.decode(0).shape == (3, channels, 16, 16) == (3, *opened.shape)
    assert items.open_items(cohort, "rep").text(0) == "右肺结节。"


def test_items_follow_the_samples_and_missing_modalities_have_length_0(root):
    cohort = build(
        root,
        [
            row("b", ct_series="ct", lesion_xyz_mm="0 0 12"),
            row("a", report="所见：结节", **DATED, lesion_xyz_mm=""),
            row("a", lesion_id="2", ct_series="ct", pet_series="pet", lesion_xyz_mm="0 0 18"),
            row("c", pet_series="pet"),
        ],
    )
    samples = cohort.table("samples/subtyping.parquet")
    assert samples["sample_id"].to_list() == ["a/1", "a/2", "b/1", "c/1"]
    assert samples["ct_length"].to_list() == [0, 1, 1, 0]
    centres = cohort.table("items/ct.parquet")["centre"].to_list()
    for number, height in ((1, 18.0), (2, 12.0)):
        assert centres[samples["ct_start"][number]][2] == height
    assert cohort.json("audit.json")["present"] == {"ct": 2, "pet": 2, "rep": 1}


@pytest.mark.parametrize(
    ("classes", "column", "cells", "expected", "labels"),
    [
        ("3", "subtype", ["AAH", "ais", "MIA", "IA1", "IA2", "IA3"], [0, 0, 1, 1, 2, 2], ["L1", "L2", "L3"]),
        ("6", "subtype", ["AAH", "AIS", "MIA", "IA1", "IA2", "IA3"], [0, 1, 2, 3, 4, 5], ["AAH", "AIS", "MIA", "IA1", "IA2", "IA3"]),
        ("histology", "histology", ["A", "b", "E", "G"], [0, 1, 2, 3], ["adenocarcinoma", "small cell", "large cell", "squamous cell"]),
    ],
)
def test_classes(root, classes, column, cells, expected, labels):
    rows = [{"patient_id": f"p{k}", column: cell, "ct_series": "ct"} for k, cell in enumerate(cells)]
    cohort = build(root, rows, Options(slices=3, size=16, classes=classes))
    assert [y[0] for y in cohort.table("samples/subtyping.parquet")["y"].to_list()] == expected
    assert cohort.meta["tasks"]["subtyping"]["labels"] == labels


def test_a_manifest_of_other_labels_names_the_option(root):
    with pytest.raises(ConfigError, match="--classes histology"):
        build(root, [{"patient_id": "p1", "histology": "A", "ct_series": "ct"}])


def test_lesions_of_a_patient_share_folds_and_the_highest_risk_stratifies(root):
    rows = [
        row(f"p{k:02d}", lesion_id=str(n), report="结节", subtype=("AIS", "IA3")[n * (k % 2)], **DATED) for k in range(60) for n in (0, 1)
    ]
    cohort = build(root, rows)
    parts = cohort.table("parts.parquet")
    assert parts.height == 5 * 60
    risky = pl.Series([f"p{k:02d}" for k in range(1, 60, 2)])
    for fold in range(5):
        test = parts.filter((pl.col("fold") == fold) & (pl.col("part") == "test"))["patient_id"]
        assert test.len() == 12 and test.is_in(risky.to_list()).sum() == 6
    assert cohort.meta["splits"]["refused"] is None


def test_of_several_ct_series_the_thin_one_is_taken_and_localizers_are_counted(root):
    cohort = build(root, [row(ct_series="study")])
    assert all("study/b" in name for name in cohort.table("items/ct.parquet")["names"][0])
    told = cohort.json("audit.json")["series"]
    assert told["left_out"] == {"localizer": 2}
    assert told["notes"]["CT chosen among several series"] == 1
    assert cohort.meta["lung"]["ct_series_rule"] == ["thin", "lung", "plain"]


def test_a_pet_on_another_frame_is_left_out_or_keeps_its_own_grid(root):
    rows = [row(ct_series="ct", pet_series="pet2")]
    dropped = build(root, rows).json("audit.json")
    assert dropped["present"]["pet"] == 0
    assert dropped["series"]["unusable"] == [{"column": "pet_series", "reason": "on another frame of reference than the CT", "rows": 1}]
    kept = build(root, rows, Options(slices=3, size=16, other_frame="own"))
    assert kept.table("items/pet.parquet")["extent"].to_list() == [[33.0, 64.0, 64.0]]
    assert kept.table("items/ct.parquet")["extent"].to_list() == [None]


def test_the_lung_field_where_no_lesion_is_placed(tmp_path):
    """Air inside of a body on slices 3 to 8 is the field; the box spans these positions."""
    body = np.zeros((64, 64), np.int16)
    lung = body.copy()
    lung[12:52, 12:52] = -800
    outside = [np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]]
    for place in outside:
        body[place] = lung[place] = -1000
    dicoms.write_series(tmp_path / "ct", rows=64, columns=64, step=10.0, values=lambda k: lung if 3 <= k <= 8 else body)
    cohort = build(tmp_path, [row(ct_series="ct", lesion_xyz_mm="")])
    item = cohort.table("items/ct.parquet").row(0, named=True)
    assert item["centre"][2] == 55.0 and item["extent"] == [50.0, 128.0, 128.0]
    told = cohort.json("audit.json")
    assert told["input"] == {"crop": 0, "field": 1} and any("paper mode" in line for line in told["warnings"])
    assert cohort.table("samples/subtyping.parquet")["input"].to_list() == ["field"]


def test_images_without_a_lesion_can_be_left_out(root):
    rows = [row("a", ct_series="ct", lesion_xyz_mm=""), row("b", ct_series="ct")]
    told = build(root, rows, Options(slices=3, size=16, crop="lesion")).json("audit.json")
    assert told["present"]["ct"] == 1 and told["series"]["unusable"][0]["reason"] == "no lesion is placed"


def test_lesion_boxes_in_the_manifest(root):
    slices = [dicoms.make_uid(f"ct:{k}") for k in (4, 5, 6)]
    dicoms.write_boxes(root / "boxes", {name: [(10, 20, 14, 26)] for name in slices})
    cohort = build(root, [row(ct_series="ct", lesion_xyz_mm="", lesion_file="boxes")])
    assert cohort.table("items/ct.parquet")["centre"].to_list() == [[-8.0, 14.0, 15.0]]


@pytest.mark.parametrize(
    ("dates", "present"),
    [
        ({"exam_date": "2020-01-01", "pathology_date": "2020-02-01", "report_date": "2020-01-02"}, [1, 1]),
        ({"exam_date": "2020-03-01", "pathology_date": "2020-02-01", "report_date": "2020-01-02"}, [0, 1]),
        ({"exam_date": "2020-01-01", "pathology_date": "2020-02-01", "report_date": "2020-02-01"}, [1, 0]),
        ({"exam_date": "2020-01-01", "pathology_date": "2020-02-01"}, [1, 0]),
        ({"report_date": "2020-01-02"}, [1, 0]),
    ],
)
def test_nothing_dated_after_the_pathology_enters(root, dates, present):
    told = build(root, [row("a", ct_series="ct", report="结节", **dates), row("b", ct_series="ct", report="结节", **DATED)])
    samples = told.table("samples/subtyping.parquet")
    assert samples.row(0, named=True)["ct_length"] == present[0] and samples.row(0, named=True)["rep_length"] == present[1]


def test_undated_reports_can_be_kept_and_the_cohort_says_so(root):
    cohort = build(root, [row(report="结节")], Options(undated_reports="keep"))
    assert cohort.json("audit.json")["present"]["rep"] == 1
    assert cohort.meta["lung"]["undated_reports"] == "keep"


def test_an_unchanged_call_does_nothing_and_a_changed_file_or_option_does(root):
    rows = [row(ct_series="ct")]
    first = build(root, rows)
    made = (root / "cohort" / "manifest.json").stat().st_mtime_ns
    build(root, rows)
    assert (root / "cohort" / "manifest.json").stat().st_mtime_ns == made
    assert build(root, rows, Options(slices=4, size=16)).fingerprint != first.fingerprint
    path = next((root / "ct").iterdir())
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert build(root, rows).fingerprint != first.fingerprint


def test_rows_in_another_order_make_the_same_cohort(root):
    rows = [row(f"p{k}", ct_series="ct", pet_series="pet") for k in range(4)]
    one, two = build(root, rows, out="one"), build(root, rows[::-1], out="two")
    for name in ("samples/subtyping.parquet", "items/ct.parquet", "parts.parquet"):
        assert one.files[name]["sha256"] == two.files[name]["sha256"]


def twice(root):
    made = dicoms.image(2, np.full((32, 32), 7), series="ct")
    made.SOPInstanceUID = "2.25.77"
    dicoms.save(made, root / "ct" / "other.dcm")


def rewrite(folder, **tags):
    def spoil(root):
        dicoms.write_series(
            root / folder, modality="PT" if folder == "pet" else "CT", series=folder, edit=lambda k, image: image.update(tags)
        )

    return spoil


def drop(folder, name):
    def spoil(root):
        dicoms.write_series(
            root / folder, modality="PT" if folder == "pet" else "CT", series=folder, edit=lambda k, image: image.__delattr__(name)
        )

    return spoil


@pytest.mark.parametrize(
    ("spoil", "column", "reason"),
    [
        (twice, "ct_series", "slices at the same position"),
        (drop("ct", "PixelData"), "ct_series", "no series: no pixel data"),
        (rewrite("ct", Rows=4000), "ct_series", "no series: the pixel data do not have the size that the header tells"),
        (rewrite("ct", RescaleSlope=0), "ct_series", "no series: RescaleSlope (0028,1053) is zero"),
        (rewrite("ct", SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1"), "ct_series", "no series: Enhanced multi-frame CT"),
        (rewrite("pet", SOPClassUID="1.2.840.10008.5.1.4.1.1.130"), "pet_series", "no series: Enhanced multi-frame PET"),
        (drop("pet", "PatientWeight"), "pet_series", "PatientWeight (0010,1030) is missing or zero"),
        (rewrite("pet", Units="PROPCPS"), "pet_series", "Units (0054,1001) are PROPCPS: no way to SUV"),
        (rewrite("ct", ImagePositionPatient=[500, 500, 0]), "ct_series", "slices at the same position"),
    ],
)
def test_a_bad_series_costs_its_sample_one_modality_or_stops_the_run(root, spoil, column, reason):
    spoil(root)
    rows = [row("a", ct_series="ct", pet_series="pet"), row("b", ct_series="study", report="结节", **DATED)]
    told = build(root, rows).json("audit.json")["series"]
    assert told["unusable"] == [{"column": column, "reason": reason, "rows": 1}]
    assert told["listed"] == [{"row": 2, "column": column, "reason": reason}]
    with pytest.raises(InputError) as caught:
        build(root, rows, Options(slices=3, size=16, on_bad_series="error"), out="strict")
    assert f"manifest.csv:2:{column}" in str(caught.value) and reason in str(caught.value) and "CANARY" not in str(caught.value)
    assert not (root / "strict").exists()


def test_slices_of_two_patients_in_a_folder_are_nobodys(root):
    """A misplaced folder must not give one patient another's scan; a CT and a PET that disagree are told."""
    dicoms.write_series(root / "ct" / "b", series="other", edit=lambda k, image: setattr(image, "PatientID", "CANARY2"))
    dicoms.write_series(root / "pet", series="pet", modality="PT", edit=lambda k, image: setattr(image, "PatientID", "CANARY3"))
    told = build(root, [row("a", ct_series="ct"), row("b", ct_series="study", pet_series="pet")]).json("audit.json")
    assert told["series"]["unusable"] == [{"column": "ct_series", "reason": "slices of several patients in one folder", "rows": 1}]
    assert told["series"]["notes"]["CT and PET with different patient ids"] == 1
    assert "CANARY" not in json.dumps(told)


def test_a_lesion_outside_of_its_series(root):
    told = build(root, [row("a", ct_series="ct", lesion_xyz_mm="0 0 900"), row("b", ct_series="ct")]).json("audit.json")
    assert told["series"]["unusable"][0]["reason"] == "the lesion lies outside of the series"


def test_a_shifted_injection_is_counted(root):
    def edit(k, image):
        image.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20191224090000"

    dicoms.write_series(root / "pet", modality="PT", series="pet", edit=edit)
    told = build(root, [row(ct_series="ct", pet_series="pet")]).json("audit.json")
    assert list(told["suv"].values()) == [1] and "date" in next(iter(told["suv"]))
    assert any("time of day" in line for line in told["warnings"])


@pytest.mark.parametrize(
    ("rows", "where", "what"),
    [
        ([{"subtype": "MIA"}], ":1", "column patient_id is missing"),
        ([{"patient_id": "", "subtype": "MIA"}], ":2", ""),
        ([row(subtype="CANARY")], ":2:subtype", "none of AAH"),
        ([row(), row("p2", histology="CANARY")], ":3:histology", "none of A, B"),
        ([row(exam_date="CANARY")], ":2:exam_date", "no date-time"),
        ([row(exam_date="0202-01-01")], ":2:exam_date", "outside"),
        ([row(lesion_xyz_mm="1 2")], ":2:lesion_xyz_mm", "three numbers"),
        ([row(lesion_xyz_mm="1 2 CANARY")], ":2:lesion_xyz_mm", "three numbers"),
        ([row(lesion_xyz_mm="1 2 inf")], ":2:lesion_xyz_mm", "three numbers"),
        ([row(), row(), row("p2")], ":3", "2 rows share patient_id and lesion_id"),
        ([row(ct_series="../CANARY")], ":2:ct_series", "leaves the data folder"),
        ([row(ct_series="/etc")], ":2:ct_series", "leaves the data folder"),
        ([row(pet_series="C:\\CANARY")], ":2:pet_series", "leaves the data folder"),
        ([row(report="../CANARY.txt")], ":2:report", "leaves the data folder"),
        ([row(report="/etc/CANARY")], ":2:report", "leaves the data folder"),
        ([row(lesion_file="../CANARY.xml")], ":2:lesion_file", "leaves the data folder"),
        ([row(ct_series="CANARY")], ":2:ct_series", "no such file"),
        ([row(report="CANARY.txt")], ":2:report", "no such file"),
        ([row(ct_series="linked")], ":2:ct_series", "through a link"),
        ([row(report="linked.txt")], ":2:report", "through a link"),
    ],
)
def test_a_bad_manifest_is_refused_by_row_and_column(root, tmp_path_factory, rows, where, what):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret.txt").write_text("CANARY")
    (root / "linked").symlink_to(elsewhere)
    (root / "linked.txt").symlink_to(elsewhere / "secret.txt")
    with pytest.raises(InputError) as caught:
        build(root, rows)
    told = str(caught.value)
    assert f"manifest.csv{where}" in told and what in told and "CANARY" not in told
    assert not (root / "cohort").exists()


def test_links_that_stay_inside_are_followed(root):
    (root / "alias").symlink_to(root / "ct")
    assert build(root, [row(ct_series="alias")]).json("audit.json")["present"]["ct"] == 1


def test_a_manifest_in_gb18030_is_read_as_declared(root):
    path = write_manifest(root, [row(report="所见：右肺结节", **DATED)])
    path.write_bytes(path.read_text(encoding="utf-8").encode("gb18030"))
    with pytest.raises(InputError, match=r"manifest\.csv:2.*byte"):
        build_cohort(path, root, root / "cohort", SMALL)
    cohort = build_cohort(path, root, root / "cohort", Options(encoding="gb18030"))
    assert items.open_items(cohort, "rep").text(0) == "右肺结节"


def test_a_report_of_a_million_characters_in_a_cell(root):
    cohort = build(root, [row(report="所见：" + "结节，" * 350_000, **DATED)])
    assert len(items.open_items(cohort, "rep").text(0)) == 1748
    assert cohort.json("audit.json")["reports"]["cut at the longest length"] == 1


def test_nothing_left_names_the_reasons(root):
    twice(root)
    with pytest.raises(InputError, match="same position"):
        build(root, [row(ct_series="ct")])


def test_attrition_adds_up_and_no_message_holds_an_id(root):
    rows = [row("CANARY1", ct_series="ct"), row("CANARY2", subtype="", ct_series="ct"), row("CANARY3", report="  ", **DATED)]
    cohort = build(root, rows)
    steps = cohort.json("audit.json")["attrition"]
    assert [step["samples"] for step in steps] == [3, 2, 1]
    assert [list(step["left_out"].values()) for step in steps] == [[], [1], [1]]
    told = (root / "cohort" / "audit.json").read_text() + json.dumps(cohort.meta)
    assert "CANARY" not in told


def test_the_plan_opens_no_file_of_a_patient(root, monkeypatch):
    from omnifuse.preprocess.dicom import reading

    monkeypatch.setattr(reading, "read_header", lambda path: pytest.fail("opened"))
    told = describe_plan(write_manifest(root, [row(ct_series="ct", pet_series="pet"), row("p2", report="r.txt")]), root, SMALL)
    assert (told["lesions"], told["patients"], told["files"], told["ct_series"], told["placed"]) == (2, 2, 24, 1, 2)


@pytest.mark.parametrize(
    "told",
    [{"classes": "4"}, {"crop": "x"}, {"sections": ("CANARY",)}, {"ct_series_rule": ("thick",)}, {"windows": ("liver",)}, {"slices": 0}],
)
def test_wrong_options(told):
    with pytest.raises(ConfigError):
        Options(**told)


@pytest.mark.parametrize(
    ("cell", "is_path"), [("a/b.txt", True), ("报告/甲.txt", True), ("findings/lung: a nodule", False), ("右肺/左肺", False)]
)
def test_what_counts_as_the_path_of_a_report(cell, is_path):
    from omnifuse.preprocess.lung.manifest import is_path as judge

    assert judge(cell) == is_path


def test_a_manifest_in_parquet(root):
    pl.DataFrame({"patient_id": ["p1"], "subtype": ["MIA"], "ct_series": ["ct"]}).write_parquet(root / "m.parquet")
    assert read_manifest(root / "m.parquet")["ct_series"].to_list() == ["ct"]


def test_the_real_pair(real):
    root = real("petct_sts001").parent

    def make(out):
        path = write_manifest(out, [row(ct_series="petct_sts001/ct", pet_series="petct_sts001/pet", lesion_xyz_mm="70 0 -800")])
        return build_cohort(path, root, out / "cohort", SMALL)

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        cohort = make(Path(folder))
        assert cohort.json("audit.json")["present"] == {"ct": 1, "pet": 1, "rep": 0}
        assert items.open_items(cohort, "pet").decode(0).max() > 5
    assert schema.MODALITIES[4:6] == ("ct", "pet")
