"""omnifuse eval: numbers with intervals from the runs' predictions."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import chosen, console, evaluations, options, workspace
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import METRICS


@click.command(name="eval")
@options.task
@options.cohort_option
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Only this method; may be repeated.  [default: all that have runs]"
)
@click.option("--runs", "paths", multiple=True, type=click.Path(path_type=Path), help="A run, or a folder of folds; may be repeated.")
@click.option("--resamples", type=click.IntRange(100), default=2000, show_default=True, help="Draws of patients for the intervals.")
@click.option(
    "--margin", type=click.FloatRange(0, 0.5), default=0.005, show_default=True, help="A difference of the AUROC below it is of no use."
)
@click.option(
    "--min-cell", type=click.IntRange(0), default=0, show_default=True, help="Hide counts from 1 to this minus 1 (11 before sharing)."
)
@options.out
@options.common
def command(
    task: str | None,
    cohort: str | None,
    methods: tuple[str, ...],
    paths: tuple[Path, ...],
    resamples: int,
    margin: float,
    min_cell: int,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
    seed: int | None,
    sets: tuple[str, ...],
) -> None:
    """Judge every finished run of a task on its test folds: AUROC, AUPRC, Brier, log loss and ECE with patient-bootstrap intervals.

    The best single modality stands beside every fusion, with the corrected t-test. Writes metrics.json, metrics.csv,
    comparisons.csv, figures and report.html.

    \b
    Example:
      omnifuse eval --task mortality
      omnifuse eval --task mortality --method concat --json
    """
    made = judge(task, cohort, methods, paths, resamples, margin, min_cell, out, seed, dry_run)
    if made is None:
        return
    target, results, compared = made
    if not as_json:
        _show(results, compared)
        console.say(f"\nreport: {console.place(target / 'report.html')}")
    console.finish(as_json, {"report": str(target), "results": results, "comparisons": compared})


def judge(task, cohort, methods, paths, resamples, margin, min_cell, out, seed, dry_run):
    """Finds the runs, evaluates them and writes the report; None after a dry run."""
    from omnifuse.eval.report import build_report

    space = workspace.find()
    path, opened = chosen.cohort(space, cohort)
    name = chosen.task(opened, task, space.settings.values["task"])
    folder = chosen.runs_path(space, path, name) if not paths else None
    runs = evaluations.find(folder, methods, paths)
    target = out or chosen.report_path(space, path, name)
    if dry_run:
        console.say(f"would read {len(runs)} runs and write {target}; {store.free_text(target)}")
        console.table([(run.meta["method"], "+".join(run.meta["modalities"]), run.meta["fold"], str(run.folder)) for run in runs])
        return None
    looks = evaluations.count_look(folder, runs) if folder else None
    made, results, compared = build_report(
        target,
        runs,
        opened,
        resamples=resamples,
        margin=margin,
        min_cell=min_cell,
        seed=seed if seed is not None else space.settings.values["seed"],
        commands=_commands(path, name, runs),
        progress=console.progress,
    )
    if looks and looks > 1:
        console.note(f"the test folds of {name} were looked at with {looks} sets of runs: choose by val, not by what stands here")
    return made.folder, results, compared


def _commands(cohort: Path, task: str, runs) -> list[str]:
    trained = dict.fromkeys(
        f"omnifuse train --cohort {cohort.name} --task {task} --method {run.meta['method']} --modalities {','.join(run.meta['modalities'])}"
        for run in runs
    )
    return [*trained, f"omnifuse eval --cohort {cohort.name} --task {task}"]


def _show(results: dict, compared: dict) -> None:
    from omnifuse.eval.leaks import MARK, mark

    rows = []
    for model in results["models"]:
        mean = model["mean"][0]
        figures = [_interval(mean["metrics"].get(name)) for name in METRICS]
        inputs = mark(model["modalities"], model["leak"])
        rows.append([model["method"], inputs, *figures, mean["samples"], mean["positives"], len(model["folds"])])
    header = ["method", "modalities", *(name.upper().replace("_", " ") for name in METRICS), "samples", "positive", "folds"]
    told = results["models"][0]["mean"][0]
    console.say(f"{told['label']}, mean over the test folds, 95% interval over patients; prevalence {console.number(told['prevalence'])}")
    console.table(rows, header, indent="")
    for modality, reason in results["leaks"].items():
        console.say(f"{MARK} {modality}: {reason}")
    for pair in compared["pairs"]:
        console.say(f"\n{pair['a']} against {pair['b']} ({pair['question']}): {_verdict(pair)}")


def _interval(entry: dict | None) -> str:
    if entry is None or entry["value"] is None:
        return f"- ({entry['reason']})" if entry and entry.get("reason") else "-"
    text = console.number(entry["value"])
    if entry.get("low") is not None:
        text += f" [{console.number(entry['low'])}, {console.number(entry['high'])}]"
    return text + (f" {entry['k']} of {entry['n']}" if entry.get("k") is not None else "")


def _verdict(pair: dict) -> str:
    if pair.get("difference") is None:
        return f"not compared: {pair.get('reason')}"
    text = f"{pair['difference']:+.3f}"
    if pair.get("low") is not None:
        text += f" [{pair['low']:+.3f}, {pair['high']:+.3f}], {pair['test']}, p = {pair['p']:.3f}, after Holm {pair['p_holm']:.3f}"
    return f"{text}; {pair['verdict']}"
