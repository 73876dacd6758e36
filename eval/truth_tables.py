"""What stands on the page of a report where the truth of a synthetic clinic is known: the ceilings, and what weighs with which quality."""

from __future__ import annotations

from typing import Any

from omnifuse.eval import wording
from omnifuse.eval.ceilings import BESIDE
from omnifuse.eval.quality import UNTOLD

_BESIDE = {"cxr_last": "the last film alone", "rep_stored": "the reports stored in time alone"}


def ceiling_table(results: dict[str, Any]) -> list[dict[str, str]] | None:
    """A row a set of modalities; None where no truth is known."""
    told = results.get("ceilings")
    if not told or not told["sets"]:
        return None
    return [
        {
            "name": _BESIDE[row["modalities"]] if row["modalities"] in BESIDE else wording.inputs(tuple(row["modalities"].split("+"))),
            "value": wording.number(row["value"]),
            "span": wording.span(row),
            "error": wording.number(row["error"]),
            "samples": f"{row['samples']:,}",
        }
        for row in told["sets"]
    ]


def quality_table(results: dict[str, Any]) -> list[dict[str, str]] | None:
    """A row a model and modality whose weights and true quality are told; None where none are."""
    rows = [
        {
            "name": model["name"],
            "modality": wording.modality(told["modality"]),
            "rho": wording.signed(told["rho"], 2),
            "below": told.get("reason") or wording.span(told, lambda value: wording.signed(value, 2)),
            "samples": "hidden" if told["samples"] is None else f"{told['samples']:,}",
            "alone": "hidden" if told["alone"] is None else f"{told['alone']:,}",
        }
        for model in results["models"]
        for told in model.get("omega_quality", ())
        if told.get("reason") != UNTOLD
    ]
    return rows or None
