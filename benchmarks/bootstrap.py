"""P11: 2000 patient-cluster bootstraps of 25 labels, ours against a plain loop over scikit-learn; runs interleaved, ratio of medians.

    python benchmarks/bootstrap.py [--samples 5000] [--rounds 5] [--metric auroc|auprc]

The loop draws patients, repeats their rows and calls scikit-learn for each label. It is timed on `--slice` of the 2000 draws and scaled up,
since all of them take minutes; ours is timed whole, with drawing the patients and sorting. Both see the same samples;
`tests/eval/test_metrics.py` shows that draw by draw they give the same numbers. CPU seconds of this process, one thread each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from omnifuse.eval.bootstrap import PatientBootstrap, outcome_strata
from omnifuse.eval.metrics import Scored

REFERENCE = {"auroc": roc_auc_score, "auprc": average_precision_score}


def simulate(samples: int, labels: int, seed: int = 0):
    """Samples of patients who have 1.3 of them on average; prevalences from .03 to .45."""
    random = np.random.default_rng(seed)
    patient = np.sort(random.integers(0, int(samples / 1.3), samples))
    patient = np.unique(patient, return_inverse=True)[1]
    y = (random.random((samples, labels)) < np.linspace(0.03, 0.45, labels)).astype(np.int8)
    score = 1 / (1 + np.exp(-(y + random.normal(size=y.shape))))
    return patient, y, score


def weighted(patient, y, score, resamples: int, metric: str) -> float:
    """Seconds of ours: strata, draws, sorting and sums."""
    started, count = time.process_time(), patient.max() + 1
    strata = outcome_strata(y, np.ones(y.shape, dtype=bool), patient, count)
    labels = [Scored(y[:, label], score[:, label], patient, count) for label in range(y.shape[1])]
    for weights in PatientBootstrap(strata, resamples).blocks():
        for scored in labels:
            scored.compute(weights, (metric,))
    return time.process_time() - started


def naive(patient, y, score, resamples: int, metric: str) -> float:
    """Seconds of the loop."""
    started, random, count = time.process_time(), np.random.default_rng(0), patient.max() + 1
    rows_of = np.split(np.arange(len(patient)), np.flatnonzero(np.diff(patient)) + 1)
    for _ in range(resamples):
        rows = np.concatenate([rows_of[who] for who in random.integers(0, count, count)])
        for label in range(y.shape[1]):
            REFERENCE[metric](y[rows, label], score[rows, label])
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=25)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--slice", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--metric", choices=sorted(REFERENCE), default="auroc")
    given = parser.parse_args()
    data = simulate(given.samples, given.labels)
    ours, loop = [], []
    for _ in range(given.rounds):
        loop.append(naive(*data, given.slice, given.metric) * given.resamples / given.slice)
        ours.append(weighted(*data, given.resamples, given.metric))
    ratios = sorted(a / b for a, b in zip(loop, ours))
    print(f"{given.samples} samples, {given.labels} labels, {given.resamples} draws, {given.metric}; median of {given.rounds} rounds")
    print(f"scikit-learn loop {statistics.median(loop):8.1f} CPU s (from {given.slice} draws)")
    print(f"ours              {statistics.median(ours):8.2f} CPU s")
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"ratio             {statistics.median(ratios):8.0f}x ({ratios[0]:.0f} to {ratios[-1]:.0f})   {load}")


if __name__ == "__main__":
    main()
