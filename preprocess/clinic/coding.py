"""Discharge diagnoses: present conditions as ICD codes of their era, with its label noise.

Admissions from 2015-10-01 (of the real calendar behind the shifted years) are coded in ICD-10, earlier ones in ICD-9.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import ndtri

from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.hospital import Hospital
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.latent import People
from omnifuse.preprocess.clinic.world import World

ICD10_FROM = 2015.75


def present(world: World, liability: np.ndarray) -> np.ndarray:
    """[..., C] whether each condition is there: its liability exceeds the quantile of its prevalence."""
    return liability > ndtri(1 - np.array([condition.prevalence for condition in world.conditions.values()]))


def diagnose(world: World, seed: int, people: People, hospital: Hospital) -> pl.DataFrame:
    """diagnoses_icd of a block."""
    names, knobs = list(world.conditions), world.coding
    patients = hospital.patients.to_dicts()
    admitted = hospital.admissions["admittime"].to_list()
    hadm = hospital.admissions["hadm_id"].to_list()
    rows = {"subject_id": [], "hadm_id": [], "seq_num": [], "icd_code": [], "icd_version": []}
    for i, (row, k, stay) in enumerate(hospital.admission_keys):
        generator = stream(seed, int(people.patient[row]), "coding", k)
        version = _version(patients[row], admitted[i], generator.random())
        truth = present(world, people.liability[stay] if stay >= 0 else people.chronic_liability[row])
        sensitivity = knobs.icd9_sensitivity if version == 9 else knobs.icd10_sensitivity
        coded = generator.random(len(names)) < np.where(truth, sensitivity, knobs.false_positive)
        wanted = [names[c] for c in np.flatnonzero(coded)] + [""] * int(generator.poisson(knobs.background_codes))
        found = [_codes(name, version)[int(u * len(_codes(name, version)))] for name, u in zip(wanted, generator.random(len(wanted)))]
        found = list(dict.fromkeys(found)) or [_codes("", version)[0]]
        order = generator.permutation(len(found))
        rows["subject_id"] += [patients[row]["subject_id"]] * len(found)
        rows["hadm_id"] += [hadm[i]] * len(found)
        rows["seq_num"] += range(1, len(found) + 1)
        rows["icd_code"] += [found[j] for j in order]
        rows["icd_version"] += [version] * len(found)
    return pl.DataFrame(rows)


def _codes(condition: str, version: int) -> list[str]:
    return _TABLE[condition, version]


_TABLE: dict[tuple[str, int], list[str]] = {}
for _code in items.codes():
    _TABLE.setdefault((_code.condition, _code.version), []).append(_code.code)


def _version(person: dict, admitted, uniform: float) -> int:
    """ICD version by the real year, which the anchor year group tells to within three years."""
    real = int(person["anchor_year_group"][:4]) + 3 * uniform + admitted.year - person["anchor_year"]
    return 10 if real >= ICD10_FROM else 9
