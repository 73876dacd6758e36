"""Where a lesion is: a point in millimetres of the patient, from numbers, bounding boxes, a segmentation or a structure set.

lesion_xyz_mm   three numbers, in the frame of reference of the CT (of the PET, where there is no CT)
lesion_file     Pascal VOC files named by SOPInstanceUID, as TCIA's Lung-PET-CT-Dx has them (a folder, or one file): boxes that overlap on
                neighbouring slices are one lesion; the largest is taken
                or a DICOM SEG or RTSTRUCT: the middle of the box around the segment
lesion_segment  which segment or region, by number, where a file holds several; else the one that is named like a tumour
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from omnifuse.preprocess.dicom import reading
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.lung.geometry import pixel_to_mm
from omnifuse.preprocess.lung.headers import RTSTRUCT_CLASS, SEG_CLASS
from omnifuse.preprocess.lung.series import Series
from omnifuse.preprocess.schema import Unreadable

XML_BYTES = 1 << 20
NEIGHBOURS_MM = 6.0
TUMOUR = re.compile(r"lesion|tumou?r|nodule|neoplas|cancer|gtv|mass|肿瘤|结节|病灶", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """`frame` is the FrameOfReferenceUID of the point; empty where only numbers were given."""

    centre: tuple[float, float, float]
    frame: str = ""


@dataclass(frozen=True)
class Box:
    """On one slice: its position along the normal, and pixels from (left, top) to (right, bottom)."""

    slice: int
    height: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    def meets(self, other: Box) -> bool:
        near = abs(self.height - other.height) <= NEIGHBOURS_MM
        return near and self.left <= other.right and other.left <= self.right and self.top <= other.bottom and other.top <= self.bottom


def place_from_file(root: Path, names: Sequence[str], segment: int | None, candidates: Sequence[Series]) -> Place:
    """The place that a lesion's files tell.

    Args:
        names: of the files, relative to the root: one DICOM file, or VOC files.
        candidates: series of CT whose slices the boxes may name.

    Raises:
        Unreadable: nothing in them places a lesion.
    """
    boxes = [name for name in names if name.lower().endswith(".xml")]
    if boxes:
        return _from_boxes(root, boxes, candidates)
    if len(names) != 1:
        raise Unreadable("the lesion's folder holds no boxes (.xml) and not one DICOM file alone")
    header = reading.read_header(inside(root, names[0]))
    with reading.guarded():
        kind = str(header.get("SOPClassUID") or "")
        if kind == RTSTRUCT_CLASS:
            return _from_structures(header, segment)
        if kind == SEG_CLASS:
            return _from_segmentation(header, segment)
    raise Unreadable("the lesion's file is neither SEG nor RTSTRUCT nor XML")


def _from_boxes(root: Path, names: Sequence[str], candidates: Sequence[Series]) -> Place:
    found = {Path(name).stem: name for name in names}
    named = [[(k, piece) for k, piece in enumerate(series.slices) if piece.instance in found] for series in candidates]
    if not any(named):
        raise Unreadable("the lesion's boxes name no slice of the CT")
    most = max(range(len(named)), key=lambda place: len(named[place]))
    series, heights = candidates[most], candidates[most].stack.heights
    boxes = [Box(k, heights[k], *box) for k, piece in named[most] for box in _read_boxes(inside(root, found[piece.instance]))]
    if not boxes:
        raise Unreadable("the lesion's files hold no box")
    lesion = largest_lesion(boxes)
    corners = []
    for box in lesion:
        piece = series.slices[box.slice]
        corners += [
            pixel_to_mm(piece.position, piece.axes, piece.spacing, row, column)
            for row, column in ((box.top, box.left), (box.bottom, box.right))
        ]
    return Place(_middle(corners), series.first.frame)


def largest_lesion(boxes: Sequence[Box]) -> list[Box]:
    """The boxes of the lesion with the largest sum of areas; boxes belong together that meet, directly or through others."""
    left, lesions = list(boxes), []
    while left:
        lesion, edge = [], [left.pop()]
        while edge:
            box = edge.pop()
            lesion.append(box)
            edge += [other for other in left if other.meets(box)]
            left = [other for other in left if not other.meets(box)]
        lesions.append(lesion)
    return max(lesions, key=lambda lesion: (sum(box.area for box in lesion), -min(box.slice for box in lesion)))


def _read_boxes(path: Path) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of each object of a Pascal VOC file."""
    data = path.read_bytes() if path.stat().st_size <= XML_BYTES else b""
    if not data or b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities could unfold without end; VOC files have none
        raise Unreadable("a lesion's XML file is empty, too large or declares entities")
    try:
        boxes = ElementTree.fromstring(data).findall("object/bndbox")
        corners = [tuple(float(box.findtext(name) or "nan") for name in ("xmin", "ymin", "xmax", "ymax")) for box in boxes]
    except (ElementTree.ParseError, ValueError):
        raise Unreadable("a lesion's XML file is no Pascal VOC file") from None
    if not all(0 <= left < right < 1e5 and 0 <= top < bottom < 1e5 for left, top, right, bottom in corners):
        raise Unreadable("a lesion's box has no area")
    return corners


def _from_structures(header: Any, segment: int | None) -> Place:
    names = {int(roi.ROINumber): str(roi.get("ROIName") or "") for roi in header.StructureSetROISequence}
    chosen = _choose(names, segment)
    contours = [
        np.asarray(contour.ContourData, float).reshape(-1, 3)
        for roi in header.ROIContourSequence
        if int(roi.ReferencedROINumber) == chosen
        for contour in roi.get("ContourSequence") or ()
    ]
    if not contours:
        raise Unreadable("the lesion's structure has no contour")
    frames = header.get("ReferencedFrameOfReferenceSequence") or ()
    return Place(_middle(np.concatenate(contours)), str(frames[0].get("FrameOfReferenceUID") or "") if frames else "")


def _from_segmentation(header: Any, segment: int | None) -> Place:
    names = {
        int(part.SegmentNumber): f"{part.get('SegmentLabel') or ''} {part.get('SegmentDescription') or ''}"
        for part in header.SegmentSequence
    }
    chosen = _choose(names, segment)
    masks = np.atleast_3d(reading.read_pixels(header))
    masks = masks.reshape(-1, int(header.Rows), int(header.Columns))
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    corners = []
    for mask, frame in zip(masks, header.PerFrameFunctionalGroupsSequence):
        if int(_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) != chosen or not mask.any():
            continue
        axes = [float(x) for x in _group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient]
        spacing = [float(x) for x in _group(frame, shared, "PixelMeasuresSequence").PixelSpacing]
        origin = [float(x) for x in _group(frame, shared, "PlanePositionSequence").ImagePositionPatient]
        rows, columns = np.nonzero(mask)
        corners += [pixel_to_mm(origin, axes, spacing, end(rows), end(columns)) for end in (np.min, np.max)]
    if not corners:
        raise Unreadable("the lesion's segment is empty")
    return Place(_middle(corners), str(header.get("FrameOfReferenceUID") or ""))


def _group(frame: Any, shared: Any, name: str) -> Any:
    return (frame.get(name) or shared.get(name))[0]


def _choose(names: dict[int, str], segment: int | None) -> int:
    """The number of the segment that is meant."""
    if segment is not None:
        if segment not in names:
            raise Unreadable("the lesion's file has no segment of the number in lesion_segment")
        return segment
    likely = list(names) if len(names) == 1 else [number for number, name in names.items() if TUMOUR.search(name)]
    if len(likely) != 1:
        raise Unreadable("the lesion's file has several segments, and lesion_segment names none")
    return likely[0]


def _middle(corners: Sequence[np.ndarray]) -> tuple[float, float, float]:
    corners = np.asarray(corners)
    return tuple(float(x) for x in (corners.min(0) + corners.max(0)) / 2)
