"""Where a lesion is: boxes, structure sets, segmentations; and files that place none."""

import dicoms
import numpy as np
import pytest

from omnifuse.preprocess.lung.lesions import Box, largest_lesion, place_from_file
from omnifuse.preprocess.lung.series import list_files, scan
from omnifuse.preprocess.schema import Unreadable


@pytest.fixture
def ct(tmp_path):
    dicoms.write_series(tmp_path / "ct")
    return scan(tmp_path, list_files(tmp_path, "ct")).series


def place(root, name, ct, segment=None):
    return place_from_file(root, list_files_of(root, name), segment, ct)


def list_files_of(root, name):
    base = root / name
    return [path.relative_to(root).as_posix() for path in sorted(base.rglob("*"))] if base.is_dir() else [name]


def test_boxes_on_slices_give_the_middle_in_mm(tmp_path, ct):
    boxes = {piece.instance: [(10, 20, 14, 26)] for piece in ct[0].slices[4:7]}
    dicoms.write_boxes(tmp_path / "boxes", boxes)
    told = place(tmp_path, "boxes", ct)
    assert told.centre == (-32 + 12 * 2, -32 + 23 * 2, 15.0)
    assert told.frame == dicoms.make_uid(dicoms.FRAME)


def test_the_largest_of_several_lesions_is_taken(tmp_path, ct):
    slices = ct[0].slices
    boxes = {
        slices[1].instance: [(2, 2, 4, 4)],
        slices[5].instance: [(20, 20, 28, 28), (0, 0, 3, 3)],
        slices[6].instance: [(22, 20, 28, 28)],
    }
    dicoms.write_boxes(tmp_path / "boxes", boxes)
    assert place(tmp_path, "boxes", ct).centre == (-32 + 24 * 2, -32 + 24 * 2, 16.5)


def test_boxes_belong_together_through_others():
    chain = [Box(k, 3.0 * k, 3 * k, 0, 3 * k + 4, 4) for k in range(5)]
    apart = Box(9, 40.0, 0, 0, 5, 5)
    assert sorted(box.slice for box in largest_lesion([apart, *chain])) == [0, 1, 2, 3, 4]


def test_the_middle_of_a_contour_and_its_frame(tmp_path, ct):
    contour = [(0, 0, 10), (10, 0, 10), (10, 8, 12), (0, 8, 12)]
    dicoms.write_structures(tmp_path / "rt.dcm", {"Heart": [(90, 90, 90)], "GTV-1": contour})
    told = place(tmp_path, "rt.dcm", ct)
    assert told.centre == (5.0, 4.0, 11.0) and told.frame == dicoms.make_uid(dicoms.FRAME)
    assert place(tmp_path, "rt.dcm", ct, segment=1).centre == (90.0, 90.0, 90.0)


def test_the_middle_of_a_segmentation(tmp_path, ct):
    masks = np.zeros((3, 32, 32), bool)
    masks[1, 10:15, 20:23] = True  # rows 10 to 14, columns 20 to 22
    masks[2, 12, 21] = True
    dicoms.write_segmentation(tmp_path / "seg.dcm", masks, [(-32, -32, 3.0 * k) for k in range(3)])
    assert place(tmp_path, "seg.dcm", ct).centre == (-32 + 42, -32 + 24, 4.5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: dicoms.write_boxes(root / "lesion", {"1.2.3": [(1, 1, 2, 2)]}), "name no slice"),
        (lambda root: dicoms.write_structures(root / "lesion", {"GTV a": [(0, 0, 0)], "GTV b": [(1, 1, 1)]}), "several segments"),
        (lambda root: dicoms.write_structures(root / "lesion", {"Heart": [(0, 0, 0)], "Lung": [(1, 1, 1)]}), "several segments"),
        (lambda root: dicoms.write_segmentation(root / "lesion", np.zeros((2, 8, 8), bool), [(0, 0, 0)] * 2), "empty"),
        (lambda root: dicoms.save(dicoms.image(0, np.zeros((4, 4))), root / "lesion"), "neither SEG nor RTSTRUCT"),
        (lambda root: (root / "lesion").write_text("x" * 200), "is no DICOM file"),
    ],
)
def test_files_that_place_no_lesion(tmp_path, ct, make, reason):
    make(tmp_path)
    with pytest.raises(Unreadable) as caught:
        place(tmp_path, "lesion", ct)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bbb">]><annotation>&b;</annotation>', "entities"),
        ("<annotation><object>", "no Pascal VOC"),
        ("<annotation><object><bndbox><xmin>a</xmin></bndbox></object></annotation>", "no Pascal VOC"),
        ("<annotation/>", "hold no box"),
        (
            "<annotation><object><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>",
            "no area",
        ),
        ("", "empty"),
        ("<annotation>" + " " * (1 << 20) + "</annotation>", "too large"),
    ],
)
def test_hostile_or_broken_boxes(tmp_path, ct, xml, reason):
    (tmp_path / f"{ct[0].slices[0].instance}.xml").write_text(xml)
    with pytest.raises(Unreadable) as caught:
        place_from_file(tmp_path, [f"{ct[0].slices[0].instance}.xml"], None, ct)
    assert reason in caught.value.reason


def test_a_segment_that_is_not_there(tmp_path, ct):
    dicoms.write_structures(tmp_path / "rt.dcm", {"GTV": [(0, 0, 0)]})
    with pytest.raises(Unreadable, match="lesion_segment"):
        place(tmp_path, "rt.dcm", ct, segment=7)
