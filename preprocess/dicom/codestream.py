"""What a compressed frame says of its own size: JPEG (baseline, lossless, JPEG-LS), JPEG 2000, and run lengths.

A decoder allocates by what the frame claims, not by what the file around it does: the two are compared before it is called. ITU-T T.81
(JPEG) table B.1, T.87 (JPEG-LS), T.800 (JPEG 2000) A.5.1; DICOM PS3.5 annex G (run lengths).
"""

from __future__ import annotations

from struct import error, unpack_from

# Start of frame: SOF0..SOF15 without DHT, JPG and DAC, and JPEG-LS's.
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
START_OF_SCAN = b"\xff\xda"
# A grey image needs one scan, a progressive one about ten. Thousands of empty ones keep a decoder busy for minutes.
SCANS = 100
SEGMENTS = 10_000


def size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG or JPEG 2000 stream; None for what is neither, is broken, or has too many scans."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg_size(frame) if frame.count(START_OF_SCAN) <= SCANS else None
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # the box format JP2 puts something before the code stream
        if start < 0:
            return None
        right, bottom, left, top = unpack_from(">4L", frame, start + 8)
        return bottom - top, right - left
    except error:
        return None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(SEGMENTS):
        fill, marker, length = unpack_from(">BBH", frame, at)
        if fill != 0xFF:
            return None
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif marker in START_OF_FRAME:
            return unpack_from(">HH", frame, at + 5)
        else:
            at += 2 + length
    return None


def run_lengths_fit(frame: bytes, pixels: int) -> bool:
    """Whether each segment of a run-length frame unfolds to one byte a pixel, but for padding to an even length."""
    try:
        count, *starts = unpack_from("<16L", frame)
    except error:
        return False
    ends = [*starts[1:count], len(frame)]
    return 1 <= count <= 15 and all(_unfolds(frame[start:end], pixels) for start, end in zip(starts[:count], ends))


def _unfolds(segment: bytes, pixels: int) -> bool:
    at = unfolded = 0
    while at < len(segment):
        run = segment[at]
        if run < 128:
            unfolded, at = unfolded + run + 1, at + run + 2
        elif run > 128:
            unfolded, at = unfolded + 257 - run, at + 2
        else:
            at += 1
        if unfolded > pixels + 128:
            return False
    return unfolded >= pixels
