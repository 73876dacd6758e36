"""From the predictions of a grid to its numbers: every row on every column, the questions between rows, and curves over missing rates.

    results = judge(predictions, grid, task=task, train_patients={0: 310, ...})

A row of the grid on a column (a set of modalities) is a model; under a condition (a share of the test samples has lost a modality) it is
another one. Rows are compared on shared samples with the corrected t-test, Holm over the questions of the grid under one condition. Each
row also stands against the best single modality of its column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from omnifuse.eval import bootstrap, comparisons, tables
from omnifuse.eval.ceilings import Ceilings
from omnifuse.eval.comparisons import Pair
from omnifuse.eval.draws import compute_draws, headline_row
from omnifuse.eval.evaluation import Evaluation, evaluate, make_resampler
from omnifuse.eval.pairing import best_single
from omnifuse.preprocess.schema import InputError, Silent, Task

METRIC, SINGLE, AGAINST = "auroc", "single", "against the best single modality"

# Of a comparison.
KEPT = ("difference", "differences", "low", "high", "p", "p_holm", "paper_p", "paper_star", "verdict", "chances", "detectable", "samples",
        "folds", "test", "reason")  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """What the tables look like.

    Args:
        rows: name -> title, in order. questions: pairs of rows. modalities: in order.
        costs: row and column ("a", "ehr+cxr") -> parameters, seconds ..., shown beside.
    """

    name: str
    about: str
    rows: Mapping[str, str]
    questions: Sequence[tuple[str, str]]
    modalities: Sequence[str]
    costs: Mapping[tuple[str, str], Mapping[str, float | None]] = field(default_factory=dict)


def judge(
    predictions: pl.DataFrame,
    layout: Layout,
    *,
    task: Task,
    train_patients: Mapping[int, int],
    ceilings: Ceilings | None = None,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
    margin: float = comparisons.statistics.MARGIN,
    progress=Silent,
) -> dict[str, Any]:
    """All numbers of a grid, as JSON.

    Args:
        predictions: schema.PREDICTION_COLUMNS and `modalities`, `row`, `drop` and `rate`; unimodal runs have the row `single`.
        train_patients: fold -> patients in the part train.
        ceilings: of a synthetic clinic.

    Raises:
        InputError: there is nothing to judge.
    """
    conditions = predictions.select("drop", "rate").unique().sort("drop", "rate").rows()
    if ("", 0.0) not in conditions:
        raise InputError("the predictions hold no test sample as it is", hint="train the grid with --fold all")
    judged, answers, how = [], [], {"task": task, "resamples": resamples, "seed": seed}
    with progress("judge", len(conditions), "condition") as bar:
        for drop, rate in conditions:
            here = predictions.filter((pl.col("drop") == drop) & (pl.col("rate") == rate)).with_columns(method=pl.col("row"))
            made = _evaluate_rows(here, **how) if drop else evaluate(here, **how, ceilings=ceilings)
            judged += _cells(made, layout, drop, rate)
            answers += _answers(made, layout, drop, rate, train_patients, margin)
            bar.update(1)
    for cell in judged:
        cell |= layout.costs.get((cell["row"], cell["column"]), {})
    return {
        "grid": layout.name, "about": layout.about, "task": {"name": task.name, **task.to_json()}, "metric": METRIC,
        "label": headline_row(task), "rows": dict(layout.rows), "modalities": list(layout.modalities), "margin": margin,
        "resamples": resamples, "seed": seed, "ceilings": ceilings.fingerprint if ceilings else None, "cells": judged, "questions": answers,
    }  # fmt: skip


def _evaluate_rows(frame: pl.DataFrame, task: Task, resamples: int, seed: int) -> Evaluation:
    """An evaluation by nothing but the AUROC: a grid has hundreds of conditions."""
    tests = tables.arrange(frame, task, "test")
    patients, resampler = make_resampler(tests, resamples, seed)
    draws = {model: compute_draws(sets, task, patients, resampler, only=(METRIC,)) for model, sets in tests.items()}
    return Evaluation({"models": []}, task, tests, draws, resampler, patients)


def _cells(evaluation: Evaluation, layout: Layout, drop: str, rate: float) -> list[dict[str, Any]]:
    told = {(entry["method"], entry["modalities"]): entry for entry in evaluation.results["models"]}
    cells = []
    for model, sets in evaluation.tests.items():
        draws, row = evaluation.draws[model], headline_row(evaluation.task)
        mean, folds = draws.mean(METRIC, row), draws.by_fold(METRIC, row)[:, 0]
        low, high = bootstrap.interval(mean[0], mean[1:]) if np.isfinite(mean[0]) else (None, None)
        cells.append(
            {
                "row": model.method, "column": model.modalities, "drop": drop, "rate": rate, "leak": model.leak or None,
                "auroc": float(mean[0]) if np.isfinite(mean[0]) else None, "low": low, "high": high,
                "samples": len({sample for test in sets for sample in test.sample}),
                "folds": [float(value) if np.isfinite(value) else None for value in folds],
            } | _told(told.get((model.method, model.modalities)))
        )  # fmt: skip
    order = {name: place for place, name in enumerate((*layout.rows, SINGLE))}
    return sorted(cells, key=lambda cell: (cell["column"].count("+"), cell["column"], order.get(cell["row"], len(order))))


def _told(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the whole evaluation of a model knows beside its AUROC."""
    if entry is None:
        return {}
    found = {"validation_auroc": entry["validation_auroc"]}
    if "ceiling" in entry:
        found |= {"ceiling": entry["ceiling"]["value"], "attained": entry["attainable"]}
    return found


def _answers(evaluation: Evaluation, layout: Layout, drop: str, rate: float, train_patients, margin: float) -> list[dict[str, Any]]:
    """One family a condition: the questions of the grid and, on samples as they are, each row against the best single modality."""
    models = {(model.method, model.modalities): model for model in evaluation.tests}
    columns = dict.fromkeys(model.modalities for model in evaluation.tests if model.method != SINGLE)
    asked: list[tuple[Pair, str, str, str]] = []
    for column in columns:
        for a, b in layout.questions:
            pair = models.get((a, column)), models.get((b, column))
            if None not in pair:
                asked.append((Pair(*pair, f"{a} - {b}"), a, b, column))
    for model in evaluation.tests if not drop else ():
        if model.method != SINGLE and (single := best_single(model, evaluation)) is not None:
            asked.append((Pair(model, single, AGAINST), model.method, single.modalities, model.modalities))
    pairs = list(dict.fromkeys(pair for pair, *_ in asked))
    if not pairs:
        return []
    told = comparisons.compare(evaluation, train_patients=train_patients, margin=margin, pairs=pairs)["pairs"]
    found = dict(zip(pairs, told))
    return [
        {"a": a, "b": b, "column": column, "drop": drop, "rate": rate, "question": pair.question}
        | {key: found[pair].get(key) for key in KEPT}
        for pair, a, b, column in asked
    ]
