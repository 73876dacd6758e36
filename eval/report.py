"""From runs on disk to a report: metrics.json, metrics.csv, comparisons.csv, figures/*.png and report.html, which needs nothing else.

    build_report(out, runs, cohort)

The page holds counts and curves over groups, no row of a patient. Everything from outside is escaped (jinja2's autoescape, matplotlib's own
for SVG), and a content policy forbids scripts and any request.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from omnifuse.eval import bootstrap, cohort_tables, comparisons, disclosure, exports, leaks, page, quality, statistics, tables
from omnifuse.eval.ceilings import Ceilings
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation, evaluate
from omnifuse.eval.figures import Captioned
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, Silent, Task
from omnifuse.preprocess.store import Artefact

SHORT = 12  # characters of a hash on the page


def build_report(
    out: Path,
    runs: Sequence[Artefact],
    cohort: Artefact,
    *,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
    margin: float = statistics.MARGIN,
    reference: str | None = None,
    method: str | None = None,
    every_head: bool = False,
    min_cell: int = 0,
    ceilings: Ceilings | None = None,
    commands: Sequence[str] = (),
    progress=Silent,
) -> tuple[Artefact, dict[str, Any], dict[str, Any]]:
    """Evaluates and compares runs of one task and cohort, and writes the report.

    Args:
        margin, reference: see `comparisons.compare`. method: the report is about a model of this method (`page.choose_headline`).
        min_cell: counts from 1 to min_cell - 1 are hidden; 0 hides none.
        ceilings: of the cohort's samples, where it is a clinic's and its truth is known; runs that tell their weights are then held
            against the true quality too.
        commands: what the user ran, for the page.

    Returns:
        The report, the results and the comparisons, small cells hidden.
    """
    predictions = tables.read_predictions(runs)
    if runs[0].meta.get("cohort") not in (None, cohort.fingerprint):
        raise ArtefactError("the runs were trained on another cohort", where=cohort.folder, hint="give the cohort that they name")
    name = runs[0].meta["task"]
    if name not in cohort.meta.get("tasks", {}):
        raise ArtefactError(f"this cohort has no task {plain(name)}", where=cohort.folder)
    task = Task.from_json(name, cohort.meta["tasks"][name])
    evaluation = evaluate(
        predictions, task=task, resamples=resamples, seed=seed, every_head=every_head, ceilings=ceilings, progress=progress
    )
    samples = cohort.table(f"samples/{name}.parquet")
    if ceilings is not None:
        quality.judge(evaluation, runs, ceilings.folder, samples)
    trained = tables.train_patients(cohort.table("parts.parquet"), samples)
    compared = comparisons.compare(evaluation, train_patients=trained, margin=margin, reference=reference)
    return write_report(out, evaluation, compared, cohort=cohort, runs=runs, method=method, min_cell=min_cell, commands=commands)


def write_report(
    out: Path,
    evaluation: Evaluation,
    compared: dict[str, Any],
    *,
    cohort: Artefact | None = None,
    runs: Sequence[Artefact] = (),
    method: str | None = None,
    min_cell: int = 0,
    commands: Sequence[str] = (),
) -> tuple[Artefact, dict[str, Any], dict[str, Any]]:
    """Writes an evaluation and its comparisons; without cohort or runs, as with another tool's predictions, their sections are left out."""
    runs = sorted(
        runs, key=lambda run: (str(run.meta.get("method")), page.run_modalities(run), run.meta.get("seed") or 0, run.meta.get("fold") or 0)
    )
    results = disclosure.suppress(evaluation.results, min_cell)
    headline = page.choose_headline(evaluation, method)
    described = cohort_tables.read_cohort(cohort, evaluation.task, min_cell) if cohort is not None else None
    context = page.compose(evaluation, results, compared, described, runs, headline=headline, min_cell=min_cell)
    context["provenance"] = _provenance(cohort, runs, headline, evaluation.task, results, commands)
    meta = {
        "task": evaluation.task.name, "cohort": cohort.fingerprint if cohort is not None else None, "headline": headline.name,
        "judged": sorted(run.fingerprint for run in runs), "settings": results["settings"], "margin": compared["margin"],
        "pairs": [[pair["a"], pair["b"]] for pair in compared["pairs"]],
    }  # fmt: skip
    if "ceilings" in results:
        meta["truth"] = results["ceilings"]["fingerprint"]
    with store.create(out, "report", fingerprint=store.digest(meta), meta=meta) as building:
        store.write_json(building.path("metrics.json"), {**results, "comparisons": compared})
        store.write_text(building.path("metrics.csv"), exports.metrics_csv(results))
        store.write_text(building.path("comparisons.csv"), exports.comparisons_csv(compared))
        for figure in _figures(context):
            with store.atomic(building.path(f"figures/{figure.drawing.name}.png")) as partial:
                partial.write_bytes(figure.drawing.png)
        store.write_text(building.path("report.html"), render(context))
    return store.open(out, "report"), results, compared


def render(context: dict[str, Any]) -> str:
    """The page. Text is escaped unless it is one of our own drawings."""
    folder = resources.files("omnifuse.eval")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "comma": lambda value: f"{value:,}", "svg": lambda drawing: markupsafe.Markup(drawing.svg)}
    style = markupsafe.Markup(folder.joinpath("report.css").read_text(encoding="utf-8"))
    return environment.from_string(folder.joinpath("report.html.j2").read_text(encoding="utf-8")).render(style=style, **context)


def _figures(context: dict[str, Any]) -> list[Captioned]:
    single = [section["figure"] for name in ("results", "by_label", "comparisons") if (section := context[name])]
    return [*single, *context["curves"], *context["training"]]


def _provenance(cohort: Artefact | None, runs: Sequence[Artefact], headline, task: Task, results, commands) -> dict[str, Any]:
    """Versions, hashes, seeds, configuration and commands: what it takes to do it again."""
    groups: dict[tuple, list[Artefact]] = {}
    for run in runs:
        groups.setdefault((run.meta.get("method"), page.run_modalities(run)), []).append(run)
    ours = groups.get((headline.method, headline.inputs), [])
    config = ours[0].file("config.yaml").read_text(encoding="utf-8") if ours and ours[0].has("config.yaml") else ""
    environment = {"omnifuse": version("omnifuse"), "python": platform.python_version()} | (
        runs[0].meta.get("environment") or {} if runs else {}
    )
    return {
        "environment": {plain(key): plain(value) for key, value in environment.items()},
        "dataset": _dataset(cohort),
        "cohort": cohort.fingerprint[:SHORT] if cohort else None,
        "truth": plain(results["ceilings"]["fingerprint"])[:SHORT] if "ceilings" in results else None,
        "splits": _splits(cohort),
        "runs": [_run_row(method, modalities, group, task) for (method, modalities), group in groups.items()],
        "config": "\n".join(
            plain(line, 400) if line.strip() == line else line[: len(line) - len(line.lstrip())] + plain(line, 400)
            for line in config.splitlines()
        ),
        "commands": [plain(command, 400) for command in commands],
        "settings": results["settings"],
    }


def _dataset(cohort: Artefact | None) -> dict[str, Any] | None:
    if cohort is None:
        return None
    source = cohort.meta.get("source") or {}
    named = " ".join(plain(source[key]) for key in ("dataset", "version") if source.get(key))
    tables_read = [
        (plain(name), told.get("rows"), str(told.get("sha256") or "")[:SHORT]) for name, told in (source.get("tables") or {}).items()
    ]
    options = {key: plain(cohort.meta[key]) for key in ("compat", "step_hours", "lookback_hours", "time") if key in cohort.meta}
    return {"name": named or "unnamed", "tables": tables_read, "options": options}


def _splits(cohort: Artefact | None) -> dict[str, str]:
    told = (cohort.meta.get("splits") or {}) if cohort is not None else {}
    told = {key: value for key, value in told.items() if value is not None and not isinstance(value, dict)}  # counts stand by the parts
    return {plain(key): str(value)[:SHORT] if key == "sha256" else plain(value) for key, value in told.items()}


def _run_row(method, modalities, group: Sequence[Artefact], task: Task) -> dict[str, Any]:
    best = [run.meta.get("best") for run in group]
    return {
        "method": plain(method),
        "modalities": ", ".join(plain(name) for name in leaks.mark_each(modalities, leaks.among("+".join(modalities), task))),
        "folds": ", ".join(str(run.meta.get("fold")) for run in group),
        "seeds": ", ".join(sorted({str(run.meta.get("seed")) for run in group})),
        "parameters": group[0].meta.get("parameters"),
        "epochs": ", ".join(str(found.get("epoch", "–")) if isinstance(found, dict) else "–" for found in best),
        "seconds": sum(run.meta.get("seconds") or 0 for run in group),
        "fingerprints": ", ".join(run.fingerprint[:SHORT] for run in group),
    }
