"""Films: JPEG, PNG and DICOM to [1, channels, size, size] grey levels.

- What the bytes are decides, not the name. A film is valid when it was decoded to its end: cut and altered files are refused.
- JPEG is decoded by PIL at a fraction of its size (`draft`: the DCT at 1/2, 1/4 or 1/8, at least twice `size`), which differs from the
  full decode by 0.15 grey levels in the mean and halves the time.
- 16-bit PNG is scaled by the range that it uses; PIL's own conversion clips it at 255.
- DICOM: preprocess/dicom/film.py.
- `fit`: "squash" to the square, or "crop" its centre after resizing the shorter side to size * 256 / 224, as MedFuse does.
"""

from __future__ import annotations

import io
from pathlib import Path
from struct import unpack_from
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from omnifuse.preprocess.dicom import codestream
from omnifuse.preprocess.dicom.film import read_film
from omnifuse.preprocess.dicom.reading import MEGAPIXELS
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import ConfigError, OmnifuseError, Unreadable

DEFAULTS: dict[str, Any] = {"size": 224, "channels": 1, "fit": "squash", "equalise": False, "draft": True}
FITS = ("squash", "crop")
SMALLEST = 16
FILE_BYTES = 2**27
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
JPEG_END = b"\xff\xd9"


def shape(settings: dict[str, Any]) -> tuple[int, int, int]:
    """[C, H, W] of a film.

    Raises:
        ConfigError: a setting that no film can have.
    """
    size, channels = settings["size"], settings["channels"]
    if type(size) is not int or not SMALLEST <= size <= 4096:
        raise ConfigError(f"size of a film must be a whole number from {SMALLEST} to 4096")
    if type(channels) is not int or channels not in (1, 3):
        raise ConfigError("channels of a film must be 1, or 3 for the same three times")
    if settings["fit"] not in FITS:
        raise ConfigError(f"fit of a film must be one of {', '.join(FITS)}")
    for name in ("equalise", "draft"):
        if type(settings[name]) is not bool:
            raise ConfigError(f"{name} of a film must be true or false")
    return channels, size, size


def dtype(settings: dict[str, Any]) -> np.dtype:
    return np.dtype(np.uint8)


def decode(root: Path, item: dict[str, Any], settings: dict[str, Any]) -> np.ndarray:
    """One film.

    Args:
        item: `path`, of the file, below root.
        settings: see DEFAULTS. `channels` 3 repeats the grey levels; `equalise` the histogram of DICOM films, as MIMIC-CXR-JPG's are.

    Shapes: [1, C, size, size] uint8; air is black.

    Raises:
        Unreadable: see inside.py and dicom/reading.py; cut off, altered, blank, below 16 pixels a side or above 64 megapixels.
    """
    channels, size, _ = shape(settings)
    path = inside(root, item["path"])
    content = _content(path)
    try:
        if content[128:132] != b"DICM" and content.startswith((JPEG, PNG)):
            film = _photograph(content, size if settings["draft"] else None)
        else:
            film = Image.fromarray(read_film(path, equalise=settings["equalise"]))
        if min(film.size) < SMALLEST:
            raise Unreadable(f"smaller than {SMALLEST} pixels a side")
        pixels = np.asarray(_fitted(film, size, settings["fit"]))
    except (Unreadable, OmnifuseError, MemoryError):
        raise
    except Exception:  # PIL's plugins raise whatever a broken file leads them to
        raise Unreadable("cannot be decoded") from None
    if pixels.min() == pixels.max():
        raise Unreadable("is blank")
    return np.repeat(pixels[None, None], channels, axis=1)


def _content(path: Path) -> bytes:
    """The bytes of a JPEG or PNG; of a DICOM file the first ones, the rest is read by dicom/reading.py."""
    try:
        with open(path, "rb") as file:
            content = file.read(132)
            if content.startswith((JPEG, PNG)):
                content += file.read(FILE_BYTES)
    except OSError:
        raise Unreadable("cannot be opened") from None
    if len(content) > FILE_BYTES:
        raise Unreadable("the file is too large")
    return content


def _photograph(content: bytes, draft: int | None) -> Image.Image:
    """A JPEG or PNG in grey, mode L, decoded to its end.

    Args:
        draft: the side that is needed in the end; a JPEG may then come at a fraction of its size.
    """
    if content.startswith(JPEG):
        rows, columns = codestream.size(content) or (0, 0)
        if content.rfind(JPEG_END) < content.rfind(codestream.START_OF_SCAN):
            raise Unreadable("cut off")
    else:
        columns, rows, bits, colours = unpack_from(">LLBB", content, 16)
        if bits == 16 and colours:
            raise Unreadable("a 16-bit PNG that is not grey")  # PIL keeps its upper 8 bits only, of which 12-bit films use four
    if rows * columns > MEGAPIXELS * 10**6:
        raise Unreadable(f"more than {MEGAPIXELS} megapixels")
    if content.startswith(PNG):
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()  # check sums, which load() does not look at
    with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as film:
        if film.size != (columns, rows):
            raise Unreadable("cannot be decoded")
        if draft:
            film.draft("L", (2 * draft, 2 * draft))
        film.load()
        return _grey(ImageOps.exif_transpose(film))


def _grey(film: Image.Image) -> Image.Image:
    if film.mode.startswith("I"):
        values = np.asarray(film).astype(np.float32)
        scale = 255 / max(values.max() - values.min(), 1)
        return Image.fromarray(np.rint((values - values.min()) * scale).astype(np.uint8))
    if film.mode == "CMYK":
        film = film.convert("RGB")
    if film.has_transparency_data:  # what lies under a transparent pixel is not to be seen
        film = film.convert("RGBA")
        film = Image.alpha_composite(Image.new("RGBA", film.size, "black"), film)
    return film.convert("L")


def _fitted(film: Image.Image, size: int, fit: str) -> Image.Image:
    if fit == "squash":
        return film.resize((size, size), Image.Resampling.BILINEAR)
    scale = round(size * 256 / 224) / min(film.size)
    width, height = (max(round(side * scale), size) for side in film.size)
    left, top = (width - size) // 2, (height - size) // 2
    return film.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
