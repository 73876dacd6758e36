"""OGM-GE: gradients of the surer modalities' encoders are turned down, and noise is added to all of them (Peng et al., CVPR 2022).

    s_m   = mean over samples of the confidence in the truth, by the slice of the linear head     parts/truth.py
    rho_m = mean_{j != m} s_m / s_j, over the samples that possess both                           M > 2: one to others, averaged
    k_m   = 1 - tanh(alpha rho_m) if rho_m > 1 else 1
    g_m  <- k_m g_m + N(0, std(g_m)^2)

Between backward pass and clipping, in epochs `begins` to `ends`, on whole gradients (all processes added), with noise that all processes
draw alike. Where a pair has fewer than two samples there is no evidence, and k = 1; an encoder that no sample of the step needs gets no
noise.

Differs from the public code (`variant: released`), which modulates gradients of four dimensions alone: convolutions. An LSTM, a text
encoder or a projection is left as it is, and the method does nothing. Here every weight of an encoder with two or more dimensions is
modulated. Adam divides a k that stays the same out again; `apply: update` scales the encoder's step instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from omnifuse.models.contract import Context, Encoder, Group, Stage
from omnifuse.models.parts.choices import VARIANTS, require_choice
from omnifuse.models.parts.epoch_mean import EpochMean
from omnifuse.models.parts.joined import Joined
from omnifuse.models.parts.truth import pair_scores, pair_sums, ratios, require_score, truth_scores
from omnifuse.preprocess.schema import ConfigError

CHOICES = {"agg": ("mean", "min"), "apply": ("grad", "update"), "variant": VARIANTS}
LEAST_STD = 1e-8


class OGMGE(Joined):
    """Concatenation whose encoders' gradients are modulated."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        alpha: float = 0.3,
        noise: bool = True,
        begins: int = 1,
        ends: int = 50,
        agg: str = "mean",
        score: str = "mean",
        apply: str = "grad",
        fill: str = "encoder_zero",
        variant: str = "fixed",
    ):
        super().__init__(encoders, kind, outputs, fill)
        for name, value in {"agg": agg, "apply": apply, "variant": variant}.items():
            require_choice(name, value, CHOICES[name])
        self.alpha, self.noise, self.begins, self.ends = alpha, noise, begins, ends
        self.agg, self.score, self.apply, self.variant = agg, require_score(score), apply, variant
        self.ratio, self.coefficient = EpochMean(len(encoders)), EpochMean(len(encoders))
        for name, encoder in encoders.items():
            if len(encoders) > 1 and variant == "fixed" and not any(p.ndim > 1 for p in encoder.learnable()):
                raise ConfigError(f"nothing in the encoder of {name} learns: OGM-GE has no gradient to modulate", hint="tune its layers")

    def stages(self) -> list[Stage]:
        """One group an encoder, so that its step can be scaled."""
        groups = [Group(f"encoder/{name}", encoder.learnable()) for name, encoder in self.encoders.items()]
        encoding = {id(p) for p in self.encoders.parameters()}
        head = Group("head", [p for p in self.learnable() if id(p) not in encoding])
        return [Stage("fusion", [*(group for group in groups if group.parameters), head])]

    @torch.no_grad()
    def after_backward(self, context: Context) -> None:
        if len(self.encoders) == 1 or not self.begins <= context.epoch <= self.ends:
            return
        batch = context.batch
        alone = self.head.slices([block.detach() for block in context.output.parts["blocks"]])  # [B, M, C]
        table = pair_sums(*truth_scores(alone, batch.label, batch.label_mask, self.score), batch.present)
        counts = batch.present.sum(0).to(table)  # [M]
        whole = context.reduce(torch.cat([table.flatten(), counts]))
        table, counts = whole[: table.numel()].view_as(table), whole[table.numel() :]
        ratio, known = ratios(*pair_scores(table), over="mean" if self.agg == "mean" else "max")
        k = compute_coefficient(ratio, self.alpha)
        self.ratio.add(ratio, known)
        self.coefficient.add(k, known)
        generator = context.generator("ogm_ge")
        for place, (name, encoder) in enumerate(self.encoders.items()):
            if self.apply == "update":
                context.rates[f"encoder/{name}"] = float(k[place])
            scale = k[place] if self.apply == "grad" else torch.ones_like(k[place])
            noise = (counts[place] > 0) if self.noise else torch.zeros_like(known[place])
            modulate(encoder.learnable(), scale, noise, generator, least=2 if self.variant == "fixed" else 4)

    def after_epoch(self, context: Context) -> None:
        super().after_epoch(context)
        for about, means in {"ratio": self.ratio.take(), "coefficient": self.coefficient.take()}.items():
            for name, value in zip(self.modalities, means):
                context.trace(f"{about}/{name}", value)


def compute_coefficient(ratio: Tensor, alpha: float) -> Tensor:
    """k [M] of rho [M]: 1 up to a ratio of 1, and there it falls at once to 1 - tanh(alpha)."""
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), 1.0)


def modulate(parameters: Iterable[nn.Parameter], k: Tensor, noise: Tensor, generator: torch.Generator, least: int) -> None:
    """Changes gradients in place; the noise is as wide as the gradient was before.

    Args:
        noise: whether there is any; a bool scalar on the device, so that nobody waits for it.
        least: dimensions of a weight that is modulated; biases and norms are not.
    """
    for p in parameters:
        if p.grad is None or p.grad.ndim < least or (least == 4 and p.grad.ndim != 4) or p.grad.numel() < 2:
            continue
        drawn = torch.randn(p.grad.shape, generator=generator, device=p.grad.device, dtype=p.grad.dtype)
        width = (p.grad.std() + LEAST_STD) * noise
        p.grad.mul_(k.to(p.grad.dtype)).add_(drawn * width)
