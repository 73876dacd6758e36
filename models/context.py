"""What the trainer offers to a method's hooks (contract.Context)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnifuse.models.contract import Method, Output, Stage, Term
from omnifuse.models.parts import keyed
from omnifuse.models.prediction import Reader


@dataclass
class TrainContext:
    """The context of one epoch of a stage."""

    method: Method
    samples: Any
    reader: Reader
    stage: Stage
    seed: int
    epoch: int
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    traces: dict[str, float] = field(default_factory=dict)
    batch: Any = None
    output: Output | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def evaluate(
        self, part: str, statistic: Callable[[Any], dict[str, Term]] | None = None, patterns: Iterable[tuple[str, ...]] | None = None
    ) -> dict:
        opened = self.samples.part(part)
        if self.stage.modalities is not None:
            opened = opened.having(self.stage.modalities)
        statistic = statistic or (lambda batch: self.method.loss(self.method(batch), batch, self.stage))
        if patterns is None:
            return self.reader.add_up(self.method, opened, statistic)
        found: dict[tuple, dict[str, Term]] = {}
        for pattern in patterns:
            visible = np.isin(opened.modalities, pattern)
            shown = opened.having(pattern).where(lambda present, visible=visible: present[:, visible].all(1))
            found[tuple(pattern)] = self.reader.add_up(self.method, shown, statistic)
        return found

    def reduce(self, value: Tensor) -> Tensor:
        return self.reader.processes.sum(value)

    def generator(self, name: str) -> torch.Generator:
        generator = torch.Generator(self.reader.device)
        generator.manual_seed(keyed.number(self.seed, self.stage.name, self.epoch, self.step, name))
        return generator

    def trace(self, name: str, value: float) -> None:
        self.traces[name] = float(value)
