"""Which of several configurations of a model is judged."""

import os

import pytest

from omnifuse import evaluations
from omnifuse.preprocess import store


def write(folder, method, key, value, when, folds=2, monitor="val/auroc"):
    """Finished runs of one configuration, as their manifests tell of them."""
    for fold in range(folds):
        path = folder / f"{method}-ehr" / key / f"fold{fold}"
        meta = {"method": method, "modalities": ["ehr"], "seed": 0, "fold": fold, "best": {"value": value, "monitor": monitor}}
        with store.create(path, "run", fingerprint=f"{method}{key}{fold}{value}", meta=meta):
            pass
        os.utime(path / store.MANIFEST, (when, when))


def speaks(folder):
    return {run.folder.parent.name for run in evaluations.find(folder)}


@pytest.mark.parametrize("method, judged", [("unimodal", "best"), ("concat", "newest")])
def test_a_modality_alone_is_judged_at_its_best_on_val_and_a_fusion_at_its_newest(tmp_path, method, judged):
    write(tmp_path, method, "best", 0.8, when=1000)
    write(tmp_path, method, "newest", 0.7, when=2000)
    assert speaks(tmp_path) == {judged}


def test_more_folds_win_over_a_better_value(tmp_path):
    write(tmp_path, "unimodal", "whole", 0.7, when=1000, folds=3)
    write(tmp_path, "unimodal", "trial", 0.9, when=2000, folds=1)
    assert speaks(tmp_path) == {"whole"}


def test_a_loss_is_the_better_the_less_and_what_says_nothing_comes_last(tmp_path):
    write(tmp_path, "unimodal", "good", 0.3, when=1000, monitor="val/loss")
    write(tmp_path, "unimodal", "bad", 0.6, when=2000, monitor="val/loss")
    write(tmp_path, "unimodal", "silent", None, when=3000)
    assert speaks(tmp_path) == {"good"}
