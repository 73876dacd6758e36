"""Metrics of one label's probabilities, under any number of weightings of the patients at once.

    scored = Scored(y_true, y_score, row=patient_index, rows=n_patients)      # sorted once
    scored.compute(counts)["auroc"]                                           # counts [n_patients, B] -> [B]

AUROC is the chance that a random positive scores above a random negative, ties counting one half (Hanley and McNeil 1982); AUPRC is the
step-wise average precision, not the trapezoid, which is too high (Davis and Goadrich 2006). Both come from the same three running sums
over the sorted samples, so that 2000 bootstrap replicates cost one sparse product and no sorting. A point estimate is the case B = 1.

A label without positives or without negatives has no value: NaN here, null with a reason in the report. scikit-learn answers NaN for the
AUROC and 0 for the AUPRC, torchmetrics counts such a class as 0 in the macro average; both would move a macro average silently.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from omnifuse.eval import calibration

EPS = float(np.finfo(np.float64).eps)  # probabilities are kept this far from 0 and 1 in a logarithm, as in scikit-learn

# Higher is better, except for these.
LOWER_IS_BETTER = ("brier", "log_loss", "ece", "ece_mass")
BINARY = ("auroc", "auprc", "brier", "brier_skill", "log_loss", "ece", "ece_mass")
RANKING = ("auroc", "auprc")
CALIBRATION = ("ece", "ece_mass")  # of which no bootstrap interval is given (`bootstrap`)


class Scored:
    """One label's samples of one test set.

    Args:
        y_true: [N] 0 or 1.
        y_score: [N] probability of 1.
        row: [N] which weight belongs to a sample (its patient); by default each sample has its own.
        rows: number R of weights.
    """

    def __init__(self, y_true, y_score, row=None, rows: int | None = None):
        y = np.asarray(y_true, dtype=np.float64)  # [N]
        score = np.asarray(y_score, dtype=np.float64)  # [N]
        row = np.arange(len(y)) if row is None else np.asarray(row)
        self.rows = int(rows if rows is not None else len(y))
        self.samples, self.positives = len(y), int(y.sum())
        self._positive, self._negative, self._tied, self._tied_at = _ranking(y, score, row, self.rows)
        columns = (np.ones(len(y)), y, (score - y) ** 2, _surprise(y, score))
        self._sums = sparse.csr_array(np.stack([np.bincount(row, column, self.rows) for column in columns]))  # [4, R]
        self._score, self._edges = score, {"ece": calibration.width_edges(), "ece_mass": calibration.mass_edges(score)}
        self._gaps = {name: calibration.gap_matrix(y, score, edges, row, self.rows) for name, edges in self._edges.items()}

    @property
    def reason(self) -> str | None:
        """Why this label has no value, or None where it has one."""
        if self.samples == 0:
            return "no labelled samples"
        if self.positives == 0:
            return "no positives"
        return "no negatives" if self.positives == self.samples else None

    def compute(self, weights=None, only: tuple[str, ...] = BINARY) -> dict[str, np.ndarray]:
        """Metrics under each column of `weights`.

        Args:
            weights: [R, B] non-negative weight of each patient; all one (B = 1) where None.
            only: which of `BINARY`.

        Returns:
            name -> [B] float64; NaN where the weighted samples lack positives or negatives.
        """
        weights = np.ones((self.rows, 1)) if weights is None else np.asarray(weights, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self._rank(weights, only) if set(RANKING) & set(only) else {}
            if set(only) - set(RANKING):
                values |= self._average(weights, only)
        return {name: values[name] for name in only}

    def _average(self, weights, only) -> dict[str, np.ndarray]:
        """What is a sum over samples: Brier, log loss, and the calibration errors bin by bin."""
        total, positive, squared, surprise = self._sums @ weights  # [B] each
        prevalence = positive / total
        values = {"brier": squared / total, "log_loss": surprise / total}
        values["brier_skill"] = 1 - values["brier"] / (prevalence * (1 - prevalence))
        for name in set(CALIBRATION) & set(only):
            values[name] = np.abs(self._gaps[name] @ weights).sum(0) / total
        defined = (positive > 0) & (positive < total)
        return {name: np.where(defined, value, np.nan) for name, value in values.items()}

    def null_ece(self, name: str, draws: int, generator: np.random.Generator) -> np.ndarray:
        """[draws] `ece` or `ece_mass` of perfectly calibrated probabilities on these samples; NaN where the label has no value."""
        if self.reason:
            return np.full(draws, np.nan)
        return calibration.null_ece(self._score, self._edges[name], draws, generator)

    def _rank(self, weights, only) -> dict[str, np.ndarray]:
        """The running sums over the sorted samples; arrays are reused, since memory is what these passes wait for."""
        positive = self._positive @ weights  # [K, B], K distinct scores that a positive has, highest first
        above = self._negative @ weights  # [K + 1, B], negatives from just below the score before down to this one
        np.cumsum(above, axis=0, out=above)  # false positives at each threshold
        positives, negatives = positive.sum(0), above[-1].copy()
        values = {}
        if "auroc" in only:
            lost = np.einsum("kb,kb->b", positive, above[:-1])
            if len(self._tied_at):
                lost -= 0.5 * np.einsum("kb,kb->b", positive[self._tied_at], self._tied @ weights)
            values["auroc"] = 1 - lost / (positives * negatives)
        if "auprc" in only:
            true = np.cumsum(positive, axis=0)
            flagged = np.add(above[:-1], true, out=above[:-1])
            np.maximum(flagged, np.finfo(np.float64).tiny, out=flagged)  # 0 / 0 where nobody drawn scores so high: adds nothing
            precision = np.divide(true, flagged, out=true)
            values["auprc"] = np.einsum("kb,kb->b", positive, precision) / positives
        defined = (positives > 0) & (negatives > 0)
        return {name: np.where(defined, value, np.nan) for name, value in values.items()}


def _ranking(y, score, row, rows: int):
    """The sorted samples as sparse sums over weights.

    Returns:
        [K, R] weight of the positives at each of the K distinct scores that a positive has, highest first; [K + 1, R] weight of the
        negatives from the score before (exclusive) down to it, the last row below all; [T, R] weight of the negatives that share a
        score with a positive, and [T] which of the K scores these are.
    """
    levels = np.unique(score[y == 1])  # ascending
    count = len(levels)
    place = count - np.searchsorted(levels, score, side="right")  # how many positive scores lie above each sample
    positive, negative = y == 1, y != 1
    tied = negative & np.isin(score, levels)
    at, which = np.unique(place[tied], return_inverse=True)
    return (
        _sum_matrix(place[positive], row[positive], count, rows),
        _sum_matrix(place[negative], row[negative], count + 1, rows),
        _sum_matrix(which, row[tied], len(at), rows),
        at,
    )


def _sum_matrix(where, row, height: int, rows: int) -> sparse.csr_array:
    return sparse.coo_array((np.ones(len(row)), (where, row)), shape=(height, rows)).tocsr()


def _surprise(y, score) -> np.ndarray:
    """Negative log likelihood of each sample, in nats."""
    score = np.clip(score, EPS, 1 - EPS)
    return -np.where(y == 1, np.log(score), np.log1p(-score))


def _single(name: str, y_true, y_score, weight) -> float | None:
    weights = None if weight is None else np.asarray(weight, dtype=np.float64)[:, None]
    value = Scored(y_true, y_score).compute(weights, only=(name,))[name][0]
    return None if np.isnan(value) else float(value)


def auroc(y_true, y_score, weight=None) -> float | None:
    """Area under the ROC curve; None where there are no positives or no negatives."""
    return _single("auroc", y_true, y_score, weight)


def auprc(y_true, y_score, weight=None) -> float | None:
    """Average precision; by chance it equals the prevalence. None where there are no positives or no negatives."""
    return _single("auprc", y_true, y_score, weight)


def brier(y_true, y_score, weight=None) -> float | None:
    """Mean squared error of the probability. None where there are no positives or no negatives, as for every metric here."""
    return _single("brier", y_true, y_score, weight)


def brier_skill(y_true, y_score, weight=None) -> float | None:
    """1 - Brier / Brier of the constant prevalence of the same samples: 0 for that constant, 1 at best, below 0 where worse."""
    return _single("brier_skill", y_true, y_score, weight)


def log_loss(y_true, y_score, weight=None) -> float | None:
    """Mean negative log likelihood, in nats."""
    return _single("log_loss", y_true, y_score, weight)


def ece(y_true, y_score, weight=None) -> float | None:
    """Expected calibration error over 15 bins of equal width (`calibration`)."""
    return _single("ece", y_true, y_score, weight)


def ece_mass(y_true, y_score, weight=None) -> float | None:
    """Expected calibration error over 15 bins of equal numbers of samples."""
    return _single("ece_mass", y_true, y_score, weight)
