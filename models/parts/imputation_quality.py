"""How near imputed embeddings come to those they stand for, beside two controls that need no autoencoder.

For each modality, over the patients that possess it and another one, with it hidden: the squared error a dimension, the plain cosine (Fig 7
of Wu et al. 2025) and the centred cosine, from which the mean embedding is taken away: embeddings of a modality share most of their length,
so that a plain cosine is near 1 for whoever says the mean. The controls (ours) are that mean and a ridge regression on the teacher's
embeddings of the other modalities; its penalty is the best of four on the very patients it is judged on, which favours the control.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from omnifuse.models.contract import Context, Term

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # a sample, of embeddings whose coordinates have a variance of about 1
CONTROLS = ("mean_error", "ridge_error", "ridge_centred_cosine")


def others_known(present: Tensor, place: int) -> Tensor:
    """[B] bool: who possesses the modality at `place` and another one."""
    return present[:, place] & (present.sum(1) > 1)


def agreement(found: Tensor, wanted: Tensor, mean: Tensor) -> dict[str, Term]:
    """Error, cosine and centred cosine, summed over samples.

    Shapes: found, wanted [B, D]; mean [1, D], of the training patients.
    """
    found, wanted, mean = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (found, wanted, mean))
    return {
        "error": Term.of((found - wanted).square().mean(1)),
        "plain_cosine": Term.of(F.cosine_similarity(found, wanted)),
        "centred_cosine": Term.of(F.cosine_similarity(found - mean, wanted - mean)),
    }


def compute_controls(context: Context, widths: list[int], means: list[Tensor], teach: Callable[[object], Tensor]) -> Tensor:
    """[M, len(CONTROLS)] on val, NaN where nobody has the modality and another one.

    Args:
        means: [1, D_m] each modality's mean embedding of the training patients.
        teach: batch -> the teacher's embeddings side by side [B, D], its encoder(0) where a modality is absent.
    """
    train, val = (context.evaluate(part, lambda batch: _moments(batch, teach(batch), widths)) for part in ("train", "val"))
    controls = torch.full((len(widths), len(CONTROLS)), torch.nan, device=means[0].device)
    weights = {}
    for place in range(len(widths)):
        if all(moments and float(moments[f"yy/{place}"].count) for moments in (train, val)):
            tried = [_fit(train, place, penalty) for penalty in PENALTIES]
            errors = [_error(val, place, weight) for weight in tried]
            best = min(range(len(tried)), key=errors.__getitem__)
            weights[place], controls[place, 1] = tried[best].float(), errors[best] / widths[place]

    def judge(batch) -> dict[str, Term]:
        taught, terms = teach(batch).float(), {}
        for place, weight in weights.items():
            rows = others_known(batch.present, place)
            wanted = taught.split(widths, 1)[place][rows]
            guessed = agreement(_regressors(taught, widths, place)[rows] @ weight, wanted, means[place])
            terms[f"ridge/{place}"] = guessed["centred_cosine"]
            terms[f"mean/{place}"] = Term.of((wanted - means[place]).square().mean(1))
        return terms

    judged = context.evaluate("val", judge) if weights else {}
    for place in weights:
        controls[place, 0], controls[place, 2] = judged[f"mean/{place}"].mean, judged[f"ridge/{place}"].mean
    return controls


def _regressors(taught: Tensor, widths: list[int], place: int) -> Tensor:
    """[B, D + 1]: all slots but one, which is zero, and a constant."""
    blocks = list(taught.split(widths, 1))
    blocks[place] = torch.zeros_like(blocks[place])
    return torch.cat([*blocks, taught.new_ones(len(taught), 1)], 1)


def _moments(batch, taught: Tensor, widths: list[int]) -> dict[str, Term]:
    terms = {}
    for place in range(len(widths)):
        rows = others_known(batch.present, place)
        x, y = _regressors(taught.float(), widths, place)[rows].double(), taught.split(widths, 1)[place][rows].double()
        for name, product in {"xx": x.T @ x, "xy": x.T @ y, "yy": (y * y).sum()}.items():
            terms[f"{name}/{place}"] = Term(product, rows.sum())
    return terms


def _fit(moments: dict[str, Term], place: int, penalty: float) -> Tensor:
    """[D + 1, D_m]; the constant is not held down."""
    xx, xy = moments[f"xx/{place}"], moments[f"xy/{place}"]
    ridge = torch.full((len(xx.sum),), penalty * float(xx.count), dtype=xx.sum.dtype, device=xx.sum.device)
    ridge[-1] = 1e-9
    return torch.linalg.solve(xx.sum + ridge.diag(), xy.sum)


def _error(moments: dict[str, Term], place: int, weight: Tensor) -> float:
    """The mean squared distance |y - W x|^2 of the samples that the moments sum up."""
    xx, xy, yy = (moments[f"{name}/{place}"] for name in ("xx", "xy", "yy"))
    return float((yy.sum - 2 * (weight * xy.sum).sum() + (weight * (xx.sum @ weight)).sum()) / yy.count)
