"""What a trained method says of a part: logits of every head, traces, loss terms; and the predictions table that eval reads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from omnifuse.models import registry
from omnifuse.models.contract import Method, Term
from omnifuse.models.distributed import Processes
from omnifuse.models.parts.heads import probabilities
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import NumericalError

FINAL = "final"


@dataclass(frozen=True)
class Reader:
    """Runs statistics over a part in batches, in eval mode and without gradients, each process a share of the samples.

    Args:
        amp: compute in bfloat16 where that is safe.
        watch: called before every batch; it may raise to stop.
    """

    device: torch.device
    size: int = 512
    amp: bool = False
    processes: Processes = field(default_factory=Processes)
    watch: Callable[[], None] = lambda: None

    def batches(self, part) -> Iterator[Any]:
        """This process's batches; `index` counts in the whole part. With fewer samples than processes each reads them all."""
        rank, world = self._shares(part)
        for batch in part.share(rank, world).batches(self.size):
            self.watch()
            batch.index, batch.ids = batch.index * world + rank, part.sample_id
            yield batch.to(self.device)

    def _shares(self, part) -> tuple[int, int]:
        return (self.processes.rank, self.processes.world) if len(part) >= self.processes.world else (0, 1)

    def sum(self, part, value: Tensor) -> Tensor:
        return self.processes.sum(value) if self._shares(part)[1] > 1 else value

    @contextlib.contextmanager
    def evaluating(self, method: Method) -> Iterator[None]:
        """Eval mode, no gradients; every module's mode comes back."""
        modes = {module: module.training for module in method.modules()}
        method.eval()
        try:
            with torch.no_grad(), autocast(self.device, self.amp):
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def add_up(self, method: Method, part, statistic: Callable[[Any], dict[str, Term]]) -> dict[str, Term]:
        """The statistic's sums and counts over the part, in double precision."""
        totals: dict[str, Term] = {}
        with self.evaluating(method):
            for batch in self.batches(part):
                for name, term in statistic(batch).items():
                    before = totals.get(name, Term(0.0, 0.0))
                    totals[name] = Term(before.sum + term.sum.double(), before.count + term.count.double(), term.weight)
        return {name: Term(self.sum(part, term.sum), self.sum(part, term.count), term.weight) for name, term in totals.items()}


def autocast(device: torch.device, amp: bool):
    """bfloat16 on CUDA where `amp` says so; elsewhere nothing changes."""
    return torch.autocast(device.type, torch.bfloat16) if amp else contextlib.nullcontext()


@dataclass
class Predicted:
    """Of a part of N samples: `logits[head]` [N, C] with `final` first, `traces[name]` [N], and loss terms."""

    logits: dict[str, np.ndarray]
    traces: dict[str, np.ndarray]
    terms: dict[str, Term]


def predict(method: Method, part, reader: Reader, loss: Callable | None = None, change: Callable[[Any], Any] | None = None) -> Predicted:
    """Every head's logits for every sample of a part, in its order.

    Args:
        loss: (output, batch) -> named terms, added up on the way.
        change: batch -> batch, before the method sees it: modalities hidden, noise added.

    Raises:
        NumericalError: a final prediction is NaN or infinite.
    """
    found: dict[str, Tensor] = {}

    def read(batch) -> dict[str, Term]:
        batch = change(batch) if change else batch
        output = method(batch)
        columns = {f"logits/{FINAL}": output.logits, **{f"logits/{name}": value for name, value in output.heads.items()}}
        columns |= {f"traces/{name}": value for name, value in output.traces.items()}
        for name, value in columns.items():
            value = value.detach().float()
            found.setdefault(name, value.new_zeros(len(part), *value.shape[1:]))[batch.index] = value
        return loss(output, batch) if loss else {}

    terms = reader.add_up(method, part, read)
    whole = {name: reader.sum(part, value).cpu().numpy() for name, value in found.items()}
    if whole:
        _require_finite(whole[f"logits/{FINAL}"], part)
    pick = lambda kind: {name.removeprefix(kind): value for name, value in whole.items() if name.startswith(kind)}
    return Predicted(pick("logits/"), pick("traces/"), terms)


def _require_finite(logits: np.ndarray, part) -> None:
    bad = part.row[~np.isfinite(logits).all(1)]
    if len(bad) == len(part) > 1:
        raise NumericalError(
            f"the prediction is NaN or infinite for all {len(bad)} samples of the part {part.name}: the weights diverged, not these rows",
            hint="train.lr is probably too high",
        )
    if len(bad):
        raise NumericalError(
            f"the prediction is NaN or infinite for {len(bad)} of {len(part)} samples of the part {part.name}",
            where=f"samples/{part.task.name}.parquet:{bad[0]}",
            hint="check the values of these rows",
        )


def tabulate(part, predicted: Predicted, task: schema.Task, **same: Any) -> pl.DataFrame:
    """One row a head, sample and label: schema.PREDICTION_COLUMNS.

    Args:
        same: the columns that are the same in every row: run_id, method, seed, fold.

    Missing data: y_true is null and y_mask false where the label is unknown; a head that does not speak of a sample has no row.
    """
    label = part.label
    if task.kind == "multiclass":
        label = np.where(np.isnan(label), np.nan, label == np.arange(task.outputs))  # [N, C]
    frames = []
    for head, logits in predicted.logits.items():
        score = probabilities(torch.from_numpy(logits), task.kind).numpy()  # [N, C]
        size, width = score.shape
        samples = np.repeat(np.arange(size), width)
        frame = pl.DataFrame(
            {
                "sample_id": part.sample_id.gather(samples),
                "patient_id": part.patient_id.gather(samples),
                "label_name": list(task.labels) * size,
                "y_true": pl.Series(label.ravel(), nan_to_null=True).cast(pl.Int8),
                "y_mask": ~np.isnan(label).ravel(),
                "y_score": score.ravel(),
            }
        ).filter(pl.col("y_score").is_not_nan())
        frames.append(frame.with_columns(pl.lit(part.name).alias("part"), pl.lit(head).alias("head")))
    constants = [pl.lit(same["run_id"]).alias("run_id"), pl.lit(same["method"]).alias("method")]
    constants += [pl.lit(same["seed"], pl.Int64).alias("seed"), pl.lit(same["fold"], pl.Int8).alias("fold")]
    return pl.concat(frames).with_columns(constants).select(schema.PREDICTION_COLUMNS)


def load_run(run: store.Artefact, device: torch.device | str = "cpu") -> tuple[Method, schema.Task]:
    """The trained method of a finished run, in eval mode, and its task."""
    from safetensors.torch import load

    built = run.meta["built"]
    task = schema.Task.from_json(run.meta["task"], built["task"])
    method = registry.build(built["method"], built["encoders"], built["dims"], task, run.meta["seed"])
    method.load_state_dict(load(run.file("weights.safetensors").read_bytes()))
    return method.to(device).eval(), task
