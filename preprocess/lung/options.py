"""What can be chosen when a lung cohort is made, checked as a whole before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnifuse.preprocess import store
from omnifuse.preprocess.lung import reports, volume
from omnifuse.preprocess.lung.manifest import HISTOLOGIES, SUBTYPES
from omnifuse.preprocess.schema import ConfigError, nearest

# What a class is called -> which cells of the manifest are it, in order of risk.
CLASSES = {
    "3": {"L1": ("AAH", "AIS"), "L2": ("MIA", "IA1"), "L3": ("IA2", "IA3")},
    "6": {name: (name,) for name in SUBTYPES},
    "histology": {name: (letter,) for letter, name in HISTOLOGIES.items()},
}
RULES = ("thin", "lung", "plain")
CHOICES = {
    "classes": tuple(CLASSES),
    "crop": ("auto", "lesion", "field"),
    "suv": ("bw", "none"),
    "other_frame": ("drop", "own"),
    "undated_reports": ("drop", "keep"),
    "on_bad_series": ("skip", "error"),
    "split": ("hash", "temporal"),
}


@dataclass(frozen=True)
class Options:
    """Choices of `build_cohort`.

    Args:
        classes: `3` (L1 to L3), `6` raw subtypes, or `histology`.
        crop: `auto` cuts a box around each lesion that is placed and takes the lung field of the others (paper mode), `lesion` leaves the
            others out, `field` takes the lung field of all.
        slices, size, crop_mm, windows, suv_max: see volume.py.
        suv: `bw`, or `none`: Bq/ml, clipped at suv_max * 5000.
        assume_weight: kg, taken where the weight is missing.
        ct_series_rule: which of several CT series of a folder is taken.
        other_frame: a PET that does not share the CT's frame of reference is left out, or keeps its own grid (paper mode).
        sections, max_chars, encoding: of reports; the encoding also of the manifest.
        undated_reports: reports that no date shows to be older than the pathology.
        on_bad_series: series that cannot be used are counted, or stop the run.
    """

    classes: str = "3"
    crop: str = "auto"
    slices: int = 24
    size: int = 224
    crop_mm: float = 64.0
    windows: tuple[str, ...] = ("lung", "mediastinum", "bone")
    suv_max: float = 10.0
    suv: str = "bw"
    assume_weight: float | None = None
    ct_series_rule: tuple[str, ...] = RULES
    other_frame: str = "drop"
    sections: tuple[str, ...] = reports.DEFAULT_SECTIONS
    max_chars: int = 1748
    encoding: str = "utf-8"
    undated_reports: str = "drop"
    on_bad_series: str = "skip"
    split: str = "hash"
    splits: Path | None = None
    assign_new: bool = False
    seed: int = 0

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", hint=nearest(str(getattr(self, name)), known))
        for name in self.ct_series_rule:
            if name not in RULES:
                raise ConfigError(f"unknown rule {name!r} for CT series", hint=nearest(name, RULES))
        reports.check_sections(self.sections)
        if not 1 <= self.max_chars <= 200_000:
            raise ConfigError("max_chars must be from 1 to 200000")
        if self.assume_weight is not None and not 1 <= self.assume_weight <= 500:
            raise ConfigError("assume_weight must be from 1 to 500 kg")
        for kind in (volume.CT, volume.PET):
            volume.shape(self.decode(kind))

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        return CLASSES[self.classes]

    def decode(self, kind: str) -> dict[str, Any]:
        """The settings of the decoder."""
        told = {**volume.DEFAULTS, "kind": kind, "slices": self.slices, "size": self.size, "crop_mm": float(self.crop_mm)}
        most = self.suv_max if self.suv == "bw" else self.suv_max * 5000
        return {**told, "windows": list(self.windows), "suv_max": float(most)}

    def to_json(self) -> dict[str, Any]:
        """JSON values; frozen lists by their content, since two files of one name differ."""
        told = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**told, "splits": None if self.splits is None else _content(Path(self.splits))}


def _content(path: Path) -> list[str]:
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [store.sha256(file) for file in files if file.is_file()]
