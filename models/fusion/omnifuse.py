"""OmniFuse (Wu et al., Information Fusion 117, 2025): what is missing is imputed, what is weak gets its turn, what is sure yields.

    v~  = what is there, and v' of the forward cascade where it is not        eq 1-8    parts/imputation.py
    L_DWFuse = sum_m omega_m CE(g_m(v~_m), y) + alpha CE(g_ra(c), y)          eq 9-14   parts/dwfuse.py
    L_TLA    = CE(y_hat, y) over the samples that show the lazy combination   eq 15-17  parts/laziness.py
    L = L_forward + lambda_1 L_backward + lambda_2 L_DWFuse + lambda_3 L_TLA  eq 18

It starts from unimodal runs: their encoders, each at its own best epoch, are those of eq 1 and, frozen, the teacher; their heads are g_m
(pins A3, A25). In a training step each sample shows one combination of what it possesses (A15), where imputation or TLA has a use for it.
What is seen is encoded by the encoder and what is hidden by the teacher: each modality once a step, and encoder(0) once.

Every part can be left out and leaves the others' first weights and all random draws as they are: without imputation an absent modality
does not count in eq 10 (A9), without DWFuse a linear head reads v~ (A29), and with one modality there is nothing to impute, to mine or to
weigh: it is the unimodal run that it starts from, and is only judged.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional as F

from omnifuse.models.contract import Context, Encoder, Group, Method, Output, Stage, Term, build_head
from omnifuse.models.parts import imputation, laziness
from omnifuse.models.parts.choices import require_choice
from omnifuse.models.parts.dwfuse import DWFuse, as_logits
from omnifuse.models.parts.imputation import Slots
from omnifuse.models.parts.imputer import Imputer, side_by_side
from omnifuse.preprocess.schema import ConfigError

log = logging.getLogger(__name__)
CHOICES = {
    "imp": imputation.DIRECTIONS, "fw_target": imputation.TARGETS, "imp_reduction": imputation.REDUCTIONS,
    "mine_on": ("probe", "train"), "patterns": ("auto", "sampled", "whole"),
}  # fmt: skip


class OmniFuse(Method):
    """Modality fusion on data of low quality; configs/methods/omnifuse.yaml tells what each option is."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        dwfuse: bool = True,
        tla: bool = True,
        imp: str = "fw/bw",
        alpha: float = 0.1,
        beta: float = 0.5,
        blocks: int = 5,
        backward_weight: float = 1.0,
        dwfuse_weight: float = 10.0,
        tla_weight: float = 0.5,
        hidden: int = 128,
        dropout: float = 0.3,
        latent: int = 64,
        transition: bool = False,
        prior_correct: bool = True,
        omega_at_inference: bool = True,
        detach_omega: bool = True,
        fw_target: str = "complement",
        imp_reduction: str = "mean",
        mine_on: str = "probe",
        patterns: str = "auto",
    ):
        super().__init__(encoders, kind, outputs)
        told = {"imp": imp, "fw_target": fw_target, "imp_reduction": imp_reduction, "mine_on": mine_on, "patterns": patterns}
        for name, value in told.items():
            require_choice(name, value, CHOICES[name])
        several = len(encoders) > 1
        imputes, self.tla, self.mine_on, self.tla_weight = several and blocks > 0 and imp != "none", tla and several, mine_on, tla_weight
        if self.tla and len(encoders) > laziness.MAX_MODALITIES:
            raise ConfigError(f"{len(encoders)} modalities have {2 ** len(encoders) - 1} combinations to mine", hint="--no-tla")
        alone = not (self.tla or imputes)
        self.draws_patterns = several and (not alone if patterns == "auto" else patterns == "sampled")
        self.fusion_weight = 1.0 if alone else dwfuse_weight  # of a lone term it would only move the point where gradients are clipped
        self.widths = {modality: encoder.dim for modality, encoder in encoders.items()}
        self.imputer = self.fusion = self.head = None
        self.settled = False  # whether the one modality came with its encoder and head
        if not dwfuse:
            self.head = build_head("linear", sum(self.widths.values()), outputs)  # drawn as that of the method concat
        if imputes:
            how = {"blocks": blocks, "latent": latent, "transition": transition}
            self.imputer = Imputer(self.encoders, imp, **how, target=fw_target, reduction=imp_reduction, backward_weight=backward_weight)
        if dwfuse:
            how = {"prior_correct": prior_correct, "omega_at_inference": omega_at_inference, "detach_omega": detach_omega}
            latent_dim = self.imputer.latent_dim if imputes else 0
            self.fusion = DWFuse(self.widths, latent_dim, kind, outputs, alpha=alpha, beta=beta, hidden=hidden, dropout=dropout, **how)
        if self.tla:
            self.register_buffer("lazy", torch.tensor(0))  # bit mask of the lazy combination; 0 before the first epoch's end (A18)

    def stages(self) -> list[Stage]:
        if self.settled:
            return [Stage("joint", [Group("all", [])], epochs=0)]
        return [Stage("joint", [Group("all", self.learnable())])]

    def start_from(self, modality: str, tensors: dict[str, Tensor]) -> None:
        super().start_from(modality, tensors)
        if self.fusion is None:
            return
        head = {name.removeprefix("head."): tensor for name, tensor in tensors.items() if name.startswith("head.")}
        try:
            self.fusion.heads[modality].load_state_dict(head)
        except RuntimeError:
            told = "leave method.hidden as it is, or --init scratch"
            raise ConfigError(f"the stage-1 run of {modality} has another head", hint=told) from None
        self.settled = len(self.modalities) == 1

    def forward(self, batch) -> Output:
        seen = batch
        if self.training and self.draws_patterns:
            seen = batch.hide(laziness.draw_combinations(batch.present, batch.key))
        pooled = [self.encode(seen, modality).pooled for modality in self.modalities]
        output = self._predict(self._fill(pooled, self._zeros(seen), seen.present), batch.key)
        if not self.training and self.fusion is not None and len(self.modalities) > 1:
            output.heads = self.fusion.further_heads(output.parts["weighed"])
        return output

    def _zeros(self, batch, absent: Tensor | None = None) -> list[Tensor | None]:
        """encoder(0) [1, D_m] of each modality for which something has to stand: where it is `absent` [M]; by default, in this batch."""
        if self.fusion is not None and self.imputer is None:
            return [None] * len(self.modalities)  # what is absent does not count
        absent = ~batch.present.all(0) if absent is None else absent
        vector = lambda modality: batch.values[modality].ndim == 2
        return [self.encoders[m].zero(vector=vector(m)) if some else None for m, some in zip(self.modalities, absent.tolist())]

    def _all_zeros(self, batch) -> list[Tensor | None]:
        return self._zeros(batch, torch.ones(len(self.modalities), dtype=torch.bool))

    def _fill(self, pooled: list[Tensor], zeros: list[Tensor | None], visible: Tensor) -> Slots:
        v = side_by_side(pooled, zeros, visible)
        return Slots(v, None, None, v, visible, visible) if self.imputer is None else self.imputer.fill(v, visible)

    def _predict(self, slots: Slots, key: Tensor | None) -> Output:
        if self.fusion is None:
            return Output(self.head(slots.filled, key), parts={"slots": slots})
        weighed = self.fusion(slots, key)
        score = self.fusion.score(weighed)
        weights = None if self.training else self.fusion.weights(weighed, score)
        traces, parts = self.fusion.traces(weighed, score), {"slots": slots, "weighed": weighed}
        return Output(as_logits(score, self.kind), traces=traces, parts=parts, weights=weights)

    def head_for(self, modality: str):
        if self.fusion is not None:
            return self.fusion.heads[modality]
        weight = self.head.weight.split(list(self.widths.values()), dim=1)[self.modalities.index(modality)]
        return lambda pooled, key=None: F.linear(pooled, weight, self.head.bias / len(self.widths))

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        slots, (values, known) = output.parts["slots"], self.task_loss(output.logits, batch)
        if self.fusion is None:
            terms = {"task": Term.of(values, known, self.fusion_weight)}
        else:
            terms = self.fusion.terms(output.parts["weighed"], batch, self.fusion_weight, self.class_weight)
        if self.tla:
            lazy = laziness.bits_of(slots.visible) == self.lazy  # eq 16
            terms["tla"] = Term.of(values, known & lazy, self.tla_weight)
        if self.imputer is not None and self.training:
            terms |= self.imputer.terms(slots, batch, self.encoders)
        return terms

    def begin_stage(self, context: Context) -> None:
        if len(self.modalities) == 1:
            log.warning("one modality: there is nothing to fuse, omnifuse is the head of %s", self.modalities[0])
        if self.fusion is not None:
            self.fusion.fit_prior(context.evaluate("train", self.fusion.count_classes)["classes"], self.class_weight)
        if self.imputer is not None:
            self.imputer.appoint(self.encoders, context)

    def after_epoch(self, context: Context) -> None:
        if self.tla and (found := context.evaluate(self.mine_on, self._distances)):
            self.lazy.fill_(laziness.find_lazy(found["distance"]))
            laziness.trace(context, self.modalities, found["distance"], int(self.lazy))
        if self.imputer is not None:
            self.imputer.trace(self.encoders, context)

    def _distances(self, batch) -> dict[str, Term]:
        """Every combination, from embeddings that are computed once."""
        pooled, zeros = [self.encode(batch, modality).pooled for modality in self.modalities], self._all_zeros(batch)
        predict = lambda rows, visible: self._predict(self._fill([z[rows] for z in pooled], zeros, visible), None).logits
        return {"distance": laziness.distances(batch, predict, self.class_weight)}
