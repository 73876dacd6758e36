"""Paired differences of the AUROC between models: every fusion against its best single modality, every method against a reference.

The verdict is that of the Bayesian correlated t-test with a declared margin: helps, equivalent, harms, cannot be told. Beside it stand the
corrected t-test with Holm's adjustment over all comparisons made here (one family), the plain paired t-test as papers print it, a
patient-bootstrap interval, and the smallest difference that this cohort could have shown at 80% power.

Both models are judged on the samples that both have scored. The best single modality is the best on these very test folds,
which favours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from omnifuse.eval import leaks, statistics
from omnifuse.eval.bootstrap import interval
from omnifuse.eval.draws import headline_row, mean_defined
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.pairing import LEAST, METRIC, Paired, best_single, fewest_patients, pair_up
from omnifuse.eval.tables import Model
from omnifuse.preprocess.schema import ConfigError, nearest

FUSION = "fusion against its best single modality"
METHOD = "method against the reference"
# On one held-out set neither test holds with fewer patients of a class: the draws of one case vary by the others alone.
TOO_FEW = f"a class has fewer than {LEAST} patients among the samples that both have scored: no test on one held-out set"


class Pair(NamedTuple):
    """Does `a` do better than `b`?"""

    a: Model
    b: Model
    question: str


def compare(
    evaluation: Evaluation,
    *,
    train_patients: Mapping[int, int],
    margin: float = statistics.MARGIN,
    reference: str | None = None,
    pairs: Sequence[Pair] | None = None,
) -> dict[str, Any]:
    """Tests a family of pairs.

    Args:
        train_patients: fold -> patients in the part `train` (`tables.train_patients`): validation, calibration and probe patients taught
            the weights nothing and do not count.
        margin: differences of the AUROC below it are of no use.
        reference: the method that the others with the same modalities are held against; concat where there is one, else the first by name.
        pairs: the family, instead of `family`.

    Raises:
        ConfigError: an unknown reference, or folds whose training patients are not told.
    """
    pairs = family(evaluation, reference) if pairs is None else list(pairs)
    entries = [_compare(pair, evaluation, train_patients, margin) | _attainable(pair, evaluation) for pair in pairs]
    for entry, adjusted in zip(entries, statistics.holm([entry["p"] for entry in entries])):
        entry["p_holm"] = adjusted
    return {
        "metric": METRIC,
        "row": plain(headline_row(evaluation.task)),
        "margin": margin,
        "sure": statistics.SURE,
        "family": len(entries),
        "adjustment": "Holm, over all comparisons of this table",
        "pairs": entries,
    }


def family(evaluation: Evaluation, reference: str | None = None) -> list[Pair]:
    """All comparisons of one report: fusions against their best single modality, methods with the same modalities against a reference."""
    models = list(evaluation.tests)
    methods = {model.method for model in models}
    if reference is not None and reference not in methods:
        raise ConfigError(f"no run of the reference method {plain(reference)}", hint=nearest(reference, methods))
    found = [Pair(model, single, FUSION) for model in models if (single := best_single(model, evaluation)) is not None]
    for modalities in dict.fromkeys(model.modalities for model in models):
        group = [model for model in models if model.modalities == modalities]
        names = [model.method for model in group]
        base = group[names.index(reference)] if reference in names else group[names.index("concat")] if "concat" in names else group[0]
        found += [Pair(model, base, METHOD) for model in group if model != base]
    return found


def _compare(pair: Pair, evaluation: Evaluation, train_patients, margin: float) -> dict[str, Any]:
    paired = pair_up(pair.a, pair.b, evaluation)
    entry = {
        "a": pair.a.name,
        "b": pair.b.name,
        "question": pair.question,
        "leak": plain(leaks.together(pair.a.leak, pair.b.leak)) or None,
        "folds": len(paired.folds),
        "samples": paired.samples,
        "left_out": paired.left_out,
        "a_value": None,
        "b_value": None,
        "difference": None,
        "p": None,
        "verdict": "cannot be told",
    }
    if not paired.folds:
        return {**entry, "reason": "no fold in which both have a value on shared samples"}
    a, b = paired.a[:, 0].mean(), paired.b[:, 0].mean()
    draws = mean_defined(paired.difference[:, 1:])
    low, high = interval(float(a - b), draws)
    entry.update(a_value=float(a), b_value=float(b), difference=float(a - b), bootstrap_low=low, bootstrap_high=high)
    entry["differences"] = [float(value) for value in paired.difference[:, 0]]
    tested = _over_folds(paired, train_patients, margin) if len(paired.folds) > 1 else _on_one_set(paired, draws, margin)
    return {**entry, **tested}


def _attainable(pair: Pair, evaluation: Evaluation) -> dict[str, Any]:
    """The share of the attainable gain of a fusion over its best single modality, where the ceiling is known. It is no test."""
    told = next((entry for entry in evaluation.results["models"] if entry["name"] == pair.a.name), {}).get("attainable")
    return {"attainable": told} if pair.question == FUSION and told and told.get("single") == pair.b.name else {}


def _over_folds(paired: Paired, train_patients, margin: float) -> dict[str, Any]:
    untold = [fold for fold in paired.folds if not train_patients.get(fold)]
    if untold:
        raise ConfigError(
            f"the number of training patients of fold {untold[0]} is not told",
            hint="give the cohort: the corrected test needs the ratio of test to training patients",
        )
    test_patients = {fold: {who for test in paired.sets_a if test.fold == fold for who in test.patient} for fold in paired.folds}
    n_test = sum(len(test_patients[fold]) for fold in paired.folds) / len(paired.folds)
    n_train = sum(train_patients[fold] for fold in paired.folds) / len(paired.folds)
    d, ratio = paired.difference[:, 0], n_test / n_train
    corrected, plain_test = statistics.corrected_t(d, ratio), statistics.paired_t(d)
    chances = statistics.correlated_bayes(d, ratio, margin)
    half = None if corrected.p is None else float(stats.t.isf(0.025, corrected.df) * corrected.error)
    return {
        "test": "corrected t",
        "n_test": n_test,
        "n_train": n_train,
        "variance_factor": 1 / len(d) + ratio,
        "t": corrected.t,
        "df": corrected.df,
        "p": corrected.p,
        "low": None if half is None else float(d.mean()) - half,
        "high": None if half is None else float(d.mean()) + half,
        "paper_t": plain_test.t,
        "paper_p": plain_test.p,
        "paper_star": bool(plain_test.p is not None and plain_test.p < 0.05),
        "chances": chances,
        "verdict": statistics.verdict(chances),
        "detectable": statistics.detectable(d, ratio),
    }


def _on_one_set(paired: Paired, draws: np.ndarray, margin: float) -> dict[str, Any]:
    """One held-out set: DeLong where its assumptions hold, else the patient bootstrap; neither holds the variation from training again."""
    a, b = paired.sets_a, paired.sets_b
    if fewest_patients(a[0]) < LEAST:
        return {"test": None, "low": None, "high": None, "reason": TOO_FEW}
    alone = len(a) == len(b) == 1 and a[0].y_true.shape[1] == 1 and len(set(a[0].patient)) == len(a[0].patient)
    difference = float(paired.difference[0, 0])
    if alone and a[0].known.all():
        found = statistics.delong(a[0].y_true[:, 0], a[0].y_score[:, 0], b[0].y_score[:, 0], a[0].patient)
        error, p, name = found.error, found.p, "DeLong"
    else:
        kept = draws[~np.isnan(draws)]
        error, name = (float(kept.std(ddof=1)) if len(kept) > 1 else 0.0), "patient bootstrap"
        p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else (1.0 if difference == 0 else None)
    if error == 0:
        chances = {"helps": 0.0, "equivalent": 1.0, "harms": 0.0} if p is not None else None
    else:
        above, below = stats.norm.sf((margin - difference) / error), stats.norm.cdf((-margin - difference) / error)
        chances = {"helps": float(above), "equivalent": float(1 - above - below), "harms": float(below)}
    return {
        "test": name,
        "p": p,
        "low": difference - 1.959963984540054 * error,
        "high": difference + 1.959963984540054 * error,
        "chances": chances,
        "verdict": statistics.verdict(chances),
        "detectable": (1.959963984540054 + 0.8416212335729143) * error or None,
    }
