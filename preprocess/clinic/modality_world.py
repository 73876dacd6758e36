"""Knobs of the modalities beside the tables: hidden findings, chest exams, films, reports, signals, and the sites that use them."""

from __future__ import annotations

from dataclasses import dataclass

from omnifuse.preprocess.clinic.knobs import not_negative, number, positive, share, slope


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Share of stays with each hidden finding; they depend neither on severity nor on each other.

    `film`, `report` and `signal` are seen in that modality alone (unique information), `effusion` in films and reports (redundant
    between the two): it tells nothing by itself, but turns what the trend means (synergistic with the tables).
    """

    film: float = number(low=0.02, high=0.98)
    report: float = number(low=0.02, high=0.98)
    signal: float = number(low=0.02, high=0.98)
    effusion: float = number(low=0.02, high=0.98)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """A yes or no of a stay by probit, with marginal rate `rate`; the other knobs are slopes.

    `severity` is of R, `ventilated` and `unit` of what the tables show (missing at random), `finding` of the hidden finding itself
    (missing not at random), `external` of the other site. `unit` is +1 in the medical and cardiac units and -1 in the others.
    """

    rate: float = share()
    severity: float = slope(0.0)
    ventilated: float = slope(0.0)
    unit: float = slope(0.0)
    finding: float = slope(0.0)
    external: float = slope(0.0)


@dataclass(frozen=True, kw_only=True)
class Hours:
    """When: a chance in the first hour of the stay and in each later one; `severity` shifts the log odds by that hour's severity."""

    first: float = number(low=0.0, high=0.999)
    later: float = number(low=0.0, high=0.999)
    severity: float = slope(0.0)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of a patient's items of one modality.

    What an item shows is blurred by exp(spread * normal), drawn once for each patient; `corrupt` is the share of items that show
    nothing at all (motion, a cut-off text, lost leads), more in the patients whose other items are poor; `spurious` ties a mark that
    has no medical meaning to the outcome, at the internal sites alone: P(mark) = (1 + spurious) / 2 in those who die.
    """

    spread: float = not_negative()
    corrupt: float = number(low=0.0, high=0.9)
    spurious: float = number(0.0, -0.95, 0.95)


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Chest exams: each has a report; `before` is the share of stays with one between admission and ICU, which tells nothing.

    A report is known `report_minutes` (median, log-normal with `report_spread`) after its exam; `late` of them a day or more after it.
    """

    ordered: Chance
    hours: Hours
    before: float = share()
    upright: float = share()  # PA and lateral views instead of AP
    report_minutes: float = positive()
    report_spread: float = not_negative()
    late: float = share()
    other: float = not_negative()  # reports of other exams, a day: head, abdomen, vessels


@dataclass(frozen=True, kw_only=True)
class Film:
    """Films of the exams of those stays that have them in the archive.

    Heart size is the easy carrier, the extent of a fine texture the hard one. `unique_in` says which of the two carries the finding
    `film`; the other one carries R. Both are measures of unit spread between stays (`between`) and between films of a stay (`within`).
    """

    archived: Chance
    unique_in: str
    redundant: float = number()  # change of the one carrier per unit of R
    unique: float = number()  # change of the other with the finding
    effusion: float = number()  # change of the fluid at the base with effusion
    between: float = not_negative()
    within: float = positive()
    size: int = number(96, 48, 512)
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Report:
    """What reports state: the effusion, the finding `report`, and a grade of congestion that follows R by an ordered probit.

    `unique_in` says whether the finding is told in words of its own (stated), or in words that both answers share, so that their order
    decides (hedged); the grade is told the other way round.
    """

    unique_in: str
    redundant: float = number()  # slope of the grade on R
    grades: tuple[float, ...] = number(low=0.0, high=1.0)  # shares of none, mild, moderate, severe
    right: float = number(low=0.5, high=0.999)  # a told finding is the true one
    hedged: float = share()  # told as possible, which tells nothing
    silent: float = share()  # not told
    kept: float = share()  # the next report states the same without a fresh look
    copied: float = share()  # its whole text is the last one's
    typos: float = share()  # of words
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Electrocardiograms of ten seconds: the heart rate is the easy carrier, the ST segment of four leads the hard one."""

    ordered: Chance
    hours: Hours
    unique_in: str
    redundant: float = number()
    unique: float = number()
    between: float = not_negative()
    within: float = positive()
    hertz: int = number(100, 50, 500)
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Discharge:
    """Discharge notes, which tell outcome and diagnoses; `rate`: share of admissions with one."""

    rate: float = share()


@dataclass(frozen=True, kw_only=True)
class Sites:
    """`external`: share of patients of another site, which alone uses the third family of report templates and knows no spurious tie."""

    external: float = share()
    second_family: float = share()  # of the internal patients


CARRIERS = {"film": ("heart", "texture"), "report": ("stated", "hedged"), "signal": ("rate", "st")}  # easy, hard
