"""Knobs that are each in their range and yet cannot hold together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from omnifuse.preprocess.clinic import items, latent
from omnifuse.preprocess.clinic.lung_world import contradictions_of_lung
from omnifuse.preprocess.clinic.modality_world import CARRIERS
from omnifuse.preprocess.clinic.statements import GRADES
from omnifuse.preprocess.clinic.world import World
from omnifuse.preprocess.schema import nearest


def contradictions(world: World) -> list[str]:
    """One phrase each, all of them."""
    of_the_icu = (_names, _liabilities, _shapes, _outcome, _modalities)
    return [*(fault for look in of_the_icu for fault in look(world)), *contradictions_of_lung(world.lung)]


def unknown_names(knobs: Mapping[str, Any]) -> list[str]:
    """Names of devices, variables and the like that the clinic does not have, in knobs that may be wrong otherwise."""
    mappings = {kind: knobs[kind] for kind in _known() if isinstance(knobs.get(kind), Mapping)}
    return [fault for kind, found in mappings.items() for fault in _unknown(kind, found, _known()[kind])]


def _known() -> dict[str, Collection[str]]:
    return {
        "devices": latent.DEVICES, "rounds": items.ROUNDS, "variables": items.MEASURED, "ordinals": items.ORDINALS, "body": items.BODY,
        "conditions": items.conditions(),
    }  # fmt: skip


def _unknown(kind: str, found: Iterable[str], known: Collection[str]) -> Iterable[str]:
    return (f"{kind}.{name}: unknown, {nearest(str(name), known)}" for name in found if name not in known)


def _names(world: World) -> Iterable[str]:
    """References to rounds, devices, variables and conditions that do not exist."""
    for kind, known in _known().items():
        found = getattr(world, kind)
        yield from _unknown(kind, found, known)
        yield from (f"{kind}.{name}: missing" for name in known if name not in found)
    for name, visit in world.rounds.items():
        if visit.device is not None and visit.device not in world.devices:
            yield f"rounds.{name}.device: no device {visit.device!r}, {nearest(visit.device, world.devices)}"
    for name, variable in world.variables.items():
        for other in variable.follows:
            if other not in world.variables or other == name or world.variables[other].follows:
                yield f"variables.{name}.follows: {other!r} is no other variable that itself follows none"
    for name, condition in world.conditions.items():
        for other in condition.shifts:
            if other not in world.variables:
                yield f"conditions.{name}.shifts: no variable {other!r}, {nearest(other, world.variables)}"


def _liabilities(world: World) -> Iterable[str]:
    course = world.severity
    if course.frailty**2 + course.age**2 > 1:
        yield "severity: frailty and age explain more than all of the severity (their squares add up to more than 1)"
        return
    for name, condition in world.conditions.items():
        if latent.explained(condition, course) > 1:
            yield f"conditions.{name}: severity, frailty and age explain more than all of the liability"


def _shapes(world: World) -> Iterable[str]:
    for name, ordinal in world.ordinals.items():
        if len(ordinal.levels) != len(ordinal.shares):
            yield f"ordinals.{name}: {len(ordinal.levels)} levels but {len(ordinal.shares)} shares"
        elif abs(sum(ordinal.shares) - 1) > 1e-6:
            yield f"ordinals.{name}.shares: they add up to {sum(ordinal.shares):g}, not to 1"
        elif bad := [level for level in ordinal.levels if not items.known_level(name, level)]:
            yield f"ordinals.{name}.levels: {bad[0]!r} is not charted in MetaVision"
    for name, variable in world.variables.items():
        if variable.low >= variable.high:
            yield f"variables.{name}: low is not below high"


def _outcome(world: World) -> Iterable[str]:
    outcome = world.outcome
    if outcome.latent_auroc > 0.5 and not any(latent.outcome_weights(world).values()):
        yield "outcome: latent_auroc over 0.5, but no weight is over 0"
    if outcome.prevalence > 0.9 * (most := latent.last_share(world)):
        yield f"outcome.prevalence: {outcome.prevalence:g}, but only {most:.2f} of the stays are a patient's last (patients.icu_again)"
    if outcome.latent_auroc == 0.5 and world.stays.death != 0 and world.stays.severity != 0:
        yield "outcome: latent_auroc 0.5, but stays.death and stays.severity tie the outcome to the length of stay"


def _modalities(world: World) -> Iterable[str]:
    for name, carriers in CARRIERS.items():
        if (chosen := getattr(world, name).unique_in) not in carriers:
            yield f"{name}.unique_in: {chosen!r} is neither {carriers[0]} nor {carriers[1]}"
    grades = world.report.grades
    if len(grades) != GRADES:
        yield f"report.grades: {len(grades)} shares, but there are {GRADES} grades"
    elif abs(sum(grades) - 1) > 1e-6:
        yield f"report.grades: they add up to {sum(grades):g}, not to 1"
    if world.film.archived.rate > 0 and world.exam.ordered.rate == 0:
        yield "film.archived.rate: films in the archive, but exam.ordered.rate is 0"
    if world.film.archived.severity:
        yield "film.archived.severity: films follow severity through exam.ordered and exam.hours, this slope must be 0"
    for name in ("film", "report", "signal"):
        quality = getattr(world, name).quality
        if quality.spurious and world.sites.external == 1:
            yield f"{name}.quality.spurious: a tie of the internal sites, but sites.external is 1"
