"""The CT and the PET of a lesion: which series, where it is cut, and why one was left out.

One CT of the folder is taken (series.rank_ct), and one PET that gives SUV. Both are cut by the same box along the CT's directions; a PET
lies on the CT's grid only where the two share the frame of reference. Without a lesion's place the box is the lung field of the CT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnifuse.preprocess.lung import suv
from omnifuse.preprocess.lung.field import lung_range
from omnifuse.preprocess.lung.geometry import Stack, normal_of
from omnifuse.preprocess.lung.headers import CT, PET
from omnifuse.preprocess.lung.lesions import Place, place_from_file
from omnifuse.preprocess.lung.options import Options
from omnifuse.preprocess.lung.series import Scan, Series, rank_ct, usable
from omnifuse.preprocess.schema import Unreadable

OUTSIDE = "the lesion lies outside of the series"
OTHER_FRAME = "on another frame of reference than the CT"
AFTER = "examined after the pathology"
SEVERAL = "slices of several patients in one folder"
UNPLACED = "no lesion is placed"
CROP, FIELD = "crop", "field"


@dataclass
class Found:
    """Of one lesion: items (columns of volume.COLUMNS, null where missing), how they are cut, and the scanner's terms."""

    ct: dict[str, Any] | None = None
    pet: dict[str, Any] | None = None
    cut: str | None = None
    scanner: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tally:
    """What preprocessing met. `unusable` counts by column and reason, `listed` names rows of the manifest."""

    files: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unusable: Counter[tuple[str, str]] = field(default_factory=Counter)
    listed: list[dict[str, Any]] = field(default_factory=list)
    suv: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)

    def fault(self, row: dict[str, Any], column: str, reason: str) -> None:
        self.unusable[(column, reason)] += 1
        self.listed.append({"row": int(row["row"]), "column": column, "reason": reason})

    def scanned(self, folder: str, scan: Scan) -> None:
        """Counts a folder once, however many lesions share it."""
        if folder not in self._seen:
            self._seen.add(folder)
            self.files += scan.files
            self.left_out += scan.left_out


@dataclass
class Imaging:
    """Finds the items of one lesion after the other. `scans` holds the folders of the patient at hand, by name."""

    root: Path
    options: Options
    tally: Tally
    scans: dict[str, Scan]
    files: dict[str, list[str]]

    def find(self, row: dict[str, Any]) -> Found:
        """What there is of CT and PET for a row of the manifest; what cannot be used is told in the tally."""
        if row["exam_date"] is not None and row["pathology_date"] is not None and row["exam_date"].date() > row["pathology_date"].date():
            for column in ("ct_series", "pet_series"):
                if row[column] is not None:
                    self.tally.fault(row, column, AFTER)
            return Found()
        cts, place = self._candidates(row, "ct_series", CT), None
        if self.options.crop != FIELD:
            place = self._place(row, cts)
        pets = self._candidates(row, "pet_series", PET)
        if self.options.crop == "lesion" and place is None:
            for column in [name for name, series in (("ct_series", cts), ("pet_series", pets)) if series]:
                self.tally.fault(row, column, UNPLACED)
            return Found()
        ct = self._attempt(row, "ct_series", lambda: self._choose_ct(cts, place)) if cts else None
        chosen = self._attempt(row, "pet_series", lambda: self._choose_pet(pets, ct, place)) if pets else None
        return self._items(row, ct, chosen, place)

    def _candidates(self, row: dict[str, Any], column: str, modality: str) -> list[Series]:
        if row[column] is None:
            return []
        scan = self.scans[row[column]]
        self.tally.scanned(row[column], scan)
        if not scan.of(modality) and scan.left_out:
            reason = scan.left_out.most_common(1)[0][0]
            self.tally.fault(row, column, f"no series: {reason}")
            return []
        if len(scan.patients) > 1:
            self.tally.fault(row, column, SEVERAL)
            return []
        return self._attempt(row, column, lambda: usable(scan.of(modality))) or []

    def _attempt(self, row: dict[str, Any], column: str, work) -> Any:
        try:
            return work()
        except Unreadable as error:
            self.tally.fault(row, column, error.reason)
            return None

    def _place(self, row: dict[str, Any], cts: list[Series]) -> Place | None:
        if row["lesion_xyz_mm"] is not None:
            return Place(tuple(row["lesion_xyz_mm"]))
        if row["lesion_file"] is None:
            return None
        names = self.files[row["lesion_file"]]
        return self._attempt(row, "lesion_file", lambda: place_from_file(self.root, names, row["lesion_segment"], cts))

    def _choose_ct(self, candidates: list[Series], place: Place | None) -> Series:
        fitting = [series for series in candidates if place is None or _holds(series, place)]
        if not fitting:
            raise Unreadable(OUTSIDE)
        chosen = min(fitting, key=lambda series: rank_ct(series, self.options.ct_series_rule))
        self.tally.notes["CT chosen among several series"] += len(candidates) > 1
        self.tally.notes["CT series with gaps in z"] += chosen.gaps > 0
        self.tally.notes["CT series with uneven steps"] += chosen.uneven
        return chosen

    def _choose_pet(self, candidates: list[Series], ct: Series | None, place: Place | None) -> tuple[Series, suv.Suv]:
        """The PET with most slices that gives SUV, of those on the CT's frame of reference where there are any."""
        judged, reasons = [], []
        for series in candidates:
            try:
                told = suv.compute_suv(
                    [piece.pet for piece in series.slices], mode=self.options.suv, assume_weight_kg=self.options.assume_weight
                )
                judged.append((series, told))
            except Unreadable as error:
                reasons.append(error.reason)
        if not judged:
            raise Unreadable(reasons[0])
        near = [pair for pair in judged if ct is None or (ct.first.frame and pair[0].first.frame == ct.first.frame)]
        if not near and self.options.other_frame == "drop":
            raise Unreadable(OTHER_FRAME)
        if near and place is not None:
            near = [pair for pair in near if _holds(pair[0], place)]
            if not near:
                raise Unreadable(OUTSIDE)
        chosen = min(near or judged, key=lambda pair: (-len(pair[0].slices), pair[0].first.name))
        self.tally.suv.update(chosen[1].warnings)
        self.tally.notes["PET on a frame of its own"] += not near
        self.tally.notes["CT and PET with different patient ids"] += ct is not None and _differ(ct.first.patient, chosen[0].first.patient)
        self.tally.notes["PET series with gaps in z"] += chosen[0].gaps > 0
        return chosen

    def _items(self, row: dict[str, Any], ct: Series | None, pet: tuple[Series, suv.Suv] | None, place: Place | None) -> Found:
        found = Found(scanner=_scanner(ct, pet[0] if pet else None))
        if ct is None and pet is None:
            return found
        found.cut = CROP if place is not None else FIELD
        leading = ct or pet[0]
        box = _crop(leading.stack, place) if place is not None else self._attempt(row, "ct_series", lambda: self._field(leading))
        if box is None:
            return found
        if ct is not None:
            found.ct = {**describe_stack(ct, [1.0] * len(ct.slices)), **box}
        if pet is not None:
            series, told = pet
            shared = ct is None or series.first.frame == ct.first.frame
            found.pet = {**describe_stack(series, told.factors), **(box if shared else whole_stack(series.stack))}
        return found

    def _field(self, series: Series) -> dict[str, Any]:
        if series.first.modality == CT:
            told = lung_range(self.root, series)
            if told is not None:
                return whole_stack(series.stack, told)
            self.tally.notes["CT without a lung field: the whole range was taken"] += 1
        return whole_stack(series.stack)


def _holds(series: Series, place: Place) -> bool:
    return place.frame in ("", series.first.frame) and series.stack.holds(place.centre)


def _differ(one: str, other: str) -> bool:
    return bool(one) and bool(other) and one != other


def _crop(stack: Stack, place: Place) -> dict[str, Any]:
    return {"centre": list(place.centre), "grid": stack.axes.tolist(), "extent": None}


def whole_stack(stack: Stack, heights: tuple[float, float] | None = None) -> dict[str, Any]:
    """A box of whole slices, between two positions."""
    middle, normal = stack.middle(), normal_of(stack.axes)
    low, high = heights or (stack.heights[0], stack.heights[-1])
    centre = middle + ((low + high) / 2 - middle @ normal) * normal
    extent = [max(high - low, 1.0), stack.rows * stack.spacing[0], stack.columns * stack.spacing[1]]
    return {"centre": centre.tolist(), "grid": stack.axes.tolist(), "extent": [float(length) for length in extent]}


def describe_stack(series: Series, factors: Sequence[float]) -> dict[str, Any]:
    first = series.first
    return {
        "names": [piece.name for piece in series.slices],
        "origins": np.array([piece.position for piece in series.slices]).ravel().tolist(),
        "slopes": [piece.slope * factor for piece, factor in zip(series.slices, factors)],
        "intercepts": [piece.intercept * factor for piece, factor in zip(series.slices, factors)],
        "padding": first.padding,
        "padding_limit": first.padding_limit,
        "axes": list(first.axes),
        "spacing": list(first.spacing),
        "rows": first.rows,
        "columns": first.columns,
    }


def _scanner(ct: Series | None, pet: Series | None) -> dict[str, Any]:
    """What a model could learn of the scanner instead of the lesion."""
    told: dict[str, Any] = {}
    for name, series in (("ct", ct), ("pet", pet)):
        first = series.first if series is not None else None
        told[f"{name}_maker"] = first.maker if first else None
        told[f"{name}_model"] = first.model if first else None
        told[f"{name}_kernel"] = first.kernel if first else None
        told[f"{name}_thickness_mm"] = series.thickness if series is not None else None
    told["ct_contrast"] = None if ct is None else "yes" if ct.first.contrast else "no"
    told["ct_voltage"] = ct.first.voltage if ct is not None else None
    return told
