"""Cohort to features: what is computed once, before any training.

For a series modality with a trainable encoder that is the normaliser of each fold; the values stay in the cohort. How it is fitted is
preprocessing's affair (`omnifuse.preprocess.normaliser.fit_normaliser`), and the command hands that function in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ConfigError, InputError, nearest

RECIPE = 1  # of this module: features of another recipe are made again

Fit = Callable[[store.Artefact, str, int, str], tuple[np.ndarray, np.ndarray]]


def extract(cohort: store.Artefact, task: str, out: Path, fit: Fit, progress: Callable = schema.Silent) -> store.Artefact:
    """Writes the features of one task of a cohort; what is current already is left as it is.

    Args:
        fit: (cohort, task, fold, modality) -> mean [D] and standard deviation [D] over the fold's part `train`.

    Raises:
        ConfigError: the cohort has no such task.
        InputError: the cohort is too small for its folds, or a modality has no bin or holds NaN in the training part.
    """
    if task not in cohort.meta["tasks"]:
        raise ConfigError(f"the cohort has no task {task!r}", hint=nearest(task, cohort.meta["tasks"]))
    splits, modalities = cohort.meta["splits"], cohort.meta["modalities"]
    if splits["refused"]:
        raise InputError(f"this cohort cannot be trained on: {splits['refused']}", where=cohort.folder)
    fingerprint = store.digest({"cohort": cohort.fingerprint, "task": task, "recipe": RECIPE})
    if (made := store.current(out, "features", fingerprint)) is not None:
        return made
    with store.create(out, "features", fingerprint=fingerprint) as building:
        normaliser: dict[str, dict] = {name: {} for name in modalities}
        with progress(f"normalise {task}", len(modalities) * len(splits["folds"]), "fold") as bar:
            for name in modalities:
                for fold in splits["folds"]:
                    normaliser[name][str(fold)] = _plain(fit(cohort, task, fold, name), name)
                    bar.update(1)
        store.write_json(building.path("normaliser.json"), normaliser)
        dims = {name: cohort.array(f"{name}.npy").shape[1] for name in modalities}
        building.meta |= {
            "cohort": cohort.fingerprint,
            "task": task,
            "modalities": {name: {"from": "cohort", "dim": dims[name], "kind": about["kind"]} for name, about in modalities.items()},
        }
    return store.open(out, "features")


def _plain(fitted: tuple[np.ndarray, np.ndarray], name: str) -> dict[str, list[float]]:
    if not all(np.isfinite(values).all() for values in fitted):
        raise InputError(f"modality {name} holds NaN or infinity", where=f"{name}.npy", hint="make the cohort again")
    return {key: values.tolist() for key, values in zip(("mean", "std"), fitted)}
