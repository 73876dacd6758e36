"""The design of the 32 worlds: a Latin hypercube of 28 over nine knobs that both settings share, and four limits.

    python -m omnifuse.preprocess.clinic.worldset_design        writes worlds/set32.yaml anew, to the same bytes

| axis | ICU | subtyping |
|---|---|---|
| redundancy | share of R, which all modalities show, in what is not synergy; the rest evenly to trend and the three findings | the grades' means follow their order in all modalities with that share of variance, in the rest a pattern of each modality's own |
| balance | strength of films, reports and signals relative to their strongest | of PET and report |
| carrier | the findings in heart size, stated words, heart rate (easy) or texture, order of words, ST segment (hard) | CT tells by the diameter or by the core; density stated or by order |
| quality | spread of the log noise of patients, all modalities but the tables | all modalities |
| corrupt | share of films, texts, signals that show nothing | of CT, PET, reports |
| missing | stays without film, without signal; half as many without any exam and report | lesions without PET; half as many without report |
| mnar | slopes of these chances on severity and on the hidden finding | on the grade |
| synergy | share of effusion times trend | turn of the uptake in inflamed lesions, its square root |
| prevalence | of death | of IA3 |
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from scipy.optimize import brentq
from scipy.special import expit, ndtr
from scipy.stats import qmc

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import worldset

SEED, DRAWN = 4101, 28  # of 10,000 seeds the one whose axes correlate least: 0.25 at most
LATENT_AUROC = 0.93  # what all prevalences allow: a stay that another one follows was survived
AXES = {
    "redundancy": (0.1, 0.8), "balance": (0.35, 1.0), "carrier": ("easy", "hard"), "quality": (0.0, 0.6), "corrupt": (0.0, 0.25),
    "missing": (0.05, 0.6), "mnar": (0.0, 0.8), "synergy": (0.0, 0.35), "prevalence": (0.06, 0.25),
}  # fmt: skip
LIMITS = ("null", "tables_only", "clean", "separate")
ORDER = np.arange(6.0)
# Patterns of the grades that three binary questions make: early or invasive, third kind or not, first or second of the others.
OWN = {"ct": np.array([0, 0, 0, 1, 1, 1.0]), "pet": np.array([0, 1, 1, 0, 1, 1.0]), "rep": np.array([0, -1, 1, 0, -1, 1.0])}
GRADES = np.array([0.07, 0.15, 0.23, 0.22, 0.20])  # of `default`, without IA3


def design() -> list[dict[str, Any]]:
    """Entries of the file: the same whenever it is called."""
    sample = qmc.LatinHypercube(d=len(AXES), rng=np.random.default_rng(SEED), optimization=None).random(DRAWN)
    entries = []
    for i, row in enumerate(sample):
        at = {name: _place(u, *ends) for u, (name, ends) in zip(row, AXES.items())}
        entry = {"name": f"{i + 1:02d}", "seed": 1000 + i + 1, "base": "default", "coordinates": at}
        entries.append(entry | {"knobs": {**icu_knobs(**at), "lung": lung_knobs(**at)}})
    limits = [{"name": name, "seed": 1001 + DRAWN + i, "base": name, "coordinates": {}, "knobs": {}} for i, name in enumerate(LIMITS)]
    return entries + limits


def _place(u: float, low: Any, high: Any) -> Any:
    return (low if u < 0.5 else high) if isinstance(low, str) else round(float(low + u * (high - low)), 3)


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, float), 4).tolist()


def icu_knobs(
    redundancy: float, balance: float, carrier: str, quality: float, corrupt: float, missing: float, mnar: float, synergy: float,
    prevalence: float,
) -> dict[str, Any]:  # fmt: skip
    """What differs from `default` in the ICU."""
    shares = {"level": redundancy * (1 - synergy), "synergy": synergy}
    shares |= dict.fromkeys(("trend", "film", "report", "signal"), (1 - redundancy) * (1 - synergy) / 4)
    hard, blurred = carrier == "hard", {"spread": quality, "corrupt": corrupt}
    exams = 1 - missing / 2
    weights = {f"{name}_weight": _rounded(share**0.5) for name, share in shares.items()}
    return {
        "outcome": {"prevalence": prevalence, "latent_auroc": LATENT_AUROC, **weights},
        "exam": {"ordered": {"rate": _rounded(exams), "severity": _rounded(mnar / 2), "finding": mnar}},
        "film": {
            "archived": {"rate": _rounded((1 - missing) / exams), "finding": mnar},
            "unique_in": "texture" if hard else "heart",
            "redundant": _rounded(0.9 * balance), "unique": _rounded(2.2 * balance), "effusion": _rounded(2.4 * balance),
            "quality": blurred,
        },
        "report": {
            "unique_in": "hedged" if hard else "stated",
            "redundant": _rounded(0.9 * balance), "right": _rounded(ndtr(1.5 * balance)), "quality": blurred,
        },
        "signal": {
            "ordered": {"rate": _rounded(1 - missing), "severity": _rounded(mnar / 2), "finding": mnar},
            "unique_in": "st" if hard else "rate",
            "redundant": _rounded(0.9 * balance), "unique": _rounded(2.0 * balance), "quality": blurred,
        },
    }  # fmt: skip


def lung_knobs(
    redundancy: float, balance: float, carrier: str, quality: float, corrupt: float, missing: float, mnar: float, synergy: float,
    prevalence: float,
) -> dict[str, Any]:  # fmt: skip
    """What differs from `default` in the subtyping setting."""
    prior = np.append(GRADES * (1 - prevalence) / GRADES.sum(), prevalence)
    prior = np.round(prior / prior.sum(), 4)
    prior[2] += 1 - prior.sum()
    order, own = _standardised(ORDER, prior), {name: _standardised(pattern, prior) for name, pattern in OWN.items()}
    shared, apart = np.sqrt(redundancy), np.sqrt(1 - redundancy)
    blurred, hard = {"spread": quality, "corrupt": corrupt}, carrier == "hard"
    size, uptake = (shared * order + apart * own[name] for name in ("ct", "pet"))
    return {
        "grades": _rounded(prior),
        "inflamed": 0.4,
        "ct": {
            "diameter_mm": _rounded(np.clip(13.5 * np.exp(0.38 * 1.2 * size), 5, 40)), "solid": [-0.4] * 6, "swapped": hard,
            "quality": blurred,
        },
        "pet": {
            "suv": _rounded(2.0 * np.exp(0.5 * 1.2 * balance * uptake)), "turn": _rounded(np.sqrt(synergy)),
            "scanned": _shares(1 - missing, mnar, order, prior), "quality": blurred,
        },
        "report": {
            "density": _rounded(-0.3 + 0.9 * 1.5 * balance * shared * order), "density_in": "order" if hard else "stated",
            "spiculated": _rounded(np.clip(expit(1.8 * balance * apart * own["rep"]), 0.01, 0.99)), "mentioned": 0.95,
            "written": _shares(1 - missing / 2, mnar / 2, order, prior), "quality": blurred,
        },
    }  # fmt: skip


def _standardised(pattern: np.ndarray, prior: np.ndarray) -> np.ndarray:
    centred = pattern - prior @ pattern / prior.sum()
    return centred / np.sqrt(prior @ centred**2 / prior.sum())


def _shares(rate: float, slope: float, order: np.ndarray, prior: np.ndarray) -> list[float]:
    """[6] a probit in the order of grades, of that rate over all."""
    offset = brentq(lambda c: prior @ ndtr(c + slope * order) - rate, -20, 20)
    return _rounded(ndtr(offset + slope * order))


HEAD = """# 32 worlds over the knobs that both settings share: a Latin hypercube of 28 and four limits. Written by
# preprocess/clinic/worldset_design.py, which tells the axes; fixed before any method was run on them. Not to be edited by hand.
# omnifuse demo --world-set 32 --raw DIR        omnifuse demo --world set32/07 --raw DIR        omnifuse list worlds
"""


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    """The file."""
    return HEAD + yaml.dump({"worlds": design()}, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=140)


def write() -> None:
    store.write_text(worldset.FILE, text())


if __name__ == "__main__":
    write()
