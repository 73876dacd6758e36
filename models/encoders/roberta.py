"""RoBERTa (Liu et al. 2019): a BERT with byte-level word pieces. Its positions are counted from 2, so that 514 of them hold 512 ids."""

from __future__ import annotations

from typing import ClassVar

from transformers import RobertaConfig, RobertaModel

from omnifuse.models.parts.pretrained_text import SMALL, Family, PretrainedText
from omnifuse.models.published import Hub

_SMALL = SMALL | {"max_position_embeddings": 514, "type_vocab_size": 1}


class Roberta(PretrainedText):
    """Word pieces to an embedding, by a network of RoBERTa's architecture."""

    family = Family("roberta", RobertaConfig, RobertaModel, "roberta.", ("<s>", "</s>"), (0, 2), small=_SMALL, lost=2)
    published: ClassVar = {
        "roberta-base": Hub(
            "FacebookAI/roberta-base", ("config.json", "model.safetensors", "vocab.json", "merges.txt"), ("tokenizer.json",)
        )
    }
