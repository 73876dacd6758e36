"""Trained encoders of the clinic reach the ceilings of what they read: within .03, and what as many samples can tell.

The tolerance is three standard errors of the paired difference, by patient, on the test samples of the folds: about .1 at 300 lesions.
An encoder that learnt nothing is about .3 below its ceiling there, and the same rule refuses it.

Of texts the quick tests ask for both: what as many samples can teach (logistic regression on n-grams of characters, which learnt the same
texts), and the ceiling, which 160 reports do not reach: that miss is kept as an expected failure.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from omnifuse.models.encoders.ngrams import Ngrams
from omnifuse.models.parts.hashed_words import tokenise
from omnifuse.models.parts.heads import build_head
from omnifuse.models.parts.keyed import name_dropouts
from omnifuse.preprocess.clinic.keyed import stream
from omnifuse.preprocess.clinic.lung_ceiling import column, posteriors
from omnifuse.preprocess.clinic.lung_files import write_report
from omnifuse.preprocess.clinic.lung_tokens import draw_lesions
from omnifuse.preprocess.clinic.worldfile import read_world

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import clinic_encoders

FOLDS = [0, 1, 2, 3, 4]
UNTRAINED = ("train.lr=0", "train.epochs=1", "train.tensorboard=false")


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory):
    """prepared(setting, patients): the ceilings of a workspace, which is the current folder until the test ends."""
    made, here = {}, Path.cwd()

    def prepared(setting, patients):
        if (setting, patients) not in made:
            made[setting, patients] = tmp_path_factory.mktemp(setting) / "space"
        clinic_encoders.prepare(made[setting, patients], setting, patients, "default", seed=3)
        return clinic_encoders.truth(clinic_encoders.SETTINGS[setting], setting)

    yield prepared
    os.chdir(here)


def judged(ceilings, setting, modality, sets):
    return clinic_encoders.judge(clinic_encoders.trained(setting, modality, FOLDS, 3, [*sets]), ceilings, modality, 3)


# The quick one: reports of as many lesions as a fold of 300 leaves to learn from, without files between.
LEARNT, ALL = 160, 500


@pytest.fixture(scope="module")
def reports():
    """Words [n] of each report, class of three, P(class) by logistic regression and, from what was written, by the truth."""
    knobs = read_world("default").lung
    lesions = draw_lesions(knobs, 5, np.arange(ALL))
    rows = np.flatnonzero(lesions.reported)
    streams = [[stream(5, int(i), name) for name in ("words", "slips")] for i in rows]
    texts = [write_report(lesions.one(i), knobs, *pair) for i, pair in zip(rows, streams)]
    label, best = lesions.grade[rows] // 2, posteriors(knobs, lesions)[column(("rep",))][rows].reshape(-1, 3, 2).sum(2)
    counts = make_pipeline(CountVectorizer(analyzer="char", ngram_range=(1, 4), binary=True), LogisticRegression(C=0.03, max_iter=2000))
    known = counts.fit(texts[:LEARNT], label[:LEARNT]).predict_proba(texts[LEARNT:])
    return [torch.from_numpy(one) for one in tokenise(texts)], label, known, best


def together(ids):
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.nn.utils.rnn.pad_sequence(
        [one > 0 for one in ids], batch_first=True
    )


def read(reports, epochs):
    """[n, 3] of the reports after the first `LEARNT`, by a reader that learnt these for so many epochs."""
    ids, label, *_ = reports
    torch.manual_seed(0)
    model = torch.nn.ModuleList([Ngrams(), build_head("mlp", 128, 3)])
    name_dropouts(model)
    learning, draw = torch.optim.Adam(model.parameters(), lr=1e-3), np.random.default_rng(0)
    for _ in range(epochs):
        for rows in np.array_split(draw.permutation(LEARNT), 5):
            key = torch.from_numpy(draw.integers(0, 2**62, len(rows)))
            logits = model[1](model[0](*together([ids[i] for i in rows]), key).pooled, key)
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(label[rows])).backward()
            learning.step()
            learning.zero_grad()
    with torch.no_grad():
        return model[1](model.eval()[0](*together(ids[LEARNT:])).pooled).numpy()


def within(score, best, label, margin=0.03, errors=3):
    """Macro AUROC against the ceiling's on the same samples; the standard error is of the paired difference."""
    draw, size = np.random.default_rng(0), len(label)
    weight = np.vstack([np.ones(size), draw.multinomial(size, np.full(size, 1 / size), 300)])
    macro = lambda values: np.mean([clinic_encoders.weighted_auroc(values[:, k], label == k, weight) for k in range(3)], 0)
    gap = macro(best) - macro(score)
    return gap[0] <= margin + errors * gap[1:].std()


@pytest.fixture(scope="module")
def learnt(reports):
    """[n, 3] of the reports that were not learnt, after 30 epochs."""
    return read(reports, 30)


@pytest.mark.xfail(strict=True, reason="after 160 reports ngrams stays below the ceiling by more than .03, and so does logistic regression")
def test_a_reader_of_reports_nears_the_ceiling(reports, learnt):
    _, label, _, best = reports
    assert within(learnt, best[LEARNT:], label[LEARNT:])


def test_a_reader_learns_reports_as_well_as_logistic_regression_and_an_untrained_one_does_not(reports, learnt):
    _, label, known, _ = reports
    assert within(learnt, known, label[LEARNT:])
    assert not within(read(reports, 0), known, label[LEARNT:])


def test_what_few_reports_teach_is_below_the_ceiling(reports):
    _, label, known, best = reports
    macro = lambda values: roc_auc_score(np.eye(3)[label[LEARNT:]], values)
    assert 0.5 < macro(known) < macro(best[LEARNT:])


# 300 patients leave 89 ECGs with a dozen deaths to learn from, and two deaths to choose the epoch by: chance, whatever the encoder.
PATIENTS = {"sig": 800}


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting, modality",
    [(setting, modality) for setting, how in clinic_encoders.SETTINGS.items() for modality in how["encoders"]],
)
def test_each_encoder_of_the_small_clinic_is_within_the_margin(workspaces, setting, modality):
    ceilings = workspaces(setting, PATIENTS.get(modality, 300))
    assert judged(ceilings, setting, modality, clinic_encoders.SETS).within(0.03, errors=3)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["ct", "pet", "rep"])
def test_an_untrained_encoder_of_lesions_is_refused(workspaces, modality):
    assert not judged(workspaces("subtyping", 300), "subtyping", modality, UNTRAINED).within(0.03, errors=3)


def test_the_weighted_auroc_is_that_of_repeated_samples():
    draw = np.random.default_rng(0)
    score, true, weight = draw.integers(0, 6, 40) / 5, draw.random(40) < 0.4, draw.integers(0, 4, (3, 40))
    expected = [roc_auc_score(np.repeat(true, w), np.repeat(score, w)) for w in weight]
    np.testing.assert_allclose(clinic_encoders.weighted_auroc(score, true, weight.astype(float)), expected)
