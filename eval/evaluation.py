"""From predictions to figures with intervals: every model, fold and label, and their means over folds.

The figure of a model is the mean over the test folds (seeds of one fold averaged first), never one curve over scores pooled from different
models. Macro is the mean over the labels that have a value, and says how many these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from omnifuse.eval import attained, bootstrap, leaks, metrics, tables
from omnifuse.eval.ceilings import Ceilings
from omnifuse.eval.draws import MACRO, MICRO, OVERALL, Draws, compute_draws, defined_metrics, headline_row, row_names
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import InputError, Silent, Task

FEW_EVENTS = 30

DEFINITIONS = {
    "auroc": "chance that a random positive scores above a random negative; ties count one half; .5 by chance",
    "auprc": "average precision, step-wise; by chance it equals the prevalence; with few positives in a fold it runs high",
    "brier": "mean squared error of the probability; lower is better; over all classes it is summed",
    "brier_skill": "1 - Brier / Brier of the constant prevalence; 0 is no better than that constant",
    "log_loss": "mean negative log likelihood in nats; lower is better",
    "ece": "expected calibration error, 15 bins of equal width, last bin closed (the headline); lower is better",
    "ece_mass": "expected calibration error, 15 bins of equal numbers of samples",
    "accuracy": "share of samples whose most probable class is the true one",
    "kappa": "Cohen's kappa with quadratic weights: agreement beyond chance for classes in order",
    "macro": "mean over the labels (classes against the rest) that have positives and negatives in the fold; k of n says how many",
    "micro": "all labels in one list, each sample and label a case",
    "mean": "mean over the test folds; seeds of one fold are averaged first",
    "interval": "bias-corrected percentiles of draws of patients within outcome, the same for every model; without training variation",
    "perfect": "range in which 95% of the calibration errors would lie on these samples if every probability were right",
    "no interval": "the draws lie to one side of the figure, because too few positives are in a fold: no interval can be had from them",
    "degenerate": "draws in which a fold or label lost all its positives or negatives; the figure is then that of the others",
}


@dataclass(frozen=True)
class Evaluation:
    """Everything that was computed: `results` is JSON, the rest is for comparisons and figures."""

    results: dict[str, Any]
    task: Task
    tests: tables.Tests
    draws: dict[tables.Model, Draws]
    resampler: bootstrap.PatientBootstrap
    patients: np.ndarray  # sorted ids, the rows of the resampler's weights


def evaluate(
    predictions: pl.DataFrame,
    *,
    task: Task,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
    every_head: bool = False,
    ceilings: Ceilings | None = None,
    progress=Silent,
) -> Evaluation:
    """Figures of every model on the part `test`, with 95% patient-bootstrap intervals; AUROC on `val` beside it, to choose models by.

    Args:
        predictions: `schema.PREDICTION_COLUMNS`, and `modalities` ("ehr+cxr") where unimodal models are to be told from fusions.
        every_head: every head of a method is a model of its own; else its final head speaks for it.
        ceilings: of these samples (`ceilings.read_ceilings`): each figure gets its ceiling, each fusion its share of the attainable gain.

    Raises:
        InputError: there is nothing to evaluate, or the table is not what the task says (`tables.arrange`).
    """
    taken = {MACRO, MICRO, OVERALL} & set(task.labels)
    if taken:
        raise InputError(f"a label of the task {plain(task.name)} is named {taken.pop()}, as one of our averages", hint="rename it")
    tests = tables.arrange(predictions, task, "test", every_head)
    if not tests:
        raise InputError("the predictions hold no sample of the part test", hint="train with --fold all, or give runs that have test folds")
    patients, resampler = make_resampler(tests, resamples, seed)
    validation = tables.arrange(predictions, task, "val", every_head)
    draws, entries = {}, []
    with progress("evaluate", len(tests), "model") as bar:
        for model, sets in tests.items():
            draws[model] = compute_draws(sets, task, patients, resampler)
            entries.append(_entry(model, sets, draws[model], task, validation.get(model, [])))
            bar.update(1)
    results = {
        "task": {"name": task.name, **task.to_json()},
        "row": plain(headline_row(task)),
        "settings": {"resamples": resamples, "seed": seed, "level": bootstrap.LEVEL, "strata": len(np.unique(resampler.strata))},
        "definitions": DEFINITIONS,
        "leaks": _leaks(tests, task),
        "models": entries,
        "warnings": _warnings(tests, task),
    }
    made = Evaluation(results, task, tests, draws, resampler, patients)
    if ceilings is not None:
        attained.judge(made, ceilings)
    return made


def _leaks(tests: tables.Tests, task: Task) -> dict[str, str]:
    """Modality -> why it leaks, of those that a model here saw."""
    seen = leaks.together(*(model.leak for model in tests))
    return {plain(name): plain(reason) for name, reason in leaks.reasons(task).items() if name in seen.split("+")}


def make_resampler(tests: tables.Tests, resamples: int, seed: int) -> tuple[np.ndarray, bootstrap.PatientBootstrap]:
    """The patients of all test sets, sorted, and their draws."""
    every = [test for sets in tests.values() for test in sets]
    patients = np.unique(np.concatenate([test.patient for test in every]))
    who = np.concatenate([np.searchsorted(patients, test.patient) for test in every])
    truth, known = np.concatenate([test.y_true for test in every]), np.concatenate([test.known for test in every])
    return patients, bootstrap.PatientBootstrap(bootstrap.outcome_strata(truth, known, who, len(patients)), resamples, seed)


def _entry(model: tables.Model, sets, draws: Draws, task: Task, validation) -> dict[str, Any]:
    samples = _Samples(sets)
    by_seed = draws.by_seed("auroc", headline_row(task))
    return {
        "name": model.name,
        **{key: plain(value) for key, value in model._asdict().items()},
        "leak": plain(model.leak) or None,
        "folds": sorted({int(fold) for fold in draws.folds}),
        "seeds": sorted({int(seed) for seed in draws.seeds}),
        "patients": samples.count(samples.known.any(1))["patients"],
        "samples": len(samples.patient),
        "validation_auroc": _validation(validation),
        "sd_seeds": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        "mean": [_mean_row(row, samples, draws, task) for row in _headline_first(task)],
        "cells": [
            {
                "fold": test.fold,
                "seed": test.seed,
                "rows": [_cell_row(row, _Samples([test]), cell, draws, task) for row in _headline_first(task)],
            }
            for cell, test in enumerate(sets)
        ],
    }


def _headline_first(task: Task) -> list[str]:
    """The rows of the results: first the one that stands for the task."""
    return sorted(row_names(task), key=lambda row: row != headline_row(task))


def _mean_row(row: str, samples: _Samples, draws: Draws, task: Task) -> dict[str, Any]:
    counted, found = samples.row(row, task), {}
    for metric in defined_metrics(row):
        entry = _figure(metric, draws.mean(metric, row), draws.degenerate(metric, row), counted)
        if entry["value"] is not None:
            each = draws.by_fold(metric, row)[:, 0]
            each = each[np.isfinite(each)]
            entry.update(folds=len(each), sd_folds=float(each.std(ddof=1)) if len(each) > 1 else None)
        if row == MACRO:
            labels = draws.labels_defined(metric)
            entry.update(k=int(labels.max()), k_least=int(labels.min()), n=task.outputs)
        found[metric] = entry
    return {"label": plain(row), **counted, "metrics": found}


def _cell_row(row: str, samples: _Samples, cell: int, draws: Draws, task: Task) -> dict[str, Any]:
    counted, found = samples.row(row, task), {}
    for metric in defined_metrics(row):
        found[metric] = _figure(metric, draws.values[metric][cell, draws.rows.index(row)], draws.degenerate(metric, row, [cell]), counted)
        if row == MACRO:
            found[metric].update(k=int(draws.labels_defined(metric, [cell])[0]), n=task.outputs)
    return {"label": plain(row), **counted, "metrics": found}


class _Samples:
    """The distinct samples of some test sets: each counts once, whatever the number of seeds and repeats."""

    def __init__(self, sets):
        _, first = np.unique(np.concatenate([test.sample for test in sets]), return_index=True)
        self.patient = np.concatenate([test.patient for test in sets])[first]
        self.known = np.concatenate([test.known for test in sets])[first]
        self.positive = np.concatenate([test.y_true for test in sets])[first] * self.known

    def row(self, row: str, task: Task) -> dict[str, Any]:
        """Counts behind a row of the results; of a multi-class task's averages every sample is a positive of one class."""
        columns = [task.labels.index(row)] if row in task.labels else list(range(task.outputs))
        counted = self.count(self.known[:, columns].any(1))
        if row not in task.labels and task.kind == "multiclass":
            return {**counted, "positives": None, "prevalence": None}
        cases, positives = int(self.known[:, columns].sum()), int(self.positive[:, columns].sum())
        return {**counted, "positives": positives, "prevalence": positives / cases if cases else None}

    def count(self, chosen) -> dict[str, int]:
        return {"samples": int(chosen.sum()), "patients": len(np.unique(self.patient[chosen]))}


def _figure(metric: str, values: np.ndarray, degenerate: int, counted) -> dict[str, Any]:
    """Value and interval of [1 + B] numbers, or null with the reason."""
    if not np.isfinite(values[0]):
        return {"value": None, "reason": _reason(counted)}
    if metric in metrics.CALIBRATION:
        low, high = np.nanquantile(values[1:], [(1 - bootstrap.LEVEL) / 2, (1 + bootstrap.LEVEL) / 2]).tolist()
        return {"value": float(values[0]), "perfect_low": low, "perfect_high": high}
    low, high = bootstrap.interval(values[0], values[1:])
    return {"value": float(values[0]), "low": low, "high": high, "degenerate": degenerate}


def _reason(counted) -> str:
    if not counted["samples"]:
        return "no labelled samples"
    if counted["positives"] == 0:
        return "no positives"
    return "no negatives" if counted["prevalence"] == 1.0 else "no label has both positives and negatives"


def _validation(sets) -> float | None:
    """Mean AUROC on the validation patients: what a model may be chosen by."""
    found = []
    for test in sets:
        each = [metrics.auroc(test.y_true[known, label], test.y_score[known, label]) for label, known in enumerate(test.known.T)]
        found += [np.mean([value for value in each if value is not None])] if any(value is not None for value in each) else []
    return float(np.mean(found)) if found else None


def _warnings(tests: tables.Tests, task: Task) -> list[str]:
    widest = max(tests.values(), key=lambda sets: sum(len(test.sample) for test in sets))  # not a modality that few have
    found, samples = [], _Samples(widest)
    rare = {}
    for label in task.labels:
        counted = samples.row(label, task)
        fewer = min(counted["positives"], counted["samples"] - counted["positives"])
        if fewer < FEW_EVENTS:
            rare[label] = (fewer, "with" if fewer == counted["positives"] else "without")
    if len(rare) == 1 or (rare and task.kind == "binary"):
        label, (fewer, kind) = next(iter(rare.items()))
        few = f"only {fewer} sample{'' if fewer == 1 else 's'} {kind} the outcome"
        found.append(f"{plain(label)}: {few}. Intervals on so few cover less than the 95% they promise.")
    elif rare:
        found.append(
            f"{len(rare)} of {task.outputs} labels have fewer than {FEW_EVENTS} positives or negatives: read them one by one with care."
        )
    if len({tuple((test.fold, test.seed) for test in sets) for sets in tests.values()}) > 1:
        found.append("Not all models have the same folds and seeds: their means stand on different patients.")
    return found
