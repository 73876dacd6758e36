"""Knobs: what a world may say, and the one line that answers what it may not."""

import dataclasses

import pytest

from omnifuse.preprocess.clinic.model import build_model
from omnifuse.preprocess.clinic.outcome import find_strength
from omnifuse.preprocess.clinic.worldfile import named_worlds, read_world
from omnifuse.preprocess.schema import ConfigError


@pytest.mark.parametrize("name", named_worlds())
def test_worlds_that_are_shipped_can_be_read(name):
    assert read_world(name).name == name


WRONG = [
    ({"outcom": {}}, "outcom: unknown knob, did you mean outcome?"),
    ({"outcome": {"prevalance": 0.1}}, "outcome.prevalance: unknown knob, did you mean prevalence?"),
    ({"outcome": {"prevalence": 1.2}}, "outcome.prevalence: 1.2 is out of range, from 0.01 to 0.99"),
    ({"outcome": {"prevalence": "often"}}, "outcome.prevalence: expected a number"),
    ({"outcome": {"prevalence": 0.85}}, "outcome.prevalence: 0.85, but only 0.78 of the stays are a patient's last"),
    ({"outcome": {f"{name}_weight": 0 for name in ("level", "trend", "film", "report", "signal", "synergy")}}, "no weight is over 0"),
    ({"film": {"archived": {"rate": 1.3}}}, "film.archived.rate: 1.3 is out of range, from 0 to 1"),
    ({"film": {"unique_in": "lung"}}, "film.unique_in: 'lung' is neither heart nor texture"),
    ({"film": {"archived": {"severity": 0.2}}}, "film.archived.severity: films follow severity through exam.ordered"),
    ({"film": {"size": 32}}, "film.size: 32 is out of range, from 48 to 512"),
    ({"exam": {"ordered": {"rate": 0}}}, "film.archived.rate: films in the archive, but exam.ordered.rate is 0"),
    ({"exam": {"orderd": {}}}, "exam.orderd: unknown knob, did you mean ordered?"),
    ({"report": {"grades": [0.5, 0.2, 0.2, 0.2]}}, "report.grades: they add up to 1.1, not to 1"),
    ({"report": {"grades": [0.5, 0.5]}}, "report.grades: 2 shares, but there are 4 grades"),
    ({"report": {"right": 0.3}}, "report.right: 0.3 is out of range, from 0.5 to 0.999"),
    ({"signal": {"quality": {"spurious": 1.5}}}, "signal.quality.spurious: 1.5 is out of range"),
    ({"sites": {"external": 1}, "film": {"quality": {"spurious": 0.5}}}, "film.quality.spurious: a tie of the internal sites"),
    ({"findings": {"film": 0}}, "findings.film: 0 is out of range, from 0.02 to 0.98"),
    ({"outcome": {"latent_auroc": 0.5}}, "stays.death and stays.severity tie the outcome to the length of stay"),
    ({"rounds": {"gas": {"missing": -0.1}}}, "rounds.gas.missing: -0.1 is out of range, from 0 to 1"),
    ({"rounds": {"gas": {"device": "ecmo"}}}, "rounds.gas.device: no device 'ecmo'"),
    ({"rounds": {"vital": {"every_hours": 1, "scheduled": 0.5, "between": 0.1}}}, "rounds.vital: unknown, did you mean vitals?"),
    ({"variables": {"Heart rate": {}}}, "yaml: variables.Heart rate: unknown, did you mean Heart Rate?"),
    ({"exam": {"ordered": {"unit": 10000}}}, "exam.ordered.unit: 10000 is out of range, from -10 to 10"),
    ({"variables": {"Heart Rate": {"low": 300}}}, "variables.Heart Rate: low is not below high"),
    ({"variables": {"Heart Rate": {"decimals": 0.5}}}, "variables.Heart Rate.decimals: expected a whole number"),
    ({"variables": {"Heart Rate": {"log": 1}}}, "variables.Heart Rate.log: expected true or false"),
    ({"variables": {"Heart Rate": {"follows": {"Heart Rate": 1}}}}, "variables.Heart Rate.follows: 'Heart Rate' is no other variable"),
    ({"ordinals": {"Capillary refill rate": {"shares": [0.5, 0.6]}}}, "shares: they add up to 1.1, not to 1"),
    ({"ordinals": {"Capillary refill rate": {"shares": [1.0]}}}, "2 levels but 1 shares"),
    ({"ordinals": {"Fraction inspired oxygen": {"levels": list("12345678") + ["900"]}}}, "'1' is not charted in MetaVision"),
    ({"severity": {"frailty": 0.9, "age": 0.9}}, "severity: frailty and age explain more than all of the severity"),
    ({"conditions": {"Shock": {"severity": 0.9, "frailty": 0.9}}}, "conditions.Shock: severity, frailty and age explain more than all"),
    ({"conditions": {"Shock": {"shifts": {"Pulse": 1}}}}, "conditions.Shock.shifts: no variable 'Pulse'"),
    ({"conditions": {"Gout": {"prevalence": 0.1}}}, "conditions.Gout: unknown"),
    ({"body": {"height": 2}}, "body.height: 2 is out of range"),
    ({"faults": None}, "faults: expected keys and values"),
    ({"lung": {"ct": {"diametre_mm": 3}}}, "lung.ct.diametre_mm: unknown knob, did you mean diameter_mm?"),
    ({"lung": {"ct": {"diameter_mm": [6, 8, 10, 12, 14, 60]}}}, "lung.ct.diameter_mm[5]: 60 is out of range, from 5 to 40"),
    ({"lung": {"ct": {"diameter_mm": [6, 8, 10]}}}, "lung.ct.diameter_mm: 3 values, but there are 6 grades"),
    ({"lung": {"ct": {"swapped": 1}}}, "lung.ct.swapped: expected true or false"),
    ({"lung": {"ct": {"strength": -1}}}, "lung.ct.strength: -1 is out of range, from 0 to 5"),
    ({"lung": {"grades": [0.2, 0.2, 0.2, 0.2, 0.2, 0.2]}}, "lung.grades: they add up to 1.2, not to 1"),
    ({"lung": {"pet": {"scanned": [0.5, 0.5, 0.5, 0.5, 0.5, 1.5]}}}, "lung.pet.scanned[5]: 1.5 is out of range, from 0 to 1"),
    ({"lung": {"pet": {"turn": 0.5}}}, "lung.pet.turn: turns the uptake of inflamed lesions, but lung.inflamed is 0"),
    ({"lung": {"pet": {"quality": {"corrupt": 2}}}}, "lung.pet.quality.corrupt: 2 is out of range"),
    ({"lung": {"report": {"density_cuts": [0.5, 0.1]}}}, "lung.report.density_cuts: expected two cuts, the lower one first"),
    ({"lung": {"report": {"density_in": "words"}}}, "lung.report.density_in: 'words' is neither stated nor order"),
    ({"lung": {"external": 1, "ct": {"quality": {"spurious": 0.5}}}}, "lung.ct.quality.spurious: a tie of the internal site"),
]


@pytest.mark.parametrize("change, told", WRONG, ids=[told for _, told in WRONG])
def test_wrong_and_contradictory_knobs_are_told_in_one_line(change, told, world_with):
    path = world_with(change, read=False)
    with pytest.raises(ConfigError) as caught:
        read_world(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_several_faults_are_told_together(world_with):
    path = world_with({"outcome": {"prevalence": 2, "latent_auroc": 2, "x": 1}, "stays": {"spread": -1}, "y": 1}, read=False)
    with pytest.raises(ConfigError, match="y: unknown knob.*; and 2 more"):
        read_world(path)


@pytest.mark.parametrize(
    "text, told",
    [
        ("base: [default", "is no valid YAML"),
        ("- 1\n", "holds no knobs"),
        ("", "holds no knobs"),
        ("base: circle.yaml", "based on each other in a circle"),
        ("base: [default]", "base: expected the name or the file of one world"),
        ("base: default\nstays: {spread: 1}\nstays: {spread: 2}", ":3: stays stands twice (remove one)"),
        ("base: default\nstays: {spread: 1, spread: 2}", ":2: spread stands twice (remove one)"),
        ("outcome: {prevalence: 2}\nstayz: {}", "stayz: unknown knob, did you mean stays?; outcome.prevalence: 2 is out of range"),
        ("outcome: {prevalence: 0.1}", "knobs are missing, such as patients (start with `base: default`)"),
        ("base: defaults", "no world 'defaults' (did you mean default?)"),
        ("a: !!python/object/apply:os.getcwd []", "is no valid YAML"),
    ],
)
def test_files_that_are_no_world(text, told, tmp_path):
    path = tmp_path / "circle.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_world(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"stays": {"median_hours": 1, "spread": 0.01}}, "hardly a stay lasts 48 hours"),
        ({"outcome": {"latent_auroc": 0.99}, "severity": {"level": 0, "trend": 0}}, "no outcome model has latent_auroc 0.99"),
        ({"outcome": {"prevalence": 0.01, "latent_auroc": 0.99}}, None),
        ({"exam": {"ordered": {"unit": 10, "severity": 10}}}, None),
    ],
)
def test_no_knobs_end_in_a_bug(change, told, world_with):
    """Either there is an outcome and an order of exams with them, or one line that says why not."""
    world = world_with(change)
    if told:
        with pytest.raises(ConfigError, match=told):
            find_strength(world)
    else:
        strength = find_strength(world)
        assert strength.prevalence == pytest.approx(world.outcome.prevalence, abs=1e-3)
        assert strength.latent_auroc == pytest.approx(world.outcome.latent_auroc, abs=1e-3)
        build_model(world)


def test_a_world_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="did you mean default"):
        read_world("defualt")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_world(tmp_path / "none.yaml")


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    path = tmp_path / "world.yaml"
    path.write_text("base: default\nfaults: {outlier: 1e-4}\n")  # PyYAML reads 1e-4 as text
    assert read_world(path).faults.outlier == 1e-4


def test_each_setting_has_a_fingerprint_of_its_own(world_with):
    """A change of the one voids no clinic of the other."""
    default = read_world("default")
    lung = world_with({"name": "default", "lung": {"inflamed": 0.1}})
    assert lung.fingerprint == default.fingerprint and lung.lung_fingerprint != default.lung_fingerprint
    icu = world_with({"name": "default", "faults": {"duplicate": 0.0011}})
    assert icu.lung_fingerprint == default.lung_fingerprint and icu.fingerprint != default.fingerprint


def test_the_fingerprint_knows_every_knob(world_with):
    default = read_world("default")
    changed = world_with({"faults": {"duplicate": 0.0011}})
    assert dataclasses.replace(changed, name="default").fingerprint != default.fingerprint
    assert read_world("default").fingerprint == default.fingerprint
