"""omnifuse extract: a cohort to features."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import chosen, console, options, workspace


@click.command(name="extract")
@options.cohort_argument
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="A task; may be repeated.  [default: every task of the cohort]")
@options.out
@options.common
def command(
    cohort: str | None, tasks: tuple[str, ...], out: Path | None, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]
) -> None:
    """A cohort to features: what is computed once, before any training.

    For the time series that is the normaliser of each fold, fitted on its training part. Features that are current are left as they are.

    \b
    Example:
      omnifuse extract
      omnifuse extract cohorts/mimic --task mortality --out features/mortality
    """
    space = workspace.find()
    path, opened = chosen.cohort(space, cohort)
    names = [chosen.task(opened, task) for task in tasks] or list(opened.meta["tasks"])
    if dry_run:
        for name in names:
            told = opened.meta["tasks"][name]
            console.say(
                f"would read {path}, {told['samples']:,} samples of {name}, and write {chosen.features_path(space, path, name, out)}"
            )
        return
    from omnifuse.models import extraction
    from omnifuse.preprocess import normaliser

    made = {}
    for name in names:
        target = chosen.features_path(space, path, name, out)
        features = extraction.extract(opened, name, target, normaliser.fit_normaliser, progress=console.progress)
        made[name] = {"features": str(target), "modalities": features.meta["modalities"]}
        if not as_json:
            _show(name, opened, features, target)
    console.finish(as_json, made)


def _show(task: str, cohort, features, target: Path) -> None:
    samples = cohort.table(f"samples/{task}.parquet")
    console.say(f"{task}: {len(samples):,} samples -> {console.place(target)}")
    for name, told in features.meta["modalities"].items():
        steps = samples.filter(samples[f"{name}_length"] > 0)[f"{name}_length"]
        shape = f"[{len(steps):,} samples, {steps.min()} to {steps.max()} steps, {told['dim']} columns]"
        console.say(f"  {name}: {shape}, normalised on the training part of folds {', '.join(map(str, cohort.meta['splits']['folds']))}")
