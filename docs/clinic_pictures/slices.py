"""slices.png: lesions of the subtyping clinic as CT and PET show them, decoded from the DICOM files that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import ndtr

from clinic_pictures.style import SOFT, bare, new_figure, save, styled
from clinic_pictures.volumes import Volume, read_volume

GRADES = ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")  # in order of risk
SIZES_MM, SOLID_SHARES, SUVS = (5.0, 15.0, 40.0), (0.05, 0.9), (1.0, 8.0)
AROUND_MM, WINDOW, SUV_MOST = 32.0, (-1000.0, 200.0), 8.0


@dataclass(frozen=True)
class Slice:
    title: str
    note: str
    values: np.ndarray  # HU or SUV


@dataclass(frozen=True)
class Slices:
    whole: Slice
    ct: list[Slice]  # ground glass, then solid core; small to large
    pet: list[Slice]  # low, high
    grades: list[tuple[Slice, Slice]]  # CT and PET


def collect(raw: Path, truth: Path) -> Slices:
    """Of the lesions that were made, the nearest to each kind that is to be shown."""
    lesions = pl.read_parquet(truth / "lesions.parquet").join(pl.read_csv(raw / "manifest.csv"), on="patient_id", maintain_order="left")
    lesions = lesions.filter(~pl.col("corrupt_ct"))
    lesions = lesions.with_columns(share=pl.Series(ndtr(lesions["solid"].to_numpy())), suv=pl.col("log_suv").exp())
    sizes = [_nearest(lesions, diameter_mm=size, share=share) for share in SOLID_SHARES for size in SIZES_MM]
    scanned = lesions.filter(pl.col("present_pet") & ~pl.col("corrupt_pet"))
    grades = []
    for grade in GRADES:
        ours = scanned.filter(pl.col("subtype") == grade)
        if len(ours):
            usual = _nearest(ours, **{name: ours[name].median() for name in ("diameter_mm", "share", "suv")})
            grades.append((_ct(raw, usual, grade), _pet(raw, usual, "")))
    whole = sizes[4]  # 15 mm, solid
    return Slices(
        whole=_ct(raw, whole, "A whole slice, 160 mm", around=None),
        ct=[_ct(raw, row, f"{row['diameter_mm']:.0f} mm") for row in sizes],
        pet=[_pet(raw, _nearest(scanned, suv=suv), word) for suv, word in zip(SUVS, ("Low uptake", "High uptake"))],
        grades=grades,
    )


def _nearest(lesions: pl.DataFrame, **wanted: float) -> dict:
    """The lesion whose tokens are nearest, each in its own spread (sizes and uptakes by their logarithm)."""
    away = np.zeros(len(lesions))
    for name, value in wanted.items():
        found, target = lesions[name].to_numpy(), value
        if name != "share":
            found, target = np.log(found), np.log(target)
        away += ((found - target) / max(found.std(), 1e-9)) ** 2
    return lesions.row(int(away.argmin()), named=True)


def _ct(raw: Path, row: dict, title: str, around: float | None = AROUND_MM) -> Slice:
    solid = f"core {100 * row['share']:.0f}%" if title.endswith("mm") else f"{row['diameter_mm']:.0f} mm, core {100 * row['share']:.0f}%"
    return Slice(title, solid, _cut(read_volume(raw, row["ct_series"]), row, around))


def _pet(raw: Path, row: dict, title: str) -> Slice:
    plane = _cut(read_volume(raw, row["pet_series"]), row, AROUND_MM)
    return Slice(title, f"SUVmax {row['suv']:.1f}", plane)


def _cut(volume: Volume, row: dict, around: float | None) -> np.ndarray:
    """The slice through the lesion, `around` mm to each side; what lies outside of the series is left blank."""
    x, y, z = (float(part) for part in row["lesion_xyz_mm"].split())
    k, i, j = volume.nearest(x, y, z)
    if around is None:
        return volume.values[k]
    reach = round(around / (volume.columns[1] - volume.columns[0]))
    padded = np.pad(volume.values[k], reach, constant_values=np.nan)
    return padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1]


def draw(slices: Slices, path: Path) -> None:
    with styled():
        figure = new_figure(10.2, 8.2)
        above, below = figure.subfigures(2, 1, height_ratios=(1.12, 1), hspace=0.03)
        left, right = above.subfigures(1, 2, width_ratios=(3.1, 2.0))
        _draw_sizes(left, slices.ct)
        _draw_whole_and_pet(right, slices)
        below.suptitle("The usual lesion of each grade, in CT and in PET", x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        axes = below.subplots(2, len(slices.grades), squeeze=False)
        for column, (ct, pet) in zip(axes.T, slices.grades):
            _show_ct(column[0], ct)
            _show_pet(column[1], pet)
        save(figure, path, colours=None)


def _draw_sizes(part, chosen: list[Slice]) -> None:
    title = "CT, 64 mm wide: diameter (easy), core as share of the volume (hard)"
    part.suptitle(title, x=0.015, ha="left", fontweight="bold", fontsize=10.5)
    axes = part.subplots(2, 3)
    for one, place in zip(chosen, axes.flat):
        _show_ct(place, one)
    for place, word in zip(axes[:, 0], ("ground glass", "solid")):
        place.set_ylabel(word, fontsize=9)


def _draw_whole_and_pet(part, slices: Slices) -> None:
    part.suptitle("The field of CT; PET in SUV", x=0.02, ha="left", fontweight="bold", fontsize=10.5)
    axes = part.subplots(2, 2)
    _show_ct(axes[0, 0], slices.whole)
    scale = axes[0, 1]
    bare(scale)
    for place, one in zip(axes[1], slices.pet):
        shown = _show_pet(place, one)
    inside = scale.inset_axes((0.06, 0.30, 0.82, 0.09))
    part.colorbar(shown, cax=inside, orientation="horizontal", label="SUV, body weight")
    grey = scale.inset_axes((0.06, 0.76, 0.82, 0.09))
    part.colorbar(axes[0, 0].images[0], cax=grey, orientation="horizontal", label="Hounsfield units", ticks=(-1000, -600, -200, 200))


def _show_ct(axes, one: Slice):
    return _show(axes, one, "gray", *WINDOW)


def _show_pet(axes, one: Slice):
    return _show(axes, one, "magma", 0, SUV_MOST)


def _show(axes, one: Slice, colours: str, low: float, high: float):
    shown = axes.imshow(one.values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(one.title, pad=3)
    axes.set_xlabel(one.note, fontsize=7.8, color=SOFT, labelpad=2)
    bare(axes)
    return shown
