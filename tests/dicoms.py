"""Small valid CT and PET series, segmentations and structure sets, with the tags that real ones have; for tests.

    dicoms.write_series(tmp_path / "ct", count=12)
    dicoms.write_series(tmp_path / "pet", modality="PT", edit=lambda number, image: image.update({"PatientWeight": 70}))

Values of slice k are `values(k)` (stored), a ball of 200 in 0 by default. UIDs are told by names, so that equal calls write equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

CLASSES = {"CT": uid.CTImageStorage, "PT": uid.PositronEmissionTomographyImageStorage}
FRAME = "frame"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_uid(name: str) -> str:
    return "2.25." + str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:12], "big"))


def ball(count: int, rows: int, columns: int, inside: int = 200) -> np.ndarray:
    """[count, rows, columns] int16: a ball in the middle."""
    z, y, x = np.ogrid[:count, :rows, :columns]
    away = ((z - (count - 1) / 2) / count) ** 2 + ((y - (rows - 1) / 2) / rows) ** 2 + ((x - (columns - 1) / 2) / columns) ** 2
    return np.where(away < 0.1, inside, 0).astype(np.int16)


def image(
    number: int,
    stored: np.ndarray,
    *,
    modality: str = "CT",
    series: str = "series",
    frame: str = FRAME,
    origin: Sequence[float] = (-32.0, -32.0, 0.0),
    axes: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (2.0, 2.0),
    step: float = 3.0,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> Dataset:
    """One slice, `number` steps along the normal from `origin`."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CLASSES[modality], make_uid(f"{series}:{number}")
    made.SeriesInstanceUID, made.StudyInstanceUID, made.FrameOfReferenceUID = make_uid(series), make_uid("study"), make_uid(frame)
    made.Modality, made.Manufacturer, made.ManufacturerModelName = modality, "MAKER", "MODEL"
    made.ImageType, made.PatientID, made.PatientName = ["ORIGINAL", "PRIMARY", "AXIAL"], "CANARYID", "CANARY^NAME"
    normal = np.cross(axes[:3], axes[3:])
    made.ImagePositionPatient = [float(round(x, 6)) for x in np.asarray(origin) + number * step * normal]
    made.ImageOrientationPatient, made.PixelSpacing, made.SliceThickness = list(axes), list(spacing), step
    made.InstanceNumber = 1000 - number  # not spatial
    made.Rows, made.Columns = stored.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 1
    made.RescaleSlope, made.RescaleIntercept = slope, intercept
    if modality == "CT":
        made.KVP, made.ConvolutionKernel = 120, "SOFT"
    else:
        _add_activity(made, number)
    made.PixelData = stored.astype("<i2").tobytes()
    return made


def _add_activity(made: Dataset, number: int) -> None:
    made.Units, made.DecayCorrection, made.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
    made.PatientWeight = 70.0
    made.SeriesDate = made.AcquisitionDate = "20200101"
    made.SeriesTime, made.AcquisitionTime = "100000", f"10{number // 4:02d}00"
    made.FrameReferenceTime, made.ActualFrameDuration = 0.0, 1000
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 3.7e8, 6586.2
    drug.RadiopharmaceuticalStartTime = "090000"
    made.RadiopharmaceuticalInformationSequence = [drug]


def save(made: Dataset, path: Path, syntax: str = uid.ExplicitVRLittleEndian) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, *, count: int = 12, rows: int = 32, columns: int = 32, values: Callable[[int], np.ndarray] | None = None,
    edit: Callable[[int, Dataset], None] | None = None, **told,
) -> list[Path]:  # fmt: skip
    """The files of a series, in order of position; their names are in another order."""
    stored = ball(count, rows, columns)
    written = []
    for number in range(count):
        made = image(number, values(number) if values else stored[number], **told)
        if edit:
            edit(number, made)
        written.append(save(made, folder / f"{(number * 7) % count:03d}-{number}.dcm"))
    return written


def write_structures(path: Path, regions: dict[str, Sequence[Sequence[float]]], frame: str = FRAME) -> Path:
    """An RTSTRUCT: name -> points [P][3] of one contour."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = uid.RTStructureSetStorage, make_uid(path.name), "RTSTRUCT"
    made.SeriesInstanceUID = make_uid("structures")
    reference = Dataset()
    reference.FrameOfReferenceUID = make_uid(frame)
    made.ReferencedFrameOfReferenceSequence = [reference]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, points) in enumerate(regions.items(), 1):
        region, contours, contour = Dataset(), Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
        contour.ContourData = [float(x) for point in points for x in point]
        contours.ReferencedROINumber, contours.ContourSequence = number, [contour]
        made.StructureSetROISequence.append(region)
        made.ROIContourSequence.append(contours)
    return save(made, path)


def write_segmentation(path: Path, masks: np.ndarray, origins: Sequence[Sequence[float]], spacing=(2.0, 2.0), names=("Lesion",)) -> Path:
    """A binary SEG with the frames `masks` [F, rows, columns] bool at `origins`, all of segment 1."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = uid.SegmentationStorage, make_uid(path.name), "SEG"
    made.SeriesInstanceUID, made.FrameOfReferenceUID = make_uid("segmentation"), make_uid(FRAME)
    made.NumberOfFrames, made.Rows, made.Columns = masks.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = made.PixelRepresentation = 0
    made.SegmentationType = "BINARY"
    made.SegmentSequence = []
    for number, name in enumerate(names, 1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, name
        made.SegmentSequence.append(segment)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = list(AXIAL), list(spacing)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = []
    for origin in origins:
        frame, position, identification = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, identification.ReferencedSegmentNumber = [float(x) for x in origin], 1
        frame.PlanePositionSequence, frame.SegmentIdentificationSequence = [position], [identification]
        made.PerFrameFunctionalGroupsSequence.append(frame)
    bits = np.packbits(masks.ravel().astype(np.uint8), bitorder="little").tobytes()
    made.PixelData = bits + b"\0" * (len(bits) % 2)
    return save(made, path)


def write_boxes(folder: Path, boxes: dict[str, Sequence[tuple[int, int, int, int]]]) -> Path:
    """Pascal VOC files: SOPInstanceUID -> (left, top, right, bottom) of each object."""
    folder.mkdir(parents=True, exist_ok=True)
    for instance, corners in boxes.items():
        objects = "".join(
            f"<object><name>A</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d in corners
        )
        (folder / f"{instance}.xml").write_text(f"<annotation><folder>x</folder>{objects}</annotation>")
    return folder
