"""One stage under way: what it learns from, what this epoch has shown so far, its best weights, and when it stops."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from torch import Tensor

from omnifuse.models.checkpoint import load_optimizer, optimizer_tensors
from omnifuse.models.contract import Method, Stage
from omnifuse.models.monitoring import EarlyStop, compute_auroc
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts.calibration_error import calibration_error_of
from omnifuse.models.prediction import FINAL, Reader, predict
from omnifuse.models.step import Stepped, Stepper

log = logging.getLogger(__name__)
QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}  # of what is traced for each sample


class StageRun:
    """The state of a stage between its start and its end; `tensors` and `state` are what a checkpoint keeps of it."""

    def __init__(self, stage: Stage, method: Method, samples: Any, options: TrainOptions, reader: Reader):
        least = lambda asked, told: told if asked is None else min(asked, told)
        self.stage, self.method, self.reader = stage, method, reader
        self.epochs = least(stage.epochs, options.epochs)
        self.keep = options.keep if stage.keep == "best" else stage.keep
        self.part, self.monitor_part = (self._visible(samples.part(name)) for name in (stage.part, stage.monitor_part))
        patience = self.epochs if self.keep != stage.keep else least(stage.patience, options.patience)  # asked for the last: let it come
        self.stop = EarlyStop(patience, stage.larger_is_better)
        self.stepper = Stepper(method, stage, options, reader.processes, reader.device, reader.amp)
        self.monitor = stage.monitor
        self.sums: dict[str, tuple[float, float]] = {}
        self.best: dict[str, Tensor] = {}
        self.newest: float | None = None  # of what is monitored

    def _visible(self, part):
        return part if self.stage.modalities is None else part.having(self.stage.modalities)

    def begin(self) -> None:
        if self.keep == "start":
            self.best = self._snapshot()

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.method.state_dict().items()}

    def add(self, stepped: Stepped) -> None:
        """Takes the step's terms into the means of the epoch."""
        for name, (value, count) in {**stepped.terms, "loss": (stepped.total, 1.0)}.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + value, before[1] + count)

    def close_epoch(self) -> dict[str, float]:
        """The epoch's means, by name."""
        means = {f"train/{name}": value / count for name, (value, count) in self.sums.items() if count}
        self.sums = {}
        return means

    def validate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Metrics and traces of the monitored part."""
        name, loss = self.stage.monitor_part, lambda output, batch: self.method.loss(output, batch, self.stage)
        predicted = predict(self.method, self.monitor_part, self.reader, loss)
        means = {term: float(value.mean) for term, value in predicted.terms.items()}
        metrics = {f"{name}/{term}": value for term, value in means.items()}
        if means:
            metrics[f"{name}/loss"] = sum(float(term.weight) * means[key] for key, term in predicted.terms.items())
        traces = {f"trace/{key}": value for trace, values in predicted.traces.items() for key, value in _spread(trace, values).items()}
        for head, logits in predicted.logits.items():
            auroc, _, _ = compute_auroc(logits, self.monitor_part.label)
            if auroc is not None:
                metrics[f"{name}/auroc" + ("" if head == FINAL else f"/{head}")] = auroc
            traces[f"trace/ece/{head}"] = calibration_error_of(logits, self.monitor_part.label, self.method.kind)
        return metrics, traces

    def judge(self, metrics: dict[str, float], epoch: int) -> None:
        """Keeps the epoch's weights where they are the best so far. Without a label to rank by, the loss decides, and it says so."""
        name = self.stage.monitor_part
        value = metrics.get(f"{name}/{self.monitor}", metrics.get(self.monitor))
        if value is None and epoch <= 1 and self.monitor != "loss":
            seen = "+".join(self.method.modalities)
            told = "stage %s of %s: %s cannot be computed on %s, the loss chooses the epoch instead"
            log.warning(told, self.stage.name, seen, self.monitor, name)
            self.monitor, self.stop.larger_is_better = "loss", False
            value = metrics.get(f"{name}/loss")
        self.newest = value
        if self.stop.update(value, epoch) and self.keep == "best":
            self.best = self._snapshot()

    def end(self, epoch: int) -> dict[str, Any]:
        """Puts the chosen weights in place, and tells which they are."""
        if self.best:
            self.method.load_state_dict(self.best)
        kept, value = {"start": (0, None), "last": (epoch, self.newest), "best": (self.stop.best_epoch, self.stop.best)}[self.keep]
        monitor = f"{self.stage.monitor_part}/{self.monitor}"
        return {"stage": self.stage.name, "epoch": kept, "epochs": epoch, "monitor": monitor, "value": value}

    def tensors(self) -> dict[str, Tensor]:
        parts = {"model": self.method.state_dict(), "best": self.best, "optimizer": optimizer_tensors(self.stepper.optimizer)}
        return {f"{kind}/{name}": tensor for kind, tensors in parts.items() for name, tensor in tensors.items()}

    def state(self) -> dict[str, Any]:
        return {"stop": vars(self.stop), "monitor": self.monitor, "sums": {name: list(pair) for name, pair in self.sums.items()}}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        pick = lambda kind: {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
        self.method.load_state_dict(pick("model/"))
        self.best = {name: tensor.to(self.reader.device) for name, tensor in pick("best/").items()}
        load_optimizer(self.stepper.optimizer, pick("optimizer/"))
        self.stop, self.monitor = EarlyStop(**state["stop"]), state["monitor"]
        self.sums = {name: (value, count) for name, (value, count) in state["sums"].items()}


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    """Mean and quantiles of a trace [N] over the samples that it applies to; nothing where there is none, the mean where all are alike."""
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return {}
    spread = {name: float(known.mean())}
    if known.min() < known.max():
        spread |= {f"{name}/{told}": float(value) for told, value in zip(QUANTILES, np.quantile(known, list(QUANTILES.values())))}
    return spread
