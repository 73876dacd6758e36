"""The words of a report: what was asked, how well it went, and what the comparison lets one say. Numbers in, sentences out."""

from __future__ import annotations

from typing import Any

from omnifuse.eval import leaks
from omnifuse.eval.escaping import plain
from omnifuse.preprocess.schema import Task

_TASKS = {
    "mortality": ("Death in hospital", "which patients die in hospital"),
    "phenotyping": ("Conditions of the stay", "which of {n} groups of conditions are coded for the stay"),
    "los": ("Length of the ICU stay", "how long the ICU stay lasts, in {n} classes"),
    "los_remaining": ("Remaining time in the ICU", "how much longer the patient stays in the ICU, in {n} classes"),
    "radiology": ("Findings on the chest film", "which of {n} findings the radiologist reports"),
    "subtyping": ("Tumour subtype", "which of {n} subtypes the tumour has"),
}
_MODALITIES = {
    "ehr": "EHR", "cxr": "chest film", "rep": "radiology report", "dn": "discharge note", "ct": "CT", "pet": "PET", "sig": "signals",
}  # fmt: skip
VERDICTS = {
    "helps": "Fusion helps",
    "equivalent": "Fusion makes no difference that matters",
    "harms": "Fusion harms",
    "cannot be told": "Whether fusion helps cannot be told",
}


def task_title(task: Task) -> str:
    """The outcome, as a heading."""
    return _TASKS.get(task.name, (plain(task.name).replace("_", " ").capitalize(), ""))[0]


def question(task: Task) -> str:
    """What the models were asked, as one sentence."""
    asked = _TASKS.get(task.name, ("", f"the outcome {plain(task.name)}" + (", of {n}" if task.outputs > 1 else "")))[1]
    window = task.notes.get("window_hours")
    known = f" from the first {window:g} hours of the ICU stay" if isinstance(window, int | float) and window else ""
    return f"{asked.format(n=task.outputs)}{known}"


def modality(name: str) -> str:
    """chest film"""
    return _MODALITIES.get(name, plain(name))


def inputs(modalities: tuple[str, ...], leak: str = "") -> str:
    """EHR, chest film and radiology report; those that leak are marked."""
    names = leaks.mark_each(modalities, leak, {name: modality(name) for name in modalities})
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "all inputs"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a true minus sign; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, always with its sign."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "\u2212")


def span(entry: dict[str, Any], show=number) -> str:
    """0.801 to 0.884"""
    return "no interval" if entry.get("low") is None else f"{show(entry['low'])} to {show(entry['high'])}"


def share(value: float | None) -> str:
    """A share of the attainable gain, which may lie below 0% and above 100%."""
    return "–" if value is None else f"{100 * value:.0f}%".replace("-0%", "0%").replace("-", "\u2212")


def share_span(entry: dict[str, Any]) -> str:
    """12% to 56%"""
    return f"{share(entry['low'])} to {share(entry['high'])}"


def percent(chance: float) -> str:
    """A chance; never 0% or 100%, which nothing estimated is."""
    return "<1%" if chance < 0.01 else ">99%" if chance > 0.99 else f"{100 * chance:.0f}%"


def p_value(p: float | None) -> str:
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def plural(count: int | None, what: str, small: str = "few") -> str:
    """1 patient, 2,345 patients; a count that may not be shown is `small`."""
    return f"{small} {what}s" if count is None else f"{count:,} {what}{'' if count == 1 else 's'}"


def who(row: dict[str, Any], task: Task, sample: str = "sample") -> str:
    """On whom the models were judged; `sample` is the word for one (film, lesion)."""
    text = f"{plural(row['samples'], sample)} of {plural(row['patients'], 'patient')}"
    if task.kind == "binary" and row["positives"] is not None:
        text += f", {row['positives']:,} of them ({100 * row['prevalence']:.1f}%) with the outcome"
    return text


def summary(row: dict[str, Any]) -> str:
    """How well it went, in one line; in words that the interval bears out."""
    auroc = row["metrics"]["auroc"]
    if auroc["value"] is None:
        return "There are too few cases for a figure"
    if auroc.get("low") is None or auroc["low"] <= 0.5 <= auroc["high"]:
        return "It cannot be told from chance"
    return f"AUROC {number(auroc['value'], 2)}: right for {100 * auroc['value']:.0f} of 100 pairs of patients"


def reach(name: str, row: dict[str, Any], task: Task, folds: int) -> list[str]:
    """How well the model that the report is about did, and what that means."""
    auroc = row["metrics"]["auroc"]
    if auroc["value"] is None:
        return [f"For {name} no AUROC can be given: {auroc['reason']}."]
    over = f"the mean over {folds} test folds" if folds > 1 else "on one held-out test set"
    if "k" in auroc:
        labels = f"{auroc['k']}" if auroc["k"] == auroc["k_least"] else f"{auroc['k_least']} to {auroc['k']}"
        kind = "classes, each against the rest," if task.kind == "multiclass" else "labels"
        over += f" and over the {labels} of {auroc['n']} {kind} that have positives and negatives there"
    first = f"{name} reached an AUROC of {number(auroc['value'])} (95% interval {span(auroc)}), {over}."
    right = f"it gave the higher risk to the right one {100 * auroc['value']:.0f} times in 100"
    average = "" if task.kind == "binary" else ", on average,"
    told = [first, f"Shown one patient with the outcome and one without{average or ','} {right}; a coin does so 50 times."]
    if auroc.get("low") is not None and auroc["low"] <= 0.5 <= auroc["high"]:
        told.append("The interval holds 0.5: that this is no better than a coin cannot be excluded.")
    return told


def attained(attainable: dict[str, Any] | None) -> list[str]:
    """What the ceiling says of a fusion, where the truth is known."""
    if attainable is None or "gain" not in attainable:
        return []
    best = f"The best possible use of these modalities would gain {signed(attainable['gain'])} over that single one"
    if attainable["value"] is None:
        span_of = {"low": attainable["gain_low"], "high": attainable["gain_high"]}
        return [f"{best} (95% interval {span(span_of, signed)}), which may be nought: no share of it can be told."]
    return [f"{best}: {share(attainable['value'])} of that was attained (95% interval {share_span(attainable)})."]


def fusion_verdict(pair: dict[str, Any], margin: float) -> list[str]:
    """What the comparison of a fusion with its best single modality lets one say."""
    if pair["difference"] is None:
        return [f"The two cannot be compared: {pair['reason']}."]
    told = [
        f"The best single modality is {pair['b']}, with an AUROC of {number(pair['b_value'])}; "
        f"fusion differs from it by {signed(pair['difference'])}"
        + (f" (95% interval {span(pair, signed)}, by the {pair['test']} test)." if pair.get("low") is not None else ".")
    ]
    if pair.get("reason"):
        told.append(f"It was not tested: {pair['reason']}.")
    if pair.get("chances"):
        chances = {name: percent(value) for name, value in pair["chances"].items()}
        told.append(
            f"The chance that it is better by more than {margin:g} is {chances['helps']}, that the difference is smaller than that "
            f"{chances['equivalent']}, that it is worse by more {chances['harms']}. A verdict needs 95%."
        )
    if pair.get("detectable") and pair["verdict"] == "cannot be told":
        told.append(
            f"Of studies like this one, 4 in 5 would find a true difference of {number(pair['detectable'])}; fewer find smaller ones."
        )
    told += attained(pair.get("attainable"))
    if pair["left_out"]:
        told.append(f"Both are judged on the {plural(pair['samples'], 'sample')} that both have scored; {pair['left_out']:,} are left out.")
    return told
