"""Courses: designed effects, memory, rates and missingness are recovered from what the bedside measures."""

import numpy as np
import pytest

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.course import ordinal_shares, simulate
from omnifuse.preprocess.clinic.latent import draw_people, probit_share
from omnifuse.preprocess.clinic.model import SLOTS, build_model
from omnifuse.preprocess.clinic.outcome import find_strength
from omnifuse.preprocess.clinic.worldfile import read_world

PATIENTS = 500
ROUND = {name: q for q, name in enumerate(items.ROUNDS)}
VARIABLE = {name: k for k, name in enumerate(items.MEASURED)}


@pytest.fixture(scope="module")
def seen():
    """The default world: its model, people and their courses."""
    world = read_world("default")
    strength, model = find_strength(world), build_model(world)
    people = draw_people(world, 11, np.arange(PATIENTS), strength.intercept, strength.slope)
    return model, people, [simulate(model, 11, people, stay) for stay in range(len(people.owner))]


def test_a_stay_does_not_depend_on_its_neighbours(seen):
    model, _, courses = seen
    strength = find_strength(model.world)
    alone = draw_people(model.world, 11, np.array([17]), strength.intercept, strength.slope)
    first = sum(1 for owner in seen[1].owner if owner < 17)
    for stay in range(len(alone.owner)):
        mine, theirs = simulate(model, 11, alone, stay), courses[first + stay]
        assert np.array_equal(mine.value, theirs.value) and np.array_equal(mine.visits, theirs.visits)
        assert all(np.array_equal(a, b) for a, b in zip(mine.ordinal_level, theirs.ordinal_level))


@pytest.mark.parametrize("name", ["Heart Rate", "Respiratory rate", "Mean blood pressure", "Systolic blood pressure", "Temperature", "pH"])
def test_signal_is_recovered_by_regression(seen, name):
    """Mean of a stay on its mean severity and its liabilities: the slope of severity is the designed signal."""
    model, _, courses = seen
    k, people = VARIABLE[name], seen[1]
    readings = [r for r, reading in enumerate(model.readings) if reading.variable == k]
    x, y = [], []
    for stay, course in enumerate(courses):
        mine = np.isin(course.reading, readings)
        if mine.sum() >= 3:
            x.append([1.0, course.severity[course.slot[mine]].mean(), *people.liability[stay]])
            y.append(course.value[mine].mean())
    x, y = np.array(x), np.array(y)
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    residual = y - x @ beta
    error = np.sqrt(residual.var(ddof=x.shape[1]) * np.linalg.inv(x.T @ x)[1, 1])
    assert abs(beta[1] - model.total_signal[k]) < 3.5 * error
    assert error < 0.5 * max(abs(model.total_signal[k]), 0.1 * np.std(y))  # else the test would be too blunt to fail


def test_variables_forget_as_designed(seen):
    """Covariance within a stay of heart rates h hours apart, against the sum of wandering severity and own noise."""
    model, _, courses = seen
    k, course_knobs = VARIABLE["Heart Rate"], model.world.severity
    reading = next(r for r, one in enumerate(model.readings) if one.variable == k)
    pairs = {1: [], 6: []}
    for course in courses:
        mine = course.reading == reading
        value = dict(zip(course.slot[mine], course.value[mine] - model.signal[k] * course.severity[course.slot[mine]]))
        for lag, found in pairs.items():
            found += [(value[s + lag * SLOTS] - value[s]) for s in value if s % SLOTS == 0 and s + lag * SLOTS in value]
    for lag, found in pairs.items():  # a difference is free of the stay's intercept
        designed = 2 * (model.within[k] ** 2 * (1 - np.exp(-lag / model.hours[k])) + model.error[k] ** 2)
        assert np.var(found) == pytest.approx(designed, rel=0.05)
    assert course_knobs.wander > 0


@pytest.mark.parametrize("name", ["fingerstick", "gas", "perfusion", "chemistry"])
def test_rounds_are_missing_as_designed(seen, name):
    model, people, courses = seen
    knobs = model.world.rounds[name]
    share = probit_share(knobs.missing, knobs.missing_severity, people.level)
    missing = np.array([not course.round_seen[ROUND[name]] for course in courses])
    assert abs(missing.sum() - share.sum()) < 3.5 * np.sqrt((share * (1 - share)).sum())
    if knobs.missing_severity:  # score test of the slope: without it the sick would be missing as often as the others
        score = ((missing - share) * people.level).sum()
        spread = np.sqrt((share * (1 - share) * people.level**2).sum())
        flat = ((missing - knobs.missing) * people.level).sum() / np.sqrt((knobs.missing * (1 - knobs.missing) * people.level**2).sum())
        assert abs(score) < 3.5 * spread and flat < -3


@pytest.mark.parametrize("name", ["vitals", "temperature", "neuro", "gas"])
def test_rounds_come_as_often_as_designed(seen, name):
    """Visits counted against the sum of their chances, severity included."""
    model, people, courses = seen
    q, knobs = ROUND[name], model.world.rounds[name]
    found = expected = variance = 0.0
    for stay, course in enumerate(courses):
        clock = np.arange(course.visits.shape[1])
        if course.round_seen[q]:
            odds = model.visit_odds(clock)[q] + knobs.severity * model.expected_severity(people.level[stay], people.trend[stay], clock)
            chance = 1 / (1 + np.exp(-odds))
            found, expected, variance = found + course.visits[q].sum(), expected + chance.sum(), variance + (chance * (1 - chance)).sum()
    assert abs(found - expected) < 3.5 * np.sqrt(variance)


@pytest.mark.parametrize("which", range(len(items.ORDINALS)), ids=items.ORDINALS)
def test_ordinals_follow_the_expected_severity(seen, which):
    """First readings (fresh draws) against their probit shares: the mean level, and its slope on severity."""
    model, people, courses = seen
    name = items.ORDINALS[which]
    first = [(stay, c.ordinal_slot[which][0], c.ordinal_level[which][0]) for stay, c in enumerate(courses) if len(c.ordinal_slot[which])]
    stay, slot, level = np.array(first).T
    expected = model.expected_severity(people.level[stay], people.trend[stay], slot)
    share = ordinal_shares(model, name, expected)
    assert np.allclose(share.sum(1), 1)
    grades = np.arange(share.shape[1])
    mean, square = share @ grades, share @ grades**2
    for weight in (np.ones(len(stay)), expected):
        z = ((level - mean) * weight).sum() / np.sqrt(((square - mean**2) * weight**2).sum())
        assert abs(z) < 3.5


def test_ordinals_repeat_the_last_reading(seen):
    """Share of equal neighbours: kept with exp(-gap / hours), else equal by chance."""
    model, people, courses = seen
    hours, found, chance, variance = model.world.ordinals[items.COMA].hours, 0, 0.0, 0.0
    for stay, course in enumerate(courses):
        at, level = course.ordinal_slot[0], course.ordinal_level[0]
        expected = model.expected_severity(people.level[stay], people.trend[stay], at)
        share = ordinal_shares(model, items.COMA, expected)
        kept = np.exp(-np.diff(at) / SLOTS / hours)
        p = kept + (1 - kept) * share[np.arange(1, len(at)), level[:-1]]
        found, chance, variance = found + (level[1:] == level[:-1]).sum(), chance + p.sum(), variance + (p * (1 - p)).sum()
    assert abs(found - chance) < 3.5 * np.sqrt(variance)
