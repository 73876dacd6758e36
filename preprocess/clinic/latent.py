"""The hidden state of patients and stays: frailty, severity, trend, liabilities, devices, outcome, length of stay.

All latent variables are linear in independent unit normals (the factors), so that every correlation is known in closed form:

    R   = frailty * F + age * A + rest * S                      level of severity; S is the stay's own
    D                                                           trend, independent of R
    L_c = severity_c * R + frailty_c * F + age_c * A + rest * E_c     liability of condition c; E_c stays with the patient if chronic
    f                                                           four findings, independent coins (`findings.py`)
    death ~ Bernoulli(sigmoid(intercept + slope * score)) in a patient's last ICU stay
    score = (weights of R, D, film, report, signal, effusion * D) / norm, each of unit variance

A patient survives every stay that another one follows. Which stay is the last tells nothing of its R, D and f, so that over all stays
P(death | R, D, f) is that sigmoid times the share of last stays, exactly, and the outcome depends on what is observed through them only.

Source: liability-threshold model, Falconer 1965; the rest is ours.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr, ndtri

from omnifuse.preprocess.clinic.findings import EFFUSION, draw_findings, standardised
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.world import Condition, Device, Severity, World

DEVICES = ("arterial_line", "ventilator")
PERSON = ("patient", "age", "male", "height_cm", "weight_kg", "ward_admissions", "chronic_liability")
FACTORS = 4  # F, A, S, D; then one for each condition
MOST_ICU, MOST_WARD, RETURN = 6, 3, 8


def explained(condition: Condition, severity: Severity) -> float:
    """Variance of a liability that R, F and A explain; it must not exceed 1."""
    on_frailty = condition.severity * severity.frailty + condition.frailty
    on_age = condition.severity * severity.age + condition.age
    on_stay = condition.severity**2 * (1 - severity.frailty**2 - severity.age**2)
    return on_frailty**2 + on_age**2 + on_stay


def loadings(world: World) -> np.ndarray:
    """[2 + C, 4 + C]: R, D and the C liabilities in terms of the factors; each row has unit length."""
    course, conditions = world.severity, list(world.conditions.values())
    rows = np.zeros((2 + len(conditions), FACTORS + len(conditions)))
    rows[0, :3] = course.frailty, course.age, np.sqrt(1 - course.frailty**2 - course.age**2)
    rows[1, 3] = 1.0
    for i, condition in enumerate(conditions):
        row = condition.severity * rows[0]
        row[0] += condition.frailty
        row[1] += condition.age
        row[FACTORS + i] = np.sqrt(max(0.0, 1 - explained(condition, course)))
        rows[2 + i] = row
    return rows


def outcome_weights(world: World) -> dict[str, float]:
    """Weights of the parts of the score, whose squares add up to 1 (all 0 where the world has none)."""
    outcome = world.outcome
    weights = {name: getattr(outcome, f"{name}_weight") for name in ("level", "trend", "film", "report", "signal", "synergy")}
    norm = float(np.sqrt(sum(weight**2 for weight in weights.values())))
    return {name: weight / norm if norm > 0 else 0.0 for name, weight in weights.items()}


def outcome_score(world: World, level, trend, findings):
    """What the outcome is logistic in, of unit variance; `findings` [..., 4] goes with the shapes of R and D."""
    weight, found = outcome_weights(world), standardised(world, findings)
    single = sum(weight[name] * found[..., i] for i, name in enumerate(("film", "report", "signal")))
    return weight["level"] * level + weight["trend"] * trend + single + weight["synergy"] * found[..., EFFUSION] * trend


def last_share(world: World) -> float:
    """Share of ICU stays that are their patient's last: one over the mean number of stays."""
    return 1 / sum(world.patients.icu_again**k for k in range(MOST_ICU))


def death_risk(world: World, score, intercept: float, slope: float):
    """P(death | score) of a stay, whether its patient's last or not."""
    return last_share(world) * expit(intercept + slope * score)


def probit_share(rate: float, slope: float, level):
    """P(yes | R) of a probit with that marginal rate: ndtr(q + slope * R)."""
    if rate in (0.0, 1.0):
        return np.full_like(np.asarray(level, float), rate)
    return ndtr(ndtri(rate) * np.sqrt(1 + slope**2) + slope * np.asarray(level))


@dataclass(frozen=True)
class People:
    """Patients of one block, arrays of length P, and their ICU stays, arrays of length S.

    `owner` gives the row of a stay's patient, `number` counts the stays of a patient from 0. Stays of one patient are in the order
    drawn, the last one last in time.
    """

    patient: np.ndarray
    age: np.ndarray
    male: np.ndarray
    height_cm: np.ndarray
    weight_kg: np.ndarray
    ward_admissions: np.ndarray
    owner: np.ndarray
    number: np.ndarray
    level: np.ndarray
    trend: np.ndarray
    findings: np.ndarray  # [S, 4] bool
    liability: np.ndarray  # [S, C]
    chronic_liability: np.ndarray  # [P, C] what an admission without an ICU stay knows: R of an average stay
    probability: np.ndarray  # P(death | R, D, findings)
    died: np.ndarray
    los_hours: np.ndarray
    died_in_icu: np.ndarray
    second_stay: np.ndarray
    transfer: np.ndarray
    arterial_line: np.ndarray
    ventilated_hours: np.ndarray  # 0 where never
    unit: np.ndarray  # uniform in [0, 1): which care unit
    returned: np.ndarray  # the second ICU stay of an admission: number is that of the first plus RETURN

    def design(self, world: World) -> np.ndarray:
        """Stays that the benchmarks keep for mortality: alone in their admission, one unit, long enough."""
        return ~self.second_stay & ~self.transfer & (self.los_hours >= world.stays.design_hours)


@dataclass(frozen=True)
class Draws:
    """Numbers of a block as they come from the streams: normals and uniforms by patient [P, .] and by stay [S, .]."""

    person_normal: np.ndarray
    person_uniform: np.ndarray
    stay_normal: np.ndarray
    stay_uniform: np.ndarray
    findings: np.ndarray  # [S, 4] bool
    owner: np.ndarray
    number: np.ndarray
    last: np.ndarray  # [S] bool: the patient's last stay


def draw_people(world: World, seed: int, patients: np.ndarray, intercept: float, slope: float) -> People:
    """The people with these numbers, each from its own streams."""
    count = len(world.conditions)
    person_normal, person_uniform, stay_normal, stay_uniform, findings, owner, number, last = [], [], [], [], [], [], [], []
    for row, patient in enumerate(patients):
        generator = stream(seed, int(patient), "person")
        person_normal.append(generator.standard_normal(4 + count))
        person_uniform.append(generator.random(3))
        stays = 1 + _further(person_uniform[-1][1], world.patients.icu_again, MOST_ICU - 1)
        for j in range(stays):
            generator = stream(seed, int(patient), "stay", j)
            stay_normal.append(generator.standard_normal(4 + count))
            stay_uniform.append(generator.random(8))
            findings.append(draw_findings(world, seed, int(patient), j))
            owner.append(row)
            number.append(j)
            last.append(j == stays - 1)
    drawn = (person_normal, person_uniform, stay_normal, stay_uniform, findings, owner, number, last)
    return _assemble(world, patients, Draws(*(np.array(numbers) for numbers in drawn)), intercept, slope)


def _further(uniform: float, again: float, most: int) -> int:
    """A geometric number of further admissions, by inversion."""
    return 0 if again == 0 else min(most, int(np.log(1 - uniform) / np.log(again)))


def _latent(world: World, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """[S, 2 + C] R, D and liabilities of stays; [P, C] liabilities of patients with an average R."""
    chronic = np.array([condition.chronic for condition in world.conditions.values()])
    person, owner, rows = draws.person_normal, draws.owner, loadings(world)
    own = np.where(chronic, person[owner, 4:], draws.stay_normal[:, 4:])
    factors = np.column_stack([person[owner, :2], draws.stay_normal[:, :2], own])
    at_home = np.column_stack([person[:, :2], np.zeros((len(person), 2)), person[:, 4:]])
    return _combine(factors, rows), _combine(at_home, rows)[:, 2:]


def _combine(factors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """factors @ rows.T, summed in one order whatever the shapes: BLAS rounds a patient differently in blocks of another size."""
    total = np.zeros((len(factors), len(rows)))
    for i in range(rows.shape[1]):
        total += factors[:, i, None] * rows[:, i]
    return total


def _assemble(world: World, patients: np.ndarray, draws: Draws, intercept: float, slope: float) -> People:
    latent, at_home = _latent(world, draws)
    level, trend = latent[:, 0], latent[:, 1]
    person, uniform, who, stays = draws.person_normal, draws.stay_uniform, world.patients, world.stays
    probability = death_risk(world, outcome_score(world, level, trend, draws.findings), intercept, slope)
    died = draws.last & (uniform[:, 0] < probability / last_share(world))
    male = draws.person_uniform[:, 0] < who.male
    height = np.where(male, who.height_male_cm, who.height_female_cm) + who.height_sd_cm * person[:, 2]
    bmi = np.clip(who.bmi_mean + who.bmi_sd * person[:, 3], 15, 70)
    log_hours = np.log(stays.median_hours) + stays.severity * level + stays.death * died + stays.spread * draws.stay_normal[:, 2]
    hours = np.clip(np.exp(log_hours), 0.75, 24 * stays.longest_days)
    people = People(
        patient=patients,
        age=_age(world, person[:, 1]),
        male=male,
        height_cm=height,
        weight_kg=bmi * (height / 100) ** 2,
        ward_admissions=np.array([_further(u, who.ward_only, MOST_WARD) for u in draws.person_uniform[:, 2]], int),
        owner=draws.owner,
        number=draws.number,
        level=level,
        trend=trend,
        findings=draws.findings,
        liability=latent[:, 2:],
        chronic_liability=at_home,
        probability=probability,
        died=died,
        los_hours=hours,
        died_in_icu=died & (uniform[:, 1] < stays.die_in_icu),
        second_stay=uniform[:, 2] < stays.second_stay,
        transfer=uniform[:, 3] < stays.transfer,
        arterial_line=uniform[:, 4] < _rate(world.devices["arterial_line"], level),
        ventilated_hours=_ventilated(world.devices["ventilator"], uniform[:, 5], draws.stay_normal[:, 3], level, hours),
        unit=uniform[:, 6],
        returned=np.zeros(len(level), bool),
    )
    return _with_returns(people, 20 + 60 * uniform[:, 7])


def _with_returns(people: People, hours: np.ndarray) -> People:
    """Adds the second ICU stay of the admissions that have one, of these hours: the same severity and outcome, another course."""
    again = np.flatnonzero(people.second_stay)
    if not len(again):
        return people
    stay_fields = [field.name for field in dataclasses.fields(People) if field.name not in PERSON]
    grown = {name: np.concatenate([getattr(people, name), getattr(people, name)[again]]) for name in stay_fields}
    first, extra = slice(0, len(people.owner)), slice(len(people.owner), None)
    grown["number"][extra] += RETURN
    grown["returned"][extra] = True
    grown["los_hours"][extra] = hours[again]
    grown["ventilated_hours"][extra] = 0.0
    grown["died_in_icu"][first][again] = False
    order = np.lexsort((grown["number"] % RETURN, grown["owner"]))
    return dataclasses.replace(people, **{name: values[order] for name, values in grown.items()})


def _rate(device: Device, level: np.ndarray) -> np.ndarray:
    return probit_share(device.rate, device.severity, level)


def _ventilated(device: Device, uniform: np.ndarray, normal: np.ndarray, level: np.ndarray, los: np.ndarray) -> np.ndarray:
    hours = los if device.hours is None else np.minimum(los, np.exp(np.log(device.hours) + device.spread * normal))
    return np.where(uniform < _rate(device, level), hours, 0.0)


def _age(world: World, factor: np.ndarray) -> np.ndarray:
    """Whole years, 18 or more; over 89 is told as 91, as in MIMIC-IV."""
    age = np.rint(world.patients.age_mean + world.patients.age_sd * factor)
    return np.where(age > 89, 91, np.clip(age, 18, 89)).astype(np.int64)
