"""Gradient blending: M heads on one modality each and one on all, whose losses are weighted by how well each generalises.

    L   = sum_k w_k CE(head_k, y)          k = each modality, and all of them; at test the head of all speaks
    G_k = LV_k(N) - LV_k(N + n)                                          what n epochs gain on val
    O_k = (LV_k(N + n) - LT_k(N + n)) - (LV_k(N) - LT_k(N))              what they overfit more
    w_k = G_k / O_k^2, made to sum to 1

Source: Wang et al., CVPR 2020. LT and LV, mean losses on train and val, are measured before and after a trial: encoder and head k learn
alone for n epochs, and what they learned is thrown away. Once, before fusion (`rounds: 1`, the paper's offline form), or before every
`round_epochs` epochs of fusion (online).

Guards (ours): a head whose loss rises has weight 0; |O| is at least 0.001; one modality has at most 0.9, and the head of all, which
would never learn without, at least 0.1; a head with fewer than 50 samples has none, and where no head has as many, those that gain weigh
alike; without any gain all do, which is told.

Differs from public code (`variant: released`): the authors published no estimator. Others take |LV(N + n) - LV(N)| for the gain, so that
a head whose loss rises is rewarded, and sums of losses over parts of different size, so that the weights depend on these sizes.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Group, Output, Stage, Term, build_head
from omnifuse.models.parts.choices import VARIANTS, require_choice
from omnifuse.models.parts.joined import Joined

log = logging.getLogger(__name__)
FUSED, TRIAL = "fused", "estimate"
LEAST_OVERFIT, CAP, LEAST_SAMPLES = 1e-3, 0.9, 50


class GBlend(Joined):
    """A linear head a modality and one on the concatenation."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        estimate_epochs: int = 10,
        rounds: int = 1,
        round_epochs: int = 10,
        fill: str = "encoder_zero",
        variant: str = "fixed",
    ):
        super().__init__(encoders, kind, outputs, fill)
        require_choice("variant", variant, VARIANTS)
        self.estimate_epochs, self.rounds, self.round_epochs, self.variant = estimate_epochs, rounds, round_epochs, variant
        self.heads = nn.ModuleDict()
        if len(encoders) > 1:
            self.heads.update({name: build_head("linear", encoder.dim, outputs) for name, encoder in encoders.items()})
        size = len(self.names)
        for when in ("before", "after"):  # by head, of train and val: sum and count of losses
            self.register_buffer(when, torch.zeros(size, 2, 2, dtype=torch.float64))
        self.register_buffer("weights", torch.full((size,), 1 / size))

    @property
    def names(self) -> tuple[str, ...]:
        """The heads: the modalities, then all of them together."""
        return (*self.heads, FUSED)

    def stages(self) -> list[Stage]:
        everything = self.learnable()
        stages = []
        for number in range(1, self.rounds + 1):
            if self.heads:
                stages += [self._trial(number, name, {id(p) for p in everything}) for name in self.names]
            how = {} if number == self.rounds else {"epochs": self.round_epochs, "patience": self.round_epochs, "keep": "last"}
            stages.append(Stage("fusion" if self.rounds == 1 else f"fusion-{number}", [Group("all", everything)], **how))
        return stages

    def _trial(self, number: int, name: str, learnable: set[int]) -> Stage:
        modules = [self.encoders, self.filling, self.head] if name == FUSED else [self.encoders[name], self.heads[name]]
        parameters = [p for module in modules for p in module.parameters() if id(p) in learnable]
        # What is monitored only ever grows: a trial runs for all its epochs.
        return Stage(
            f"{TRIAL}-{number}-{name}", [Group(name, parameters)], modalities=None if name == FUSED else (name,),
            epochs=self.estimate_epochs, monitor="epochs", keep="start",
        )  # fmt: skip

    def _head_tried(self, stage: Stage) -> str | None:
        return stage.name.split("-", 2)[2] if stage.name.startswith(f"{TRIAL}-") else None

    def forward(self, batch) -> Output:
        blocks = self.blocks(batch)  # [B, D_m] each
        heads = {name: self.heads[name](block) for name, block in zip(self.modalities, blocks) if self.heads}
        shown = {
            name: heads[name].masked_fill(~there[:, None], torch.nan) for name, there in zip(self.modalities, batch.present.T) if self.heads
        }
        return Output(self.head(blocks), shown, parts={"heads": heads})

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        terms = {}
        for place, name in enumerate(self.names):
            logits = output.logits if name == FUSED else output.parts["heads"][name]
            loss, known = self.task_loss(logits, batch)
            known = known if name == FUSED else known & batch.present[:, place]
            terms[name] = Term.of(loss, known, weight=self.weights[place] if self.heads else 1.0)
        tried = self._head_tried(stage)
        if tried is not None:
            terms = {tried: terms[tried]._replace(weight=1.0)}
        return terms | (self.filling.terms(self.encoders, batch) if tried in (None, FUSED) else {})

    def head_for(self, modality: str):
        return self.heads[modality] if self.heads else super().head_for(modality)

    def begin_stage(self, context: Context) -> None:
        super().begin_stage(context)
        if (name := self._head_tried(context.stage)) is not None:
            self._measured = self._measure(context, name)  # where nobody has the modality, the trial has no epoch
            self.before[self.names.index(name)] = self._measured
        elif self.heads:
            weights, gain, _ = blend_weights(self.before, self.after, self.variant)
            self.weights.copy_(weights)
            if self.variant == "fixed" and not (gain[weights > 0] > 0).any():
                told = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(self.names, weights.tolist()))
                log.warning("stage %s: no head that counts gained on val in its trial, they weigh alike: %s", context.stage.name, told)

    def after_epoch(self, context: Context) -> None:
        super().after_epoch(context)
        if (name := self._head_tried(context.stage)) is not None:
            # The stage ends with the weights and buffers of its start: end_stage puts this in, with no step in between.
            self._measured = self._measure(context, name)
            context.metrics["epochs"] = float(context.epoch)
        elif self.heads:
            _, gain, overfit = blend_weights(self.before, self.after, self.variant)
            for about, values in {"weight": self.weights, "gain": gain, "overfit": overfit}.items():
                for head, value in zip(self.names, values.tolist()):
                    context.trace(f"{about}/{head}", value)

    def end_stage(self, context: Context) -> None:
        if (name := self._head_tried(context.stage)) is not None:
            self.after[self.names.index(name)] = self._measured

    def _measure(self, context: Context, name: str) -> Tensor:
        """[2, 2]: sum and count of the losses of one head on train and on val."""
        nothing = Term(torch.zeros(()), torch.zeros(()))
        found = [context.evaluate(part).get(name, nothing) for part in ("train", "val")]
        return torch.stack([torch.stack([term.sum.double(), term.count.double()]) for term in found])


def blend_weights(before: Tensor, after: Tensor, variant: str = "fixed") -> tuple[Tensor, Tensor, Tensor]:
    """Weight, gain G and overfitting O of each head; the last head is that of all modalities.

    Args:
        before, after: [K, 2, 2] by head, of train and val: sum and count of losses.
        variant: `released` is the rule of public code.

    Returns:
        [K] weights that sum to 1, [K] gains and [K] overfitting, raw.
    """
    if variant == "released":
        train, val = (after - before)[..., 0].T
        gain, overfit = val.abs(), val - train
        weights = gain / overfit**2
        return (weights / weights.sum()).float(), gain, overfit
    mean = lambda table: (table[..., 0] / table[..., 1].clamp(min=1)).T  # [2, K]
    train, val = mean(after) - mean(before)
    gain, overfit = -val, val - train
    enough = (torch.minimum(before[..., 1], after[..., 1]).T[0] >= LEAST_SAMPLES) & (after[:, 1, 1] > 0)
    weights = torch.where(enough, gain.clamp(min=0) / overfit.abs().clamp(min=LEAST_OVERFIT) ** 2, 0.0)
    if not enough.any():
        weights = (gain > 0).double()  # of so few samples their sizes tell nothing
    if not weights.any():
        even = enough if enough.any() else torch.ones_like(enough)
        even = even | (torch.arange(len(even), device=even.device) == len(even) - 1)
        return (even / even.sum()).float(), gain, overfit
    return _capped(weights / weights.sum()).float(), gain, overfit


def _capped(weights: Tensor) -> Tensor:
    """No modality above the cap, and the head of all at least what the cap leaves; the sum stays 1."""
    alone, fused = weights[:-1], weights[-1]
    fused = fused.clamp(min=1 - CAP, max=CAP if bool(alone.any()) else 1.0)
    alone = alone * ((1 - fused) / alone.sum()) if bool(alone.any()) else alone
    return torch.cat([alone, fused[None]])
