"""omnifuse eval: numbers with intervals from the runs' predictions."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import chosen, console, evaluations, grids, options, truths, workspace
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import METRICS, ConfigError


def _of_ablate(function):
    """The options that belong to --ablate."""
    told = (
        click.option("--ablate", is_flag=True, help="Train what is missing of a grid of methods, and write its tables and curves."),
        click.option("--grid", default=None, metavar="NAME[,NAME]",
                     help=f"Of --ablate: {', '.join(grids.known())}, a YAML file, or all ({', '.join(grids.EVERY)}).  [default: table4]"),
        click.option("--modalities", default=None, metavar="NAME[,NAME]", help="Of --ablate: only these.  [default: all of the cohort]"),
        click.option("--fold", "folds", multiple=True, metavar="K", help="Of --ablate: a test fold; may be repeated.  [default: all]"),
        click.option("--tuned", is_flag=True, help="Of --ablate: every method with what omnifuse tune found for it."),
        click.option("--jobs", type=click.IntRange(1), default=None, help="Of --ablate: runs at once, one core each.  [default: 1]"),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default=None, help="Of --ablate: where to compute."),
        click.option("--list-cells", is_flag=True, help="Of --ablate: print a command for each run that is missing, for a job array."),
    )  # fmt: skip
    for option in reversed(told):
        function = option(function)
    return function


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
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="The truth of a synthetic clinic, for ceilings.  [default: RAW-truth beside the raw files]",
)
@_of_ablate
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
    truth: Path | None,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
    seed: int | None,
    sets: tuple[str, ...],
    **ablating,
) -> None:
    """Judge every finished run of a task on its test folds: AUROC, AUPRC, Brier, log loss and ECE with patient-bootstrap intervals.

    The best single modality stands beside every fusion, with the corrected t-test. Writes metrics.json, metrics.csv,
    comparisons.csv, figures and report.html. On a synthetic clinic whose truth is there, every figure stands beside its ceiling, and
    every fusion beside the share of the attainable gain.

    With --ablate a grid of methods and switches is trained first, as far as its runs are missing, and its tables are written instead.

    \b
    Example:
      omnifuse eval --task mortality
      omnifuse eval --task mortality --method concat --json
      omnifuse eval --ablate
      omnifuse eval --ablate --grid table2,fig5 --modalities ehr,cxr,rep --jobs 4
    """
    if ablating["ablate"]:
        for flag, given in (("--method", methods), ("--runs", paths), ("--out", out), ("--min-cell", min_cell)):
            if given:
                raise ConfigError(f"{flag} does not go with --ablate", hint="a grid says itself which runs it judges")
        _ablate(cohort, task, truth, resamples, margin, seed, sets, dry_run, as_json, ablating)
        return
    if stray := [f"--{name.replace('_', '-').replace('folds', 'fold')}" for name, given in ablating.items() if given]:
        raise ConfigError(f"{', '.join(stray)} belongs to --ablate")
    made = judge(task, cohort, methods, paths, resamples, margin, min_cell, out, seed, dry_run, truth)
    if made is None:
        return
    target, results, compared = made
    if not as_json:
        _show(results, compared)
        console.say(f"\nreport: {console.place(target / 'report.html')}")
    console.finish(as_json, {"report": str(target), "results": results, "comparisons": compared})


def _ablate(cohort, task, truth, resamples, margin, seed, sets, dry_run, as_json, asked) -> None:
    from omnifuse import ablation_reports

    ablation_reports.run(
        workspace.find(), grids.names(asked["grid"] or "table4"), cohort=cohort, task=task, modalities=asked["modalities"],
        folds=asked["folds"] or ("all",), tuned=asked["tuned"], jobs=asked["jobs"] or 1, device=asked["device"] or "auto", truth=truth,
        resamples=resamples, margin=margin, seed=seed, sets=sets, dry_run=dry_run, list_cells=asked["list_cells"], as_json=as_json,
    )  # fmt: skip


def judge(task, cohort, methods, paths, resamples, margin, min_cell, out, seed, dry_run, truth=None):
    """Finds the runs, evaluates them and writes the report; None after a dry run."""
    from omnifuse.eval.report import build_report

    space = workspace.find()
    preferred = space.settings.values["task"]
    path, opened = chosen.cohort(space, cohort, {task or preferred} - {None})
    name = chosen.task(opened, task, preferred)
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
        ceilings=truths.read(space, path, opened, name, truth),
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

    rows, ceiling = [], "ceilings" in results
    for model in results["models"]:
        mean = model["mean"][0]
        figures = [_interval(mean["metrics"].get(name)) for name in METRICS]
        figures[1:1] = [_interval(model["ceiling"]), _attained(model["attainable"])] if ceiling else ()
        inputs = mark(model["modalities"], model["leak"])
        rows.append([model["method"], inputs, *figures, mean["samples"], mean["positives"], len(model["folds"])])
    names = [name.upper().replace("_", " ") for name in METRICS]
    names[1:1] = ("CEILING", "ATTAINED") if ceiling else ()
    told = results["models"][0]["mean"][0]
    console.say(f"{told['label']}, mean over the test folds, 95% interval over patients; prevalence {console.number(told['prevalence'])}")
    console.table(rows, ["method", "modalities", *names, "samples", "positive", "folds"], indent="")
    for modality, reason in results["leaks"].items():
        console.say(f"{MARK} {modality}: {reason}")
    for pair in compared["pairs"]:
        console.say(f"\n{pair['a']} against {pair['b']} ({pair['question']}): {_verdict(pair)}")
    for model in results["models"] if ceiling else ():
        if model["ceiling"].get("exceeded"):
            console.note(f"{model['name']} exceeds its ceiling by {model['ceiling']['difference']:.3f}: look for a leak")


def _interval(entry: dict | None) -> str:
    if entry is None or entry["value"] is None:
        return f"- ({entry['reason']})" if entry and entry.get("reason") else "-"
    text = console.number(entry["value"])
    if entry.get("low") is not None:
        text += f" [{console.number(entry['low'])}, {console.number(entry['high'])}]"
    return text + (f" {entry['k']} of {entry['n']}" if entry.get("k") is not None else "")


def _attained(entry: dict) -> str:
    if entry["value"] is None:
        if "gain" not in entry:
            return "-"
        return f"- (room for {entry['gain']:+.3f}, or none)" if entry["gain"] > 0 else "- (no room)"
    return f"{100 * entry['value']:.0f}% [{100 * entry['low']:.0f}, {100 * entry['high']:.0f}] of {entry['gain']:+.3f}"


def _verdict(pair: dict) -> str:
    if pair.get("difference") is None:
        return f"not compared: {pair.get('reason')}"
    text = f"{pair['difference']:+.3f}"
    if pair.get("low") is not None:
        text += f" [{pair['low']:+.3f}, {pair['high']:+.3f}], {pair['test']}, p = {pair['p']:.3f}, after Holm {pair['p_holm']:.3f}"
    return f"{text}; {pair['verdict']}" + (f" ({pair['reason']})" if pair.get("reason") else "")
