"""Files to series: what is left out and why, grouping, order, duplicates, gaps, and the choice among several CT series."""

import dicoms
import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import FileMetaDataset

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.lung import series as of
from omnifuse.preprocess.lung.series import Series, list_files, rank_ct, scan, usable
from omnifuse.preprocess.schema import Unreadable


def read(root, folder="."):
    return scan(root, list_files(root, folder))


def test_slices_come_in_order_of_position_not_of_name_or_number(tmp_path):
    dicoms.write_series(tmp_path, count=9)
    found = read(tmp_path).series
    assert len(found) == 1
    assert list(found[0].stack.heights) == [3.0 * k for k in range(9)]
    names = [piece.name for piece in found[0].slices]
    assert names != sorted(names)


def test_order_follows_the_normal_of_a_coronal_series(tmp_path):
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    dicoms.write_series(tmp_path, count=5, axes=coronal)
    assert [piece.position[1] for piece in read(tmp_path).series[0].slices] == [-32.0, -29.0, -26.0, -23.0, -20.0]


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ({"series": "another"}, 2),
        ({"axes": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), "origin": (0, 0, 500)}, 2),
        ({"rows": 16, "origin": (-32, -32, 500)}, 2),
        ({"spacing": (1.0, 1.0), "origin": (-32, -32, 500)}, 2),
        ({"axes": (1.0, 0.0, 0.0002, 0.0, 1.0, 0.0), "origin": (-32, -32, 500)}, 1),  # rounding of the scanner
        ({"modality": "PT", "series": "pet"}, 2),
    ],
)
def test_one_series_is_one_grid(tmp_path, other, count):
    dicoms.write_series(tmp_path / "a", count=4)
    dicoms.write_series(tmp_path / "b", count=4, edit=lambda k, image: setattr(image, "SOPInstanceUID", f"2.25.{k + 1}"), **other)
    assert len(read(tmp_path).series) == count


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_repeated_positions_are_split_by_acquisition_or_time(tmp_path, tag):
    for number in (1, 2):
        edit = lambda k, image, number=number: image.update({tag: number, "SOPInstanceUID": f"2.25.{100 * number + k}"})
        dicoms.write_series(tmp_path / str(number), count=4, edit=edit)
    found = read(tmp_path).series
    assert [(len(one.slices), one.fault) for one in found] == [(4, None), (4, None)]


def test_two_slices_in_one_place_make_a_series_unusable(tmp_path):
    dicoms.write_series(tmp_path / "a", count=6)
    made = dicoms.image(2, np.full((32, 32), 7))
    made.SOPInstanceUID = "2.25.77"
    dicoms.save(made, tmp_path / "a" / "other.dcm")
    found = read(tmp_path).series
    assert [one.fault for one in found] == [of.TWICE]
    with pytest.raises(Unreadable, match="same position"):
        usable(found)


def test_a_second_copy_of_an_instance_is_counted_and_left_out(tmp_path):
    first = dicoms.write_series(tmp_path / "a", count=6)[0]
    (tmp_path / "a" / "copy.dcm").write_bytes(first.read_bytes())
    found = read(tmp_path)
    assert found.left_out == {of.COPY: 1}
    assert [(len(one.slices), one.fault) for one in found.series] == [(6, None)]


def test_gaps_and_uneven_steps_are_told(tmp_path):
    paths = dicoms.write_series(tmp_path, count=9)
    assert (read(tmp_path).series[0].gaps, read(tmp_path).series[0].uneven) == (0, False)
    paths[4].unlink()
    one = read(tmp_path).series[0]
    assert (one.gaps, one.uneven, one.step) == (1, True, 3.0)


def test_overlapping_beds_of_pet_are_not_uneven(tmp_path):
    """Steps of 3.19 and 3.29 in steps of 3.27 are within 5%."""
    heights = np.cumsum([0, 3.27, 3.19, 3.27, 3.29, 3.27])
    edit = lambda k, image: setattr(image, "ImagePositionPatient", [0, 0, float(round(heights[k], 4))])
    dicoms.write_series(tmp_path, count=6, modality="PT", edit=edit)
    assert not read(tmp_path).series[0].uneven


def change(**tags):
    return lambda k, image: image.update(tags)


def drop(name):
    return lambda k, image: image.__delattr__(name)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (change(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
        (change(ImageType=["DERIVED", "SECONDARY", "MIP"]), "secondary capture"),
        (change(SOPClassUID=uid.SecondaryCaptureImageStorage), "secondary capture"),
        (change(SOPClassUID=uid.MultiFrameTrueColorSecondaryCaptureImageStorage), "secondary capture"),
        (change(SOPClassUID=uid.EnhancedCTImageStorage), "Enhanced multi-frame CT"),
        (change(SOPClassUID=uid.LegacyConvertedEnhancedCTImageStorage), "Enhanced multi-frame CT"),
        (change(SOPClassUID=uid.EnhancedPETImageStorage), "Enhanced multi-frame PET"),
        (change(SOPClassUID=uid.LegacyConvertedEnhancedPETImageStorage), "Enhanced multi-frame PET"),
        (change(SOPClassUID=uid.XRayRadiationDoseSRStorage), "dose report"),
        (change(SOPClassUID=uid.BasicTextSRStorage), "structured report"),
        (change(SOPClassUID=uid.SegmentationStorage), "segmentation"),
        (change(SOPClassUID=uid.RTStructureSetStorage), "structure set"),
        (change(SOPClassUID=uid.RTDoseStorage), "radiotherapy object"),
        (change(Modality="MR", SOPClassUID=uid.MRImageStorage), "neither CT nor PET"),
        (change(RescaleSlope=0), "RescaleSlope (0028,1053) is zero"),
        (drop("RescaleSlope"), "RescaleSlope (0028,1053) is missing"),
        (drop("ImagePositionPatient"), "ImagePositionPatient (0020,0032) is missing"),
        (drop("PixelSpacing"), "PixelSpacing (0028,0030) is missing"),
        (change(PixelSpacing=[0, 0]), "PixelSpacing (0028,0030) is not positive"),
        (change(ImageOrientationPatient=[0] * 6), "ImageOrientationPatient (0020,0037) is no pair of directions"),
        (drop("PixelData"), "no pixel data"),
        (change(Rows=4000), "the pixel data do not have the size that the header tells"),
    ],
)
def test_what_is_no_slice_is_counted_by_its_reason(tmp_path, edit, reason):
    dicoms.write_series(tmp_path / "good", count=5)
    dicoms.write_series(tmp_path / "bad", count=2, series="bad", edit=edit)
    found = read(tmp_path)
    assert found.left_out == {reason: 2}
    assert [len(one.slices) for one in found.series] == [5]


def test_files_that_are_no_dicom_are_counted(tmp_path):
    dicoms.write_series(tmp_path, count=4)
    (tmp_path / "notes").write_text("hello" * 100)
    (tmp_path / "empty.dcm").write_bytes(b"")
    found = read(tmp_path)
    assert sum(found.left_out.values()) == 2
    assert len(found.series[0].slices) == 4


def test_a_link_out_of_the_data_is_not_followed(tmp_path):
    canary = dicoms.write_series(tmp_path / "elsewhere", count=1)[0]
    root = tmp_path / "data"
    dicoms.write_series(root / "ct", count=4, series="own")
    (root / "ct" / "link.dcm").symlink_to(canary)
    found = read(root, "ct")
    assert found.left_out == {"the path leaves the data folder through a link": 1}
    assert [len(one.slices) for one in found.series] == [4]


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.DeflatedExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_compressed_slices_are_slices(tmp_path, syntax):
    stored = dicoms.ball(4, 64, 64)
    for number in range(4):
        made = dicoms.image(number, stored[number])
        if syntax == uid.RLELossless:
            made.file_meta = FileMetaDataset()
            made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            made.compress(syntax, generate_instance_uid=False)
        dicoms.save(made, tmp_path / f"{number}.dcm", syntax)
    found = read(tmp_path)
    assert not found.left_out and len(found.series[0].slices) == 4
    assert (reading.read_pixels(tmp_path / found.series[0].slices[2].name) == stored[2]).all()


def test_too_few_slices_are_no_volume(tmp_path):
    dicoms.write_series(tmp_path, count=2)
    with pytest.raises(Unreadable, match="fewer than 3"):
        usable(read(tmp_path).series)


@pytest.mark.parametrize(
    ("rule", "winner"), [(("thin", "lung", "plain"), "thin"), (("lung", "thin", "plain"), "sharp"), (("plain", "lung", "thin"), "sharp")]
)
def test_the_rule_decides_between_ct_series(tmp_path, rule, winner):
    told = {
        "thin": change(SliceThickness=1.0, ConvolutionKernel="SOFT", ContrastBolusAgent="yes"),
        "sharp": change(SliceThickness=5.0, ConvolutionKernel="B70f"),
        "thick": change(SliceThickness=5.0, ConvolutionKernel="SOFT", ContrastBolusAgent="yes"),
    }
    for name, edit in told.items():
        dicoms.write_series(tmp_path / name, count=4, series=name, edit=edit)
    best = min(read(tmp_path).series, key=lambda one: rank_ct(one, rule))
    assert best.first.name.startswith(winner)


@pytest.mark.parametrize(
    ("kernel", "is_lung"),
    [("LUNG", True), ("BONEPLUS", True), ("B70f", True), ("Br59d", True), ("I50f/3", True), ("FC51", True), ("YC", True), ("L", True)]
    + [("STANDARD", False), ("SOFT", False), ("B30f", False), ("Br40", False), ("FC13", False), ("C", False), ("", False)],
)
def test_kernels_for_lung(kernel, is_lung):
    assert of.is_lung_kernel(kernel) == is_lung


def test_the_real_series(real):
    root = real("petct_sts001").parent
    found = read(root, "petct_sts001")
    assert {(one.first.modality, len(one.slices), one.gaps, one.uneven) for one in found.series} == {
        ("CT", 20, 0, False),
        ("PT", 59, 0, False),
    }
    assert len({one.first.frame for one in found.series}) == 1
    assert not found.left_out
    lidc = read(root, "ct_lidc0314").series
    assert isinstance(lidc[0], Series) and len(lidc[0].slices) == 10
    assert (np.diff(lidc[0].stack.heights) > 0).all()
