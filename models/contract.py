"""What a fusion method is. A method is one file in models/fusion and one in configs/methods; both bear its registered name.

The trainer runs any method through the points below and knows none by name. A method knows nothing of files, devices, loaders, logging
or processes; everything it has to remember between steps is a parameter or a buffer, for those are what a checkpoint holds.

To add one, `models/fusion/gated.py`, here complete:

    class Gated(Method):
        '''One gate a modality, from all embeddings; absent modalities have none.'''

        def __init__(self, encoders, kind, outputs, penalty=0.1):
            super().__init__(encoders, kind, outputs)
            self.gates = nn.Linear(sum(e.dim for e in encoders.values()), len(encoders))
            self.head = build_head("linear", next(iter(encoders.values())).dim, outputs)

        def forward(self, batch):
            z = torch.stack([self.encode(batch, m).pooled for m in self.modalities], 1)             # [B, M, D]
            gate = torch.sigmoid(self.gates(z.flatten(1))) * batch.present                           # [B, M]
            logits = self.head((gate[..., None] * z).sum(1), batch.key)
            traces = {f"gate/{m}": gate[:, i] for i, m in enumerate(self.modalities)}
            return Output(logits, traces=traces, parts={"gate": gate})

        def loss(self, output, batch, stage):
            return super().loss(output, batch, stage) | {"open": Term.of(output.parts["gate"].mean(1), weight=self.penalty)}

and `configs/methods/gated.yaml`: `about`, each option of the constructor with its default, `ranges`, `choices`, and `flags` if some
options shall have a switch of their own (`flags: {--no-penalty: {penalty: 0}}`). The contract test finds it; nothing else is touched.

Draw nothing from torch's generators: `parts.keyed` draws from `batch.key`, so that processes, resume and any batch agree. Keep
probabilities and scores in float32 (`.float()`): under AMP logits may come in 16 bits. Never let `label` reach `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import Encoded, Encoder, encode
from omnifuse.models.parts.heads import build_head, task_loss
from omnifuse.preprocess.schema import ConfigError


class Term(NamedTuple):
    """A named part of a loss, or any statistic: the trainer adds sums and counts over processes, then divides.

    `sum` and `count` may have any shape; of a loss they are scalars, and `weight` (a number, or a tensor that learns) is what the mean
    counts for in the total. Weight 0 is looked at and not learnt from. Where nothing was counted the mean is 0.
    """

    sum: Tensor
    count: Tensor
    weight: Tensor | float = 1.0

    @classmethod
    def of(cls, values: Tensor, keep: Tensor | None = None, weight: Tensor | float = 1.0) -> Term:
        """Of one value a sample [B], over the samples that `keep` [B] tells."""
        if keep is None:
            return cls(values.sum(), torch.tensor(float(len(values)), device=values.device), weight)
        return cls(torch.where(keep, values, 0.0).sum(), keep.sum(), weight)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.count > 0, self.sum / self.count.clamp(min=1e-12), 0.0)


@dataclass
class Output:
    """What a forward pass says.

    Shapes: logits [B, C]; heads: further predictions [B, C], written beside the main one (`final`), NaN where a head cannot speak;
    traces [B] each, worth looking at, NaN where it does not apply: their mean and quantiles over val are kept every epoch; parts: whatever
    `loss` needs; weights [B, M], only in eval mode, and only of a method that weighs whole modalities: what each of them weighs in the
    sample's prediction. They are kept for every patient of val and test.
    """

    logits: Tensor
    heads: dict[str, Tensor] = field(default_factory=dict)
    traces: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    weights: Tensor | None = None


@dataclass(frozen=True)
class Group:
    """Parameters that learn alike: `rate` times the learning rate, and only from epoch `begin` (from 1) on."""

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    begin: int = 1


@dataclass(frozen=True)
class Stage:
    """One stretch of training. What learns in none of its groups is frozen, and in eval mode.

    Args:
        part: whose samples it learns from.
        modalities: the only ones visible, on samples that possess one of them; None: all.
        epochs, patience: at most so many; the training configuration may say less. None: what it says. 0 epochs: it only judges.
        monitor: `auroc` (macro over the labels defined on `monitor_part`; `auroc/HEAD` for a head), `loss`, or a name that `after_epoch`
            puts into `context.metrics`.
        better: `max` or `min`; None: min for `loss`, else max.
        keep: the weights the stage leaves: of its `best` epoch, its `last`, or those of its `start` (a trial run).
    """

    name: str
    groups: Sequence[Group]
    part: str = "train"
    modalities: tuple[str, ...] | None = None
    epochs: int | None = None
    patience: int | None = None
    monitor: str = "auroc"
    better: str | None = None
    monitor_part: str = "val"
    keep: str = "best"

    @property
    def larger_is_better(self) -> bool:
        return (self.better or ("min" if self.monitor == "loss" else "max")) == "max"


class Context(Protocol):
    """What the trainer offers to a method's hooks. `epoch` counts from 1 (0 in begin_stage), `step` is the number of steps done.

    `metrics`: what after_epoch adds is logged and can be monitored. Only in after_backward: `batch`, `output`, and `rates`, where
    `rates[group] = x` scales that group's learning rate for this step.
    """

    stage: Stage
    epoch: int
    step: int
    metrics: dict[str, float]
    batch: Any
    output: Output
    rates: dict[str, float]

    def evaluate(self, part: str, statistic: Callable[[Any], dict[str, Term]] | None = None, patterns: Iterable[tuple] | None = None):
        """Adds up statistics over a part, in eval mode, without gradients, over all processes.

        Args:
            statistic: batch -> named terms of any shape; None: the loss of the current stage.
            patterns: combinations of modalities; for each, samples that possess all its members, with only those visible.

        Returns:
            {name: Term}; with patterns {pattern: {name: Term}}; empty where there is no such sample. Only what the stage sees counts.
        """

    def reduce(self, value: Tensor) -> Tensor:
        """The sum of `value` over all processes."""

    def generator(self, name: str) -> torch.Generator:
        """Seeded by (seed, stage, epoch, step, name), alike in all processes: for noise that belongs to no sample."""

    def trace(self, name: str, value: float) -> None:
        """Keeps one number of this epoch to look at."""


class Method(nn.Module):
    """A fusion method over built encoders; the defaults are joint training on the task's loss.

    Shapes: a batch has `values[m]` [B, T, D] or [B, D], `mask[m]` [B, T], `present` [B, M], `label`, `label_mask`, `key` [B], and gives
    `take(rows)` and `hide(present)`; see preprocess/dataset.py.

    `blind`: it reads which modalities are present, and no value.
    """

    blind: ClassVar[bool] = False

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int):
        super().__init__()
        self.encoders, self.kind, self.outputs = nn.ModuleDict(encoders), kind, outputs
        # [L, c], what each class counts for; the training configuration says so (parts/class_weights.py). None: all alike.
        self.register_buffer("class_weight", None, persistent=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def encode(self, batch, modality: str, *, full: bool = False) -> Encoded:
        return encode(self.encoders[modality], batch, modality, full=full)

    def learnable(self) -> list[nn.Parameter]:
        """All parameters but those that an encoder keeps as they are, and those of modules that are `frozen`."""
        kept = {id(p) for encoder in self.encoders.values() for p in encoder.parameters()}
        kept -= {id(p) for encoder in self.encoders.values() for p in encoder.learnable()}
        kept |= {id(p) for module in self.modules() if getattr(module, "frozen", False) for p in module.parameters()}
        return [p for p in self.parameters() if id(p) not in kept]

    def stages(self) -> list[Stage]:
        """What is trained, in this order."""
        return [Stage("fusion", [Group("all", self.learnable())])]

    def forward(self, batch) -> Output:
        raise NotImplementedError

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        """Named terms, in eval mode too, for the parts that are only looked at. The trainer calls the weighted sum of them `loss`."""
        return {"task": Term.of(*self.task_loss(output.logits, batch))}

    def task_loss(self, logits: Tensor, batch) -> tuple[Tensor, Tensor]:
        """Cross entropy of each sample [B], its class counting what it shall, and whether it has a known label [B]."""
        return task_loss(logits, batch.label, batch.label_mask, self.class_weight)

    def head_for(self, modality: str) -> Callable[[Tensor], Tensor]:
        """Maps the embedding of one modality [B, D] to the logits it alone would have [B, C]. With M = 1 it is all the method says."""
        raise NotImplementedError

    def start_from(self, modality: str, tensors: dict[str, Tensor]) -> None:
        """Takes over the encoder of a stage-1 run (`unimodal`, whose weights are given); a method with heads of its own may take `head.*`.

        Raises:
            ConfigError: that run had another encoder.
        """
        prefix = f"encoders.{modality}."
        mine = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        try:
            self.encoders[modality].load_state_dict(mine)
        except RuntimeError:
            raise ConfigError(f"the stage-1 run of {modality} has another encoder", hint="train it again, or --init scratch") from None

    def take_head(self, tensors: dict[str, Tensor]) -> None:
        """The head of the run of this task that tuned the frozen encoder; only `unimodal` has a use for it."""

    def begin_stage(self, context: Context) -> None:
        """Before the first epoch of a stage: copies of encoders, priors, prototypes."""

    def after_backward(self, context: Context) -> None:
        """Gradients are whole (all processes added), not yet clipped: modulate them."""

    def after_epoch(self, context: Context) -> None:
        """After the last step of an epoch and before it is validated: mining, prototypes, blend weights."""

    def end_stage(self, context: Context) -> None:
        """After the stage's weights were chosen."""


__all__ = ["Context", "Encoded", "Encoder", "Group", "Method", "Output", "Stage", "Term", "build_head"]
