"""Latent state and outcome: designed correlations, rates and AUROC are met by what is drawn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from omnifuse.preprocess.clinic.coding import present
from omnifuse.preprocess.clinic.latent import draw_people, last_share, loadings, probit_share
from omnifuse.preprocess.clinic.outcome import auroc_with_error, find_strength, probability_in_design, weighted_auroc
from omnifuse.preprocess.clinic.worldfile import read_world

PATIENTS = 5000


@pytest.fixture(scope="module")
def default():
    world = read_world("default")
    strength = find_strength(world)
    return world, strength, draw_people(world, 5, np.arange(PATIENTS), strength.intercept, strength.slope)


def within(estimate, truth, error, times=3.5):
    assert abs(estimate - truth) < times * error, f"{estimate:.4f} is {abs(estimate - truth) / error:.1f} s.e. from {truth:.4f}"


def test_latent_variables_have_unit_variance(default):
    assert np.allclose((loadings(default[0]) ** 2).sum(1), 1)


def test_stays_of_a_patient_share_frailty_and_age(default):
    world, _, people = default
    first = {(o, n): i for i, (o, n) in enumerate(zip(people.owner, people.number))}
    pairs = np.array([(first[o, 0], first[o, 1]) for o in range(PATIENTS) if (o, 1) in first])
    found = np.corrcoef(people.level[pairs[:, 0]], people.level[pairs[:, 1]])[0, 1]
    within(found, world.severity.frailty**2 + world.severity.age**2, 1 / np.sqrt(len(pairs)))


def test_age_goes_with_severity(default):
    world, _, people = default
    within(np.corrcoef(people.age[people.owner], people.level)[0, 1], world.severity.age, 1.2 / np.sqrt(PATIENTS), times=4)


def test_conditions_have_their_prevalence_and_go_with_severity(default):
    world, _, people = default
    alone = people.number == 0
    there = present(world, people.liability[alone])
    for c, (name, knobs) in enumerate(world.conditions.items()):
        p = knobs.prevalence
        within(there[:, c].mean(), p, np.sqrt(p * (1 - p) / alone.sum()), times=4)
        if name == "Shock":
            assert np.corrcoef(people.level[alone], people.liability[alone, c])[0, 1] > 0.5


def test_prevalence_and_auroc_are_as_designed(default):
    """Among the stays of the design the outcome's share and the oracle's AUROC are those of the world."""
    world, strength, people = default
    design = people.design(world)
    p = probability_in_design(world, people.level, people.trend, people.findings, strength.intercept, strength.slope)[design]
    died, owner = people.died[design], people.owner[design]
    assert strength.latent_auroc == pytest.approx(world.outcome.latent_auroc, abs=1e-4)
    within(died.mean(), world.outcome.prevalence, np.sqrt(0.13 * 0.87 / design.sum()))
    within((died - p).mean(), 0, np.sqrt((p * (1 - p)).sum()) / design.sum())
    for truth in (died, p):
        auroc, error = auroc_with_error(p, truth, owner)
        within(auroc, world.outcome.latent_auroc, error, times=3)


def test_most_stays_last_as_long_as_the_design_asks(default):
    world, _, people = default
    assert 0.6 < (people.los_hours >= world.stays.design_hours).mean() < 0.7


def test_a_patient_dies_once_and_last(default):
    _, _, people = default
    deaths = np.bincount(people.owner[people.died & ~people.returned], minlength=PATIENTS)
    most = np.zeros(PATIENTS, int)
    np.maximum.at(most, people.owner, people.number % 8)
    fatal = people.died & ~people.returned
    assert deaths.max() == 1 and (people.number[fatal] == most[people.owner[fatal]]).all()


def test_a_stay_is_its_patients_last_with_the_share_that_the_model_uses(default):
    world, _, people = default
    stays = (~people.returned).sum()
    within(PATIENTS / stays, last_share(world), 0.5 / np.sqrt(PATIENTS))


def test_a_null_world_has_nothing_to_learn():
    world = read_world("null")
    strength = find_strength(world)
    people = draw_people(world, 2, np.arange(4000), strength.intercept, strength.slope)
    design = people.design(world)
    assert strength.slope == 0 and strength.latent_auroc == pytest.approx(0.5)
    assert np.ptp(people.probability) == 0
    for score in (people.level, people.trend, people.los_hours):
        auroc, error = auroc_with_error(score[design], people.died[design], people.owner[design])
        within(auroc, 0.5, error, times=3)


@pytest.mark.parametrize("rate, slope", [(0.3, 0.0), (0.3, -0.8), (0.05, 1.5), (0.0, 1.0), (1.0, 1.0)])
def test_probit_shares_have_their_marginal_rate(rate, slope):
    level = np.linspace(-8, 8, 4001)
    weight = np.exp(-0.5 * level**2)
    assert np.average(probit_share(rate, slope, level), weights=weight) == pytest.approx(rate, abs=1e-6)


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    score, died = rng.integers(0, 6, 60) / 6, rng.random(60) < 0.4
    assert auroc_with_error(score, died, np.arange(60))[0] == pytest.approx(roc_auc_score(died, score))
    case, control = rng.random(60), rng.random(60)
    wins = (score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None])
    pairs = (case[:, None] * control[None] * wins).sum() / (case.sum() * control.sum())
    assert weighted_auroc(score, case, control)[0] == pytest.approx(pairs)


def test_the_error_of_an_auroc_is_its_spread_over_patients():
    """Twin stays carry no new information: the error by patient does not shrink when each is counted twice."""
    rng = np.random.default_rng(1)
    spread = []
    for _ in range(300):
        score = rng.standard_normal(120)
        died = rng.random(120) < 1 / (1 + np.exp(1 - score))
        spread.append(auroc_with_error(np.repeat(score, 2), np.repeat(died, 2), np.repeat(np.arange(120), 2)))
    aurocs, errors = np.array(spread).T
    assert np.mean(errors) == pytest.approx(aurocs.std(), rel=0.15)


def test_an_auroc_without_cases_is_nothing():
    assert np.isnan(auroc_with_error(np.arange(5.0), np.zeros(5), np.arange(5))).all()
