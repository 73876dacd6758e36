"""The cohort's part of a report for cohorts without stays, of films, and of what was linked: counts against the tables themselves."""

from dataclasses import replace

import polars as pl
import pytest
import simulated

from omnifuse.eval import audited, cohort_tables, disclosure
from omnifuse.eval.report import build_report
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import Task

FILMS = Task("radiology", "multilabel", ("Edema", "Fracture"), {"sample": "film", "modalities": ["cxr"]})
OUTCOME = Task("outcome", "binary", ("outcome",))
COUNT = 60


def samples(**columns) -> pl.DataFrame:
    """60 samples of 40 patients; every third has the outcome."""
    table = {
        "sample_id": [f"s{n:02d}" for n in range(COUNT)],
        "patient_id": [f"p{n % 40:02d}" for n in range(COUNT)],
        "y": pl.Series([[float(n % 3 == 0)] for n in range(COUNT)], dtype=pl.List(pl.Float32)),
        "age": [None if n < 4 else 30.0 + n for n in range(COUNT)],
        "ward": [f"ward {n % 2}" for n in range(COUNT)],
        "note": [f"text of {n}" for n in range(COUNT)],
        "labs_start": 0,
        "labs_length": [int(n >= 12) for n in range(COUNT)],
        "film_start": 0,
        "film_length": [2 * int(n % 2) for n in range(COUNT)],
    }
    return pl.DataFrame({**table, **columns})


AUDIT = {
    "attrition": [
        {"step": "in the main table", "samples": 90, "patients": 60, "left_out": {}},
        {"step": "with a label", "samples": 63, "patients": 42, "left_out": {"label is empty": 25, "label is unknown": 2}},
        {"step": "with an origin", "samples": 60, "patients": 40, "left_out": {"origin unknown": 3}},
    ],
    "columns": [
        {"modality": "labs", "column": "crp", "cells": 60, "present": 40, "missing": 15, "not_a_number": 2, "infinite": 3, "samples": 40,
         "several_values": 0},
        {"modality": "labs", "column": "absent", "samples": 0, "several_values": 0},
    ],
    "links": [{"modality": "film", "items": 60, "samples": 30, "left_out": {"no such file": 20, "cell is empty": 4}, "counts": {}}],
    "warnings": ["film: 4 cells are empty; 20 no such file, 1 h late"],
}  # fmt: skip


def write(folder, table, task=OUTCOME, audit=AUDIT, stays=None, **meta) -> store.Artefact:
    people = table["patient_id"].unique(maintain_order=True)
    parts = pl.DataFrame(
        {"fold": [0] * len(people), "patient_id": people, "part": ["test" if n % 4 == 0 else "train" for n in range(len(people))]}
    )
    meta = {
        "source": {"dataset": "table", "version": "", "tables": {}}, "tasks": {task.name: task.to_json()},
        "modalities": {"labs": {"kind": "vector"}, "film": {"kind": "items", "reads": "image"}},
        "splits": {"kind": "hash", "folds": [0], "counts": {"0": {"train": {"patients": 3}}}},
    } | meta  # fmt: skip
    with store.create(folder / "cohort", "cohort", fingerprint="cohort", meta=meta) as out:
        store.write_parquet(out.path(f"samples/{task.name}.parquet"), table)
        store.write_parquet(out.path("parts.parquet"), parts)
        store.write_json(out.path("audit.json"), audit)
        if stays is not None:
            store.write_parquet(out.path("stays.parquet"), stays)
    return store.open(folder / "cohort", "cohort")


DESCRIBE = {"age": "number", "ward": "category", "note": "category", "gone": "number"}


def test_samples_are_described_by_the_columns_that_were_asked_for(tmp_path):
    made = cohort_tables.read_cohort(write(tmp_path, samples(), describe=DESCRIBE), OUTCOME)
    assert (made.unit, made.sample, made.count, made.patients, made.attrition_unit) == ("samples", "sample", 60, 40, "samples")
    rows = {name: cells for name, cells, _ in made.rows}
    table = samples()
    positive = table.filter(pl.col("y").list.first() == 1)
    assert rows["Samples"] == ["60", "20", "40"]
    assert rows["Patients"][1] == str(positive["patient_id"].n_unique())
    assert rows["age: median (quartiles)"][0].startswith(f"{table['age'].median():.3g} (")
    assert rows["unknown"] == ["4 (6.7%)", f"{positive['age'].null_count()} (10.0%)", "2 (5.0%)"]
    assert rows["ward 0"][0] == "30 (50.0%)"
    assert rows["note"][0] == "60 different values" and not any("text of" in name for name in rows)
    assert not any("gone" in name for name in rows)


def test_presence_of_modalities_by_outcome(tmp_path):
    made = cohort_tables.read_cohort(write(tmp_path, samples()), OUTCOME)
    positive = [n for n in range(COUNT) if n % 3 == 0]
    has = {"labs": lambda n: n >= 12, "film": lambda n: n % 2 == 1, "All of them": lambda n: n >= 12 and n % 2 == 1}
    assert [name for name, _, _ in made.presence] == list(has)
    for name, cells, _ in made.presence:
        among = sum(map(has[name], range(COUNT))), sum(map(has[name], positive))
        assert cells[0] == f"{among[0]} ({100 * among[0] / 60:.1f}%)"
        assert cells[1] == f"{among[1]} ({100 * among[1] / 20:.1f}%)"


def test_a_tail_alone_is_presence(tmp_path):
    table = samples(labs_length=[0] * COUNT, labs_tail=[n if n < 9 else None for n in range(COUNT)])
    made = cohort_tables.read_cohort(write(tmp_path, table), OUTCOME)
    assert made.presence[0][1][0] == "9 (15.0%)"


def test_steps_columns_and_links_add_up(tmp_path):
    made = cohort_tables.read_cohort(write(tmp_path, samples()), OUTCOME)
    assert [(step["count"], step["why"]) for step in made.attrition] == [
        (90, ""), (63, "label is empty: 25; label is unknown: 2"), (60, "origin unknown: 3"),
    ]  # fmt: skip
    crp, absent = made.measured
    assert [crp[name] for name in ("cells", "present", "missing", "not_a_number", "infinite", "samples")] == [
        "60",
        "40",
        "15",
        "2",
        "3",
        "40",
    ]
    assert absent["cells"] == "0" and absent["samples"] == "0"
    assert made.links == [
        {"modality": "film", "rows": "84", "linked": "60", "items": "60", "left_out": "no such file: 20; cell is empty: 4", "notes": ""}
    ]


def test_small_cells_of_a_table_cohort_are_hidden(tmp_path):
    made = cohort_tables.read_cohort(write(tmp_path, samples(), describe=DESCRIBE), OUTCOME, min_cell=11)
    assert [(step["step"], step["count"]) for step in made.attrition] == [
        ("in the main table", 90), ("with a label; with an origin", 60),
    ]  # fmt: skip
    assert made.attrition[-1]["why"] == "label is empty: 25; label is unknown: under 11; origin unknown: under 11"
    assert made.links[0]["left_out"] == "no such file: hidden; cell is empty: under 11" and made.links[0]["linked"] == "60"
    crp = made.measured[0]
    assert crp["not_a_number"] == crp["infinite"] == "under 11" and crp["missing"] == "15"
    assert made.warnings == ["film: under 11 cells are empty; 20 no such file, 1 h late"]
    film = next(cells for name, cells, _ in made.presence if name == "film")
    assert film[0] == "30 (50.0%)" and film[1:] == ["under 11", "hidden"]


@pytest.mark.parametrize(
    "line, told",
    [
        ("3 of 45 cells are no numbers", "under 11 of 45 cells are no numbers"),
        ("only 7 samples with the outcome", "only under 11 samples with the outcome"),
        ("1,693 rows carry WARNING = 1: kept", "1,693 rows carry WARNING = 1: kept"),
        ("an ECG counts as known 1 h after", "an ECG counts as known 1 h after"),
        ("known 8.65 h after their exam (90th percentile)", "known 8.65 h after their exam (90th percentile)"),
        ("2 (3.5%) of 12", "under 11 (3.5%) of 12"),
    ],
)
def test_small_counts_in_sentences(line, told):
    assert disclosure.hide_in_text(line, 11) == told
    assert disclosure.hide_in_text(line, 0) == line


def test_lesions(tmp_path):
    task = Task("subtyping", "multiclass", ("pre-invasive", "invasive", "benign"), {"classes": "3"})
    y = pl.Series([[float(n % 3)] for n in range(COUNT)], dtype=pl.List(pl.Float32))
    audit = {
        "attrition": AUDIT["attrition"],
        "series": {"files": 9, "left_out": {"no image": 2}, "listed": [{"row": 77}], "notes": {"CT series with gaps in z": 1},
                   "unusable": [{"column": "ct_series", "reason": "slices of two series", "rows": 14}]},
        "suv": {"no injected dose": 12},
        "reports": {"reports": 40, "written after the pathology": 13},
        "leaks": {"baselines": [{"baseline": "scanner", "auroc": 0.71, "samples": 60, "reason": None},
                                {"baseline": "words", "auroc": 0.66, "samples": 7, "reason": None}]},
    }  # fmt: skip
    cohort = write(tmp_path, samples(y=y, input=["whole lung field"] * COUNT), task, audit, source={"dataset": "lung", "version": None})
    made = cohort_tables.read_cohort(cohort, task, min_cell=11)
    assert (made.unit, made.sample) == ("lesions", "lesion")
    assert made.columns == ["All", "pre-invasive", "invasive", "benign"]
    assert {name: cells[0] for name, cells, _ in made.rows}["whole lung field"] == "60 (100.0%)"
    found = dict(made.series)
    assert found["ct_series, cannot be used: slices of two series"] == "14" and found["CT series with gaps in z"] == "under 11"
    assert found["PET: no injected dose"] == "12" and found["reports: written after the pathology"] == "13"
    assert [(row["baseline"], row["auroc"]) for row in made.giveaways] == [("scanner", "0.710"), ("words", "–")]


def film_cohort(folder):
    world = simulated.World(simulated.BINARY, patients=120)
    cohort, _ = simulated.write(folder, patients=120)
    stays = cohort.table("stays.parquet")
    count = 80
    table = pl.DataFrame(
        {
            "sample_id": [f"f{n:03d}" for n in range(count)],
            "patient_id": [n if n < 70 else 9000 + n for n in range(count)],
            "stay_id": [stays["stay_id"][n] if n < 30 else None for n in range(count)],
            "y": pl.Series([[float(n % 2), None if n % 5 == 0 else float(n % 3 == 0)] for n in range(count)], dtype=pl.List(pl.Float32)),
            "cxr_start": 0,
            "cxr_length": 1,
        },
        strict=False,
    )
    films = {"films": 100, "without CheXpert labels": 20, "samples": count, "patients who train only": 10}
    linked = {"cxr": {"rows": 120, "left_out": {"view is not AP": 90}, "linked": 30, "items": 30, "notes": {"dated: day": 30},
                      "radiology": films}}  # fmt: skip
    audit = {"attrition": [{"step": "stays in ICUSTAYS", "stays": 400, "patients": 300}], "linked": linked}
    modalities = {"ehr": {"kind": "series"}, "cxr": {"kind": "items"}}
    return write(folder / "films", table, FILMS, audit, stays, modalities=modalities), world


def test_films_are_the_samples_of_radiology(tmp_path):
    cohort, _ = film_cohort(tmp_path)
    made = cohort_tables.read_cohort(cohort, FILMS)
    assert (made.unit, made.sample, made.count, made.patients, made.attrition_unit) == ("films", "film", 80, 80, "films")
    rows = {name: cells for name, cells, _ in made.rows}
    assert rows["Films"] == ["80"] and rows["during an ICU stay of the cohort"] == ["30 (37.5%)"]
    assert rows["unknown"] == ["10 (12.5%)"], "patients without a stay have no sex"
    assert [(name, cells) for name, cells, _ in made.presence] == [("chest film", ["80 (100.0%)"])]
    assert [step["count"] for step in made.attrition] == [100, 80]
    (link,) = made.links
    assert link["rows"] == "120" and link["left_out"] == "view is not AP: 90"
    assert link["notes"].endswith("radiology, samples: 80; radiology, patients who train only: 10")


def test_another_task_of_the_cohort_keeps_its_stays(tmp_path):
    cohort, _ = simulated.write(tmp_path, patients=120)
    made = cohort_tables.read_cohort(cohort, simulated.BINARY)
    assert (made.unit, made.sample, made.attrition_unit) == ("ICU stays", "sample", "stays")
    assert audited.links(made.audit, 0) == [] and made.measured == [] and made.series == []


def test_the_page_of_films_has_a_row_a_label(tmp_path):
    task = replace(simulated.MULTILABEL, name="radiology", notes={"sample": "film", "modalities": ["cxr"]})
    cohort, runs = simulated.write(tmp_path, task, models=(("unimodal", "cxr", 0.9),), patients=120)
    report, results, _ = build_report(tmp_path / "report", runs, cohort, resamples=40)
    text = " ".join(report.file("report.html").read_text().split())
    assert "films of" in text and "a sample is a film" in text
    for row in results["models"][0]["mean"]:
        assert row["label"].capitalize() in text or row["label"] in text
    assert "figures/labels.png" in report.files


def test_counts_of_the_splits_stay_out_of_the_provenance(tmp_path):
    from omnifuse.eval.report import _splits

    assert "counts" not in _splits(write(tmp_path, samples()))
