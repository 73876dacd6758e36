"""Films: decoded to their end or refused, and grey as they were meant."""

import io
import struct
import zlib

import numpy as np
import pytest
from dicom_film import film, write
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image, ImageOps, PngImagePlugin
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from omnifuse.preprocess import image
from omnifuse.preprocess.dicom.film import read_film
from omnifuse.preprocess.schema import ConfigError, Unreadable

SETTINGS = image.DEFAULTS
RAMP = np.add.outer(np.linspace(0, 200, 300), np.linspace(0, 55, 400)).astype(np.uint8)  # [300, 400], dark at the top left
HALF = np.repeat(np.array([255, 0], dtype=np.uint8), 32)[:, None].repeat(64, 1)


def decode(folder, content, name="film", **options) -> np.ndarray:
    """[H, W] of bytes, an image of PIL (as PNG) or a DICOM dataset."""
    path = folder / name
    if isinstance(content, Dataset):
        write(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else encoded(content))
    pixels = image.decode(folder, {"path": name}, {**SETTINGS, **options})
    assert pixels.dtype == np.uint8 and pixels.shape == (1, *image.shape({**SETTINGS, **options}))
    return pixels[0, 0]


def encoded(film: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    film.save(out, kind, **options)
    return out.getvalue()


def refused(folder, content, **options) -> str:
    with pytest.raises(Unreadable) as caught:
        decode(folder, content, **options)
    return caught.value.reason


def resized(pixels: np.ndarray, size: int = 224) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return np.abs(first.astype(int) - second.astype(int)).max()


JPEG = encoded(Image.fromarray(RAMP), "JPEG", quality=95)
PNG = encoded(Image.fromarray(RAMP))


def test_the_settings_decide_the_shape():
    assert image.shape(SETTINGS) == (1, 224, 224) and image.dtype(SETTINGS) == np.uint8
    assert image.shape({**SETTINGS, "size": 64, "channels": 3}) == (3, 64, 64)


@pytest.mark.parametrize(
    "wrong", [{"size": 8}, {"size": 224.0}, {"size": True}, {"channels": 2}, {"fit": "pad"}, {"draft": "no"}, {"equalise": 1}]
)
def test_a_setting_that_cannot_be_is_no_fault_of_a_film(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        decode(tmp_path, PNG, **wrong)


@pytest.mark.parametrize("size", [32, 224])
def test_three_channels_are_the_same(tmp_path, size):
    decode(tmp_path, PNG)
    pixels = image.decode(tmp_path, {"path": "film"}, {**SETTINGS, "channels": 3, "size": size})
    assert pixels.shape == (1, 3, size, size)
    assert (pixels == pixels[:, :1]).all() and pixels[0, 0, 0, 0] < 10 and pixels[0, 0, -1, -1] > 240
    assert pixels.flags.writeable and pixels.flags.c_contiguous


def test_squash_keeps_everything(tmp_path):
    assert difference(decode(tmp_path, PNG), resized(RAMP)) == 0


@pytest.mark.parametrize("shape", [(300, 400), (400, 300)])
def test_crop_keeps_the_centre_and_the_proportions(tmp_path, shape):
    """The shorter side to 256, of which 224 are left: a square of 0.875 of it around the centre."""
    marked = np.zeros(shape, dtype=np.uint8)
    half = round(min(shape) * 224 / 256 / 2)
    rows, columns = shape[0] // 2, shape[1] // 2
    marked[rows - half : rows + half, columns - half : columns + half] = 200
    marked[rows - 2 : rows + 2, columns - 2 : columns + 2] = 255
    cropped = decode(tmp_path, Image.fromarray(marked), fit="crop")
    assert (cropped[2:-2, 2:-2] >= 199).all() and cropped[112, 112] == 255
    assert (decode(tmp_path, Image.fromarray(marked), fit="squash") == 0).mean() > 0.2


@pytest.mark.parametrize("content", [JPEG, PNG, film(RAMP)], ids=["JPEG", "PNG", "DICOM"])
@pytest.mark.parametrize("name", ["film.jpg", "film.png", "film.dcm", "film"])
def test_the_bytes_decide_and_not_the_name(tmp_path, name, content):
    assert difference(decode(tmp_path, content, name), resized(RAMP)) <= 4


def test_the_draft_is_the_film(tmp_path):
    """Noise and edges, at 3 times the size that is needed."""
    random = np.random.default_rng(0)
    drawn = np.asarray(Image.fromarray(RAMP).resize((1500, 1400))) * 0.8 + random.normal(0, 4, (1400, 1500)) + 20
    drawn[400:700, 500:560] += 30
    jpeg = encoded(Image.fromarray(drawn.clip(0, 255).astype(np.uint8)), "JPEG", quality=90)
    draft, full = (decode(tmp_path, jpeg, draft=option).astype(int) for option in (True, False))
    assert 0 < np.abs(draft - full).mean() < 0.3 and difference(draft, full) <= 3


def palette() -> Image.Image:
    """The ramp through a palette that runs downwards."""
    film = Image.frombytes("P", (400, 300), (255 - RAMP).tobytes())
    film.putpalette(np.repeat(np.arange(256)[::-1], 3).tolist())
    return film


def veiled_palette() -> Image.Image:
    """White twice, the second of them transparent."""
    film = Image.frombytes("P", (64, 64), bytes(64 * 32) + bytes([1]) * (64 * 32))
    film.putpalette([255] * 6)
    film.info["transparency"] = 1
    return film


def veiled(mode: str) -> Image.Image:
    """White, but for a transparent lower half."""
    film = Image.new(mode, (64, 64), "white")
    film.putalpha(Image.fromarray(HALF))
    return film


@pytest.mark.parametrize(
    "film, expected, tolerance",
    [
        (Image.fromarray(RAMP).convert("RGB"), RAMP, 0),
        (palette(), RAMP, 0),
        (Image.merge("RGBA", [Image.fromarray(RAMP)] * 3 + [Image.new("L", (400, 300), 255)]), RAMP, 0),
        (Image.fromarray(RAMP > 100), (RAMP > 100) * np.uint8(255), 0),
        (veiled("RGBA"), HALF, 0),
        (veiled("LA"), HALF, 0),
        (veiled_palette(), HALF, 0),
    ],
    ids=["RGB", "palette", "opaque RGBA", "1 bit", "RGBA", "LA", "transparent palette"],
)
def test_any_kind_of_png_is_grey(tmp_path, film, expected, tolerance):
    assert difference(decode(tmp_path, film), resized(expected)) <= tolerance


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("draft", [True, False])
def test_any_kind_of_jpeg_is_grey(tmp_path, mode, draft):
    jpeg = encoded(Image.fromarray(RAMP).convert("RGB").convert(mode), "JPEG", quality=95)
    assert difference(decode(tmp_path, jpeg, draft=draft), resized(RAMP)) <= 4


@pytest.mark.parametrize("lowest, highest", [(0, 4095), (0, 65535), (1000, 1255), (30000, 32000)])
def test_a_16_bit_png_is_scaled_by_the_range_that_it_uses(tmp_path, lowest, highest):
    ramp = np.linspace(lowest, highest, 256 * 64).round().astype(np.uint16).reshape(256, 64)
    pixels = decode(tmp_path, Image.fromarray(ramp))
    expected = resized(np.rint((ramp - lowest) * (255 / (highest - lowest))).astype(np.uint8))
    assert difference(pixels, expected) == 0
    assert (pixels == 255).mean() < 0.02  # PIL's own conversion clips 94 % of a 12-bit ramp


def test_a_16_bit_png_with_colours_is_refused(tmp_path):
    header = struct.pack(">LLBBBBB", 64, 64, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(6 * 64) for _ in range(64)))
    assert refused(tmp_path, image.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND")) == "a 16-bit PNG that is not grey"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_orientation_of_the_camera_is_undone(tmp_path, orientation, kind):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # as numbers of PIL's transpositions: the inverse of what EXIF tells to do
    upright = Image.fromarray(np.add.outer(np.linspace(0, 200, 500), np.linspace(0, 55, 500)).astype(np.uint8))
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The transposition table is checked against PIL's: whoever is wrong, the two would differ.
    content = encoded(stored, kind, exif=exif)
    assert difference(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))), np.asarray(upright)) <= 3
    assert difference(decode(tmp_path, content), resized(np.asarray(upright))) <= 3


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def text_bomb() -> bytes:
    """100 chunks of text that unfold to 1 MB each."""
    texts = PngImagePlugin.PngInfo()
    for number in range(100):
        texts.add_text(f"note {number}", "a" * 1_000_000, zip=True)
    return encoded(Image.fromarray(RAMP), pnginfo=texts)


def flipped(content: bytes, at: float) -> bytes:
    place = int(len(content) * at)
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


SCANS = JPEG[: JPEG.rindex(b"\xff\xda")]
REFUSED = {
    "empty": (b"", "is no DICOM file"),
    "GIF": (encoded(Image.fromarray(RAMP), "GIF"), "is no DICOM file"),
    "TIFF": (encoded(Image.fromarray(RAMP), "TIFF"), "is no DICOM file"),
    "BMP": (encoded(Image.fromarray(RAMP), "BMP"), "is no DICOM file"),
    "JPEG 2000": (encoded(Image.fromarray(RAMP), "JPEG2000"), "is no DICOM file"),
    "JPEG cut at nine tenths": (JPEG[: len(JPEG) * 9 // 10], "cut off"),
    "JPEG without its end": (JPEG[:-2], "cut off"),
    "JPEG with a hole for an end": (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), "cut off"),
    "JPEG cut within its header": (JPEG[:100], "cannot be decoded"),
    "JPEG of 65535 x 65535": (JPEG.replace(struct.pack(">HH", 300, 400), b"\xff\xff\xff\xff", 1), "more than 64 megapixels"),
    "JPEG of 1000 empty scans": (SCANS + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 1000 + b"\xff\xd9", "cannot be decoded"),
    "JPEG that is a header only": (JPEG[:2] + b"\xff\xd9", "cannot be decoded"),
    "PNG cut at nine tenths": (PNG[: len(PNG) * 9 // 10], "cannot be decoded"),
    "PNG without its end": (PNG[:-12], "cannot be decoded"),
    "PNG with one bit changed": (flipped(PNG, 0.5), "cannot be decoded"),
    "PNG of 50000 x 50000": (image.PNG + chunk(b"IHDR", struct.pack(">LLBBBBB", 50000, 50000, 8, 0, 0, 0, 0)), "more than 64 megapixels"),
    "PNG with a bomb of text": (text_bomb(), "cannot be decoded"),
    "PNG of nothing": (image.PNG, "cannot be decoded"),
    "1 x 1": (encoded(Image.new("L", (1, 1))), "smaller than 16 pixels a side"),
    "400 x 15": (encoded(Image.fromarray(RAMP[:15])), "smaller than 16 pixels a side"),
    "blank": (encoded(Image.new("L", (64, 64), 77)), "is blank"),
    "small DICOM": (film(RAMP[:15]), "smaller than 16 pixels a side"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_film_that_is_not_sound_is_refused(tmp_path, name):
    content, expected = REFUSED[name]
    assert refused(tmp_path, content) == expected


@pytest.mark.parametrize(
    "path, expected", [("../film", "the path leaves the data folder"), ("none", "no such file"), (".", "is no regular file")]
)
def test_only_files_below_the_root_are_opened(tmp_path, path, expected):
    (tmp_path / "film").write_bytes(PNG)
    (tmp_path / "root").mkdir()
    with pytest.raises(Unreadable, match=expected):
        image.decode(tmp_path / "root", {"path": path}, SETTINGS)


TWELVE_BITS = np.linspace(0, 4095, 300 * 400).astype(np.uint16).reshape(300, 400)


def dicom(pixels=TWELVE_BITS, **tags) -> Dataset:
    return film(pixels, BitsStored=12, HighBit=11, **tags) if pixels.itemsize == 2 else film(pixels, **tags)


def test_dense_is_bright_whatever_the_photometric_interpretation(tmp_path):
    plain = decode(tmp_path, dicom())
    inverse = decode(tmp_path, dicom(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"))
    assert plain[0, 0] < 5 and plain[-1, -1] > 250
    assert difference(inverse, 255 - plain) <= 1


def test_a_window_is_applied_to_rescaled_values(tmp_path):
    """stored 0..4095 -> -1000..3095; the window is 0..1000, so stored 1000..2000."""
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 500, "WindowWidth": 1001}
    pixels = read_film(write(tmp_path / "film", dicom(**tags)))
    expected = np.rint((TWELVE_BITS.astype(float) - 1000).clip(0, 1000) * 0.255)
    assert difference(pixels, expected) <= 1


def look_up_table(values: np.ndarray, first: int) -> Sequence:
    table = Dataset()
    table.LUTDescriptor = [len(values), first, 16]
    table.LUTData = [int(value) for value in values]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return Sequence([table])


def test_look_up_tables_are_applied_in_their_order(tmp_path):
    """Modality: the square root, 0..4095 to 0..64; VOI: only 32..64 counts, downwards."""
    modality = look_up_table(np.sqrt(np.arange(4096)).round(), 0)
    modality[0].ModalityLUTType = "US"
    voi = look_up_table(np.r_[np.zeros(32), np.arange(33)[::-1] * 100], 0)
    pixels = read_film(write(tmp_path / "film", dicom(ModalityLUTSequence=modality, VOILUTSequence=voi)))
    root = np.sqrt(TWELVE_BITS.astype(float)).round()
    expected = np.where(root < 32, 0, (64 - root) / 32 * 255)
    assert difference(pixels, expected.round()) <= 1


WINDOWS = [
    {},
    {"WindowCenter": 100, "WindowWidth": 150},
    {"WindowCenter": [100, 10], "WindowWidth": [150, 5], "PhotometricInterpretation": "MONOCHROME1"},
    {"WindowCenter": 100, "WindowWidth": 900, "VOILUTFunction": "SIGMOID", "RescaleSlope": 0.5, "RescaleIntercept": -300},
    {"RescaleSlope": -2, "RescaleIntercept": 10},
]


@pytest.mark.parametrize("tags", WINDOWS)
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8])
def test_each_value_is_looked_up_as_pydicom_computes_each_pixel(tmp_path, tags, kind):
    stored = np.random.default_rng(0).integers(-100 if kind == np.int16 else 0, 250, (40, 50)).astype(kind)
    dataset = film(stored, **tags)
    shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(float)
    expected = (shown - shown.min()) / (shown.max() - shown.min())
    if tags.get("PhotometricInterpretation") == "MONOCHROME1":
        expected = 1 - expected
    assert difference(read_film(write(tmp_path / "film", dataset)), np.rint(255 * expected)) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_takes_no_part_in_the_range(tmp_path, photometric):
    padded = (TWELVE_BITS // 8 + 500).astype(np.uint16)
    padded[:, :50] = 4090
    padded[:, 50:60] = 4095
    tags = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4090, "PhotometricInterpretation": photometric}
    pixels = read_film(write(tmp_path / "film", dicom(padded, **tags)))
    assert (pixels[:, :60] == 0).all()
    assert pixels[:, 60:].min() == 0 and pixels[:, 60:].max() == 255


def test_equalisation_is_that_of_mimic_cxr_jpg(tmp_path):
    """OpenCV's equalizeHist, written as its source has it: a running sum of the histogram from behind the first level in use."""
    random = np.random.default_rng(0)
    grey = (random.beta(2, 8, (200, 220)) * 255).astype(np.uint8)
    grey[:40], grey[40, 0] = 0, 255  # a border, as films have
    histogram = np.bincount(grey.ravel(), minlength=256)
    first, total, scale = np.flatnonzero(histogram)[0], 0, 255 / (grey.size - histogram[np.flatnonzero(histogram)[0]])
    table = np.zeros(256)
    for level in range(first + 1, 256):
        total += histogram[level]
        table[level] = round(total * scale)
    path = write(tmp_path / "film", film(grey))
    assert difference(read_film(path, equalise=True), table[grey]) <= 1
    assert difference(read_film(path), grey) == 0
    assert decode(tmp_path, film(grey), equalise=True).mean() > 1.5 * decode(tmp_path, film(grey)).mean()


@pytest.mark.parametrize(
    "dataset, expected",
    [
        (dicom(RescaleSlope=0, RescaleIntercept=5), "RescaleSlope is 0"),
        (dicom(TWELVE_BITS * 0 + 7), "is blank"),
        (dicom(PixelPaddingValue=0, PixelPaddingRangeLimit=4095), "is blank"),
        (dicom(WindowCenter=50000, WindowWidth=10), "is blank"),
        (dicom(WindowCenter=100, WindowWidth=0), "cannot be decoded"),
        (dicom(Rows=150, NumberOfFrames=2), "has several frames"),
        (film(RAMP, Columns=100, Rows=400, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0), "is no grey film"),
        (film(RAMP, PhotometricInterpretation="PALETTE COLOR"), "is no grey film"),
        (film(TWELVE_BITS.astype(np.uint32)), "pixels of a kind that is not supported"),
        (dicom(PixelData=None), "no pixel data"),
    ],
    ids=["slope", "blank", "padding", "window beside", "no window", "frames", "RGB", "palette", "32 bits", "no pixels"],
)
def test_a_dicom_film_that_is_not_sound_is_refused(tmp_path, dataset, expected):
    if dataset.SamplesPerPixel == 3:
        dataset.Rows = 400
    assert refused(tmp_path, dataset) == expected


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_signed_films(tmp_path, syntax):
    signed = (TWELVE_BITS.astype(np.int32) - 2048).astype(np.int16)
    pixels = read_film(write(tmp_path / "film", film(signed, syntax=syntax)))
    assert difference(pixels, np.rint((signed.astype(float) + 2048) * (255 / 4095))) <= 1


def test_real_films(cxr_hannover):
    """Every film of the Hannover set, against PIL's full decode; they are 512 pixels wide, so the draft is the film."""
    names = sorted(path.name for path in cxr_hannover.glob("*.jpg"))
    assert len(names) == 41
    for name in names:
        pixels = image.decode(cxr_hannover, {"path": name}, SETTINGS)[0, 0]
        assert difference(pixels, resized(np.asarray(Image.open(cxr_hannover / name).convert("L")))) <= 1


SEEDS = [
    JPEG,
    encoded(
        Image.fromarray(RAMP).convert("RGB"),
        "JPEG",
        progressive=True,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
    ),
    PNG,
    encoded(veiled_palette()),
    encoded(Image.fromarray(TWELVE_BITS)),
]


@settings(max_examples=200, deadline=5000, suppress_health_check=list(HealthCheck))
@given(strategies.data())
def test_bytes_at_random_never_raise_anything_else(tmp_path_factory, data):
    content = bytearray(SEEDS[data.draw(strategies.integers(0, len(SEEDS) - 1))])
    for _ in range(data.draw(strategies.integers(0, 8))):
        content[data.draw(strategies.integers(0, min(len(content), 3000) - 1))] = data.draw(strategies.integers(0, 255))
    content = bytes(content[: data.draw(strategies.integers(0, len(content)) | strategies.just(len(content)))])
    try:
        decode(tmp_path_factory.getbasetemp(), content)
    except Unreadable as error:
        assert len(error.reason) < 60
