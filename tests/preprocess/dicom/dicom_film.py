"""Writes DICOM films with made-up pixels and whatever tags a test wants."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"


def film(pixels: np.ndarray, *, syntax: str = uid.ExplicitVRLittleEndian, frames: list[bytes] | None = None, **tags) -> Dataset:
    """Of [rows, columns] integers, uncompressed, or with the given compressed frames as its pixel data. A tag of None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = COMPUTED_RADIOGRAPHY
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName = "CANARY^PATIENT"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = encapsulate(frames) if frames else pixels.tobytes()
    dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    return dataset


def write(path: Path, dataset: Dataset) -> Path:
    pydicom.dcmwrite(path, dataset, enforce_file_format=False, implicit_vr=None)
    return path
