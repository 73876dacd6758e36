"""Ceilings beside the figures, and the share of the attainable gain.

    share = (AUROC - best single) / (ceiling - best single)

The ceiling of a model is the score of the oracle of its modalities on the very samples, folds and draws of patients on which the model is
judged. The share has Fieller's interval (Fieller 1954) from the covariance of the paired draws: the set of shares s for which
(AUROC - best single) - s (ceiling - best single) could be nought. It is bounded only where the ceiling is clearly above the best single
modality; elsewhere no share is told. As all intervals here it does not hold the variation from training again.

A model above its ceiling by more than three standard errors of the paired difference has seen what it should not have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from omnifuse.eval.bootstrap import interval
from omnifuse.eval.ceilings import BESIDE, Ceilings
from omnifuse.eval.draws import Draws, compute_draws, headline_row, mean_defined
from omnifuse.eval.escaping import plain
from omnifuse.eval.pairing import METRIC, auroc_by_fold, best_single, pair_up, restrict
from omnifuse.eval.tables import Model, TestSet

if TYPE_CHECKING:
    from omnifuse.eval.evaluation import Evaluation

METRICS = ("auroc", "auprc", "log_loss")  # that the oracle is told by
TOO_FAR = 3.0  # standard errors above the ceiling
FEW = 10  # positives or negatives, below which draws of patients do not tell a standard error
HALF = 1.959963984540054
DEFINITIONS = {
    "ceiling": "what the best possible use of the model's modalities reaches on the same samples and folds: the truth of the clinic's "
    "P(outcome | all that they show). A model exceeds it by chance only",
    "attained": "share of the attainable gain: (AUROC - best single modality) / (ceiling - best single modality) on the samples that both "
    "scored, with Fieller's interval over the same draws; none where the ceiling is not clearly above the best single modality",
}


def judge(evaluation: Evaluation, ceilings: Ceilings) -> None:
    """Adds to the results of an evaluation: `ceilings`, each model's `ceiling` and `attainable`, and a ceiling beside each figure."""
    results, oracles = evaluation.results, _Oracles(evaluation, ceilings)
    results["definitions"] = {**results["definitions"], **DEFINITIONS}
    for entry, model in zip(results["models"], evaluation.tests):
        entry["ceiling"] = _ceiling(model, entry, oracles)
        entry["attainable"] = _attainable(model, oracles)
        told = entry["attainable"]
        if told["value"] is not None:
            row = next(row for row in entry["mean"] if row["label"] == results["row"])
            row["metrics"][METRIC].update(attained=told["value"], attained_low=told["low"], attained_high=told["high"])
        results["warnings"] += _warnings(model, entry["ceiling"])
    results["ceilings"] = {"fingerprint": ceilings.fingerprint, "sets": _sets(evaluation, oracles)}


class _Oracles:
    """The oracle of each set of modalities as a model of its own, scored once for the same samples."""

    def __init__(self, evaluation: Evaluation, ceilings: Ceilings):
        self.evaluation, self.ceilings = evaluation, ceilings
        self.row = headline_row(evaluation.task)
        self._kept: dict[tuple, Draws] = {}

    def sets(self, modalities: Iterable[str], sets: list[TestSet]) -> list[TestSet] | None:
        """What the oracle says of the samples that have a ceiling, a set a fold and samples; None where the truth does not know the set."""
        found: dict[tuple, TestSet] = {}
        for test in sets:
            score = self.ceilings.score(modalities, test.sample)
            if score is None:
                return None
            known = np.isfinite(score).all(1)
            oracle = TestSet(0, test.fold, test.sample, test.patient, test.y_true, test.known, score).take(known)
            if known.any():  # seeds share their samples: once a fold
                found.setdefault((test.fold, tuple(oracle.sample)), oracle)
        return list(found.values())

    def draws(self, modalities: Iterable[str], oracle: list[TestSet], only: tuple[str, ...] = METRICS) -> Draws:
        """The oracle's scores; what was scored before on these samples by all of METRICS serves for one of them."""
        key = (frozenset(modalities), *((test.fold, tuple(test.sample)) for test in oracle))
        if not set(only) <= (self._kept[key].values.keys() if key in self._kept else set()):
            made = self.evaluation
            self._kept[key] = compute_draws(oracle, made.task, made.patients, made.resampler, only=only)
        return self._kept[key]


def _ceiling(model: Model, entry: dict[str, Any], oracles: _Oracles) -> dict[str, Any]:
    """The model's `ceiling`; the figures of its rows and folds get theirs along the way."""
    evaluation, sets = oracles.evaluation, oracles.evaluation.tests[model]
    oracle = oracles.sets(model.inputs, sets) if model.inputs else None
    if oracle is None:
        return {"value": None, "reason": f"the truth knows no ceiling of {plain(model.modalities) or 'unnamed inputs'}"}
    covered = {sample for test in oracle for sample in test.sample}
    samples = len({sample for test in sets for sample in test.sample})
    counted = {"samples": len(covered), "left_out": samples - len(covered)}
    if not covered:
        return {"value": None, "reason": "none of its samples has a ceiling", **counted}
    draws = oracles.draws(model.inputs, oracle)
    _beside_figures(entry, draws)
    values = draws.mean(METRIC, oracles.row)
    if not np.isfinite(values[0]):
        return {"value": None, "reason": "no AUROC can be had of these samples", **counted}
    shared = {test.fold: np.array([sample for sample in test.sample if sample in covered]) for test in sets}
    own = auroc_by_fold(model, restrict(sets, shared), evaluation)
    difference = mean_defined(np.stack(list(own.values()))) - values
    error = _error(difference)
    return {
        **_figure(values),
        **counted,
        "difference": float(difference[0]),
        "difference_error": error,
        "exceeded": bool(error and _cases(oracle) >= FEW and difference[0] > TOO_FAR * error),
    }


def _beside_figures(entry: dict[str, Any], draws: Draws) -> None:
    """Puts the oracle's figure beside each of the model's: mean rows with an interval, folds without."""
    for label, metric, told in _figures_of(entry["mean"], draws):
        values = draws.mean(metric, label)
        if np.isfinite(values[0]):
            figure = _figure(values)
            told.update(ceiling=figure["value"], ceiling_low=figure["low"], ceiling_high=figure["high"])
    folds = np.unique(draws.folds).tolist()
    for cell in entry["cells"]:
        for label, metric, told in _figures_of(cell["rows"] if cell["fold"] in folds else (), draws):
            value = draws.by_fold(metric, label)[folds.index(cell["fold"]), 0]
            if np.isfinite(value):
                told["ceiling"] = float(value)


def _figures_of(rows, draws: Draws):
    """Label, metric and entry of each figure in these rows that an oracle has as well."""
    for row in rows:
        for metric in METRICS:
            if row["label"] in draws.rows and row["metrics"].get(metric, {}).get("value") is not None:
                yield row["label"], metric, row["metrics"][metric]


def _figure(values: np.ndarray) -> dict[str, Any]:
    low, high = interval(values[0], values[1:])
    return {"value": float(values[0]), "low": low, "high": high, "error": _error(values)}


def _error(values: np.ndarray) -> float | None:
    """Standard error, from the draws."""
    kept = values[1:][np.isfinite(values[1:])]
    return float(kept.std(ddof=1)) if len(kept) > 1 else None


def _cases(sets: list[TestSet]) -> int:
    """The fewest positives or negatives of a label, over all folds."""
    y, known = np.concatenate([test.y_true for test in sets]), np.concatenate([test.known for test in sets])
    positive = (y * known).sum(0)
    return int(np.minimum(positive, known.sum(0) - positive).min())


def _attainable(model: Model, oracles: _Oracles) -> dict[str, Any]:
    """The model's `attainable`: the share of the gain over its best single modality that the oracle would have had."""
    if len(model.inputs) < 2:
        return {"value": None, "reason": "a single modality"}
    single = best_single(model, oracles.evaluation)
    if single is None:
        return {"value": None, "reason": "no run with one of its modalities alone"}
    oracle = oracles.sets(model.inputs, oracles.evaluation.tests[model])
    if not oracle:
        return {"value": None, "reason": "no ceiling", "single": single.name}
    covered = {sample for test in oracle for sample in test.sample}
    paired = pair_up(model, single, oracles.evaluation, only=covered)
    if not paired.folds:
        return {"value": None, "reason": "no fold in which both have a value on shared samples", "single": single.name}
    shared = oracles.sets(model.inputs, [test for test in paired.sets_a if test.fold in paired.folds])
    draws = oracles.draws(model.inputs, shared, (METRIC,))
    best = dict(zip(np.unique(draws.folds).tolist(), draws.by_fold(METRIC, oracles.row)))
    gain = mean_defined(np.stack([best[fold] for fold in paired.folds]) - paired.b)  # [1 + B]
    gained = mean_defined(paired.difference)
    low, high = interval(gain[0], gain[1:])
    return {
        "value": None,
        "single": single.name,
        "samples": paired.samples,
        "gained": float(gained[0]),
        "gain": float(gain[0]),
        "gain_low": low,
        "gain_high": high,
        **share(gained, gain),
    }


def share(gained: np.ndarray, gain: np.ndarray) -> dict[str, Any]:
    """gained / gain with Fieller's interval.

    Args:
        gained, gain: [1 + B], the figure on the patients as they are, then on the same draws.

    Returns:
        value, low, high; value None and the reason where the gain is not clearly above nought.
    """
    kept = np.isfinite(gained[1:]) & np.isfinite(gain[1:])
    if kept.sum() < 2:
        return {"value": None, "reason": "no draw of patients keeps both"}
    (vaa, vab), (_, vbb) = np.cov(gained[1:][kept], gain[1:][kept])
    a, b = float(gained[0]), float(gain[0])
    if b <= HALF * np.sqrt(vbb):
        return {"value": None, "reason": "the ceiling is not clearly above the best single modality"}
    # (a - s b)^2 <= HALF^2 var(gained - s gain), solved for s
    square, linear, constant = b**2 - HALF**2 * vbb, a * b - HALF**2 * vab, a**2 - HALF**2 * vaa
    half = np.sqrt(max(linear**2 - square * constant, 0.0))
    return {"value": a / b, "low": float((linear - half) / square), "high": float((linear + half) / square)}


def _sets(evaluation: Evaluation, oracles: _Oracles) -> list[dict[str, Any]]:
    """The ceiling of every set of the modalities that some model here saw, on all test samples."""
    told = [name for name in oracles.ceilings.modalities if any(name in model.inputs for model in evaluation.tests)]
    every = _every_sample(evaluation)
    chosen = [subset for size in range(1, len(told) + 1) for subset in itertools.combinations(told, size)]
    beside = [(name,) for name, modality in BESIDE.items() if modality in told and frozenset([name]) in oracles.ceilings.sets]
    found = []
    for modalities in (*chosen, *beside):
        oracle = oracles.sets(modalities, every)
        if not oracle:
            continue
        values = oracles.draws(modalities, oracle, (METRIC,)).mean(METRIC, oracles.row)
        if np.isfinite(values[0]):
            found.append({"modalities": "+".join(modalities), "samples": sum(len(test.sample) for test in oracle), **_figure(values)})
    return found


def _every_sample(evaluation: Evaluation) -> list[TestSet]:
    """The test samples of all models together, a set a fold."""
    folds: dict[int, list[TestSet]] = {}
    for test in itertools.chain(*evaluation.tests.values()):
        folds.setdefault(test.fold, []).append(test)
    found = []
    for fold, sets in sorted(folds.items()):
        sample, first = np.unique(np.concatenate([test.sample for test in sets]), return_index=True)
        columns = (np.concatenate([getattr(test, name) for test in sets])[first] for name in ("patient", "y_true", "known", "y_score"))
        found.append(TestSet(0, fold, sample, *columns))
    return found


def _warnings(model: Model, ceiling: dict[str, Any]) -> list[str]:
    found = []
    if ceiling.get("exceeded"):
        by, error = ceiling["difference"], ceiling["difference_error"]
        told = f"{model.name} exceeds the ceiling of its modalities by {by:.3f}, more than three standard errors"
        found.append(f"{told} ({error:.3f} each): look for a leak.")
    if ceiling.get("left_out") and ceiling["value"] is not None:
        total = ceiling["samples"] + ceiling["left_out"]
        found.append(f"The ceiling of {model.name} stands on {ceiling['samples']} of its {total} samples: the others have none.")
    return found
