"""omnifuse extract: a cohort to features."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from omnifuse import choices, chosen, console, encodings, options, workspace
from omnifuse.trainings import RAW


@click.command(name="extract")
@options.cohort_argument
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="A task; may be repeated.  [default: every task of the cohort]")
@click.option("--modalities", "--modality", metavar="NAME[,NAME]", help="Only these.  [default: all of the cohort]")
@click.option("--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="omnifuse list encoders.  [default: resnet34, bert]")
@click.option(
    "--weights", multiple=True, metavar="[MODALITY=]NAME",
    help="Published weights (imagenet, bert-base-uncased ...), none, a file or folder, or the runs of a tuned encoder.",
)  # fmt: skip
@click.option(
    "--keep", multiple=True, metavar="[MODALITY=]KIND", help="pooled, tokens or levels: what the method needs.  [default: pooled]"
)
@click.option("--raw", is_flag=True, help="Keep what encoders read, to tune them: omnifuse train --method unimodal --tune-encoder.")
@options.model_dir
@options.allow_download
@click.option("--root", "roots", multiple=True, metavar="MODALITY=DIR", help="Where the files are now, if they were moved.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True,
              help="What encoders compute in; auto: bfloat16 where the processor has it.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Films, slices or records at once.")
@click.option("--workers", type=click.IntRange(0), default=None, help="Processes that decode.  [default: one a core, at most 16]")
@options.device
@options.out
@options.common
def command(
    cohort: str | None, tasks: tuple[str, ...], modalities: str | None, encoders: tuple[str, ...], weights: tuple[str, ...],
    keep: tuple[str, ...], raw: bool, model_dir: Path | None, allow_download: bool, roots: tuple[str, ...], dtype: str, batch_size: int,
    workers: int | None, device: str, out: Path | None, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...],
) -> None:  # fmt: skip
    """A cohort to features: what is computed once, before any training.

    For a time series that is the normaliser of each fold, fitted on its training part. Films, slices, texts and signals are decoded and
    encoded once, whatever the number of epochs; an interrupted run goes on where it stopped, and what is current is left as it is. Nothing
    is downloaded unless --allow-download says so.

    \b
    Example:
      omnifuse extract
      omnifuse extract --task mortality --weights cxr=imagenet --weights rep=bert-base-uncased --model-dir /data/models
      omnifuse extract --modalities ehr,cxr --encoder cxr=dinov2 --keep cxr=tokens
      omnifuse extract --raw --task radiology
      torchrun --nproc-per-node 4 -m omnifuse extract
    """
    space = workspace.find()
    path, opened = chosen.cohort(space, cohort, tasks)
    names = [chosen.task(opened, task) for task in tasks] or list(opened.meta["tasks"])
    known = opened.meta["modalities"]
    wanted = choices.modalities_of(modalities, known)
    about = {name: known[name] for name in wanted if known[name]["kind"] == "items"}
    told = {"encoder": encoders, "weights": weights, "keep": keep}
    picked = encodings.choose(
        space, about, sets, {flag: encodings.pairs(texts, list(about), f"--{flag}") for flag, texts in told.items()}, raw
    )
    targets = {name: chosen.features_path(space, path, name + (RAW if raw else ""), out) for name in names}
    if dry_run:
        _show_plan(path, opened, picked, targets, as_json)
        return
    from omnifuse.models import extraction
    from omnifuse.models.distributed import choose_device, processes
    from omnifuse.models.rows import Means, choose_dtype
    from omnifuse.preprocess import items, normaliser

    where = choose_device(device)
    moved = {name: Path(folder) for name, folder in encodings.pairs(roots, list(about), "--root").items()}
    recipes = {
        name: encodings.recipes(choice, opened, options.model_folder(space, model_dir), allow_download, choose_dtype(dtype, where))
        for name, choice in picked.items()
    }
    found = {
        name: extraction.Encoding(items.open_items(opened, name, moved.get(name), encodings.decode_settings(choice)), recipes[name])
        for name, choice in picked.items()
    }
    made = {}
    with processes(where) as group:
        means = Means(where, batch_size, workers=_workers(workers), processes=group)
        for name, target in targets.items():
            features = extraction.extract(
                opened, name, target, normaliser.fit_normaliser, console.progress, modalities=wanted, encodings=found, means=means
            )
            made[name] = {"features": str(target), "modalities": features.meta["modalities"]}
            if not as_json and group.main:
                _show(name, opened, features, target)
            if group.main:
                _tell_unusable(features)
        if group.main:
            console.finish(as_json, made)


def _workers(told: int | None) -> int:
    if told is not None:
        return told
    with contextlib.suppress(AttributeError):
        return min(len(os.sched_getaffinity(0)), 16)
    return min(os.cpu_count() or 1, 16)


def _show_plan(path: Path, cohort, picked: dict[str, encodings.Choice], targets: dict[str, Path], as_json: bool) -> None:
    if not as_json:
        for choice in picked.values():
            console.say(f"would encode {choice.modality} with {choice.encoder}, weights {choice.weights}, and keep {choice.keep}")
        for name, target in targets.items():
            console.say(f"would read {path}, {cohort.meta['tasks'][name]['samples']:,} samples of {name}, and write {target}")
    plan = {"encodings": {name: vars(choice) for name, choice in picked.items()}, "features": {n: str(p) for n, p in targets.items()}}
    console.finish(as_json, plan)


def _show(task: str, cohort, features, target: Path) -> None:
    from omnifuse.preprocess.dataset import ENCODED, open_encoded

    samples = cohort.table(f"samples/{task}.parquet")
    folds = cohort.meta["splits"]["folds"]
    console.say(f"{task}: {len(samples):,} samples -> {console.place(target)}")
    for name, told in features.meta["modalities"].items():
        steps = samples.filter(samples[f"{name}_length"] > 0)[f"{name}_length"]
        span = f"{len(steps):,} samples, {steps.min()} to {steps.max()}"
        if told["from"] != ENCODED:
            columns = f"[{span} steps, {told['dim']} columns]"
            console.say(f"  {name}: {columns}, normalised on the training part of folds {', '.join(map(str, folds))}")
            continue
        rows = open_encoded(features, name, folds[0])
        weights = told["weights"]["told"] if told["weights"] else "no weights"
        made = f"{told['encoder']['name']} ({weights}, {told['keep']})"
        console.say(f"  {name}: [{span} items], {rows.meta['rows']:,} rows {rows.meta['shape']} of {made}")


def _tell_unusable(features) -> None:
    from omnifuse.preprocess.dataset import ENCODED, open_encoded

    for name, told in features.meta["modalities"].items():
        if told["from"] == ENCODED:
            rows = open_encoded(features, name, int(next(iter(told["folds"]))))
            for reason, count in rows.meta["unusable"].items():
                console.note(f"{count:,} of {rows.meta['encoded']:,} items of {name} cannot be used: {reason}")
            if rows.meta["unusable"]:
                console.note(f"they are listed in {console.place(rows.folder / 'index.parquet')}")
