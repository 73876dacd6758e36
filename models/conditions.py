"""What a finished run says of its test part when modalities are hidden from it: subsets, and missing rates.

    omega = predict_conditions(run, samples, [Condition(("ehr", "rep")), Condition(drop="random", rate=0.3, mask=0)], out)

A condition hides; it never fills in: what the method does about it (encoder(0), imputation, leaving it out) is the method's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from omnifuse.models.distributed import choose_device
from omnifuse.models.parts.keyed import number
from omnifuse.models.prediction import Reader, load_run, predict, tabulate
from omnifuse.preprocess import schema, store

KIND, FULL, RANDOM = "conditions", "full", "random"


@dataclass(frozen=True)
class Condition:
    """What is hidden.

    Args:
        subset: only these modalities are visible, of the samples that possess one of them; empty: all.
        drop: this modality, or for each sample a `random` one of those it possesses, is lost.
        rate: by this share of the samples (pin A21). The samples of a smaller rate are among those of a larger one.
        mask: number of the draw.

    Missing data: a sample that possesses a single visible modality keeps it.
    """

    subset: tuple[str, ...] = ()
    drop: str = ""
    rate: float = 0.0
    mask: int = 0

    @property
    def name(self) -> str:
        """As docs/artefacts.md writes conditions."""
        subset = f"subset:{'+'.join(self.subset)}" if self.subset else ""
        drop = f"drop:{self.drop};rate={self.rate:g};mech=mcar;mask={self.mask}" if self.drop and self.rate else ""
        return "/".join(part for part in (subset, drop) if part) or FULL

    def part(self, whole):
        """The samples that are asked for, with what the subset leaves visible."""
        return whole.having(self.subset) if self.subset else whole

    def visible(self, part) -> np.ndarray:
        """present [N, M] of a part, without what is lost."""
        present = part.present.copy()
        if not (self.drop and self.rate):
            return present
        chance, place = _draws(part.sample_id, self.mask, self.drop)
        hit = (chance < self.rate) & (present.sum(1) > 1)
        if self.drop == RANDOM:
            lost = _pick(present, place)
        else:
            lost = np.full(len(present), part.modalities.index(self.drop))
        present[np.flatnonzero(hit), lost[hit]] = False
        return present


def _draws(sample_id: pl.Series, mask: int, drop: str) -> tuple[np.ndarray, np.ndarray]:
    """Two uniform numbers a sample, [N] each, functions of (mask, what is dropped, sample) alone: the same in every run, fold and rate."""
    drawn = np.array([number("missing", mask, drop, sample) for sample in sample_id.to_list()], dtype=np.uint64)
    return (drawn >> np.uint64(31)) / 2.0**32, (drawn & np.uint64((1 << 31) - 1)) / 2.0**31


def _pick(present: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[N] one of the present modalities of each sample, all equally likely."""
    rank = np.minimum((place * present.sum(1)).astype(int), np.maximum(present.sum(1) - 1, 0))
    return (present.cumsum(1) == (rank + 1)[:, None]).argmax(1)


def predict_conditions(
    run: store.Artefact,
    open_part: Callable[[], Any],
    conditions: Sequence[Condition],
    out: Path,
    *,
    device: str = "auto",
    size: int = 512,
) -> store.Artefact:
    """Writes predictions.parquet: schema.PREDICTION_COLUMNS and `condition`, the final head's word on every condition.

    Args:
        open_part: gives the test part of the run's fold, with the run's modalities; not called where everything is there already.
        out: of the artefact; what it holds for the same run and conditions is left as it is.
    """
    fingerprint = store.digest([run.fingerprint, sorted(condition.name for condition in conditions), 1])
    if (made := store.current(out, KIND, fingerprint)) is not None:
        return made
    where = choose_device(device)
    method, task = load_run(run, where)
    reader, whole = Reader(where, size), open_part()
    same = {"run_id": run.fingerprint[:16], "method": run.meta["method"], "seed": run.meta["seed"], "fold": run.meta["fold"]}
    with store.create(out, KIND, fingerprint=fingerprint, meta={"run": run.fingerprint, "conditions": len(conditions)}) as building:
        frames = [_predict(condition, method, whole, task, reader, same) for condition in conditions]
        store.write_parquet(building.path("predictions.parquet"), pl.concat([frame for frame in frames if frame is not None]))
    return store.open(out, KIND)


def _predict(condition: Condition, method, whole, task: schema.Task, reader: Reader, same: dict[str, Any]) -> pl.DataFrame | None:
    part = condition.part(whole)
    if not len(part):
        return None
    visible = torch.from_numpy(condition.visible(part)).to(reader.device)
    said = predict(method, part, reader, change=lambda batch: batch.hide(visible[batch.index]))
    said.logits = {"final": said.logits["final"]}
    return tabulate(part, said, task, **same).with_columns(condition=pl.lit(condition.name))
