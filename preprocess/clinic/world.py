"""A world: every knob of the synthetic clinic, and the model that they are knobs of. `worldfile.py` reads one from YAML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic.knobs import not_negative, number, positive, share, slope
from omnifuse.preprocess.clinic.lung_world import Lung
from omnifuse.preprocess.clinic.modality_world import Discharge, Exam, Film, Findings, Report, Signal, Sites


@dataclass(frozen=True, kw_only=True)
class Patients:
    """Who comes, and how often."""

    age_mean: float = number(low=18, high=91)
    age_sd: float = positive()
    male: float = share()
    icu_again: float = number(low=0, high=0.9)  # chance of one more admission with an ICU stay, again and again, six at most
    ward_only: float = number(low=0, high=0.9)  # the same for admissions without an ICU stay, three at most
    height_female_cm: float = number(low=100, high=220)
    height_male_cm: float = number(low=100, high=220)
    height_sd_cm: float = positive()
    bmi_mean: float = number(low=12, high=60)
    bmi_sd: float = positive()


@dataclass(frozen=True, kw_only=True)
class Severity:
    """The latent course: severity(t) = level * R + trend * D * (1 - exp(-t / trend_hours)) + wander * U(t); R, D, U have unit variance.

    R is shared between the stays of a patient by `frailty` and grows with age by `age`, both correlations; U is an Ornstein-Uhlenbeck
    process that forgets in `wander_hours`.
    """

    level: float = not_negative()
    trend: float = not_negative()
    trend_hours: float = positive()
    wander: float = not_negative()
    wander_hours: float = positive()
    frailty: float = share()
    age: float = share()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """In-hospital death, logistic in a weighted sum of R, D, the findings of unit variance, and effusion times D.

    Intercept and slope are found such that among the stays of `Stays.design_hours` or more the prevalence is `prevalence` and the AUROC
    of P(death | all of these) is `latent_auroc`. The squares of the weights are the designed shares of information.
    """

    prevalence: float = number(low=0.01, high=0.99)
    latent_auroc: float = number(low=0.5, high=0.99)
    level_weight: float = not_negative()
    trend_weight: float = not_negative()
    film_weight: float = not_negative()
    report_weight: float = not_negative()
    signal_weight: float = not_negative()
    synergy_weight: float = not_negative()


@dataclass(frozen=True, kw_only=True)
class Stays:
    """Length and shape of a stay: log hours are normal, with mean log(median_hours) + severity * R + death * died."""

    median_hours: float = positive()
    spread: float = positive()
    severity: float = slope()
    death: float = slope()
    longest_days: float = number(low=3, high=60)
    design_hours: float = number(low=24, high=96)
    die_in_icu: float = share()
    second_stay: float = share()  # admissions with two ICU stays, which the benchmarks exclude
    transfer: float = share()  # stays whose last unit is not the first, also excluded


@dataclass(frozen=True, kw_only=True)
class Device:
    """A stay has it with probit P = rate, more often in the sick; `hours` is the median duration (null: the whole stay)."""

    rate: float = share()
    severity: float = slope()
    hours: float | None = positive(None)
    spread: float = positive(1.0)


@dataclass(frozen=True, kw_only=True)
class Round:
    """When the bedside is visited: a chance for each quarter of an hour, `scheduled` every so many hours, `between` otherwise.

    `severity` shifts the log odds by the expected severity of that hour: the sick are charted more often.
    """

    every_hours: float = number(low=0.25, high=48)
    scheduled: float = number(low=0.0, high=0.999)
    between: float = number(low=0.0, high=0.999)
    severity: float = slope(0.0)
    device: str | None = None
    on_the_minute: float = share(0.85)  # scheduled visits charted at the full hour
    missing: float = share(0.0)  # stays without any such visit, by probit, with missing_severity * R
    missing_severity: float = slope(0.0)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A measured variable, in its own units (log units where `log`).

    value = mean + signal * severity(t) + sd_between * B + sum of shifts * liability + sd_within * N(t) + sd_error * E,
    N an Ornstein-Uhlenbeck process that forgets in `hours`; `follows` adds that share of another variable's deviation from its mean.
    """

    mean: float = number()
    sd_between: float = not_negative()
    sd_within: float = positive()
    hours: float = positive()
    sd_error: float = positive()
    signal: float = number(0.0)
    low: float = number()
    high: float = number()
    decimals: int = number(0, 0, 3)
    log: bool = False
    follows: dict[str, float] = field(default_factory=dict)
    charted: float = share(1.0)  # per visit
    missing: float = share(0.0)  # stays that never have it, by probit, with missing_severity * R
    missing_severity: float = slope(0.0)


@dataclass(frozen=True, kw_only=True)
class Ordinal:
    """A variable of ordered levels, the best first: a probit of signal * expected severity, kept from visit to visit.

    With probability exp(-gap / hours) a reading repeats the last one, else it is drawn anew.
    """

    levels: tuple[str, ...]
    shares: tuple[float, ...] = number(low=0.0, high=1.0)
    hours: float = positive()
    signal: float = slope(0.0)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A diagnosis by the liability-threshold model: present where a unit normal liability exceeds the quantile of its prevalence.

    The liability is severity * R + frailty * F + age * A + what is its own; `shifts` move variables per unit of liability.
    """

    prevalence: float = number(low=0.001, high=0.9)
    chronic: bool = False
    severity: float = number(0.0, -0.95, 0.95)
    frailty: float = number(0.0, -0.95, 0.95)
    age: float = number(0.0, -0.95, 0.95)
    shifts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """Label noise by era: how many of the conditions that are there get coded, and of those that are not."""

    icd9_sensitivity: float = share()
    icd10_sensitivity: float = share()
    false_positive: float = share()
    background_codes: float = not_negative()


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of rows (or stays, where said) with a fault of real tables."""

    outlier: float = share()  # a slipped digit or an impossible number
    outlier_warned: float = share()  # of these, flagged by the charting system
    warning: float = share()  # flagged although plausible
    duplicate: float = share()  # rows charted twice
    censored_lab: float = share()  # "___" in the value, nothing in valuenum
    lab_without_admission: float = share()
    swapped_temperature: float = share()  # Celsius under the Fahrenheit item
    fio2_fraction: float = share()  # 0.4 instead of 40
    height_inches: float = share()  # stays: inches under the item in cm
    celsius_stay: float = share()  # stays charted in Celsius altogether: no fault, the other item
    venous_gas: float = share()
    urine_per_day: float = not_negative()  # urine pH and glucose, which are not the blood's
    lab_before_icu: float = share()  # stays: a glucose of one to six hours before the ICU


@dataclass(frozen=True, kw_only=True)
class World:
    name: str
    patients: Patients
    severity: Severity
    outcome: Outcome
    stays: Stays
    devices: dict[str, Device]
    rounds: dict[str, Round]
    variables: dict[str, Variable]
    ordinals: dict[str, Ordinal]
    body: dict[str, float] = field(metadata={"low": 0.0, "high": 1.0})  # shares of stays without height, admission and daily weight
    conditions: dict[str, Condition]
    coding: Coding
    faults: Faults
    findings: Findings
    sites: Sites
    exam: Exam
    film: Film
    report: Report
    signal: Signal
    discharge: Discharge
    lung: Lung

    @property
    def icu_knobs(self) -> dict[str, Any]:
        """All knobs but those of the subtyping setting."""
        return {name: knobs for name, knobs in dataclasses.asdict(self).items() if name != "lung"}

    @property
    def fingerprint(self) -> str:
        """sha256 of the knobs of the ICU: a change of `lung` voids no table of it."""
        return store.digest(self.icu_knobs)

    @property
    def lung_fingerprint(self) -> str:
        """sha256 of the knobs of the subtyping setting."""
        return store.digest({"name": self.name, "lung": dataclasses.asdict(self.lung)})
