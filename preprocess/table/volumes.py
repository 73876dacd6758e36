"""A folder (or file) of DICOM slices to one item of preprocess/lung/volume.py: a whole CT or PET series of it.

Of several CT series the one is taken that `preprocess lung` would take: thin, with a lung kernel, without contrast, with most slices. Of
several PET the one with most slices that gives SUV by body weight. The box is the whole stack: a table places no lesion.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess.lung import imaging
from omnifuse.preprocess.lung.headers import CT, PET
from omnifuse.preprocess.lung.manifest import require_inside
from omnifuse.preprocess.lung.series import Series, list_files, rank_ct, scan, usable
from omnifuse.preprocess.lung.suv import Suv, compute_suv
from omnifuse.preprocess.schema import Unreadable

SCHEMA = {
    "names": pl.List(pl.String), "origins": pl.List(pl.Float64), "slopes": pl.List(pl.Float64), "intercepts": pl.List(pl.Float64),
    "padding": pl.Float64, "padding_limit": pl.Float64, "axes": pl.List(pl.Float64), "spacing": pl.List(pl.Float64), "rows": pl.Int64,
    "columns": pl.Int64, "centre": pl.List(pl.Float64), "grid": pl.List(pl.Float64), "extent": pl.List(pl.Float64),
}  # fmt: skip
RULE = ("thin", "lung", "plain")


def item(root: Path, name: str, kind: str, counts: Counter) -> dict[str, Any]:
    """The item of a folder.

    Args:
        kind: ct or pet.
        counts: what was met on the way: files that are no slices, series with gaps.

    Raises:
        Unreadable: it leaves the root, or holds no series that can be used.
    """
    require_inside(root, name)
    found = scan(root, list_files(root, name))
    counts.update({f"files left out: {reason}": count for reason, count in found.left_out.items()})
    candidates = found.of(PET if kind == "pet" else CT)
    if not candidates and found.left_out:
        raise Unreadable(f"no series: {found.left_out.most_common(1)[0][0]}")
    fit = usable(candidates)
    counts["chosen among several series"] += len(fit) > 1
    if kind == "pet":
        series, told = _best_pet(fit, counts)
        factors = list(told.factors)
    else:
        series = min(fit, key=lambda one: rank_ct(one, RULE))
        factors = [1.0] * len(series.slices)
    counts["series with gaps in z"] += series.gaps > 0
    return {**imaging.describe_stack(series, factors), **imaging.whole_stack(series.stack)}


def _best_pet(fit: list[Series], counts: Counter) -> tuple[Series, Suv]:
    judged, reason = [], ""
    for series in fit:
        try:
            judged.append((series, compute_suv([piece.pet for piece in series.slices])))
        except Unreadable as error:
            reason = reason or error.reason
    if not judged:
        raise Unreadable(reason)
    chosen = min(judged, key=lambda pair: (-len(pair[0].slices), pair[0].first.name))
    counts.update(chosen[1].warnings)
    return chosen
