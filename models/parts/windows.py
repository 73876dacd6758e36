"""Long texts as windows that fit an encoder's positions, and back: every id is read once, and its state stands where the id stood.

Id t of a text (counted over its real ids) is read in window t // window, at place t % window; windows do not overlap, and none reaches
from a text into the next. Windows of all texts of a batch are run together, sorted by length and cut into groups, so that little padding
is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnifuse.models.parts import keyed
from omnifuse.models.parts.texts import Texts

IDS_AT_ONCE = 16_384  # of one group, padding included: bounds the memory that ten windows of thirty notes would take
SLACK = 8  # ids; texts this close in length share a group however short they are


def chunks(mask: Tensor, window: int) -> Tensor:
    """[B, T] int64: the number of the window that each id is read in; -1 where there is none.

    Args:
        mask: [B, T] bool, True = a real id.
    """
    rank = mask.long().cumsum(1) - 1  # [B, T]
    return torch.where(mask, rank // window, -1)


@dataclass(frozen=True)
class Windows:
    """The N windows of the texts of B samples, in the order of the texts.

    Shapes: at [R], where each of the R real ids of the batch, one text after the other, stands in the flattened [B, T]; text [N], whose
    window it is; rank [N], its number within the sample; start and length [N], of its ids among the R; share [N], one over the windows
    of its text.
    """

    texts: Texts
    at: Tensor
    text: Tensor
    rank: Tensor
    start: Tensor
    length: Tensor
    share: Tensor

    @classmethod
    def cut(cls, texts: Texts, window: int) -> Windows:
        """Each text in windows of at most `window` ids; a sample without a real id has none."""
        device, lengths = texts.real.device, texts.length
        counts = (lengths + window - 1) // window  # windows of each text
        text = torch.arange(len(lengths), device=device).repeat_interleave(counts)  # [N]
        sample = texts.sample[text]
        number = torch.arange(len(text), device=device)
        chunk = number - (counts.cumsum(0) - counts)[text]
        mine = sample.bincount(minlength=len(texts.real))
        start = (lengths.cumsum(0) - lengths)[text] + chunk * window
        length = (lengths[text] - chunk * window).clamp(max=window)
        at = texts.real.flatten().nonzero()[:, 0]
        return cls(texts, at, text, number - (mine.cumsum(0) - mine)[sample], start, length, 1 / counts[text])

    def groups(self) -> list[Tensor]:
        """Numbers of the windows that are run together: at most an eighth of such a run (of short ones: eight ids a window) is padding."""
        order = self.length.argsort(descending=True, stable=True)
        groups, begin, longest = [], 0, 0
        for place, length in enumerate(self.length[order].tolist()):
            full = (place - begin + 1) * longest > IDS_AT_ONCE
            if place > begin and (full or longest - length > max(SLACK, longest // 8)):
                groups.append(order[begin:place])
                begin = place
            if place == begin:
                longest = length
        return [*groups, order[begin:]] if len(order) else []

    def places(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Of a group of n windows, padded to the longest: the number of each place's id among the R real ids, and whether it has one.

        Returns:
            [n, L] int64, the last id's where there is none, and [n, L] bool.
        """
        steps = torch.arange(int(self.length[group].max()), device=group.device)  # [L]
        real = steps < self.length[group][:, None]  # [n, L]
        return (self.start[group][:, None] + steps).clamp(max=len(self.at) - 1), real

    def back(self, states: list[Tensor], numbers: list[Tensor], width: int) -> Tensor:
        """[B, T, width] of what each group's real places gave; zeros where there is no id.

        Args:
            states: [R_g, width] of each group.
            numbers: [R_g], of these among the R real ids.
        """
        real = self.texts.real
        if not states:
            return torch.zeros(*real.shape, width, device=real.device)
        found = torch.cat(states)
        return found.new_zeros(real.numel(), width).index_copy(0, self.at[torch.cat(numbers)], found).reshape(*real.shape, width)

    def mean(self, vectors: list[Tensor], groups: list[Tensor], width: int) -> Tensor:
        """[B, width] float32 of one vector a window: the mean over a sample's texts of that over their windows, zero without any."""
        of_texts = torch.zeros(len(self.texts.length), width, device=self.texts.real.device)
        if vectors:
            which = torch.cat(groups)
            of_texts = of_texts.index_add(0, self.text[which], torch.cat(vectors).float() * self.share[which][:, None])
        return self.texts.average(of_texts)

    def keys(self, key: Tensor | None) -> Tensor | None:
        """[N] int64: a key for each window, from that of its sample and its number there."""
        if key is None or not len(self.text):
            return None
        halves = keyed.bits(key, "window", (int(self.rank.max()) + 1, 2)).long()  # [B, windows, 2]
        return ((halves[..., 0] << 32) | (halves[..., 1] & 0xFFFFFFFF))[self.texts.sample[self.text], self.rank]
