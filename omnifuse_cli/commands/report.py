"""omnifuse report: the page of an evaluation."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import chosen, console, evaluations, options, truths, workspace
from omnifuse.commands.eval import judge
from omnifuse.preprocess import store


@click.command(name="report")
@options.task
@options.cohort_option
@click.option("--min-cell", type=click.IntRange(0), default=None, help="Hide counts from 1 to this minus 1 (11 before sharing).")
@options.out
@options.common
def command(
    task: str | None,
    cohort: str | None,
    min_cell: int | None,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
    seed: int | None,
    sets: tuple[str, ...],
) -> None:
    """Say where the report of a task is, after checking that it is whole and judges the runs that there are; else make it anew.

    It is one HTML file that needs nothing else: no script, no outside asset, no row of a patient. With --min-cell 11 and --out it
    makes a copy to share.

    \b
    Example:
      omnifuse report --task mortality
      omnifuse report --task mortality --min-cell 11 --out to-share
    """
    found = None if out or min_cell is not None or dry_run else _current(task, cohort)
    if found is None:
        made = judge(task, cohort, (), (), 2000, 0.005, min_cell or 0, out, seed, dry_run)
        if made is None:
            return
        found = made[0]
    page = found / "report.html"
    if not as_json:
        console.say(f"report: {console.place(page)} ({console.size(page.stat().st_size)}, opens in any browser)")
    console.finish(as_json, {"report": str(page)})


def _current(task: str | None, cohort: str | None) -> Path | None:
    """The folder of the report that is there, if it is whole and `omnifuse eval` would judge the same runs by the same truth."""
    space = workspace.find()
    preferred = space.settings.values["task"]
    path, opened = chosen.cohort(space, cohort, {task or preferred} - {None})
    name = chosen.task(opened, task, preferred)
    target = chosen.report_path(space, path, name)
    if not (target / store.MANIFEST).is_file():
        return None
    report = store.open(target, "report")
    report.verify()
    runs = evaluations.find(chosen.runs_path(space, path, name))
    if report.meta.get("judged") != sorted(run.fingerprint for run in runs):
        return None
    ceilings = truths.read(space, path, opened, name, None)  # a truth that came later has something to say to it
    return target if report.meta.get("truth") == (ceilings and ceilings.fingerprint) else None
