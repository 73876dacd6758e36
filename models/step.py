"""One step of training: forward, loss, backward, the method's say, a look for NaN, update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omnifuse.models import numerics
from omnifuse.models.contract import Method, Stage, Term
from omnifuse.models.distributed import Processes
from omnifuse.models.options import TrainOptions
from omnifuse.models.prediction import autocast


@dataclass
class Stepped:
    """`terms[name]` (sum, count) over all processes; `total`, the loss that was minimised; `stop`: some process was told to stop."""

    terms: dict[str, tuple[float, float]]
    total: float
    stop: bool


class Broken(ArithmeticError):
    """NaN or infinity in this step; holds the loss terms."""

    def __init__(self, terms: dict[str, float]):
        super().__init__()
        self.terms = terms


def build_optimizer(stage: Stage, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimiser of a stage, a group of parameters each of its groups."""
    groups = [{"params": list(group.parameters), "rate": group.rate, "name": group.name} for group in stage.groups]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay)
    made = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    # One pass over each tensor instead of ten: a step of tables of words takes a quarter of the time, on a CPU too.
    return made(groups, lr=options.lr, weight_decay=options.weight_decay, fused=True)


class Stepper:
    """Steps of one stage."""

    def __init__(self, method: Method, stage: Stage, options: TrainOptions, processes: Processes, device: torch.device, amp: bool):
        self.method, self.stage, self.options, self.processes = method, stage, options, processes
        self.device, self.amp = device, amp
        self.optimizer = build_optimizer(stage, options)
        self.parameters: list[nn.Parameter] = [p for group in self.optimizer.param_groups for p in group["params"]]

    def step(self, batch, context, rate: float, stop: bool) -> Stepped:
        """One update from `batch`, at `rate` times the learning rate.

        Raises:
            Broken: NaN or infinity; nothing was updated.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.amp):
            output = self.method(batch)
            terms = self.method.loss(output, batch, self.stage)
        flags = torch.stack([numerics.unclean(batch), torch.tensor(float(stop), dtype=torch.float64, device=self.device)])
        sums = torch.stack([term.sum.detach().double() for term in terms.values()])
        counts = torch.stack([term.count.double() for term in terms.values()])
        whole = self.processes.sum(torch.cat([sums, counts, flags]))
        sums, counts = whole[: len(terms)], whole[len(terms) : 2 * len(terms)]
        self._backward(terms, counts)
        context.batch, context.output, context.rates = batch, output, {}
        self.method.after_backward(context)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip or math.inf)
        numbers = torch.cat([whole, self._total(terms, sums, counts)[None], norm.double()[None]]).tolist()  # the one wait for the device
        self._check(terms, numbers)
        self._update(rate, context.rates)
        added = {name: (numbers[place], numbers[len(terms) + place]) for place, name in enumerate(terms)}
        return Stepped(added, numbers[-2], stop=numbers[-3] > 0)

    def _backward(self, terms: dict[str, Term], counts: Tensor) -> None:
        """Gradients of the sum over terms of weight * sum / count, counts being those of all processes."""
        scale = torch.where(counts > 0, 1 / counts.clamp(min=1e-12), 0.0)
        parts = [term.weight * term.sum * part.to(term.sum.dtype) for term, part in zip(terms.values(), scale)]
        total = torch.stack(parts).sum()
        if total.requires_grad:
            total.backward()
        self.processes.sum_gradients(self.parameters)

    @staticmethod
    def _total(terms: dict[str, Term], sums: Tensor, counts: Tensor) -> Tensor:
        weights = [torch.as_tensor(term.weight, dtype=torch.float64, device=sums.device).detach() for term in terms.values()]
        return (torch.stack(weights) * torch.where(counts > 0, sums / counts.clamp(min=1e-12), 0.0)).sum()

    @staticmethod
    def _check(terms: dict[str, Term], numbers: list[float]) -> None:
        bad_input = numbers[2 * len(terms)] > 0
        if bad_input or not all(map(math.isfinite, numbers)):
            raise Broken(dict(zip(terms, numbers)))

    def _update(self, rate: float, rates: dict[str, float]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * rate * group["rate"] * rates.get(group["name"], 1.0)
        self.optimizer.step()


def set_modes(method: Method, stage: Stage, epoch: int) -> None:
    """What learns in this epoch takes gradients and is in train mode; a module none of whose parameters learn is in eval mode."""
    method.requires_grad_(False)
    for group in stage.groups:
        for p in group.parameters:
            p.requires_grad_(epoch >= group.begin)
    method.train()
    for module in method.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
