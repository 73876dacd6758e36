"""Concatenation: one linear head on the embeddings side by side. Row (a) of Table 4 of Wu et al. 2025 (pin A12).

    l = W [z_1; ...; z_M] + b

What stands for an absent z_m is an option (pin A13, parts/filling.py).
"""

from __future__ import annotations

from omnifuse.models.contract import Encoder
from omnifuse.models.parts.joined import Joined


class Concat(Joined):
    """One linear layer over all modalities."""

    def __init__(self, encoders: dict[str, Encoder], kind: str, outputs: int, fill: str = "encoder_zero"):
        super().__init__(encoders, kind, outputs, fill)
