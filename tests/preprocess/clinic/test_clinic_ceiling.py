"""The ceiling: its likelihoods agree with simulation and with sums done another way, and its probabilities are right."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.ceiling import SOURCES, Ceiling, Window
from omnifuse.preprocess.clinic.context import draw_context
from omnifuse.preprocess.clinic.course import _processes, simulate
from omnifuse.preprocess.clinic.generate import Clinic
from omnifuse.preprocess.clinic.hospital import admit
from omnifuse.preprocess.clinic.joint import COLUMNS, JointCeiling
from omnifuse.preprocess.clinic.latent import draw_people
from omnifuse.preprocess.clinic.model import SLOTS, build_model
from omnifuse.preprocess.clinic.observe import Observer
from omnifuse.preprocess.clinic.outcome import LEVEL, TREND, auroc_with_error, find_strength, probability_in_design
from omnifuse.preprocess.clinic.record import gather
from omnifuse.preprocess.clinic.worldfile import read_world

MEASURED, CHARTED, PATTERN = (SOURCES.index(name) for name in ("measured", "charted", "pattern"))
SET = {name: len(SOURCES) + i for i, name in enumerate(COLUMNS)}  # columns of what ceilings_of gives


def ceilings_of(name: str, patients: int, seed: int):
    """Probabilities of the design's stays of a world: latent oracle, ceilings [n, SOURCES and COLUMNS], outcome, patient."""
    world = read_world(name)
    strength, model = find_strength(world), build_model(world)
    people = draw_people(world, seed, np.arange(patients), strength.intercept, strength.slope)
    courses = [simulate(model, seed, people, stay) for stay in range(len(people.owner))]
    context, observer, ceiling = draw_context(world, seed, people.patient), Observer(model, seed), Ceiling(model, strength)
    seen = [observer.observe(people, context, stay) for stay in range(len(people.owner))]
    found, beyond = Clinic(model, seed, strength).ceilings(
        ceiling,
        JointCeiling(observer, ceiling.case, ceiling.control),
        people,
        admit(seed, people),
        courses,
        gather(model, courses),
        seen,
        patients,
    )
    design = people.design(world)
    found = np.column_stack([found, beyond])
    latent = probability_in_design(world, people.level, people.trend, people.findings, strength.intercept, strength.slope)
    return latent[design], found[design], people.died[design], people.owner[design]


@pytest.fixture(scope="module")
def default():
    return ceilings_of("default", 280, seed=21)


def test_what_is_told_of_measured_values_is_how_they_are_simulated():
    """Covariance over stays of values at a few slots, from the simulation, against intercepts, loadings and kernels of the ceiling."""
    model = build_model(read_world("default"))
    strength = find_strength(model.world)
    people = draw_people(model.world, 1, np.arange(2000), strength.intercept, strength.slope)
    ceiling, at = Ceiling(model, strength), np.array([0, 7, 100])
    values = [_processes(model, np.random.default_rng(s), people, s, 101)[1][:, at] for s in range(len(people.owner))]
    found = np.array(values).reshape(len(values), -1)  # [S, K * 3]
    variable, slot = np.repeat(np.arange(len(model.mean)), 3), np.tile(at, len(model.mean))
    loading = np.column_stack([ceiling._on_level[variable], ceiling._on_trend[variable] * ceiling._rise[slot]])
    designed = ceiling.covariance(variable, slot) - np.diag(model.error[variable] ** 2) + loading @ loading.T
    sd = np.sqrt(np.diag(designed))
    error = np.sqrt((1 + (designed / np.outer(sd, sd)) ** 2) / len(found))  # of a correlation-like ratio
    z = (np.cov(found.T) - designed) / np.outer(sd, sd) / error
    assert np.abs(z).max() < 4.5 and np.sqrt((z**2).mean()) < 1.5
    regression = np.column_stack([people.level, people.trend])
    beta = np.linalg.lstsq(regression, found - model.mean[variable], rcond=None)[0].T
    assert np.abs((beta - loading) / (sd[:, None] / np.sqrt(len(found)))).max() < 4.5


def test_the_likelihood_of_values_is_the_normal_density():
    """Against scipy's density at two points of the grid: only differences matter, the constant is left out."""
    model = build_model(read_world("default"))
    ceiling = Ceiling(model, find_strength(model.world))
    rng = np.random.default_rng(0)
    variable, slot = rng.integers(0, len(model.mean), 25), rng.integers(0, 190, 25)
    values = model.mean[variable] + rng.standard_normal(25) * model.between[variable]
    told, _ = ceiling._values(Window(192, slot, variable, values, values))
    order = np.argsort(variable, kind="stable")
    variable, slot, values = variable[order], slot[order], values[order]
    covariance = ceiling.covariance(variable, slot)
    loading = np.column_stack([ceiling._on_level[variable], ceiling._on_trend[variable] * ceiling._rise[slot]])
    nodes = rng.integers(0, len(LEVEL), 6)
    density = [
        multivariate_normal(model.mean[variable] + loading @ [LEVEL[node], TREND[node]], covariance).logpdf(values) for node in nodes
    ]
    assert np.allclose(np.diff(density), np.diff(told[nodes]), rtol=1e-6, atol=1e-6)


def test_the_ceiling_is_calibrated_without_tossing_coins(default):
    """E[oracle - ceiling] = 0 whatever weight the ceiling itself gives: a property of conditional expectations, free of the outcome."""
    latent, found, _, _ = default
    for which in (MEASURED, PATTERN, *SET.values()):
        p = found[:, which]
        for weight in (np.ones(len(p)), np.log(p / (1 - p)), (p > 0.3).astype(float)):
            gap = (latent - p) * (weight - (weight.mean() if weight.std() else 0))
            assert abs(gap.mean()) < 3.5 * gap.std() / np.sqrt(len(gap))


def test_the_ceiling_agrees_with_the_outcomes(default):
    _, found, died, _ = default
    p = found[:, MEASURED]
    assert abs((died - p).sum()) < 3.5 * np.sqrt((p * (1 - p)).sum())
    logit = np.log(p / (1 - p))
    assert abs(((died - p) * logit).sum()) < 3.5 * np.sqrt((p * (1 - p) * logit**2).sum())


def test_more_is_known_from_more(default):
    """Latent state over everything measured over the pattern alone; rounding costs next to nothing."""
    latent, found, _, owner = default
    aurocs = [auroc_with_error(score, latent, owner)[0] for score in (latent, *found[:, [MEASURED, CHARTED, PATTERN]].T)]
    assert aurocs[0] > aurocs[1] + 0.03 > aurocs[3] + 0.06
    assert abs(aurocs[1] - aurocs[2]) < 0.003
    assert 0.74 < aurocs[1] < 0.86  # the default world aims at 0.80
    assert np.allclose(found[:, MEASURED], found[:, SET["p_ehr"]], rtol=1e-9)
    alone, together = (auroc_with_error(found[:, SET[name]], latent, owner)[0] for name in ("p_ehr", "p_ehr_cxr_rep_sig"))
    assert together > alone + 0.02


def test_in_a_null_world_nothing_is_known():
    latent, found, died, owner = ceilings_of("null", 120, seed=4)
    assert np.ptp(latent) < 1e-9 and np.ptp(found) < 1e-9
    assert latent[0] == pytest.approx(0.13, abs=1e-6) and found[0] == pytest.approx(0.13, abs=1e-6)
    assert auroc_with_error(found[:, MEASURED], died, owner)[0] == 0.5


def test_in_an_unseen_world_only_the_oracle_knows():
    latent, found, died, owner = ceilings_of("unseen", 140, seed=4)
    auroc, error = auroc_with_error(latent, died, owner)
    assert auroc - 3 * error > 0.6
    assert np.ptp(found) < 1e-6
    assert found.mean() == pytest.approx(0.13, abs=1e-3)


def test_venous_saturation_is_not_taken_for_the_arterial_one():
    model = build_model(read_world("default"))
    strength = find_strength(model.world)
    people = draw_people(model.world, 0, np.arange(60), strength.intercept, strength.slope)
    cells = gather(model, [simulate(model, 0, people, stay) for stay in range(len(people.owner))])
    saturation = cells.itemid == items.SATURATION
    assert cells.measured[saturation & cells.venous].mean() < 80 < 93 < cells.measured[saturation & ~cells.venous].mean()
    assert not cells.of_the_course[saturation & cells.venous].any() and cells.of_the_course[saturation & ~cells.venous].all()
    assert cells.slot.max() >= 48 * SLOTS
