"""Cohort to features: what is computed once, before any training.

Of a series with a trainable encoder that is the normaliser of each fold; the values stay in the cohort. How it is fitted is
preprocessing's affair (`omnifuse.preprocess.normaliser.fit_normaliser`), and the command hands that function in, as it does the items of
films, texts and signals. Those are decoded and encoded once and lie beside the features of all tasks, in a folder of their own that is
named by everything that decides its content:

    features/COHORT/TASK/                                   normaliser.json, and where the rest lies
    features/COHORT/encoded/cxr-resnet34-pooled-KEY/        rows.npy, index.parquet
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.models import registry
from omnifuse.models.encoded import KIND, encode_items
from omnifuse.models.rows import Means, Recipe
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ConfigError, InputError, nearest

RECIPE = 2  # of this module: features of another recipe are made again

Fit = Callable[[store.Artefact, str, int, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Encoding:
    """How the items of one modality become rows: by one recipe, or by one a fold, where the encoder was tuned fold by fold."""

    items: Any
    recipes: Recipe | dict[int, Recipe]

    def of(self, fold: int) -> Recipe:
        return self.recipes if isinstance(self.recipes, Recipe) else self.recipes[fold]


def extract(
    cohort: store.Artefact,
    task: str,
    out: Path,
    fit: Fit,
    progress: Callable = schema.Silent,
    *,
    modalities: Sequence[str] | None = None,
    encodings: Mapping[str, Encoding] | None = None,
    means: Means = Means(),  # noqa: B008
) -> store.Artefact:
    """Writes the features of one task of a cohort; what is current already is left as it is.

    Args:
        fit: (cohort, task, fold, modality) -> mean [D] and standard deviation [D] over the fold's part `train`.
        modalities: only these; None: all.
        encodings: of those that have items. One without an encoding, or that no sample has, is left out.

    Raises:
        ConfigError: the cohort has no such task.
        InputError: the cohort is too small for its folds, or a modality has no bin or holds NaN in the training part.
    """
    if task not in cohort.meta["tasks"]:
        raise ConfigError(f"the cohort has no task {task!r}", hint=nearest(task, cohort.meta["tasks"]))
    splits = cohort.meta["splits"]
    if splits["refused"]:
        raise InputError(f"this cohort cannot be trained on: {splits['refused']}", where=cohort.folder)
    wanted = {name: about for name, about in cohort.meta["modalities"].items() if modalities is None or name in modalities}
    folds, plain = splits["folds"], [name for name, about in wanted.items() if about["kind"] != "items" and _has(cohort, task, name)]
    needed = {name: items_of(cohort, task, name) for name in encodings or {} if name in wanted}
    planned = {name: _planned(cohort, name, encodings[name], folds, out) for name, items in needed.items() if len(items)}
    keys = {name: {fold: key for fold, (_, key) in told.items()} for name, told in planned.items()}
    fingerprint = store.digest({"cohort": cohort.fingerprint, "task": task, "recipe": RECIPE, "plain": plain, "encoded": _text_keys(keys)})
    # What is there already is only looked at.
    made = {name: _encode(encodings[name], needed[name], told, means, progress) for name, told in planned.items()}
    if (done := store.current(out, "features", fingerprint)) is not None:
        return done
    if means.processes.main:
        with store.create(out, "features", fingerprint=fingerprint) as building:
            normaliser = _normalise(cohort, task, plain, fit, progress)
            store.write_json(building.path("normaliser.json"), normaliser)
            series = {name: _series(cohort, name) for name in plain}
            building.meta |= {"cohort": cohort.fingerprint, "task": task, "modalities": {**series, **_described(encodings, made, out)}}
    means.processes.wait()
    return store.open(out, "features")


def _has(cohort: store.Artefact, task: str, modality: str) -> bool:
    """Whether samples of the task speak of the modality at all: those of `radiology` are films and have no series."""
    return f"{modality}_start" in pl.read_parquet_schema(cohort.file(f"samples/{task}.parquet"))


def _text_keys(keys: dict[str, dict[int, str]]) -> dict[str, dict[str, str]]:
    return {name: {str(fold): key for fold, key in told.items()} for name, told in keys.items()}


def items_of(cohort: store.Artefact, task: str, modality: str) -> np.ndarray:
    """[n] numbers of the items that some sample of the task has, ascending."""
    change = np.zeros(cohort.height(f"items/{modality}.parquet") + 1, np.int64)
    columns = [f"{modality}_start", f"{modality}_length"]
    if not _has(cohort, task, modality):
        return np.empty(0, np.int64)
    for batch in cohort.batches(f"samples/{task}.parquet", columns):
        start, length = (batch[name].fill_null(0).to_numpy().astype(np.int64) for name in columns)
        np.add.at(change, start, np.sign(length))
        np.add.at(change, start + length, -np.sign(length))
    return np.flatnonzero(np.cumsum(change)[:-1])


def _planned(cohort: store.Artefact, name: str, encoding: Encoding, folds: list[int], out: Path) -> dict[int, tuple[Path, str]]:
    """Of every fold, the folder of its rows and their key."""
    source = {"items": cohort.files[f"items/{name}.parquet"]["sha256"], "files": cohort.meta["modalities"][name].get("files")}
    found = {}
    for fold in folds:
        recipe = encoding.of(fold)
        key = store.digest({**source, "decode": encoding.items.fingerprint(), **recipe.identity()})
        found[fold] = (out.absolute().parent / "encoded" / f"{name}-{recipe.encoder['name']}-{recipe.keep}-{key[:10]}", key)
    return found


def _encode(encoding: Encoding, needed: np.ndarray, told: dict[int, tuple[Path, str]], means: Means, progress: Callable):
    """{fold: artefact}; folds that share their recipe share the artefact."""
    done: dict[str, store.Artefact] = {}
    for fold, (folder, key) in told.items():
        if key not in done:
            done[key] = encode_items(encoding.items, needed, encoding.of(fold), folder, key, means, progress)
    return {fold: done[key] for fold, (_, key) in told.items()}


def _normalise(cohort: store.Artefact, task: str, names: list[str], fit: Fit, progress: Callable) -> dict[str, dict]:
    folds = cohort.meta["splits"]["folds"]
    normaliser: dict[str, dict] = {name: {} for name in names}
    with progress(f"normalise {task}", len(names) * len(folds), "fold") as bar:
        for name in names:
            for fold in folds:
                normaliser[name][str(fold)] = _plain(fit(cohort, task, fold, name), name)
                bar.update(1)
    return normaliser


def _plain(fitted: tuple[np.ndarray, np.ndarray], name: str) -> dict[str, list[float]]:
    if not all(np.isfinite(values).all() for values in fitted):
        raise InputError(f"modality {name} holds NaN or infinity", where=f"{name}.npy", hint="make the cohort again")
    return {key: values.tolist() for key, values in zip(("mean", "std"), fitted)}


def _series(cohort: store.Artefact, name: str) -> dict[str, Any]:
    about = cohort.meta["modalities"][name]
    return {"from": "cohort", "dim": cohort.array(f"{name}.npy").shape[1], "kind": about["kind"], "reads": "series"}


def _described(encodings: Mapping[str, Encoding], made: dict[str, dict[int, store.Artefact]], out: Path) -> dict[str, Any]:
    """What `dataset.open_samples` and `train` need to know of the encoded modalities."""
    found = {}
    for name, by_fold in made.items():
        recipe, first = encodings[name].of(next(iter(by_fold))), next(iter(by_fold.values()))
        found[name] = {
            "from": KIND,
            "kind": "series",
            "reads": registry.find("encoder", recipe.encoder["name"]).reads if recipe.keep == "raw" else "embedding",
            "dim": _dim(recipe, first, encodings[name].items),
            "encoder": recipe.encoder,
            "keep": recipe.keep,
            **_windows(recipe, encodings[name].items),
            "weights": first.meta["weights"],
            "folds": {
                str(fold): {"folder": os.path.relpath(encoded.folder, out.absolute()), "fingerprint": encoded.fingerprint}
                for fold, encoded in by_fold.items()
            },
        }
    return found


def _windows(recipe: Recipe, items: Any) -> dict[str, int]:
    """Of the word pieces of a network with positions: piece t of a text stands in its window t // window."""
    if recipe.keep != "tokens" or items.reads != "text":
        return {}
    window = getattr(recipe.build(items), "window", None)
    return {} if window is None else {"window": window}


def _dim(recipe: Recipe, encoded: store.Artefact, items: Any) -> int | list[int]:
    """What an encoder is told as its `input_dim`."""
    shape = encoded.meta["shape"]
    if recipe.keep == "levels":
        return list(recipe.build(items).level_dims)
    return shape if len(shape) > 1 else shape[0] if shape else 0
