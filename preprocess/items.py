"""What a cohort holds of films, series of slices, texts and signals: a table of items, decoded when features are extracted.

`items/MODALITY.parquet` has one row an item, in such an order that the items of every sample are neighbours: a sample's are the rows
[MODALITY_start, MODALITY_start + MODALITY_length) of it. What a row holds depends on what it `reads`:

    image   path                    of a film, below the root
    volume  what preprocess/lung/volume.py needs to cut slices out of a DICOM series
    text    text                    sections chosen, marks replaced, cut to its words
    signal  what preprocess/signal.py needs to cut a window out of a record

The manifest says of the modality: `{"kind": "items", "reads": "image", "root": folder or null, "decode": settings}`. Each kind but text
has a decoder, a module with `DEFAULTS` (settings), `shape(settings)` and `dtype(settings)` of one row, and
`decode(root, item, settings)`, which gives [R, *shape] (a film has one row, a series one a slice, a signal one a moment) or raises
Unreadable.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, InputError, nearest

KIND = "items"
TEXT = "text"
DECODERS = {
    "image": "omnifuse.preprocess.image",
    "volume": "omnifuse.preprocess.lung.volume",
    "signal": "omnifuse.preprocess.signal",
}
_DICOM = ("inside.py", "dicom/*.py")
# What a decoder's rows depend on: another version of it makes features anew.
SOURCES = {
    "image": (*_DICOM, "image.py"),
    "volume": (*_DICOM, "lung/*.py"),
    "signal": ("inside.py", "signal.py"),
}


@dataclass(frozen=True)
class Items:
    """The items of one modality. Can be pickled, for workers; `decode` and `text` are by the number of the item."""

    modality: str
    reads: str
    table: pl.DataFrame
    root: Path | None
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def decoder(self):
        return importlib.import_module(DECODERS[self.reads])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one decoded row."""
        return tuple(self.decoder.shape(self.settings))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.decoder.dtype(self.settings))

    def decode(self, number: int) -> np.ndarray:
        """[R, *shape]. Raises Unreadable."""
        return self.decoder.decode(self.root, self.table.row(number, named=True), self.settings)

    def text(self, number: int) -> str:
        return self.table["text"][number]

    def fingerprint(self) -> str:
        """Of all that decides what is decoded, the code too, but for the table and the bytes of the files: those the cohort tells."""
        home = Path(__file__).parent
        code = [file for pattern in SOURCES.get(self.reads, ()) for file in sorted(home.glob(pattern))]
        told = {file.relative_to(home).as_posix(): store.sha256(file) for file in code}
        return store.digest({"reads": self.reads, "settings": self.settings, "code": told})


def decoder_settings(about: dict[str, Any]) -> dict[str, Any]:
    """The settings of a modality's decoder, as its cohort has them."""
    if about["reads"] == TEXT:
        return {}
    return {**importlib.import_module(DECODERS[about["reads"]]).DEFAULTS, **about.get("decode", {})}


def open_items(cohort: store.Artefact, modality: str, root: Path | None = None, settings: dict[str, Any] | None = None) -> Items:
    """The items of a modality of a cohort.

    Args:
        root: where the files are now, if not where they were when the cohort was made.
        settings: of the decoder, over those of the cohort.

    Raises:
        ConfigError: the modality has no items, or its decoder no such setting.
        InputError: the folder of the files is not there.
        ArtefactError: the cohort names a decoder that this version lacks.
    """
    about = cohort.meta["modalities"].get(modality, {})
    if about.get("kind") != KIND:
        raise ConfigError(f"modality {modality} of this cohort has no items to decode")
    reads = about["reads"]
    if reads != TEXT and reads not in DECODERS:
        raise ArtefactError(f"modality {modality} reads {reads!r}, which this version cannot", where=cohort.folder)
    told = {**about.get("decode", {}), **(settings or {})}
    if reads != TEXT:
        defaults = importlib.import_module(DECODERS[reads]).DEFAULTS
        if unknown := [name for name in told if name not in defaults]:
            raise ConfigError(f"{reads}s have no setting {unknown[0]!r}", hint=nearest(unknown[0], defaults))
        told = {**defaults, **told}
        root = root or (Path(about["root"]) if about.get("root") else None)
        if root is None or not root.is_dir():
            hint = f"--root {modality}=DIR if they were moved"
            raise InputError(f"the files of modality {modality} are not there", where=root, hint=hint)
    return Items(modality, reads, cohort.table(f"items/{modality}.parquet"), root, told)
