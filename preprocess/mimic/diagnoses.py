"""Phenotypes of the kept admissions: which diagnosis rows count in which mode, and which version they are coded in."""

from __future__ import annotations

from typing import Any

import polars as pl

from omnifuse.preprocess.mimic import phenotypes
from omnifuse.preprocess.mimic.options import BENCHMARKS, MEDFUSE, Options
from omnifuse.preprocess.mimic.source import MIMIC3, Source
from omnifuse.preprocess.schema import InputError

_RULES = {BENCHMARKS: "icd9", MEDFUSE: "medfuse"}


def read_labels(source: Source, stays: pl.DataFrame, options: Options) -> tuple[pl.DataFrame, dict[str, Any], int, list[str]]:
    """Reads DIAGNOSES_ICD.

    In the compat modes a code without an entry in D_ICD_DIAGNOSES vanishes; MedFuse joins by the code alone, whatever its version.

    Returns:
        hadm_id, `coded_in` (9 or 10) and an Int8 column a phenotype, of the kept admissions with a diagnosis; phenotypes.assign's report;
        the rows of the table; and warnings.
    """
    table = source.read("diagnoses_icd")
    rows, warnings = table.height, []
    if source.dataset == MIMIC3:
        table = table.with_columns(icd_version=pl.lit(9, pl.Int64))
    table = table.join(stays.select("hadm_id", subject_id="patient_id"), on=["subject_id", "hadm_id"], how="semi")
    if options.is_compat:
        if "d_icd_diagnoses" in source.files:
            table = table.join(source.read("d_icd_diagnoses").unique(), on="icd_code", how="semi")
        else:
            warnings.append("D_ICD_DIAGNOSES is absent: codes without an entry in it, which the published pipeline loses, are kept")
    if table.is_empty():
        raise InputError("holds no diagnosis of a kept stay", where=source.files["diagnoses_icd"])
    labels, report = phenotypes.assign(
        table.select("hadm_id", "icd_code", "icd_version"), rule=_RULES.get(options.compat, "default"), definitions=options.phenotypes
    )
    version = table.group_by("hadm_id").agg(pl.col("icd_version").max().alias("coded_in"))
    return labels.join(version, on="hadm_id", how="left"), report, rows, warnings
