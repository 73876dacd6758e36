"""ModernBERT (Warner et al. 2024): rotary positions and alternating local attention; 8,192 ids fit one window."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from transformers import ModernBertConfig, ModernBertModel

from omnifuse.models.parts.pretrained_text import SDPA, SMALL, Family, PretrainedText
from omnifuse.models.published import Hub

_SPECIAL = {"pad_token_id": 0, "cls_token_id": 101, "bos_token_id": 101, "sep_token_id": 102, "eos_token_id": 102}

_SHAPE = (
    *SMALL, "max_position_embeddings", *_SPECIAL, "hidden_activation", "norm_eps", "norm_bias", "attention_bias", "mlp_bias",
    "local_attention", "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "layer_types", "rope_parameters",
    "initializer_range",
)  # fmt: skip


class ModernBert(PretrainedText):
    """Word pieces to an embedding, by a network of ModernBERT's architecture."""

    family = Family(
        "modernbert",
        ModernBertConfig,
        ModernBertModel,
        "model.",
        special_ids=(50281, 50282),
        shape=_SHAPE,
        fixed=SDPA | {"attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0},
        small=SMALL | {"max_position_embeddings": 1024, "local_attention": 32} | _SPECIAL,
        options={},
    )
    published: ClassVar = {
        "answerdotai/ModernBERT-base": Hub(
            "answerdotai/ModernBERT-base", ("config.json", "model.safetensors", "tokenizer.json"), ("tokenizer_config.json",)
        )
    }

    def layers(self) -> nn.ModuleList:
        return self.network.layers
