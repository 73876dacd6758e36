"""What gives the label away without a look at the lesion: words of a report that name the pathology, and the scanner.

Counts, and three baselines that a model has to beat by far: logistic regression on nothing but

    words      how often each word of the deny-list stands in the report
    scanner    maker, model, kernel, slice thickness, contrast, voltage of CT and PET
    presence   which of CT, PET and report there are

Each is fitted on the part `train` of a fold and scored on its val, calib and probe patients; the test part of no fold is scored on, so
that the audit costs the evaluation nothing. A number is given only where the classes and counts carry one; else the reason stands there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

# Longer before shorter; English words whole. `(?<![a-z])` instead of \b, since Chinese characters count as letters of a word.
DENIED = {
    "原位腺癌": "原位腺癌",
    "微浸润": "微浸润",
    "浸润性": "(?<!微)浸润性",
    "腺泡": "腺泡",
    "贴壁": "贴壁",
    "冰冻": "冰冻",
    "病理": "病理",
    "AAH": "(?<![a-z])aah(?![a-z])|不典型腺瘤样增生|非典型腺瘤样增生",
    "AIS": "(?<![a-z])ais(?![a-z])",
    "MIA": "(?<![a-z])mia(?![a-z])",
    "IA1-3": r"(?<![a-z])ia ?[123](?!\d)",
    "in situ": r"(?<![a-z])in[ -]situ(?![a-z])",
    "invasive": "(?<![a-z])(?:minimally |micro)?invasive(?![a-z])",
    "acinar": "(?<![a-z])acinar(?![a-z])",
    "lepidic": "(?<![a-z])lepidic(?![a-z])",
    "frozen section": "(?<![a-z])frozen[ -]sections?(?![a-z])",
    "pathology": "(?<![a-z])(?:histo)?patholog(?:y|ic|ical|ically|ies)(?![a-z])",
    "adenocarcinoma": "(?<![a-z])adenocarcinomas?(?![a-z])|(?<!原位)腺癌",
    "squamous": "(?<![a-z])squamous(?![a-z])|鳞癌|鳞状细胞癌",
    "small cell": "(?<![a-z])small[ -]cell(?![a-z])|小细胞",
}
_PATTERNS = [re.compile(pattern, re.IGNORECASE) for pattern in DENIED.values()]
FEWEST_SCORED = 20
FEWEST_OF_A_CLASS = 5
SCORED_PARTS = ("val", "calib", "probe")


def count_words(text: str) -> list[int]:
    """Hits of each word of DENIED."""
    return [len(pattern.findall(text)) for pattern in _PATTERNS]


def words_audit(texts: Sequence[str]) -> list[dict[str, Any]]:
    """`word`, `reports` that hold it, `hits`; only words that were found."""
    if not texts:
        return []
    counts = np.array([count_words(text) for text in texts])  # [N, W]
    told = zip(DENIED, (counts > 0).sum(0), counts.sum(0))
    return [{"word": word, "reports": int(reports), "hits": int(hits)} for word, reports, hits in told if hits]


def baselines(
    samples: pl.DataFrame, texts: Mapping[str, str], scanners: pl.DataFrame, parts: pl.DataFrame, classes: int
) -> list[dict[str, Any]]:
    """The three baselines.

    Args:
        samples: sample_id, patient_id, `class` (int), and ct_length, pet_length, rep_length where the modality is in the cohort.
        texts: by sample_id, of samples with a report.
        scanners: sample_id and columns of text (categories) and numbers, null where there is none.
        parts: fold, patient_id, part.

    Returns:
        A list of `baseline`, `auroc` (mean over folds of the macro one-against-rest AUROC; null with a `reason`), `folds`, `samples` (all
        that it saw), `chance` 0.5.
    """
    words = np.array([count_words(texts.get(name, "")) for name in samples["sample_id"]], float).reshape(samples.height, -1)
    has_text = np.array([name in texts for name in samples["sample_id"]], bool)
    lengths = [name for name in ("ct_length", "pet_length", "rep_length") if name in samples.columns]
    scanner = samples.select("sample_id").join(scanners, on="sample_id", how="left", maintain_order="left").drop("sample_id")
    has_scanner = ~np.all([scanner[name].is_null().to_numpy() for name in scanner.columns], axis=0)
    told = [
        ("words", np.minimum(words, 3), has_text),
        ("scanner", encode(scanner), has_scanner),
        ("presence", samples.select(pl.col(name) > 0 for name in lengths).to_numpy().astype(float), np.ones(samples.height, bool)),
    ]
    return [{"baseline": name, **_judge(features, keep, samples, parts, classes)} for name, features, keep in told]


def encode(frame: pl.DataFrame) -> np.ndarray:
    """[N, F]: a column a category; of numbers the standardised value and whether it is known. Constant columns carry nothing and go."""
    columns = []
    for name in frame.columns:
        values = frame[name]
        if values.dtype == pl.String:
            columns += [(values == category).fill_null(False).to_numpy().astype(float) for category in sorted(values.drop_nulls().unique())]
        else:
            numbers = values.cast(pl.Float64)
            spread = numbers.std() or 1.0
            columns += [
                ((numbers - (numbers.mean() or 0.0)) / spread).fill_null(0.0).to_numpy(),
                numbers.is_not_null().to_numpy().astype(float),
            ]
    kept = [column for column in columns if np.ptp(column) > 0]
    return np.stack(kept, axis=1) if kept else np.zeros((frame.height, 0))


def _judge(features: np.ndarray, keep: np.ndarray, samples: pl.DataFrame, parts: pl.DataFrame, classes: int) -> dict[str, Any]:
    known = samples["class"].is_not_null().to_numpy() & keep
    counts = np.bincount(samples["class"].fill_null(0).to_numpy()[known], minlength=classes)
    result = {"auroc": None, "folds": 0, "samples": int(known.sum()), "chance": 0.5, "reason": None}
    if known.sum() < FEWEST_SCORED or (counts >= FEWEST_OF_A_CLASS).sum() < 2:
        return {**result, "reason": f"fewer than {FEWEST_SCORED} samples, or than two classes with {FEWEST_OF_A_CLASS} of them"}
    if not features.shape[1] or not np.ptp(features[known], axis=0).any():
        return {**result, "reason": "nothing in it varies"}
    scores = []
    for fold in sorted(parts["fold"].unique()):
        of_fold = parts.filter(pl.col("fold") == fold).select("patient_id", "part")
        part = samples.select("patient_id").join(of_fold, on="patient_id", how="left", maintain_order="left")["part"].to_numpy()
        score = _score(features, samples["class"].to_numpy(), known & (part == "train"), known & np.isin(part, SCORED_PARTS))
        scores += [score] if score is not None else []
    if not scores:
        return {**result, "reason": "no fold has two classes to score"}
    return {**result, "auroc": round(float(np.mean(scores)), 4), "folds": len(scores)}


def _score(features: np.ndarray, y: np.ndarray, fit: np.ndarray, score: np.ndarray) -> float | None:
    """Macro AUROC of a logistic regression over the classes that it was fitted on and that have both outcomes among the scored."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    if len(np.unique(y[fit])) < 2 or len(np.unique(y[score])) < 2:
        return None
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(features[fit], y[fit].astype(int))
    told = model.predict_proba(features[score])
    each = [
        roc_auc_score(y[score] == label, told[:, column])
        for column, label in enumerate(model.classes_)
        if 0 < (y[score] == label).sum() < score.sum()
    ]
    return float(np.mean(each)) if each else None
