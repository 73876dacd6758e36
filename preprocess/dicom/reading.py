"""The one place that opens a DICOM file: hospital exports are untrusted, and pydicom believes what a header claims.

- the file meta is read first: an unknown transfer syntax is refused, a deflated dataset is inflated up to a cap only
  (306 kB of it otherwise unfold to 631 MB, measured with pydicom 3.0.2);
- the header may cost so many bytes and so many reads, so that a bomb of elements, items or nesting ends early;
- the size of the image is checked against the bytes and against 64 megapixels before a pixel is read;
- a compressed frame must itself tell the same size (preprocess/codestream.py). It is decoded by python-gdcm
  in a process of its own (preprocess/gdcm_process.py), run lengths by pydicom.

Whatever goes wrong is `Unreadable` with one of a few fixed phrases. pydicom's warnings quote values of the header; they are silenced.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_partial
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import as_pixel_options

from omnifuse.preprocess.dicom import codestream, gdcm_process
from omnifuse.preprocess.dicom.opening import GDCM, NATIVE, BoundedFile, opened
from omnifuse.preprocess.schema import OmnifuseError, Unreadable

MEGAPIXELS = 64
SEQUENCE_ITEMS = 20_000
PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF

logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom\b")


def read_header(path: Path) -> Dataset:
    """All elements before the pixel data, of any DICOM file; `filename` is the path, so that read_pixels can go on from it.

    Raises:
        Unreadable: not a DICOM file, an unknown transfer syntax, or a header that is broken or out of all proportion.
    """
    with guarded(), opened(path) as file:
        return _header(file, path)[0]


def read_image(path: Path) -> Dataset:
    """The header and the pixel data, not yet decoded, once their sizes were found to agree.

    Raises:
        Unreadable: as read_header; no pixel data, more of them than 64 megapixels, or fewer or more than the header claims.
    """
    with guarded(), opened(path) as file:
        dataset, claimed = _header(file, path)
        if claimed is None:
            raise Unreadable("no pixel data")
        if not _fits(dataset, claimed, file.size - file.tell()):
            raise Unreadable("the pixel data do not have the size that the header tells")
        file.bytes_left = file.size
        rest = read_dataset(file, *dataset.original_encoding, stop_when=lambda tag, *_: tag > PIXEL_DATA)
        if PIXEL_DATA not in rest or len(rest[PIXEL_DATA].value) < (0 if claimed == UNDEFINED else claimed):
            raise Unreadable("cut off")
        dataset[PIXEL_DATA] = rest.get_item(PIXEL_DATA)
        return dataset


def read_pixels(image: Dataset | Path) -> np.ndarray:
    """The stored values, decompressed: no modality or VOI look-up, no colour conversion.

    Args:
        image: a path, or what read_header or read_image gave.

    Shapes: [rows, columns], [frames, rows, columns], with [..., samples] for colours.

    Raises:
        Unreadable: as read_image; the pixel data cannot be decoded.
    """
    if not isinstance(image, Dataset):
        image = read_image(image)
    elif PIXEL_DATA not in image:
        image = read_image(Path(image.filename))
    with guarded():
        syntax = transfer_syntax(image)
        if syntax not in NATIVE:
            _check_frames(image, syntax)
        if syntax in GDCM:
            told = {name: value for name, value in as_pixel_options(image).items() if isinstance(value, int | str)}
            pixels = gdcm_process.decode(syntax, told, image.PixelData)
        else:
            pixels, _ = get_decoder(syntax).as_array(image, raw=True, allow_excess_frames=False)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # torch knows no big endian


def transfer_syntax(dataset: Dataset) -> uid.UID:
    """How the dataset is encoded; as pydicom found it to be, where the file meta do not say."""
    if told := dataset.file_meta.get("TransferSyntaxUID"):
        return told
    implicit, little = dataset.original_encoding
    return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


@contextmanager
def guarded() -> Iterator[None]:
    """Turns whatever pydicom or a decoder raises on a broken dataset into Unreadable; also for those who read values of one."""
    try:
        yield
    except (Unreadable, OmnifuseError, MemoryError):
        raise
    except RecursionError:
        raise Unreadable("sequences are nested too deep") from None
    except Exception:
        raise Unreadable("cannot be decoded") from None


def _header(file: BoundedFile, path: Path) -> tuple[Dataset, int | None]:
    """The dataset before the pixel data, and the length that these claim; `file` stands at them."""
    claimed: list[int] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag == PIXEL_DATA:
            claimed.append(length)
        return tag in (0x7FE00008, 0x7FE00009, PIXEL_DATA)

    dataset = read_partial(file, at_pixels, force=True)
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" not in dataset.file_meta:
        raise Unreadable("is no DICOM image")
    for element in dataset.elements():
        if isinstance(element.value, bytes) and _items(element.value) > SEQUENCE_ITEMS:
            raise Unreadable("the header is too large")
    dataset.buffer, dataset.filename = None, str(path)
    return dataset, claimed[0] if claimed else None


def _items(value: bytes) -> int:
    """How many items a sequence of told length would unfold to, when it is looked at; 0 for any other value."""
    count, at = 0, 0
    while value[at : at + 4] == b"\xfe\xff\x00\xe0" and count <= SEQUENCE_ITEMS:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        at, count = at + 8 + (0 if length == UNDEFINED else length), count + 1
    return count


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _expected_bytes(dataset: Dataset) -> int:
    """Of the pixel data, were they not compressed."""
    sizes = [dataset.get(name) for name in ("Rows", "Columns", "BitsAllocated")]
    samples, frames = dataset.get("SamplesPerPixel", 1), _frames(dataset)
    if not all(isinstance(size, int) and size > 0 for size in (*sizes, samples, frames)):
        raise Unreadable("the header tells no size of the image")
    rows, columns, bits = sizes
    if rows * columns * frames * samples > MEGAPIXELS * 10**6:
        raise Unreadable(f"more than {MEGAPIXELS} megapixels")
    if bits not in (1, 8, 16, 32) or samples not in (1, 3):
        raise Unreadable("pixels of a kind that is not supported")
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422" and transfer_syntax(dataset) in NATIVE:
        samples = 2  # two pixels share their colours
    return -(-rows * columns * frames * samples * bits // 8)


def _fits(dataset: Dataset, claimed: int, there: int) -> bool:
    """Whether the size of the image goes with the bytes: those that the pixel data claim, or, compressed, that are there at all."""
    expected = _expected_bytes(dataset)
    if claimed == UNDEFINED:
        # No compressor doubles its input; nor do run lengths then unfold to far more than the image.
        return transfer_syntax(dataset) not in NATIVE and there <= 2 * expected + 2**16
    row = expected // (int(dataset.Rows) * _frames(dataset))
    return transfer_syntax(dataset) in NATIVE and expected <= claimed < expected + max(row, 2)


def _check_frames(image: Dataset, syntax: uid.UID) -> None:
    """Every compressed frame has the size of the header, by its own account."""
    size = (image.Rows, image.Columns)
    frames = 0
    for frame in generate_frames(image.PixelData, number_of_frames=_frames(image)):
        frames += 1
        if syntax == uid.RLELossless:
            fits = codestream.run_lengths_fit(frame, image.Rows * image.Columns)
        else:
            fits = codestream.size(frame) == size
        if not fits:
            raise Unreadable("the pixel data do not have the size that the header tells")
    if frames != _frames(image):
        raise Unreadable("the pixel data do not have the size that the header tells")
