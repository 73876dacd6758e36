"""Long texts as windows that fit an encoder's positions, and back: every id is read once, and its state stands where the id stood.

Id t of a text (counted over its real ids) is read in window t // window, at place t % window; windows do not overlap. Windows of all
texts of a batch are run together, sorted by length and cut into groups, so that little padding is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnifuse.models.parts import keyed

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
    """The N windows of B texts, in the order of the texts.

    Shapes: mask [B, T]; text [N], whose window it is; chunk [N], its number within the text; start and length [N], of its ids among all
    R real ids of the batch, one text after the other; at [R], where these stand in the flattened [B, T].
    """

    mask: Tensor
    at: Tensor
    text: Tensor
    chunk: Tensor
    start: Tensor
    length: Tensor

    @classmethod
    def cut(cls, mask: Tensor, window: int) -> Windows:
        """Of a mask [B, T] bool; a text without a real id has no window."""
        lengths = mask.sum(1)  # [B]
        counts = (lengths + window - 1) // window  # [B]
        text = torch.arange(len(mask), device=mask.device).repeat_interleave(counts)  # [N]
        chunk = torch.arange(len(text), device=mask.device) - (counts.cumsum(0) - counts)[text]
        start = (lengths.cumsum(0) - lengths)[text] + chunk * window
        return cls(mask, mask.flatten().nonzero()[:, 0], text, chunk, start, (lengths[text] - chunk * window).clamp(max=window))

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
        flat = self.mask.numel()
        if not states:
            return torch.zeros(*self.mask.shape, width, device=self.mask.device)
        found = torch.cat(states)
        return found.new_zeros(flat, width).index_copy(0, self.at[torch.cat(numbers)], found).reshape(*self.mask.shape, width)

    def mean(self, vectors: list[Tensor], groups: list[Tensor], width: int) -> Tensor:
        """[B, width] float32: the mean over each text's windows of one vector a window; zero for a text without any."""
        total = torch.zeros(len(self.mask), width, device=self.mask.device)
        if not vectors:
            return total
        total = total.index_add(0, self.text[torch.cat(groups)], torch.cat(vectors).float())
        return total / self.text.bincount(minlength=len(self.mask)).clamp(min=1)[:, None]

    def keys(self, key: Tensor | None) -> Tensor | None:
        """[N] int64: a key for each window, from that of its text and its number."""
        if key is None or not len(self.text):
            return None
        halves = keyed.bits(key, "window", (int(self.chunk.max()) + 1, 2)).long()  # [B, chunks, 2]
        return ((halves[..., 0] << 32) | (halves[..., 1] & 0xFFFFFFFF))[self.text, self.chunk]


def mean_of_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """[B, E] float32 of [B, T, E] that is zero outside the mask: the mean over real tokens, zero for a text without any."""
    return tokens.float().sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
