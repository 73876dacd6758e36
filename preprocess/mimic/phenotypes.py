"""The 25 acute-care phenotypes of Harutyunyan et al. (Scientific Data 2019) from the diagnosis codes of an admission.

A phenotype is an AHRQ CCS single-level category, defined by its ICD-9-CM codes (resources/phenotypes_ccs2015.json, from
hcup_ccs_2015_definitions.yaml of mimic3-benchmarks, MIT). An admission has it when any of its codes is in the set.

    rule icd9       ICD-9 codes by the sets, nothing else: mimic3-benchmarks (whose join with D_ICD_DIAGNOSES is the caller's)
    rule default    ICD-9 codes by the sets, ICD-10 codes by icd10.py
    rule medfuse    the codes of a definitions file, whatever the ICD version: MedFuse, whose file is not shipped

They are billing codes, given at discharge for the whole admission: what is predicted is what was coded, not when it began.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from omnifuse.preprocess.mimic import phenotype_report
from omnifuse.preprocess.mimic.icd10 import Icd10, Mapping, normalise, read_ahrq, read_ccs
from omnifuse.preprocess.schema import ConfigError, InputError, nearest

RESOURCE = Path(__file__).parent / "resources" / "phenotypes_ccs2015.json"
RULES = ("icd9", "default", "medfuse")
COLUMNS = ("hadm_id", "icd_code", "icd_version")
HOW_TO_GET = (
    "give mimic4extract/mimic3benchmark/resources/icd_9_10_definitions_2.yaml of github.com/nyuad-cai/MedFuse with --phenotypes FILE"
)


@functools.cache
def _definitions() -> dict[str, dict[str, Any]]:
    return json.loads(RESOURCE.read_text(encoding="utf-8"))


def phenotype_names() -> list[str]:
    """The 25 phenotypes in the order of the label columns: sorted by name."""
    return sorted(_definitions())


def ccs_ids() -> dict[str, int]:
    """CCS category of each phenotype, in the order of the label columns."""
    return {name: _definitions()[name]["ccs_id"] for name in phenotype_names()}


def icd9_codes() -> dict[str, int]:
    """ICD-9-CM code -> CCS category, of the 767 codes of the 25 phenotypes."""
    return {code: entry["ccs_id"] for entry in _definitions().values() for code in entry["icd9"]}


def assign(
    diagnoses: pl.DataFrame, rule: str = "icd9", definitions: Path | None = None, *, cross_check: Path | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The phenotypes of each admission, and an account of how its codes were read.

    Args:
        diagnoses: hadm_id, icd_code (text, dots and case do not matter), icd_version (9 or 10), and optionally anchor_year_group.
        rule: icd9, default or medfuse.
        definitions: the file of the rule medfuse: YAML `{name: {use_in_benchmark: true, codes: [...]}}`, or JSON with `icd9` or `codes`.
        cross_check: AHRQ's CCS for ICD-10-CM, to list where the rule default differs from it.

    Returns:
        hadm_id and one Int8 column a phenotype, every hadm_id of the input once, sorted; and the report (see phenotype_report).

    Missing data:
        A row without a code gives no label and is counted. A row without a hadm_id is an error.

    Raises:
        ConfigError: unknown rule, or a definitions file that is missing, unreadable or without the 25 phenotypes.
        InputError: columns missing, codes read as numbers, rows without admission or with another ICD version, or no rows.
    """
    if rule not in RULES:
        raise ConfigError(f"no phenotype rule {rule!r}", hint=nearest(rule, RULES))
    if definitions is not None and rule != "medfuse":
        raise ConfigError(f"the phenotype rule {rule} takes no definitions file", hint="it belongs to the rule medfuse")
    _check(diagnoses, any_version=rule == "medfuse")
    icd10 = Icd10(icd9_codes()) if rule == "default" else None
    codes = _map_codes(diagnoses, _mapper(rule, definitions, icd10))
    labels = _labels(diagnoses, codes)
    report = phenotype_report.build(
        rule=rule,
        diagnoses=diagnoses,
        codes=codes,
        labels=labels,
        ids=ccs_ids(),
        icd9=icd9_codes(),
        icd10=icd10,
        ahrq=read_ahrq(cross_check) if cross_check is not None else None,
    )
    return labels, report


def _check(diagnoses: pl.DataFrame, *, any_version: bool) -> None:
    if missing := [column for column in COLUMNS if column not in diagnoses.columns]:
        raise InputError(f"the diagnoses have no column {', '.join(missing)}")
    if diagnoses.schema["icd_code"] != pl.String:
        raise InputError("the column icd_code of the diagnoses was not read as text", hint="leading zeros are part of a code")
    if wrong := [column for column in ("hadm_id", "icd_version") if not diagnoses.schema[column].is_integer()]:
        raise InputError(f"the column {wrong[0]} of the diagnoses was not read as an integer")
    if diagnoses.is_empty():
        raise InputError("the diagnoses hold no rows")
    if nulls := diagnoses["hadm_id"].null_count():
        raise InputError(f"{nulls:,} rows of the diagnoses have no hadm_id")
    if not any_version and (other := diagnoses.select((~pl.col("icd_version").is_in([9, 10])).fill_null(True).sum()).item()):
        raise InputError(f"{other:,} rows of the diagnoses have an icd_version other than 9 and 10")


def _mapper(rule: str, definitions: Path | None, icd10: Icd10 | None) -> Callable[[str, int], Mapping]:
    """What a normalised code of a version is taken for, under a rule."""
    if rule == "medfuse":
        sets = _read_definitions(definitions)
        return lambda code, version: Mapping(sets[code], "definitions") if code in sets else Mapping()
    icd9, ccs = icd9_codes(), read_ccs()

    def by_version(code: str, version: int) -> Mapping:
        if version == 10:
            return icd10.map(code) if icd10 is not None else Mapping()
        return Mapping(frozenset({icd9[code]}) if code in icd9 else frozenset(), "set" if code in ccs or code in icd9 else "none")

    return by_version


def _map_codes(diagnoses: pl.DataFrame, mapper: Callable[[str, int], Mapping]) -> pl.DataFrame:
    """Each spelling of a code once: icd_code, icd_version, rows, code, via, parent, tie, split, labels (CCS ids) and mask.

    Bit i of `mask` is phenotype i: an admission's labels are the bitwise or of its rows, at any number of rows.
    """
    spelled = diagnoses.group_by("icd_code", "icd_version").agg(pl.len().alias("rows")).sort("icd_code", "icd_version")
    codes = [normalise(code or "") for code in spelled["icd_code"]]
    mapped = [mapper(code, version) if code else Mapping() for code, version in zip(codes, spelled["icd_version"])]
    bits = {label: 1 << bit for bit, label in enumerate(ccs_ids().values())}
    return spelled.with_columns(
        pl.Series("code", codes, dtype=pl.String),
        pl.Series("via", [m.via for m in mapped], dtype=pl.String),
        pl.Series("parent", [m.parent for m in mapped], dtype=pl.String),
        pl.Series("tie", [m.tie for m in mapped], dtype=pl.Boolean),
        pl.Series("split", [m.split for m in mapped], dtype=pl.Boolean),
        pl.Series("labels", [sorted(m.labels) for m in mapped], dtype=pl.List(pl.Int64)),
        pl.Series("mask", [sum(bits[label] for label in m.labels) for m in mapped], dtype=pl.UInt32),
    )


def _labels(diagnoses: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    masks = (
        diagnoses.lazy()
        .select(*COLUMNS)
        .join(codes.lazy().select("icd_code", "icd_version", "mask"), on=["icd_code", "icd_version"], how="left", nulls_equal=True)
        .group_by("hadm_id")
        .agg(pl.col("mask").bitwise_or())
        .sort("hadm_id")
        .collect()
    )
    bits = [((pl.col("mask") & (1 << bit)) > 0).cast(pl.Int8).alias(name) for bit, name in enumerate(phenotype_names())]
    return masks.select(pl.col("hadm_id").cast(pl.Int64), *bits)


def _read_definitions(path: Path | None) -> dict[str, frozenset[int]]:
    """Code -> CCS ids, of a MedFuse or mimic3-benchmarks definitions file. Groups not used in the benchmark are skipped."""
    if path is None:
        raise ConfigError("the ICD-9 and ICD-10 codes of MedFuse's phenotypes are not part of omnifuse", hint=HOW_TO_GET)
    try:
        text = Path(path).read_text(encoding="utf-8")
        groups = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        raise ConfigError("cannot be read as phenotype definitions", where=path, hint=HOW_TO_GET) from None
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise ConfigError("is no table of phenotypes, each with its codes", where=path, hint=HOW_TO_GET)
    used = {name: group for name, group in groups.items() if group.get("use_in_benchmark", True)}
    ids = ccs_ids()
    if wrong := sorted(set(ids) ^ set(used)):
        what = "lacks" if wrong[0] in ids else "uses an unknown phenotype,"
        raise ConfigError(f"{what} {wrong[0]}", where=path, hint=f"{len(wrong)} names differ from the 25 of the benchmark; {HOW_TO_GET}")
    sets: dict[str, frozenset[int]] = {}
    for name, group in used.items():
        codes = group.get("codes", group.get("icd9"))
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise ConfigError(f"the codes of {name} are not a list of texts", where=path, hint="quote them: 0031 unquoted is a number")
        for code in map(normalise, codes):
            sets[code] = sets.get(code, frozenset()) | {ids[name]}
    return sets
