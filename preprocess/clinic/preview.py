"""Ceilings of a world without a single file: the states and tokens of some patients are drawn, nothing is rendered."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from omnifuse.preprocess.clinic.ceiling import Ceiling
from omnifuse.preprocess.clinic.context import draw_context
from omnifuse.preprocess.clinic.course import simulate
from omnifuse.preprocess.clinic.hospital import admit
from omnifuse.preprocess.clinic.joint import COLUMNS, JointCeiling
from omnifuse.preprocess.clinic.latent import draw_people
from omnifuse.preprocess.clinic.lung_ceiling import macro_auroc, posteriors
from omnifuse.preprocess.clinic.lung_tokens import draw_lesions
from omnifuse.preprocess.clinic.lung_truth import EVERYTHING
from omnifuse.preprocess.clinic.modalities import shown
from omnifuse.preprocess.clinic.model import build_model
from omnifuse.preprocess.clinic.observe import Observer
from omnifuse.preprocess.clinic.outcome import auroc_with_error, find_strength, probability_in_design
from omnifuse.preprocess.clinic.record import gather
from omnifuse.preprocess.clinic.world import World

SETTINGS = ("mortality", "subtyping")
BLOCK = 100


def preview(world: World, setting: str, patients: int, seed: int = 0) -> dict[str, Any]:
    """AUROC of the ceiling of every set of modalities, all stays or lesions, with its standard error; rates of what is there.

    The patients are those of a clinic of that seed. AUROC is expected over the outcomes that they could have had.
    """
    return (_icu if setting == "mortality" else _lung)(world, patients, seed)


def _lung(world: World, patients: int, seed: int) -> dict[str, Any]:
    lesions = draw_lesions(world.lung, seed, np.arange(patients))
    found = posteriors(world.lung, lesions)
    auroc = {name: macro_auroc(p, found[EVERYTHING]) for name, p in found.items()}
    rates = dict(zip(("ct", "pet", "rep"), lesions.present.mean(0).tolist()))
    return {"auroc": auroc, "rates": rates, "samples": len(lesions), "prevalence": float((lesions.grade == 5).mean())}


def _icu(world: World, patients: int, seed: int) -> dict[str, Any]:
    with threadpool_limits(1):
        frame = pl.concat(_icu_blocks(world, patients, seed))
    oracle, owner = frame["p_latent"].to_numpy(), frame["patient"].to_numpy()
    auroc = {name: auroc_with_error(frame[name].to_numpy(), oracle, owner) for name in ("p_latent", *COLUMNS)}
    rates = {name: float(frame[name].mean()) for name in ("cxr", "rep", "sig")}
    return {"auroc": auroc, "rates": rates, "samples": len(frame), "prevalence": float(oracle.mean())}


def _icu_blocks(world: World, patients: int, seed: int):
    """Frames of the stays of the design: patient, latent oracle, what is shown, ceilings."""
    from omnifuse.preprocess.clinic.generate import Clinic

    strength, model = find_strength(world), build_model(world)
    clinic, ceiling, observer = Clinic(model, seed, strength), Ceiling(model, strength), Observer(model, seed)
    joint = JointCeiling(observer, ceiling.case, ceiling.control)
    for first in range(0, patients, BLOCK):
        block = np.arange(first, min(first + BLOCK, patients))
        people = draw_people(world, seed, block, strength.intercept, strength.slope)
        context, stays = draw_context(world, seed, block), range(len(people.owner))
        courses = [simulate(model, seed, people, stay) for stay in stays]
        seen = [observer.observe(people, context, stay) for stay in stays]
        cells, hospital = gather(model, courses), admit(seed, people)
        beyond = clinic.ceilings(ceiling, joint, people, hospital, courses, cells, seen, len(courses))[1]
        latent = probability_in_design(world, people.level, people.trend, people.findings, strength.intercept, strength.slope)
        there = np.array([shown(world, one) for one in seen])
        frame = pl.DataFrame({"patient": people.patient[people.owner], "p_latent": latent}).with_columns(
            **{name: there[:, i] for i, name in enumerate(("cxr", "rep", "sig"))}, **{name: beyond[:, i] for i, name in enumerate(COLUMNS)}
        )
        yield frame.filter(pl.Series(people.design(world)))
