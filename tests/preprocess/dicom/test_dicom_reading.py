"""A DICOM file is opened safely: what is sound is read as pydicom reads it, all else is refused with a fixed phrase."""

import ast
import multiprocessing
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_film import film, write
from hypothesis import HealthCheck, given, settings, strategies
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from omnifuse.preprocess.dicom import codestream, gdcm_process, opening, reading
from omnifuse.preprocess.schema import ResourceError, Unreadable

SHIPPED = Path(pydicom.__file__).parent / "data/test_files"
PIXELS = np.arange(40 * 32, dtype=np.uint16).reshape(40, 32)
SIZE = "the pixel data do not have the size that the header tells"


def phrases(*modules) -> set[str]:
    """Every reason that a module gives."""
    calls = [node for module in modules for node in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(node, ast.Call)]
    reasons = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Unreadable"]
    told = {reason.value for reason in reasons if isinstance(reason, ast.Constant)}
    return told | {f"more than {reading.MEGAPIXELS} megapixels", "smaller than 16 pixels a side"}


def reason(path: Path, read=reading.read_pixels) -> str:
    with pytest.raises(Unreadable) as caught:
        read(path)
    assert caught.value.__cause__ is None and "CANARY" not in str(caught.value)
    return caught.value.reason


NATIVE = [
    "CT_small",
    "MR_small_implicit",
    "MR_small_bigendian",
    "image_dfl",
    "SC_rgb_small_odd",
    "rtdose",
    "liver_1frame",
    "examples_overlay",
]


@pytest.mark.parametrize("name", [*NATIVE, "SC_ybr_full_422_uncompressed", "MR_small_RLE", "SC_rgb_rle_16bit_2frame"])
def test_pixels_are_those_of_pydicom(name):
    path = SHIPPED / f"{name}.dcm"
    dataset = pydicom.dcmread(path)
    theirs, _ = pydicom.pixels.get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True)
    for source in (path, reading.read_header(path), reading.read_image(path)):
        ours = reading.read_pixels(source)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype.isnative and ours.dtype.itemsize == theirs.dtype.itemsize


@pytest.mark.parametrize("name", ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_RLE"])
def test_compressed_pixels_are_those_of_the_original(name):
    original = pydicom.dcmread(SHIPPED / "MR_small.dcm").pixel_array
    np.testing.assert_array_equal(reading.read_pixels(SHIPPED / f"{name}.dcm"), original)


@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless"]
)
def test_what_gdcm_compresses_comes_back(tmp_path, syntax):
    """What hospitals send CT and PET as: 16 bits with a sign, without loss."""
    gdcm = pytest.importorskip("gdcm")
    pixels = np.random.default_rng(0).integers(-1024, 3071, (40, 32)).astype(np.int16)
    path = write(tmp_path / "film.dcm", film(pixels))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(tmp_path / "compressed.dcm"))
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert reading.transfer_syntax(reading.read_header(tmp_path / "compressed.dcm")).is_compressed
    np.testing.assert_array_equal(reading.read_pixels(tmp_path / "compressed.dcm"), pixels)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_dataset_without_preamble_is_read(tmp_path, syntax):
    whole = write(tmp_path / "whole.dcm", film(PIXELS, syntax=syntax)).read_bytes()
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(whole[whole.index(struct.pack("<HH", 8, 0x16)) :])
    np.testing.assert_array_equal(reading.read_pixels(bare), PIXELS)


def test_a_header_stops_before_the_pixels(tmp_path):
    header = reading.read_header(write(tmp_path / "film.dcm", film(PIXELS)))
    assert header.Rows == 40 and "PixelData" not in header and header.filename.endswith("film.dcm")


BROKEN = {
    "no pixel data": ({"PixelData": None}, "no pixel data"),
    "no rows": ({"Rows": None}, "the header tells no size of the image"),
    "rows of zero": ({"Rows": 0}, "the header tells no size of the image"),
    "too few rows": ({"Rows": 38}, SIZE),
    "too many rows": ({"Rows": 41}, SIZE),
    "too few columns": ({"Columns": 31}, SIZE),
    "too many columns": ({"Columns": 33}, SIZE),
    "half the bits": ({"BitsAllocated": 8}, SIZE),
    "12 bits allocated": ({"BitsAllocated": 12}, "pixels of a kind that is not supported"),
    "four colours": ({"SamplesPerPixel": 4}, "pixels of a kind that is not supported"),
    "a billion frames": ({"NumberOfFrames": 10**9}, "more than 64 megapixels"),
    "65535 x 65535": ({"Rows": 65535, "Columns": 65535}, "more than 64 megapixels"),
    "frames below zero": ({"NumberOfFrames": -1}, "the header tells no size of the image"),
    "no pixel representation": ({"PixelRepresentation": None}, "cannot be decoded"),
    "native bytes, called JPEG": ({"syntax": uid.JPEGLosslessSV1}, SIZE),
    "JPEG frames, called native": ({"frames": [b"\xff\xd8\xff\xe0"]}, SIZE),
    "MPEG": ({"syntax": "1.2.840.10008.1.2.4.100"}, "unknown transfer syntax"),
    "a private syntax": ({"syntax": "1.2.840.113619.5.2"}, "unknown transfer syntax"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_header_is_refused(tmp_path, name):
    tags, expected = BROKEN[name]
    path = tmp_path / "film.dcm"
    dataset = film(PIXELS, **{key: value for key, value in tags.items() if key != "syntax"})
    write(path, dataset)
    if syntax := tags.get("syntax"):  # pydicom would not write the two together
        old, new = b"1.2.840.10008.1.2.1\0", syntax.encode() + b"\0" * (len(syntax) % 2)
        path.write_bytes(path.read_bytes().replace(struct.pack("<H", len(old)) + old, struct.pack("<H", len(new)) + new, 1))
    assert reason(path) == expected


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "is no DICOM file"),
        (b"\xff\xd8\xff\xe0" * 100, "is no DICOM file"),
        (b"\0" * 128 + b"DICM", "is no DICOM image"),
        (b"\x08\x00\x05\x00" * 100, "cannot be decoded"),
        (b"\0" * 128 + b"DICM" + b"\x08\x00\x16\x00UI\xff\xff1.2", "no pixel data"),
    ],
)
def test_what_is_no_dicom_is_refused(tmp_path, content, expected):
    path = tmp_path / "film.dcm"
    path.write_bytes(content)
    assert reason(path) == expected


def test_a_cut_file_is_refused(tmp_path):
    path = write(tmp_path / "film.dcm", film(PIXELS))
    path.write_bytes(path.read_bytes()[:-1])
    assert reason(path) == "cut off"
    assert reading.read_header(path).Rows == 40


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    assert reason(tmp_path) == reason(tmp_path / "none") == "cannot be opened"


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + b"\0\0" + struct.pack("<L", length) + value


ITEM, ITEM_END, END = (struct.pack("<HHL", 0xFFFE, tag, length) for tag, length in ((0xE000, 2**32 - 1), (0xE00D, 0), (0xE0DD, 0)))
ICONS = 0x00880200


def with_element(path: Path, inserted: bytes) -> Path:
    """A sound film with an element before its pixels."""
    content = write(path, film(PIXELS)).read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(content[:at] + inserted + content[at:])
    return path


BOMBS = {
    "10^4 sequences in one another": ((element(ICONS, b"SQ", b"", 2**32 - 1) + ITEM) * 10**4, "sequences are nested too deep"),
    "250,000 items": (element(ICONS, b"SQ", (ITEM + ITEM_END) * 250_000 + END, 2**32 - 1), "the header is too large"),
    "250,000 items of a told length": (element(ICONS, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 250_000), "the header is too large"),
    "250,000 elements": (b"".join(struct.pack("<HH2sH", 0x0099, n % 65536, b"LO", 0) for n in range(250_000)), "the header is too large"),
    "100 MB of one element": (element(0x00990010, b"OB", bytes(10**8)), "the header is too large"),
    "4 GB of one element, by its own account": (element(0x00990010, b"OB", b"", 2**32 - 2), "no pixel data"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_out_of_proportion_is_refused(tmp_path, name):
    inserted, expected = BOMBS[name]
    assert reason(with_element(tmp_path / "film.dcm", inserted)) == expected


def test_a_header_of_some_size_is_read(tmp_path):
    structures = element(ICONS, b"SQ", (ITEM + element(0x00880140, b"UI", b"")[:8] + ITEM_END) * 5000 + END, 2**32 - 1)
    np.testing.assert_array_equal(reading.read_pixels(with_element(tmp_path / "film.dcm", structures)), PIXELS)


def deflated(path: Path, dataset: Dataset, padding: int = 0) -> Path:
    """The dataset deflated, with so many zeros behind it."""
    whole = write(path, dataset).read_bytes()
    at = whole.index(struct.pack("<HH", 8, 0x16))
    meta = whole[:at].replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")
    deflate = zlib.compressobj(wbits=-15)
    path.write_bytes(meta + deflate.compress(whole[at:]) + deflate.compress(bytes(padding)) + deflate.flush())
    return path


def test_a_deflated_dataset_is_inflated_up_to_a_cap(tmp_path, monkeypatch):
    path = deflated(tmp_path / "film.dcm", film(PIXELS))
    np.testing.assert_array_equal(reading.read_pixels(reading.read_header(path)), PIXELS)
    monkeypatch.setattr(opening, "INFLATED_BYTES", 10**6)
    np.testing.assert_array_equal(reading.read_pixels(path), PIXELS)
    assert reason(deflated(path, film(PIXELS), 10**7)) == "inflates to far more than an image"


def test_a_cut_deflated_dataset_is_refused(tmp_path):
    path = deflated(tmp_path / "film.dcm", film(PIXELS))
    path.write_bytes(path.read_bytes()[:-9])
    assert reason(path) == "cut off"


def jpeg2000(rows: int, columns: int) -> bytes:
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8LH", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + bytes(20)


def jpeg(rows: int, columns: int, scans: int = 1) -> bytes:
    start = b"\xff\xd8\xff\xc2" + struct.pack(">HBHHB3B", 11, 8, rows, columns, 1, 1, 0x11, 0)
    return start + b"\xff\xda\0\x08\x01\x01\0\0\0\0" * scans + b"\xff\xd9"


def run_lengths(packets: bytes) -> bytes:
    return struct.pack("<16L", 1, 64, *[0] * 14) + packets


@pytest.mark.parametrize(
    "syntax, frame",
    [
        (uid.JPEG2000Lossless, jpeg2000(65535, 65535)),
        (uid.JPEGLosslessSV1, jpeg(65535, 65535)),
        (uid.JPEGBaseline8Bit, jpeg(40, 32, scans=10**3)),
        (uid.JPEGBaseline8Bit, b"\xff\xd8"),
        (uid.JPEG2000, b"nothing"),
        (uid.RLELossless, run_lengths(b"\x81\x07" * 1000)),  # 128,000 bytes from 2,000
        (uid.RLELossless, run_lengths(b"\x81\x07" * 9)),
        (uid.RLELossless, b"\x01"),
    ],
)
def test_a_frame_of_another_size_is_never_decompressed(tmp_path, monkeypatch, syntax, frame):
    monkeypatch.setattr(gdcm_process, "decode", None)
    assert reason(write(tmp_path / "film.dcm", film(PIXELS.astype(np.uint8), syntax=syntax, frames=[frame]))) == SIZE


def test_sizes_that_a_frame_tells():
    assert codestream.size(jpeg2000(40, 32)) == (40, 32)
    assert codestream.size(b"jP2 box" + jpeg2000(40, 32)) == (40, 32)
    assert codestream.size(jpeg(40, 32)) == (40, 32)
    assert codestream.size(jpeg(40, 32)[:2] + b"\xff\xe1\0\x04\xff\xc0\xff" + jpeg(40, 32)[2:]) == (40, 32)  # APP1, and a fill byte
    assert codestream.run_lengths_fit(run_lengths(b"\x81\x07" * 10), 1280)


def test_gdcm_dies_alone(tmp_path):
    """python-gdcm aborts the interpreter on this frame."""
    sound = SHIPPED / "SC_rgb_jpeg_lossy_gdcm.dcm"
    before = reading.read_pixels(sound)
    broken = tmp_path / "broken.dcm"
    content = bytearray(sound.read_bytes())
    at = content.index(b"\xff\xc4")  # the Huffman table
    content[at + 4 : at + 40] = b"\xff" * 36
    broken.write_bytes(content)
    assert reason(broken) == "cannot be decoded"
    assert gdcm_process.decode.child is None
    np.testing.assert_array_equal(reading.read_pixels(sound), before)


def test_gdcm_that_does_not_answer_is_ended(monkeypatch):
    decode = gdcm_process.Decoder()
    silent = "import sys; print('{\"bytes\": 0}', flush=True); sys.stdin.read()"
    monkeypatch.setattr(gdcm_process, "COMMAND", (sys.executable, "-c", silent))
    monkeypatch.setattr(gdcm_process, "SECONDS", 0.5)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        decode(uid.JPEG2000, {}, b"")
    assert decode.child is None


def test_gdcm_that_cannot_start_is_no_fault_of_a_frame(monkeypatch):
    monkeypatch.setattr(gdcm_process, "COMMAND", (sys.executable, "-c", "import gdcm_that_is_not_there"))
    with pytest.raises(ResourceError, match="cannot start"):
        gdcm_process.Decoder()(uid.JPEG2000, {}, b"")


def _decode_in_a_fork(answers) -> None:
    pixels = reading.read_pixels(SHIPPED / "MR_small_jp2klossless.dcm")
    answers.put((int(pixels.sum()), gdcm_process.decode.child.pid))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_process_has_its_own_gdcm():
    path = SHIPPED / "MR_small_jp2klossless.dcm"
    before = reading.read_pixels(path).sum()
    own = gdcm_process.decode.child.pid
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_decode_in_a_fork, args=(answers,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    told = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [pixels for pixels, _ in told] == [before, before]
    assert len({own, *(child for _, child in told)}) == 3
    assert reading.read_pixels(path).sum() == before and gdcm_process.decode.child.pid == own


def test_nothing_of_the_header_is_printed(tmp_path):
    """pydicom warns of values that break its rules, and quotes them."""
    sound = write(tmp_path / "film.dcm", film(PIXELS))
    canary = b"CANARY-BUT-NO-UID"
    broken = with_element(tmp_path / "broken.dcm", struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", len(canary)) + canary)
    code = (
        "from omnifuse.preprocess.dicom import reading; import sys\n"
        "header = reading.read_header(sys.argv[1])\n"
        "header.get('StudyInstanceUID'), str(header)\n"
        "reading.read_pixels(header)"
    )
    for file in (sound, broken):
        done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
        assert done.stdout == done.stderr == ""


def test_values_are_read_under_guard(tmp_path):
    window = Dataset()
    window.LUTDescriptor = [4, 0, 16]
    header = reading.read_header(write(tmp_path / "film.dcm", film(PIXELS, VOILUTSequence=Sequence([window]))))
    with pytest.raises(Unreadable, match="cannot be decoded"), reading.guarded():
        _ = header.VOILUTSequence[0].LUTData


SEEDS = ["CT_small", "MR_small_RLE", "MR_small_implicit", "image_dfl"]


@settings(max_examples=120, deadline=5000, suppress_health_check=list(HealthCheck))
@given(strategies.data())
def test_bytes_at_random_never_raise_anything_else(tmp_path_factory, data):
    content = bytearray((SHIPPED / f"{data.draw(strategies.sampled_from(SEEDS))}.dcm").read_bytes())
    for _ in range(data.draw(strategies.integers(0, 8))):
        content[data.draw(strategies.integers(0, min(len(content), 4000) - 1))] = data.draw(strategies.integers(0, 255))
    content = content[: data.draw(strategies.integers(0, len(content)) | strategies.just(len(content)))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.dcm"
    path.write_bytes(content)
    try:
        pixels = reading.read_pixels(path)
    except Unreadable as error:
        assert error.reason in phrases(reading, opening, gdcm_process)
    else:
        assert pixels.size <= reading.MEGAPIXELS * 10**6
