"""DrFuse: what modalities share and what is distinct to each, taken apart, and weighed by each label (Yao et al., AAAI 2024).

    h_m^s, h_m^d                  shared and distinct part of z_m; the shared ones pass one more layer that all modalities have in common
    sigma(h^s) = mean_m sigma(h_m^s)                                                    logit pooling, over the modalities present
    v, q, k_c = W h of each of h^s and the h_m^d;  q = mean over those present          one key a label c
    a_c = softmax(q k_c / sqrt(H)),  l_c = w_c . (sum_n a_cn v_n) + b_c

    L = CE(l) + CE(head of h^s) + sum_m CE(head_m of h_m^d) + sum_m |cos(h_m^s, h_m^d)| + JSD(sigma(h_m^s)) + ranking

Ranking: of two of the parts, attention of a label shall be larger on the one whose own head is closer to the truth (margin 0). The paper
has two modalities, of which the first is never absent; here what is absent is in no mean, attention or loss, and M modalities have one
divergence, H(mean) - mean of H, which is the Jensen-Shannon divergence of all present.

Ours: the parts are small networks on the embedding that every method starts from, not networks on raw data; the divergence is of Bernoulli
variables and a mean over dimensions (the public code drops 1 - p and sums up); the ranking loss is a mean over pairs and labels (there:
over the pairs it finds violated, which is no sum over samples); a multi-class sample is ranked by its cross entropy, in all classes alike.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.contract import Encoder, Method, Output, Stage, Term, build_head
from omnifuse.models.parts.heads import MLP
from omnifuse.models.parts.truth import precise

SHARED = "shared"


class DrFuse(Method):
    """Shared and distinct parts, fused by an attention of each label."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        kind: str,
        outputs: int,
        hidden: int = 128,
        dropout: float = 0.3,
        shared_weight: float = 1.0,
        distinct_weight: float = 1.0,
        heads_weight: float = 1.0,
        ranking_weight: float = 1.0,
    ):
        super().__init__(encoders, kind, outputs)
        self.hidden, self.shared_weight, self.distinct_weight = hidden, shared_weight, distinct_weight
        self.heads_weight, self.ranking_weight = heads_weight, ranking_weight
        part = lambda: nn.ModuleDict({name: MLP(encoder.dim, hidden, hidden, dropout) for name, encoder in encoders.items()})
        self.shared, self.distinct = part(), part()
        self.common = MLP(hidden, hidden, hidden, dropout)
        self.attend = nn.Linear(hidden, (2 + outputs) * hidden)
        self.head = build_head("linear", hidden, outputs)
        self.heads = nn.ModuleDict({f"of_{name}": build_head("linear", hidden, outputs) for name in (SHARED, *encoders)})

    def forward(self, batch) -> Output:
        return self._fuse([self.encode(batch, name).pooled for name in self.modalities], batch.present, batch.key)

    def _fuse(self, blocks: list[Tensor], present: Tensor, key: Tensor | None) -> Output:
        """blocks [B, D_m] of each modality."""
        named = list(zip(self.modalities, blocks))
        shared = torch.stack([self.common(self.shared[name](block, key), key) for name, block in named], 1)  # [B, M, H]
        distinct = torch.stack([self.distinct[name](block, key) for name, block in named], 1)
        parts = torch.cat([pool_logits(shared, present)[:, None], distinct], 1)  # [B, 1 + M, H]
        there = torch.cat([torch.ones_like(present[:, :1]), present], 1)  # [B, 1 + M]
        logits, attention = self._attend(parts, there)
        alone = torch.stack([head(parts[:, place]) for place, head in enumerate(self.heads.values())], 1)  # [B, 1 + M, C]
        names = (SHARED, *self.modalities)
        traces = {
            f"attention/{name}": attention[:, :, place].mean(1).masked_fill(~there[:, place], torch.nan) for place, name in enumerate(names)
        }
        shown = alone.float().masked_fill(~there[..., None], torch.nan).unbind(1)
        kept = {"shared": shared, "distinct": distinct, "alone": alone, "attention": attention, "there": there}
        return Output(logits, dict(zip(names, shown)), traces, kept)

    def _attend(self, parts: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Parts [B, N, H] -> logits [B, C], attention [B, C, N]."""
        query, value, *keys = self.attend(parts).chunk(2 + self.outputs, dim=2)
        weight = (there / there.sum(1, keepdim=True)).to(query.dtype)
        query = torch.einsum("bnh,bn->bh", query, weight)
        score = torch.einsum("bh,cbnh->bcn", query, torch.stack(keys)) / math.sqrt(self.hidden)
        attention = torch.softmax(precise(score).masked_fill(~there[:, None], -torch.inf), 2)  # the shared part is always there
        fused = torch.einsum("bcn,bnh->bch", attention.to(value.dtype), value)
        return torch.einsum("bch,ch->bc", fused, self.head.weight) + self.head.bias, attention

    def loss(self, output: Output, batch, stage: Stage) -> dict[str, Term]:
        terms = super().loss(output, batch, stage)
        parts, present = output.parts, batch.present
        for place, name in enumerate((SHARED, *self.modalities)):
            loss, known = self.task_loss(parts["alone"][:, place], batch)
            terms[f"task/{name}"] = Term.of(loss, known & parts["there"][:, place], weight=self.heads_weight)
        cosine = F.cosine_similarity(precise(parts["shared"]), precise(parts["distinct"]), dim=2).abs()  # [B, M]
        for place, name in enumerate(self.modalities):
            terms[f"overlap/{name}"] = Term.of(cosine[:, place], present[:, place], weight=self.distinct_weight)
        terms["divergence"] = Term.of(divergence(parts["shared"], present), present.sum(1) > 1, weight=self.shared_weight)
        ranking, known = self._rank(parts["alone"].detach(), parts["attention"], parts["there"], batch)
        terms["ranking"] = Term.of(ranking, known, weight=self.ranking_weight)
        return terms

    def _rank(self, alone: Tensor, attention: Tensor, there: Tensor, batch) -> tuple[Tensor, Tensor]:
        """[B]: by how much attention is on the worse of two parts, a mean over labels and pairs; and whether there is a pair [B]."""
        if batch.label.ndim == 1:
            loss = torch.stack([F.cross_entropy(logits.float(), batch.label, reduction="none") for logits in alone.unbind(1)], 1)
            loss, known = loss[..., None].expand(alone.shape), batch.label_mask[:, None].expand(-1, self.outputs)  # [B, N, C], [B, C]
        else:
            truth = batch.label[:, None].expand(alone.shape)
            loss, known = F.binary_cross_entropy_with_logits(alone.float(), truth.float(), reduction="none"), batch.label_mask
        total = torch.zeros(len(known), device=known.device, dtype=attention.dtype)
        count = torch.zeros_like(total)
        for first, second in combinations(range(alone.shape[1]), 2):
            wanted = torch.sign(loss[:, second] - loss[:, first])  # [B, C]: 1 where the first is the better
            short = F.relu(-wanted * (attention[:, :, first] - attention[:, :, second]))
            valid = known & (there[:, first] & there[:, second])[:, None]
            total, count = total + (short * valid).sum(1), count + valid.sum(1)
        return total / count.clamp(min=1), count > 0

    def head_for(self, modality: str):
        """What is said where this modality alone is present."""
        place = self.modalities.index(modality)

        def alone(pooled: Tensor, key: Tensor | None = None) -> Tensor:
            blocks = [pooled if name == modality else pooled.new_zeros(len(pooled), e.dim) for name, e in self.encoders.items()]
            present = torch.zeros(len(pooled), len(blocks), dtype=torch.bool, device=pooled.device)
            present[:, place] = True
            return self._fuse(blocks, present, key).logits

        return alone


def pool_logits(shared: Tensor, present: Tensor) -> Tensor:
    """[B, M, H] -> [B, H]: the logit of the mean of sigma(h) over the modalities present; 0 where none is."""
    shared = precise(shared)
    pooled = lambda logs: torch.logsumexp(logs.masked_fill(~present[..., None], torch.finfo(logs.dtype).min / 2), 1)
    return pooled(F.logsigmoid(shared)) - pooled(F.logsigmoid(-shared))


def divergence(shared: Tensor, present: Tensor) -> Tensor:
    """[B]: Jensen-Shannon divergence of the Bernoulli variables sigma(h) of those present, a mean over dimensions."""
    shared = precise(shared)
    weight = (present / present.sum(1, keepdim=True).clamp(min=1)).to(shared)  # [B, M]
    mean = torch.einsum("bmh,bm->bh", torch.sigmoid(shared), weight)
    own = -torch.sigmoid(shared) * F.logsigmoid(shared) - torch.sigmoid(-shared) * F.logsigmoid(-shared)
    inside = torch.special.entr(mean.clamp(min=1e-12)) + torch.special.entr((1 - mean).clamp(min=1e-12))
    return (inside - torch.einsum("bmh,bm->bh", own, weight)).mean(1)
