"""What stands on the page of a report, section by section: tables as text, figures as drawings, ready for the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnifuse.eval import curves, figures, leaks, wording
from omnifuse.eval.calibration import MIN_BIN
from omnifuse.eval.cohort_tables import CohortTables
from omnifuse.eval.comparisons import FUSION
from omnifuse.eval.escaping import plain
from omnifuse.eval.evaluation import Evaluation
from omnifuse.eval.figures import Captioned
from omnifuse.eval.pairing import best_single
from omnifuse.eval.result_tables import METRIC_NAMES, comparison_table, fold_table, label_table, model_table, row_of
from omnifuse.eval.tables import Model
from omnifuse.eval.training_curves import draw_histories
from omnifuse.eval.truth_tables import ceiling_table, quality_table
from omnifuse.preprocess.schema import ConfigError, nearest
from omnifuse.preprocess.store import Artefact

MOST_CURVES = 5


def choose_headline(evaluation: Evaluation, method: str | None = None) -> Model:
    """The model that the report is about: the fusion (else the single modality) with the highest AUROC on the validation patients.

    The test patients have no say in the choice. A model that sees what gives the outcome away is chosen only where there is no other.

    Args:
        method: take the models of this method only.

    Raises:
        ConfigError: there is no model of that method.
    """
    scores = {model: entry["validation_auroc"] for model, entry in zip(evaluation.tests, evaluation.results["models"])}
    chosen = [model for model in scores if method is None or model.method == method]
    if not chosen:
        raise ConfigError(f"no run of the method {plain(method)}", hint=nearest(method, {model.method for model in scores}))
    fair = [model for model in chosen if not model.leak] or chosen
    fusions = [model for model in fair if len(model.inputs) > 1] or fair
    return max(fusions, key=lambda model: (scores[model] if scores[model] is not None else -1.0, len(model.inputs)))


def compose(
    evaluation: Evaluation,
    results: dict[str, Any],
    comparisons: dict[str, Any],
    cohort: CohortTables | None,
    runs: Sequence[Artefact],
    *,
    headline: Model,
    min_cell: int = 0,
) -> dict[str, Any]:
    """Everything that the template shows.

    Args:
        results: those of the evaluation, small cells hidden.
    """
    entries = dict(zip(evaluation.tests, results["models"]))
    row = row_of(entries[headline], results["row"])
    single = best_single(headline, evaluation)
    sample = cohort.sample if cohort else "sample"
    pair = next((p for p in comparisons["pairs"] if p["question"] == FUSION and p["a"] == headline.name), None)
    return {
        "task": evaluation.task,
        "title": wording.task_title(evaluation.task),
        "question": wording.question(evaluation.task),
        "headline": _headline(evaluation, entries, headline, row, single, pair, comparisons["margin"], sample),
        "results": model_table(evaluation, entries, headline, single),
        "by_label": label_table(evaluation, entries, headline, single),
        "by_fold": fold_table(evaluation, entries),
        "ceilings": ceiling_table(results),
        "quality": quality_table(results),
        "curves": _curves(evaluation, headline, single, row, min_cell),
        "comparisons": comparison_table(comparisons),
        "training": [Captioned(*found) for found in draw_histories(_runs_of(runs, headline), leaks.MARK if headline.leak else "")],
        "cohort": cohort,
        "definitions": {METRIC_NAMES.get(key, key.capitalize()): text for key, text in results["definitions"].items()},
        "settings": results["settings"],
        "leak_mark": leaks.MARK,
        "leaks": {wording.modality(name): reason for name, reason in results["leaks"].items()},
        "warnings": [*results["warnings"], *(cohort.warnings if cohort else [])],
    }


def _headline(evaluation, entries, model: Model, row, single, pair, margin, sample: str) -> dict[str, Any]:
    task, entry, metrics = evaluation.task, entries[model], row["metrics"]
    told_leaks = evaluation.results["leaks"]
    tiles = [("AUROC", wording.number(metrics["auroc"]["value"]), f"95% interval {wording.span(metrics['auroc'])}")]
    if metrics["auroc"]["value"] is not None:
        tiles.append(
            (
                "AUPRC",
                wording.number(metrics["auprc"]["value"]),
                f"by chance {wording.number(row['prevalence'])}" if task.kind != "multiclass" else "mean over classes",
            )
        )
        perfect = f"perfect would show {wording.number(metrics['ece']['perfect_low'])} to {wording.number(metrics['ece']['perfect_high'])}"
        tiles.append(("Calibration error", wording.number(metrics["ece"]["value"]), perfect))
    if (ceiling := entry.get("ceiling") or {}).get("value") is not None:
        tiles.insert(1, ("Ceiling", wording.number(ceiling["value"]), "the best possible on these samples"))
    verdict, told = None, ["There is one modality only, so that there is nothing to fuse yet."] if len(model.inputs) < 2 else []
    if pair is not None:
        alone = wording.inputs(single.inputs, single.leak) + " alone"
        told = f"{alone}, on {wording.plural(pair['samples'], sample)} that have it" if pair["left_out"] else alone
        tiles.insert(1, ("Best single modality", wording.number(pair["b_value"]), told))
        verdict, told = pair["verdict"], wording.fusion_verdict(pair, margin)
    elif len(model.inputs) > 1:
        told = ["No run with one of its modalities alone is here, so that nobody can say what fusion adds."]
    return {
        "name": model.name,
        "inputs": wording.inputs(model.inputs, model.leak),
        "who": wording.who(row, task, sample),
        "summary": wording.summary(row),
        "mark": leaks.MARK if model.leak else "",
        "leaks": {wording.modality(name): reason for name, reason in told_leaks.items() if name in plain(model.leak).split("+")},
        "stood_back": bool(told_leaks) and not model.leak,
        "reach": wording.reach(model.name, row, task, len(entry["folds"])),
        "tiles": tiles,
        "verdict": verdict,
        "verdict_text": wording.VERDICTS.get(verdict),
        "fusion": told,
        "chosen": entry["validation_auroc"] is not None and len(entries) > 1,
    }


def _curves(evaluation: Evaluation, headline: Model, single: Model | None, row, min_cell: int) -> list[Captioned]:
    others = [model for model in evaluation.tests if model not in (headline, single) and model.inputs == headline.inputs]
    shown = [headline, *([single] if single else []), *others][:MOST_CURVES]
    tests, least = evaluation.tests, max(1, min_cell)
    roc = {model.name: curve for model in shown if (curve := curves.roc(tests[model], least))}
    recall = {model.name: curve for model in shown if (curve := curves.precision_recall(tests[model], least))}
    points = {
        model.name: curve
        for model in shown[:2]
        if (curve := curves.pooled_reliability(tests[model], min_cell)) is not None and len(curve.count)
    }
    average = "" if evaluation.task.kind == "binary" else " and labels"
    thin = f" Thin lines: the folds of {shown[0].name}." if len({test.fold for test in tests[headline]}) > 1 else ""
    found = []
    if roc:
        caption = f"Mean over the folds{average}; the area below the line is the AUROC. Dotted: chance.{thin}"
        found.append(Captioned(figures.draw_roc(roc), "ROC curves", caption))
    if recall:
        prevalence = row["prevalence"] if evaluation.task.kind != "multiclass" else None
        dotted = " Dotted: chance, the prevalence." if prevalence is not None else ""
        caption = f"Mean over the folds{average}; the area below the steps is the AUPRC.{dotted}{thin}"
        found.append(Captioned(figures.draw_precision_recall(recall, prevalence), "Precision and recall", caption))
    if points:
        first = next(iter(points.values()))
        hidden = f"; {first.hidden} samples in smaller bins are not shown" if first.hidden else ""
        caption = (
            "Do 30 of 100 patients with a predicted risk of 30% have the outcome? On the dotted line, yes. All folds together"
            f"{', all labels together' if average else ''}; each point stands on at least {max(MIN_BIN, min_cell)} samples"
            f"{hidden}; bars are 95% intervals."
        )
        found.append(Captioned(figures.draw_reliability(points), "Calibration", caption))
    return found


def _runs_of(runs: Sequence[Artefact], model: Model) -> list[Artefact]:
    return [run for run in runs if run.meta.get("method") == model.method and run_modalities(run) == model.inputs]


def run_modalities(run: Artefact) -> tuple[str, ...]:
    """The modalities that a run was given."""
    given = run.meta.get("modalities") or ()
    return tuple(given.replace(",", "+").split("+")) if isinstance(given, str) else tuple(given)
