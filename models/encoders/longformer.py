"""Longformer (Beltagy et al. 2020): local attention, so that 4,096 ids fit one window. The first special token attends to all.

It pads to multiples of its attention window (512), which makes short texts several times as dear as for a BERT. Attention is its own,
without scaled_dot_product_attention.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import LongformerConfig, LongformerModel

from omnifuse.models.parts.pretrained_text import SHAPE, SMALL, UNDROPPED, Family, PretrainedText
from omnifuse.models.published import Hub

_FILES = ("config.json", "pytorch_model.bin", "vocab.json", "merges.txt")


class Longformer(PretrainedText):
    """Word pieces to an embedding, by a network of Longformer's architecture."""

    family = Family(
        "longformer",
        LongformerConfig,
        LongformerModel,
        "longformer.",
        special=("<s>", "</s>"),
        special_ids=(0, 2),
        shape=(*SHAPE, "attention_window"),
        fixed=UNDROPPED,
        small=SMALL | {"max_position_embeddings": 1026, "type_vocab_size": 1, "attention_window": 64},
        lost=2,
    )
    published: ClassVar = {
        "allenai/longformer-base-4096": Hub("allenai/longformer-base-4096", _FILES, ("tokenizer.json",)),
        "yikuan8/Clinical-Longformer": Hub("yikuan8/Clinical-Longformer", _FILES, ("tokenizer.json",)),
    }

    def _run(self, framed: Tensor, attended: Tensor) -> Any:
        missing = -framed.shape[1] % max(self.network.config.attention_window)
        padded = torch.nn.functional.pad(framed, (0, missing), value=self.network.config.pad_token_id)
        everywhere = torch.zeros_like(padded)
        everywhere[:, 0] = 1
        real = torch.nn.functional.pad(attended, (0, missing))
        found = self.network(input_ids=padded, attention_mask=real, global_attention_mask=everywhere, output_hidden_states=True)
        found.hidden_states = tuple(states[:, : framed.shape[1]] for states in found.hidden_states)
        found.last_hidden_state = found.last_hidden_state[:, : framed.shape[1]]
        return found
