"""The set of 32 worlds: fixed, whole, and each as designed in both settings."""

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess.clinic import worldset, worldset_design
from omnifuse.preprocess.clinic.latent import draw_people
from omnifuse.preprocess.clinic.lung_ceiling import log_likelihoods, macro_auroc, posteriors
from omnifuse.preprocess.clinic.lung_tokens import draw_lesions, sample_lesions
from omnifuse.preprocess.clinic.lung_world import MODALITIES
from omnifuse.preprocess.clinic.outcome import auroc_with_error, find_strength, probability_in_design
from omnifuse.preprocess.clinic.preview import preview
from omnifuse.preprocess.clinic.worldfile import read_world
from omnifuse.preprocess.schema import ConfigError

NAMES = worldset.names()
FEW = ("set32/03", "set32/10", "set32/22", "set32/clean")
SOME = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
FINGERPRINT = "b1e8fefc8978f9147d2cf97db41192e441e1eaca2f4404dad67a6912ba89aa31"


def test_the_set_is_the_one_that_was_fixed():
    """Whoever changes a knob, a seed or a generator voids every table made over the set: this line is where it is owned up to."""
    assert worldset.fingerprint() == FINGERPRINT


def test_the_file_is_what_its_design_writes():
    assert worldset.FILE.read_text(encoding="utf-8") == worldset_design.text()


def test_the_axes_are_covered_evenly_and_hardly_tied():
    """28 places on 28 equal steps of each axis: a Latin hypercube."""
    table = worldset.coordinates()
    assert table.height == 32 and table["world"].n_unique() == table["seed"].n_unique() == 32
    drawn = table.filter(pl.col("base") == "default")
    assert drawn["carrier"].value_counts().sort("carrier").rows() == [("easy", 14), ("hard", 14)]
    numbers = drawn.select(name for name, (low, _) in worldset_design.AXES.items() if not isinstance(low, str))
    for name in numbers.columns:
        low, high = worldset_design.AXES[name]
        steps = np.floor((numbers[name].to_numpy() - low) / (high - low) * 28 + 1e-9)
        assert len(set(np.clip(steps, 0, 27))) >= 26  # coordinates are rounded to three digits
    ties = np.corrcoef(numbers.to_numpy().T) - np.eye(numbers.width)
    assert np.abs(ties).max() < 0.26


@pytest.mark.parametrize("name", NAMES)
def test_every_world_holds_together(name):
    world = read_world(name)
    assert world.name == name
    lesions = sample_lesions(world.lung, 50)
    assert all(np.isfinite(p).all() for p in posteriors(world.lung, lesions).values())


@pytest.mark.parametrize("name", SOME)
def test_the_designed_outcome_of_the_icu_is_met(name):
    """Prevalence and AUROC of the oracle of the latent state, on outcomes drawn, within three standard errors."""
    world, seed = read_world(name), worldset.find(name).seed
    strength = find_strength(world)
    assert strength.latent_auroc == pytest.approx(world.outcome.latent_auroc, abs=1e-4)
    people = draw_people(world, seed, np.arange(1200), strength.intercept, strength.slope)
    latent = probability_in_design(world, people.level, people.trend, people.findings, strength.intercept, strength.slope)
    kept = people.design(world)
    auroc, error = auroc_with_error(latent[kept], people.died[kept], people.owner[kept])
    assert abs(auroc - strength.latent_auroc) < 3 * error or strength.latent_auroc == 0.5
    assert abs(people.died[kept].mean() - strength.prevalence) < 3 * np.sqrt(strength.prevalence / kept.sum())


@pytest.mark.parametrize("name", SOME)
def test_the_designed_ceilings_of_lesions_are_met(name):
    """AUROC of every set on grades drawn patient by patient, against a sample of the world as such."""
    lung, seed = read_world(name).lung, worldset.find(name).seed
    nobody, lesions = sample_lesions(lung, 20_000), draw_lesions(lung, seed, np.arange(800))
    designed, found = posteriors(lung, nobody), posteriors(lung, lesions)
    for column, p in found.items():
        auroc, error = macro_auroc(p, np.eye(6)[lesions.grade])
        assert abs(auroc - macro_auroc(designed[column], designed["p_ct_pet_rep"])[0]) < 3.5 * error + 1e-9


@pytest.mark.parametrize("name", SOME)
def test_the_designed_rates_are_met(name):
    member, lung = worldset.find(name), read_world(name).lung
    lesions = draw_lesions(lung, member.seed, np.arange(1500))
    for there, shares in ((lesions.scanned, lung.pet.scanned), (lesions.reported, lung.report.written)):
        chance = np.array(shares)[lesions.grade]
        assert abs((there - chance).sum()) <= 3.5 * np.sqrt((chance * (1 - chance)).sum())
    for m, quality in enumerate(lung.qualities):
        assert lesions.corrupt[:, m].mean() == pytest.approx(quality.corrupt, abs=0.03 + 0.15 * quality.corrupt * quality.spread)
        assert np.log(lesions.noise[:, m]).std() == pytest.approx(quality.spread, rel=0.08)
    if told := member.coordinates:
        assert np.dot(lung.grades, lung.pet.scanned) == pytest.approx(1 - told["missing"], abs=1e-3)
        assert np.dot(lung.grades, lung.report.written) == pytest.approx(1 - told["missing"] / 2, abs=1e-3)
        assert lung.grades[-1] == pytest.approx(told["prevalence"], abs=1e-3)


@pytest.mark.parametrize("setting", ["mortality", "subtyping"])
def test_in_the_null_world_the_oracle_of_what_is_shown_is_a_coin(setting):
    told = preview(read_world("set32/null"), setting, 20 if setting == "mortality" else 300, seed=3)
    assert all(auroc == pytest.approx(0.5, abs=1e-9) for auroc, _ in told["auroc"].values())


def test_in_the_world_of_one_modality_the_others_tell_nothing():
    auroc = preview(read_world("set32/tables_only"), "subtyping", 500)["auroc"]
    assert auroc["p_pet_rep"][0] == pytest.approx(0.5, abs=1e-9) and auroc["p_ct"][0] > 0.8
    assert auroc["p_ct_pet_rep"][0] == pytest.approx(auroc["p_ct"][0], abs=1e-9)


def test_in_the_clean_world_the_modalities_are_alike():
    auroc = [preview(read_world("set32/clean"), "subtyping", 4000)["auroc"][f"p_{name}"][0] for name in MODALITIES]
    assert max(auroc) - min(auroc) < 0.02


def test_in_the_separate_world_no_modality_tells_anything_of_another():
    """P(ct, pet, report) is the product of the three, for whatever they show: nothing can be imputed, and all three are needed."""
    lung = read_world("set32/separate").lung
    lesions, prior = sample_lesions(lung, 500), np.array(lung.grades)
    told = {name: np.exp(log[:, 0]) for name, log in log_likelihoods(lung, lesions).items()}  # [n, 6]
    alone = np.prod([p @ prior for p in told.values()], axis=0)
    assert np.prod(list(told.values()), axis=0) @ prior == pytest.approx(alone, rel=1e-9)
    for one, other in (("ct", "pet"), ("ct", "rep"), ("pet", "rep")):
        assert (told[one] * told[other]) @ prior == pytest.approx((told[one] @ prior) * (told[other] @ prior), rel=1e-9)
    auroc = preview(read_world("set32/separate"), "subtyping", 1500)["auroc"]
    for name in MODALITIES:
        rest = "_".join(("p", *(other for other in MODALITIES if other != name)))
        assert auroc["p_ct_pet_rep"][0] > auroc[rest][0] + 0.02


def test_the_easy_and_the_hard_carrier_of_lesions_hold_the_same_information(world_with):
    one = read_world("default").lung
    other = world_with({"lung": {"ct": {"swapped": True}, "report": {"density_in": "order"}}}).lung
    here, there = (draw_lesions(lung, 3, np.arange(300)) for lung in (one, other))
    assert np.corrcoef(here.diameter_mm, there.solid)[0, 1] > 0.9 and not np.allclose(here.diameter_mm, there.diameter_mm)
    for column, p in posteriors(one, here).items():
        assert posteriors(other, there)[column] == pytest.approx(p, abs=1e-8)


def test_inflammation_is_told_by_the_report_alone_and_turns_what_pet_means(world_with):
    """PET and report together tell more than what each adds to nothing: synergy."""
    change = {"inflamed": 0.5, "pet": {"turn": 1.0, "scanned": [1] * 6}, "report": {"strength": 0, "written": [1] * 6}}
    auroc = preview(world_with({"lung": change}), "subtyping", 1500)["auroc"]
    assert auroc["p_rep"][0] == pytest.approx(0.5, abs=1e-9)
    assert auroc["p_pet_rep"][0] > auroc["p_pet"][0] + 0.05


@pytest.mark.parametrize("name, told", [("set32/33", "no world 'set32/33'"), ("set32", "no world 'set32'"), ("set32/nul", "did you mean")])
def test_a_world_that_the_set_does_not_have(name, told):
    with pytest.raises(ConfigError, match=told):
        read_world(name)
