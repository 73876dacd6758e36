"""The planted outcome of a bench whose noise is real: hidden numbers, who dies of them, and what shows them.

    hidden    z_ehr, z_film, z_both of each stay: independent unit normals, of the stay's own stream, the same at every dose
    death     Bernoulli(expit(a + 2 z_ehr + 1.5 z_film + 1.5 z_both)); a by quadrature, such that 30% die
    series    each carrier moves by dose x step x its own sd x z during the whole stay (SHOWN; planted_tables.py)
    films     z_film as texture, z_both as a soft disc (planted_films.py); a coin decides which stays have a film

P(death | the hidden numbers of what is present) is exact, by quadrature. It is no method's to reach at a small dose, where the real noise
hides the numbers, and nobody's to exceed at any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.special import expit

from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.outcome import weighted_auroc

HOURS = 48
HIDDEN = {"z_ehr": 2.0, "z_film": 1.5, "z_both": 1.5}  # log odds of death for one unit
SEES = {"ehr": ("z_ehr", "z_both"), "cxr": ("z_film", "z_both"), "ehr+cxr": tuple(HIDDEN)}
PREVALENCE, FILM_SHARE = 0.3, 0.6
SUBJECT, ADMISSION, STAY = 10_000_000, 20_000_000, 30_000_000  # first ids, in the ranges of MIMIC-IV
AXIS = np.linspace(-8, 8, 401)
NORMAL = np.exp(-0.5 * AXIS**2) / np.exp(-0.5 * AXIS**2).sum()


@dataclass(frozen=True)
class Carrier:
    """A measured variable that moves with a hidden number: by `step` of its own sd for each unit of it and of the dose.

    Values outside of [low, high] are artefacts: they stay, and count in no sd. What moves out of the range stops at its border.
    """

    hidden: str
    step: float
    items: tuple[int, ...]
    low: float
    high: float


# Failing circulation (z_ehr), and an infiltrate with fever (z_both), which films show too.
SHOWN = {
    "heart rate": Carrier("z_ehr", 0.5, (220045,), 20, 220),
    "mean pressure": Carrier("z_ehr", -0.5, (220052, 220181, 225312), 20, 200),
    "systolic pressure": Carrier("z_ehr", -0.5, (220050, 220179, 225309), 30, 260),
    "diastolic pressure": Carrier("z_ehr", -0.5, (220051, 220180, 225310), 12, 160),
    "respiratory rate": Carrier("z_both", 0.5, (220210, 224422, 224690), 4, 60),
    "saturation": Carrier("z_both", -0.5, (220277,), 60, 100),
    "temperature, F": Carrier("z_both", 0.5, (223761,), 90, 108),
    "temperature, C": Carrier("z_both", 0.5, (223762,), 32, 42.2),
}


def intercept() -> float:
    """`a`: with it PREVALENCE die."""
    spread = _spread(HIDDEN)
    return brentq(lambda a: NORMAL @ expit(a + spread * AXIS) - PREVALENCE, -20, 20)


def _spread(names) -> float:
    """sd of what some hidden numbers add to the log odds."""
    return float(np.sqrt(sum(HIDDEN[name] ** 2 for name in names)))


def probability(z: pl.DataFrame, known: tuple[str, ...]) -> np.ndarray:
    """[n] P(death | the known ones of the hidden numbers), the others integrated over."""
    odds = intercept() + sum((HIDDEN[name] * z[name].to_numpy() for name in known), np.zeros(z.height))
    return (expit(odds[:, None] + _spread(set(HIDDEN) - set(known)) * AXIS) * NORMAL).sum(1)  # not @: its sums depend on n


def designed_auroc(film_share: float | None = None, sees: str = "ehr+cxr") -> float:
    """AUROC of the truth in endless data: of what `sees` shows, or of the series and, in a share of the stays, the film."""
    parts = {sees: 1.0} if film_share is None else {"ehr+cxr": film_share, "ehr": 1 - film_share}
    scores, cases, controls = [], [], []
    for name, share in parts.items():
        spread, left = _spread(SEES[name]), _spread(set(HIDDEN) - set(SEES[name]))
        risk = expit(intercept() + spread * AXIS[:, None] + left * AXIS) @ NORMAL
        scores.append(risk), cases.append(share * NORMAL * risk), controls.append(share * NORMAL * (1 - risk))
    return weighted_auroc(*(np.concatenate(each) for each in (scores, cases, controls)))[0]


def draw_truth(seed: int, patients: int, sources: int, film_share: float = FILM_SHARE) -> pl.DataFrame:
    """A row a planted patient: source (index of the real stay), hidden numbers, has_film, probabilities and died.

    Patient 17 is the same in a bench of 20 or of 20,000, and at every dose.
    """
    draws = [stream(seed, patient, "planted") for patient in range(patients)]
    numbers = np.array([[*one.standard_normal(3), *one.random(2)] for one in draws]).reshape(patients, 5)
    truth = pl.DataFrame(dict(zip(HIDDEN, numbers.T)))
    risk = {sees: probability(truth, known) for sees, known in SEES.items()}
    who = np.arange(patients)
    return truth.with_columns(
        subject_id=pl.Series(SUBJECT + who), hadm_id=pl.Series(ADMISSION + who), stay_id=pl.Series(STAY + who),
        source=pl.Series(who % sources), has_film=pl.Series(numbers[:, 3] < film_share), died=pl.Series(numbers[:, 4] < risk["ehr+cxr"]),
        **{f"p_{sees}": pl.Series(values) for sees, values in risk.items()},
    ).with_columns(p_present=pl.when("has_film").then("p_ehr+cxr").otherwise("p_ehr"))  # fmt: skip
