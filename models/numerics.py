"""NaN and infinity: seen in the step in which they appear, before any weight is touched, and traced to the tensor they come from."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from omnifuse.models.contract import Method, Output, Stage
from omnifuse.models.encoding import Encoded
from omnifuse.preprocess.schema import NumericalError


def unclean(batch) -> Tensor:
    """Number of modalities whose values hold NaN or infinity, as a tensor: nothing waits for the device."""
    return sum((~torch.isfinite(value).all()).double() for value in batch.values.values())


def explain(method: Method, batch, stage: Stage, terms: dict[str, float], *, task: str, rows, salt: str, when: str) -> NumericalError:
    """The error that names the first tensor to blame, its samples' rows in the cohort's table, and the batch by a hash of its ids.

    Args:
        terms: the loss terms, as numbers.
        rows: [N] each sample's row in samples/TASK.parquet.
        salt: goes into the hash; a text that does not stand beside the message.
        when: stage, epoch and step in words.
    """
    name, bad = _blame(method, batch, stage, terms)
    ids = hashlib.sha256("\x1f".join([salt, *sorted(batch.sample_id)]).encode()).hexdigest()[:12]
    places = rows[batch.index[bad].cpu().numpy()].tolist() if bad is not None else []
    where = f"samples/{task}.parquet" + (f":{places[0]}" if places else "")
    count = f" in {len(places)} of {len(batch)} samples" if places else ""
    return NumericalError(
        f"{name} holds NaN or infinity{count} ({when}, batch {ids}); nothing was updated",
        where=where,
        hint="check these rows" if name.startswith("values") else "a lower train.lr may help",
    )


def _blame(method: Method, batch, stage: Stage, terms: dict[str, float]) -> tuple[str, Tensor | None]:
    """The first of: an input, a module's output, a loss term, a gradient; and which samples [B] hold it, where that can be told."""
    for modality, value in batch.values.items():
        if (bad := _bad_rows(value)).any():
            return f"values of {modality}", bad
    found: list[tuple[str, Tensor]] = []
    hooks = [module.register_forward_hook(_recorder(name, found)) for name, module in method.named_modules() if name]
    try:
        with torch.no_grad():
            logits = method(batch).logits
    finally:
        for hook in hooks:
            hook.remove()
    found.append(("logits", logits))
    for name, value in found:
        if (bad := _bad_rows(value)).any():
            return f"the output of {name}" if name != "logits" else name, bad if len(bad) == len(batch) else None
    for name, number in terms.items():
        if not math.isfinite(number):
            return f"loss {name}", None
    for name, parameter in method.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the gradient of {name}", None
    return "the norm of the gradient", None


def _recorder(name: str, found: list[tuple[str, Tensor]]):
    def record(_module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(output, (Encoded, Output)):
            output = output.pooled if isinstance(output, Encoded) else output.logits
        if isinstance(output, tuple):
            output = output[0]
        if isinstance(output, Tensor):
            found.append((name, output))

    return record


def _bad_rows(value: Tensor) -> Tensor:
    """[B] bool."""
    return ~torch.isfinite(value).flatten(1).all(1) if value.ndim > 1 else ~torch.isfinite(value)
