"""Knobs of the subtyping setting (block `lung:` of a world): what CT, PET and report show of each grade, how well, how often.

Each table of six goes by grade, AAH to IA3. Given the grade (and inflammation) the modalities are independent, so that what two of them
share is what both tell of the grade: tables that fall into the same pattern are redundant, tables of unrelated patterns are unique.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnifuse.preprocess.clinic.knobs import number, positive, share
from omnifuse.preprocess.clinic.modality_world import Quality

if TYPE_CHECKING:
    from collections.abc import Iterable

GRADES = ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3")
MODALITIES = ("ct", "pet", "rep")
SMALLEST_MM, LARGEST_MM = 5.0, 40.0
TEXTS = ("stated", "order")  # easy, hard


def strength() -> float:
    return number(1.0, 0.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class CT:
    """log diameter is normal, cut off at 5 and 40 mm; the solid share is a probit of a normal.

    `strength` scales how far the grades lie apart (0: CT tells nothing). The outline of a lesion is the easy carrier, the core inside the
    ground glass the hard one. `swapped` shows in the core what the diameter told and the other way round, by maps that lose nothing: no
    ceiling moves.
    """

    diameter_mm: tuple[float, ...] = number(low=SMALLEST_MM, high=LARGEST_MM)  # medians by grade
    diameter_spread: float = positive()  # of the log
    solid: tuple[float, ...] = number(low=-4.0, high=4.0)
    solid_spread: float = positive()
    strength: float = strength()
    swapped: bool = False
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class PET:
    """log SUVmax is normal.

    `turn`: in inflamed lesions the grades' distance from the middle is multiplied by 1 - 2 turn: at 1 uptake tells the reverse, and only
    who reads the report, which states the inflammation, knows which (synergy).
    """

    suv: tuple[float, ...] = number(low=0.05, high=40.0)  # medians by grade
    suv_spread: float = positive()
    strength: float = strength()
    turn: float = share(0.0)
    scanned: tuple[float, ...] = number(low=0.0, high=1.0)  # share with a PET by grade: missing not at random where it varies
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Words:
    """Density in three words by an ordered probit; spiculation told, denied or not mentioned; inflammation, where there is any.

    `density_in`: in words of its own (stated), or in words that all three answers share, so that their order decides (order).
    """

    density: tuple[float, ...] = number(low=-4.0, high=4.0)
    density_cuts: tuple[float, ...] = number(low=-4.0, high=4.0)
    density_spread: float = positive()
    density_in: str = "stated"
    spiculated: tuple[float, ...] = number(low=0.001, high=0.999)
    mentioned: float = share()
    strength: float = strength()
    inflammation_right: float = number(0.95, 0.5, 0.999)
    written: tuple[float, ...] = number(low=0.0, high=1.0)  # share with a report by grade
    slips: float = number(0.0, 0.0, 0.2)  # of characters, typed twice; more where the report is poor
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Lung:
    """`grades`: their shares. `inflamed`: share of lesions with inflammation around, which tells nothing of the grade by itself.

    `external`: share of patients of another site, where no mark is tied to the grade (`quality.spurious` ties one to IA1 and above).
    """

    grades: tuple[float, ...] = number(low=0.005, high=0.9)
    inflamed: float = share(0.0)
    external: float = share(0.0)
    ct: CT
    pet: PET
    report: Words

    @property
    def qualities(self) -> tuple[Quality, Quality, Quality]:
        """In the order of MODALITIES."""
        return self.ct.quality, self.pet.quality, self.report.quality


def contradictions_of_lung(lung: Lung) -> Iterable[str]:
    """One phrase for each."""
    tables = {
        "grades": lung.grades, "ct.diameter_mm": lung.ct.diameter_mm, "ct.solid": lung.ct.solid, "pet.suv": lung.pet.suv,
        "pet.scanned": lung.pet.scanned, "report.density": lung.report.density, "report.spiculated": lung.report.spiculated,
        "report.written": lung.report.written,
    }  # fmt: skip
    for name, values in tables.items():
        if len(values) != len(GRADES):
            yield f"lung.{name}: {len(values)} values, but there are {len(GRADES)} grades"
    if abs(sum(lung.grades) - 1) > 1e-6:
        yield f"lung.grades: they add up to {sum(lung.grades):g}, not to 1"
    cuts = lung.report.density_cuts
    if len(cuts) != 2 or cuts[0] >= cuts[-1]:
        yield "lung.report.density_cuts: expected two cuts, the lower one first"
    if lung.report.density_in not in TEXTS:
        yield f"lung.report.density_in: {lung.report.density_in!r} is neither {TEXTS[0]} nor {TEXTS[1]}"
    if lung.pet.turn and lung.inflamed in (0.0, 1.0):
        yield f"lung.pet.turn: turns the uptake of inflamed lesions, but lung.inflamed is {lung.inflamed:g}"
    for name, quality in zip(("ct", "pet", "report"), lung.qualities):
        if quality.spurious and lung.external == 1:
            yield f"lung.{name}.quality.spurious: a tie of the internal site, but lung.external is 1"
