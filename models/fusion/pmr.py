"""PMR: slow modalities are pulled towards the prototypes of the classes, fast ones are kept from settling (Fan et al., CVPR 2023).

    L     = CE + alpha sum_m c_m PCE_m - [epoch <= entropy_epochs] mu sum_m e_m H_m
    s_m   = mean over samples of p_m(y), by distance to the prototypes        parts/prototypes.py
    rho_m = max_j s_j / s_m        c_m = clip(rho_m - 1, 0, 1)        e_m = mean_{j != m} c_j

With two modalities rho and c are those of the paper. PCE_m is the cross entropy of p_m and H_m its entropy, both over the samples that
possess m. Prototypes are means over all training samples that possess m, in eval mode, once an epoch; what fills an absent modality
enters none of them.

Ours: c of a step comes from the scores of the step before (of the whole batch, over all processes: a loss is only known to all of them
after the backward pass); a class with fewer than `least` samples has no prototype, and one of few is drawn to the mean (`shrink`).

Differs from the public code (`variant: released`), where an empty class gives NaN prototypes, c is 0 or 1, and there is no entropy term.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Output, Stage, Term
from omnifuse.models.parts.choices import VARIANTS, require_choice
from omnifuse.models.parts.epoch_mean import EpochMean
from omnifuse.models.parts.joined import Joined
from omnifuse.models.parts.prototypes import Prototypes, class_sums, entropy, members, prototype_loss
from omnifuse.models.parts.truth import pair_scores, pair_sums, ratios


class PMR(Joined):
    """Concatenation with a prototype loss a modality."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        alpha: float = 1.0,
        mu: float = 0.01,
        entropy_epochs: int = 10,
        begins: int = 1,
        ends: int = 100,
        momentum: float = 0.2,
        temperature: float = 1.0,
        least: int = 2,
        shrink: float = 1.0,
        fill: str = "encoder_zero",
        variant: str = "fixed",
    ):
        super().__init__(encoders, kind, outputs, fill)
        require_choice("variant", variant, VARIANTS)
        self.alpha, self.mu, self.entropy_epochs, self.begins, self.ends = alpha, mu, entropy_epochs, begins, ends
        self.released = variant == "released"
        groups, self.classes = (1, outputs) if kind == "multiclass" else (outputs, 2)
        how = {"least": least, "shrink": shrink, "momentum": momentum, "temperature": temperature}
        self.prototypes = nn.ModuleDict({name: Prototypes(groups, self.classes, encoder.dim, **how) for name, encoder in encoders.items()})
        size = len(encoders)
        self.register_buffer("coefficient", torch.zeros(size))
        self.register_buffer("entropy_weight", torch.zeros(size))
        self.ratio, self.used = EpochMean(size), EpochMean(size)

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        terms = super().loss(output, batch, stage)
        if len(self.encoders) == 1:
            return terms
        member = members(batch.label, batch.label_mask, self.classes)
        for place, (name, block, there) in enumerate(zip(self.modalities, output.parts["blocks"], batch.present.T)):
            prototypes = self.prototypes[name]
            log_chance = prototypes.log_chance(block)
            cross, _, evidence = prototype_loss(log_chance, member, prototypes.judged(), prototypes.known)
            terms[f"prototype/{name}"] = Term.of(cross, evidence & there, weight=self.alpha * self.coefficient[place])
            spread = entropy(log_chance, prototypes.judged())
            keep = there & prototypes.judged().any()
            terms[f"entropy/{name}"] = Term.of(spread, keep, weight=-self.mu * self.entropy_weight[place])
        return terms

    def begin_stage(self, context: Context) -> None:
        super().begin_stage(context)
        self._measure(context)
        if len(self.encoders) > 1:
            pairs = lambda batch: {"pairs": self._pairs(batch, [self.encode(batch, name).pooled for name in self.modalities])}
            self._balance(context.evaluate("train", pairs)["pairs"].sum, epoch=1)
            self.ratio.take()  # of no step

    @torch.no_grad()
    def after_backward(self, context: Context) -> None:
        if len(self.encoders) > 1:
            self.used.add(self.coefficient)
            self._balance(context.reduce(self._pairs(context.batch, context.output.parts["blocks"]).sum), context.epoch)

    def _pairs(self, batch, blocks: list[Tensor]) -> Term:
        """The sums of parts/truth.py over pairs, of the chance that each modality's prototypes give the truth."""
        member = members(batch.label, batch.label_mask, self.classes)
        found = [
            prototype_loss(prototypes.log_chance(block), member, prototypes.judged(), prototypes.known)
            for prototypes, block in zip(self.prototypes.values(), blocks)
        ]
        chance = torch.stack([chance for _, chance, _ in found], 1)  # [B, M]
        evidence = torch.stack([evidence for _, _, evidence in found], 1)
        sums = pair_sums(chance[:, None], evidence[:, None].to(chance), batch.present & evidence)
        return Term(sums, torch.ones_like(sums))

    def _balance(self, table: Tensor, epoch: int) -> None:
        """The weights of the next step from pair sums of this one."""
        score, evidence = pair_scores(table)
        ratio, known = ratios(score.T, evidence, over="max")  # s_j / s_m, over the samples that both know
        self.ratio.add(ratio, known)
        coefficient, entropy_weight = compute_coefficients(ratio, self.released)
        active = self.begins <= epoch <= self.ends
        self.coefficient.copy_(coefficient * active)
        self.entropy_weight.copy_(entropy_weight * (active and epoch <= self.entropy_epochs and not self.released))

    def after_epoch(self, context: Context) -> None:
        super().after_epoch(context)
        self._measure(context)
        if not self.begins <= context.epoch + 1 <= self.ends:
            self.coefficient.zero_()
        if not context.epoch + 1 <= self.entropy_epochs:
            self.entropy_weight.zero_()
        ratio, used = self.ratio.take(), self.used.take()
        for place, (name, prototypes) in enumerate(self.prototypes.items()):
            context.trace(f"ratio/{name}", ratio[place])
            context.trace(f"coefficient/{name}", used[place])
            context.trace(f"prototype distance/{name}", prototypes.spread())

    def _measure(self, context: Context) -> None:
        """New prototypes, from all training samples that possess the modality."""

        def sums(batch) -> dict[str, Term]:
            member = members(batch.label, batch.label_mask, self.classes)
            return {
                name: class_sums(self.encode(batch, name).pooled, member, there) for name, there in zip(self.modalities, batch.present.T)
            }

        for name, term in context.evaluate("train", sums).items():
            self.prototypes[name].update(term.sum, term.count, self.released)


def compute_coefficients(ratio: Tensor, released: bool = False) -> tuple[Tensor, Tensor]:
    """c [M] and e [M] of rho [M]: how much a slow modality is pulled, and how much the others' entropy is kept up."""
    coefficient = (ratio > 1).to(ratio) if released else (ratio - 1).clamp(0, 1)
    others = (coefficient.sum() - coefficient) / max(len(ratio) - 1, 1)
    return coefficient, others
