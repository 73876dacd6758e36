"""How well a classifier tells real items from the clinic's, and the statistics of both side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

FOLDS, TREES, DRAWS = 5, 300, 500


@dataclass(frozen=True)
class Apart:
    """AUROC of real against made, in folds that hold a patient's items together; its interval by a bootstrap of patients."""

    auroc: float
    low: float
    high: float
    real: int
    made: int

    def __str__(self) -> str:
        return f"{self.auroc:.2f} ({self.low:.2f} to {self.high:.2f}; {self.real} real, {self.made} made)"


def told_apart(real: np.ndarray, made: np.ndarray, real_groups: np.ndarray | None = None, made_groups: np.ndarray | None = None) -> Apart:
    """Cross-validated AUROC of a random forest; 0.5 would be no difference.

    Args:
        real: [N, F] statistics of the real items; made: [M, F] of the clinic's. NaN where one is not there.
        real_groups, made_groups: whose item it is; every item is its own where not given.
    """
    groups = np.concatenate([_groups(real, real_groups, "r"), _groups(made, made_groups, "m")])
    x, y = np.vstack([real, made]), np.repeat([1, 0], [len(real), len(made)])
    model = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), RandomForestClassifier(TREES, random_state=0)
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    score = cross_val_predict(model, x, y, cv=folds, groups=groups, method="predict_proba")[:, 1]
    low, high = np.quantile(_resampled(y, score, groups), (0.025, 0.975))
    return Apart(float(roc_auc_score(y, score)), float(low), float(high), len(real), len(made))


def _groups(items: np.ndarray, groups: np.ndarray | None, prefix: str) -> np.ndarray:
    return np.array([f"{prefix}{name}" for name in (range(len(items)) if groups is None else groups)])


def _resampled(y: np.ndarray, score: np.ndarray, groups: np.ndarray) -> list[float]:
    """AUROC in bootstraps of groups, real and made apart."""
    generator, members, found = np.random.default_rng(0), {g: np.flatnonzero(groups == g) for g in np.unique(groups)}, []
    kinds = [np.array([g for g in members if g.startswith(prefix)]) for prefix in "rm"]
    for _ in range(DRAWS):
        chosen = np.concatenate([members[g] for kind in kinds for g in generator.choice(kind, len(kind))])
        found.append(float(roc_auc_score(y[chosen], score[chosen])))
    return found


def spread(values: np.ndarray, form: str = ".2f") -> str:
    """Median and the middle 90% of items, of those that have the statistic."""
    values = np.asarray(values, float)
    if not np.isfinite(values).any():
        return "none"
    low, middle, high = np.nanquantile(values, (0.05, 0.5, 0.95))
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def compare(names: list[str], real: np.ndarray, made: np.ndarray, forms: list[str] | None = None) -> list[str]:
    """A table of statistics: a row each, the real beside the clinic's."""
    rows = ["| | real | clinic |", "|---|---|---|"]
    for k, name in enumerate(names):
        form = forms[k] if forms else ".2f"
        rows.append(f"| {name} | {spread(real[:, k], form)} | {spread(made[:, k], form)} |")
    return rows
