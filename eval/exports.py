"""The results as flat tables for spreadsheets and other programs: metrics.csv and comparisons.csv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omnifuse.eval.escaping import csv_text

METRIC_COLUMNS = (
    "method", "modalities", "head", "leak", "fold", "seed", "label", "metric", "value", "low", "high", "degenerate", "perfect_low",
    "perfect_high", "folds", "sd_folds", "k", "n", "samples", "patients", "positives", "prevalence", "ceiling", "ceiling_low",
    "ceiling_high", "attained", "attained_low", "attained_high", "reason",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "a", "b", "question", "leak", "folds", "samples", "left_out", "a_value", "b_value", "difference", "low", "high", "test", "n_test",
    "n_train", "variance_factor", "t", "df", "p", "p_holm", "paper_t", "paper_p", "bootstrap_low", "bootstrap_high", "helps",
    "equivalent", "harms", "verdict", "detectable", "ceiling_gain", "attained", "attained_low", "attained_high", "reason",
)  # fmt: skip


def metrics_csv(results: dict[str, Any]) -> str:
    """One row a model, fold, label and metric; fold `mean` is the mean over the folds."""
    return csv_text(_metric_rows(results), METRIC_COLUMNS)


def _metric_rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for model in results["models"]:
        same = {key: model[key] for key in ("method", "modalities", "head", "leak")}
        cells = [{"fold": "mean", "seed": None, "rows": model["mean"]}, *model["cells"]]
        for cell in cells:
            for row in cell["rows"]:
                counted = {key: row[key] for key in ("label", "samples", "patients", "positives", "prevalence")}
                for metric, entry in row["metrics"].items():
                    yield {**same, "fold": cell["fold"], "seed": cell["seed"], **counted, "metric": metric, **entry}


def comparisons_csv(comparisons: dict[str, Any]) -> str:
    """One row a pair; what the best possible fusion would gain over b, and the share of it that a attained, where the ceiling is known."""
    return csv_text(({**pair, **(pair.get("chances") or {}), **_attained(pair)} for pair in comparisons["pairs"]), COMPARISON_COLUMNS)


def _attained(pair: dict[str, Any]) -> dict[str, Any]:
    told = pair.get("attainable") or {}
    return {
        "ceiling_gain": told.get("gain"),
        "attained": told.get("value"),
        "attained_low": told.get("low"),
        "attained_high": told.get("high"),
    }
