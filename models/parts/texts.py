"""Where a text of a sample ends and the next begins: each is read by itself, while an encoder learns as when its features are kept.

Raw texts of a sample stand in a row [B, T], with END after each. What a sample is told by is the mean over its texts of what each of
them gave, whatever their lengths: `omnifuse.models.encoders.embedding` takes the same mean over the features of the texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

END = -1  # stands after each raw text; no word or piece of any vocabulary


@dataclass(frozen=True)
class Texts:
    """The N texts of B samples, one after the other.

    Shapes: real [B, T], whether an id stands there; of the R real ids: text [R], the number of its text; of the texts: sample [N], whose
    it is, length [N], its ids, share [N] float32, one over the texts of its sample.
    """

    real: Tensor
    text: Tensor
    sample: Tensor
    length: Tensor
    share: Tensor

    @classmethod
    def of(cls, values: Tensor, mask: Tensor) -> Texts:
        """Of ids [B, T] with END after each text, and which of them are real [B, T]. Without any END a sample has one text."""
        end = mask & (values == END)
        real, width = mask & ~end, mask.shape[1] + 1
        number = end.long().cumsum(1) + width * torch.arange(len(mask), device=mask.device)[:, None]  # ascending over the batch
        numbers, text, length = number[real].unique_consecutive(return_inverse=True, return_counts=True)
        sample = numbers // width
        return cls(real, text, sample, length, 1 / sample.bincount(minlength=len(mask))[sample])

    def mean(self, tokens: Tensor) -> Tensor:
        """[B, T, E], zero where no id stands -> [B, E] float32: the mean over texts of the mean over their ids, zero without any."""
        share = (self.share / self.length)[self.text]  # [R]
        weight = torch.zeros(self.real.shape, device=share.device).masked_scatter(self.real, share)  # [B, T]
        return (tokens.float() * weight[..., None]).sum(1)

    def average(self, vectors: Tensor) -> Tensor:
        """[N, E], one a text -> [B, E] float32: the mean over a sample's texts, zero without any."""
        total = torch.zeros(len(self.real), vectors.shape[1], device=vectors.device)
        return total.index_add(0, self.sample, vectors.float() * self.share[:, None])
