"""A DICOM file as pydicom may have it: of a known transfer syntax, inflated, and bounded in what reading its header may cost."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info

from omnifuse.preprocess.schema import Unreadable

HEADER_BYTES = 2**26
HEADER_READS = 200_000
INFLATED_BYTES = 2**28

NATIVE = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}
GDCM = {
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
}
SYNTAXES = NATIVE | GDCM | {uid.RLELossless, uid.DeflatedExplicitVRLittleEndian}

# The first group of a dataset without preamble, in either byte order: file meta, or identification.
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


class BoundedFile:
    """A file that gives so many bytes in so many reads, and never allocates for more than it holds."""

    def __init__(self, file: io.BufferedIOBase):
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self.bytes_left, self.reads_left = HEADER_BYTES, HEADER_READS
        self.tell, self.seek = file.tell, file.seek
        file.seek(0)

    def read(self, length: int = -1) -> bytes:
        there = max(self.size - self.tell(), 0)
        length = there if length is None or length < 0 else min(length, there)
        self.bytes_left -= length
        self.reads_left -= 1
        if self.bytes_left < 0 or self.reads_left < 0:
            raise Unreadable("the header is too large")
        return self.file.read(length)


@contextmanager
def opened(path: Path) -> Iterator[BoundedFile]:
    """The file, or what it inflates to."""
    with ExitStack() as held:
        try:
            raw = held.enter_context(open(path, "rb"))
        except OSError:
            raise Unreadable("cannot be opened") from None
        file = BoundedFile(raw)
        start = file.read(132)
        if start[128:] != b"DICM" and start[:2] not in FIRST_GROUPS:
            raise Unreadable("is no DICOM file")
        file.seek(132 if start[128:] == b"DICM" else 0)
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        syntax = meta.get("TransferSyntaxUID")
        if syntax and syntax not in SYNTAXES:
            raise Unreadable("unknown transfer syntax")
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            file = _inflated(meta, raw)
        file.seek(0)
        yield file


def _inflated(meta: Dataset, file: io.BufferedReader) -> BoundedFile:
    """The same file with its dataset inflated. `file` stands behind the file meta."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflate.decompress(file.read(INFLATED_BYTES), INFLATED_BYTES)
    if inflate.unconsumed_tail:
        raise Unreadable("inflates to far more than an image")
    if not inflate.eof:
        raise Unreadable("cut off")
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    whole = io.BytesIO(b"\0" * 128 + b"DICM")
    whole.seek(0, os.SEEK_END)
    write_file_meta_info(whole, meta, enforce_standard=False)
    whole.write(content)
    return BoundedFile(whole)
