"""Paired differences of the AUROC between models: every fusion against its best single modality, every method against a reference.

The verdict is that of the Bayesian correlated t-test with a declared margin: helps, equivalent, harms, cannot be told. Beside it stand the
corrected t-test with Holm's adjustment over all comparisons made here (one family), the plain paired t-test as papers print it, a
patient-bootstrap interval, and the smallest difference that this cohort could have shown at 80% power.

Both models are judged on the samples that both have scored. The best single modality is the best on these very test folds,
which favours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from omnifuse.eval import leaks, statistics
from omnifuse.eval.bootstrap import interval
from omnifuse.eval.draws import Draws, compute_draws, headline_row, mean_defined
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.tables import Model, TestSet
from omnifuse.preprocess.schema import ConfigError, nearest

FUSION = "fusion against its best single modality"
METHOD = "method against the reference"
METRIC = "auroc"


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
    entries = [_compare(pair, evaluation, train_patients, margin) for pair in pairs]
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


def best_single(fusion: Model, evaluation: Evaluation) -> Model | None:
    """The model with one of the fusion's modalities that has the highest mean AUROC; None for a single modality, or without such runs."""
    row = headline_row(evaluation.task)
    singles = {}
    for model in evaluation.tests:
        value = evaluation.draws[model].mean(METRIC, row)[0]
        if len(fusion.inputs) > 1 and len(model.inputs) == 1 and model.inputs[0] in fusion.inputs and np.isfinite(value):
            singles[model] = value
    return max(singles, key=singles.__getitem__) if singles else None


@dataclass(frozen=True)
class _Paired:
    """Two models on the samples that both scored. a, b: [folds, 1 + B] AUROC, folds where both are defined."""

    folds: list[int]
    a: np.ndarray
    b: np.ndarray
    sets_a: list[TestSet]
    sets_b: list[TestSet]
    samples: int
    left_out: int

    @property
    def difference(self) -> np.ndarray:
        return self.a - self.b


def _compare(pair: Pair, evaluation: Evaluation, train_patients, margin: float) -> dict[str, Any]:
    paired = _pair_up(pair, evaluation)
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


def _pair_up(pair: Pair, evaluation: Evaluation) -> _Paired:
    sets_a, sets_b = evaluation.tests[pair.a], evaluation.tests[pair.b]
    shared = {}
    for fold in sorted({test.fold for test in sets_a} & {test.fold for test in sets_b}):
        samples = [set(test.sample) for test in sets_a + sets_b if test.fold == fold]
        shared[fold] = np.array(sorted(set.intersection(*samples)))
    kept_a, kept_b = _restrict(sets_a, shared), _restrict(sets_b, shared)
    row = headline_row(evaluation.task)
    a = _by_fold(pair.a, kept_a, sets_a, evaluation, row)
    b = _by_fold(pair.b, kept_b, sets_b, evaluation, row)
    folds = [fold for fold in shared if fold in a and fold in b and np.isfinite(a[fold][0] - b[fold][0])]
    every = {sample for test in sets_a + sets_b for sample in test.sample}
    used = {sample for fold in folds for sample in shared[fold]}
    width = 1 + evaluation.resampler.resamples
    stack = [np.stack([side[fold] for fold in folds]) if folds else np.zeros((0, width)) for side in (a, b)]
    return _Paired(folds, *stack, kept_a, kept_b, len(used), len(every) - len(used))


def _restrict(sets, shared) -> list[TestSet]:
    return [
        test if len(test.sample) == len(shared[test.fold]) else test.take(np.isin(test.sample, shared[test.fold]))
        for test in sets
        if test.fold in shared and len(shared[test.fold])
    ]


def _by_fold(model: Model, kept, sets, evaluation: Evaluation, row: str) -> dict[int, np.ndarray]:
    """fold -> [1 + B]; taken from the evaluation where nothing had to be left out."""
    if not kept:
        return {}
    same = len(kept) == len(sets) and all(ours is theirs for ours, theirs in zip(kept, sets))
    draws: Draws = (
        evaluation.draws[model] if same else compute_draws(kept, evaluation.task, evaluation.patients, evaluation.resampler, only=(METRIC,))
    )
    return dict(zip(np.unique(draws.folds).tolist(), draws.by_fold(METRIC, row)))


def _over_folds(paired: _Paired, train_patients, margin: float) -> dict[str, Any]:
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


def _on_one_set(paired: _Paired, draws: np.ndarray, margin: float) -> dict[str, Any]:
    """One held-out set: DeLong where its assumptions hold, else the patient bootstrap; neither holds the variation from training again."""
    a, b = paired.sets_a, paired.sets_b
    alone = len(a) == len(b) == 1 and a[0].y_true.shape[1] == 1 and len(set(a[0].patient)) == len(a[0].patient)
    difference = float(paired.difference[0, 0])
    if alone and min(a[0].y_true.sum(), (1 - a[0].y_true).sum()) >= 2 and a[0].known.all():
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
