"""DICOM files of a folder to series of slices in order, and which of several series is taken.

    group    by SeriesInstanceUID, then by orientation, rows, columns and spacing; where positions repeat, by acquisition or time
    order    by position along the normal: file names and InstanceNumber are not spatial
    twice    two slices in one place make a series unusable; a second copy of one instance is left out and counted
    gaps     a step is uneven beyond 5% of the median one, and a gap beyond 1.5 times it; both are told, neither stops anything

Of several CT series of a study the one is taken that holds the lesion and then ranks first by the rule, by default thin, then with a lung
kernel, then without contrast, then with most slices.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from omnifuse.preprocess.lung.geometry import Stack, normal_of
from omnifuse.preprocess.lung.headers import Slice, read_slice
from omnifuse.preprocess.schema import Unreadable

SAME_PLACE_MM = 0.01
UNEVEN = 0.05
GAP = 1.5
FEWEST = 3
TWICE = "slices at the same position"
COPY = "second copy of an instance"
NOT_IMAGES = {".txt", ".csv", ".xml", ".json", ".md", ".pdf", ".jpg", ".png", ".nii", ".gz", ".zip"}
# Kernels that makers sell for lung or bone: GE by name, Siemens B/Bl/Br/I and Q from 50 on, Philips L, YA to YD, Canon FC50s and FC80s.
LUNG_KERNEL = re.compile(r"LUNG|BONE|EDGE|SHARP|^[BIHQ][LRVF]?[5-8]\d|^FC[58]\d|^L$|^Y[A-D]$")


@dataclass(frozen=True)
class Series:
    """Slices of one series in order of position. `fault` says why they cannot be used."""

    slices: tuple[Slice, ...]
    fault: str | None = None

    @property
    def first(self) -> Slice:
        return self.slices[0]

    @property
    def stack(self) -> Stack:
        first = self.first
        origins = np.array([piece.position for piece in self.slices])
        return Stack(origins, np.array(first.axes), first.spacing, first.rows, first.columns)

    @property
    def steps(self) -> np.ndarray:
        """[N - 1] mm between neighbours."""
        return np.diff(self.stack.heights)

    @property
    def step(self) -> float:
        return float(np.median(self.steps)) if len(self.slices) > 1 else 0.0

    @property
    def gaps(self) -> int:
        return int((self.steps > GAP * self.step).sum())

    @property
    def uneven(self) -> bool:
        return bool((np.abs(self.steps - self.step) > UNEVEN * self.step).any())

    @property
    def thickness(self) -> float:
        return self.first.thickness or self.step


@dataclass
class Scan:
    """What a folder holds. `left_out` counts files by reason."""

    series: list[Series] = field(default_factory=list)
    files: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def patients(self) -> set[str]:
        """Who the headers say that the slices are of; empty ids say nothing."""
        return {piece.patient for series in self.series for piece in series.slices} - {""}

    def of(self, modality: str) -> list[Series]:
        return [series for series in self.series if series.first.modality == modality]


def list_files(root: Path, folder: str) -> list[str]:
    """Names, relative to the root, of what may be slices in a folder and those below it, sorted. A file is its own list."""
    base = root / folder
    if base.is_file():
        return [folder]
    paths = (path for path in base.rglob("*") if not path.is_dir() and path.suffix.lower() not in NOT_IMAGES)
    return sorted(path.relative_to(root).as_posix() for path in paths if not path.name.startswith("."))


def scan(root: Path, names: Iterable[str], tick: Callable[[int], object] = lambda n: None) -> Scan:
    """Reads the headers of files and groups the slices among them."""
    found, slices, seen = Scan(), [], set()
    for name in names:
        found.files += 1
        tick(1)
        try:
            piece = read_slice(root, name)
        except Unreadable as error:
            found.left_out[error.reason] += 1
            continue
        key = (piece.instance, piece.bytes, piece.position)
        if piece.instance and key in seen:
            found.left_out[COPY] += 1
            continue
        seen.add(key)
        slices.append(piece)
    found.series = group(slices)
    return found


def group(slices: Sequence[Slice]) -> list[Series]:
    """Series of slices that make one stack each, ordered by position; by name where several."""
    heaps: dict[tuple, list[Slice]] = defaultdict(list)
    for piece in slices:
        axes = tuple(round(x, 3) + 0.0 for x in piece.axes)
        spacing = tuple(round(x, 4) for x in piece.spacing)
        heaps[(piece.series, piece.modality, piece.frame, axes, piece.rows, piece.columns, spacing)].append(piece)
    made = [series for heap in heaps.values() for series in _stacks(heap)]
    return sorted(made, key=lambda series: min(piece.name for piece in series.slices))


def _stacks(heap: list[Slice]) -> list[Series]:
    whole = _ordered(heap)
    if whole.fault is None:
        return [whole]
    for place in range(len(heap[0].split)):
        parts: dict[str, list[Slice]] = defaultdict(list)
        for piece in heap:
            parts[piece.split[place]].append(piece)
        split = [_ordered(part) for part in parts.values()]
        if len(parts) > 1 and all(series.fault is None for series in split):
            return split
    return [whole]


def _ordered(heap: list[Slice]) -> Series:
    normal = normal_of(heap[0].axes)
    order = sorted(heap, key=lambda piece: (float(np.dot(piece.position, normal)), piece.name))
    series = Series(tuple(order))
    return replace(series, fault=TWICE) if (series.steps < SAME_PLACE_MM).any() else series


def usable(series: Sequence[Series]) -> list[Series]:
    """Those without a fault, with at least FEWEST slices.

    Raises:
        Unreadable: there is none; the reason is the fault of the largest.
    """
    fit = [one for one in series if one.fault is None and len(one.slices) >= FEWEST]
    if not fit:
        largest = max(series, key=lambda one: len(one.slices), default=None)
        few = f"fewer than {FEWEST} slices"
        raise Unreadable("no series of this modality" if largest is None else largest.fault or few)
    return fit


def rank_ct(series: Series, rule: Sequence[str]) -> tuple:
    """Sorts the better CT first. `rule`: of thin, lung and plain, the first the weightiest."""
    thickness = series.thickness
    told = {
        "thin": 0 if thickness <= 1.5 else 1 if thickness <= 3 else 2,
        "lung": 0 if is_lung_kernel(series.first.kernel) else 1,
        "plain": 1 if series.first.contrast else 0,
    }
    return (*(told[name] for name in rule), -len(series.slices), thickness, series.first.name)


def is_lung_kernel(kernel: str) -> bool:
    return bool(LUNG_KERNEL.search(kernel.upper()))
