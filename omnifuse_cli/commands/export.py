"""omnifuse export: a cohort for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import chosen, console, options, workspace
from omnifuse.preprocess.schema import ConfigError

FORMATS = ("npz", "mimic3-benchmarks", "medfuse")


@click.command(name="export")
@options.cohort_argument
@options.task
@click.option(
    "--what", type=click.Choice(["arrays", "events"]), default="arrays", show_default=True, help="Samples' arrays, or every stay's series."
)
@click.option(
    "--format", "layout", type=click.Choice(FORMATS), default="npz", show_default=True, help="One file, or another repository's folders."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file (.npz, .csv.gz), or the folder of a layout.")
@click.option("--fold", type=click.IntRange(0), default=0, show_default=True, help="The fold whose parts are told.")
@click.option(
    "--cxr-split", type=click.Path(path_type=Path), help="MIMIC-CXR's own split list, for --format medfuse: its films in our parts."
)
@click.option("--normalise", is_flag=True, help="Normalise the continuous columns on the training part of the fold.")
@options.common
def command(
    cohort: str | None,
    task: str | None,
    what: str,
    layout: str,
    out: Path,
    fold: int,
    normalise: bool,
    cxr_split: Path | None,
    as_json: bool,
    dry_run: bool,
    seed: int | None,
    sets: tuple[str, ...],
) -> None:
    """Arrays, irregular series or listfiles for other tools. What is written is patient data.

    The .npz holds X, length, y, sample_id, patient_id, stay_id, part, fold and header, and loads with allow_pickle=False: X is
    [N, T, 76] for mortality, else [sum of T, 76] with offsets. The layouts are the folders, listfiles and CXR split that the code of
    mimic3-benchmarks and MedFuse expects (train_listfile.csv and its kin).

    \b
    Example:
      omnifuse export cohorts/mimic --task mortality --out mortality.npz
      omnifuse export cohorts/mimic --what events --out events.csv.gz
      omnifuse export cohorts/mimic --format mimic3-benchmarks --out for-benchmarks
    """
    from omnifuse.preprocess import export

    space = workspace.find()
    path, opened = chosen.cohort(space, cohort)
    if dry_run:
        console.say(f"would read {path} and write {out} ({what if layout == 'npz' else layout})")
        return
    if layout != "npz":
        if what == "events" or normalise or task:
            raise ConfigError(f"--format {layout} writes every task's raw series: --what, --task and --normalise do not go with it")
        summary = export.export_layout(opened, layout, out, fold=fold, cxr_split=cxr_split, progress=console.progress)
    elif what == "events":
        summary = export.export_events(opened, out, progress=console.progress)
    else:
        name = chosen.task(opened, task, space.settings.values["task"])
        summary = export.export_arrays(opened, name, out, fold=fold, normalise=normalise, progress=console.progress)
    console.note("what was written is patient data: it stays under the terms of its source")
    if not as_json:
        console.say(
            f"{out}: "
            + ", ".join(f"{console.number(value)} {name}" for name, value in summary.items() if not isinstance(value, (dict, list)))
        )
        for text in summary.get("notes", ()):
            console.note(text)
    console.finish(as_json, {"out": str(out), **summary})
