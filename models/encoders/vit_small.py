"""ViT-S/16 over films and slices: a ViTModel of transformers; any other ViT by its own configuration.

Source: Dosovitskiy et al. 2021; Steiner et al. 2022 for the size. MedPatch's film encoder is timm's vit_small_patch16_384: those very
weights are `imagenet` (pretrained on ImageNet-21k, tuned on ImageNet-1k at 384 x 384), and 577 tokens of 384 a film. `imagenet-224` is
the same network at 224 x 224. Files are read in timm's layout and in that of transformers.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import ViTConfig, ViTModel

from omnifuse.models.parts.films import HALF
from omnifuse.models.parts.vision_transformer import VisionTransformer
from omnifuse.models.weights import Hub

# timm's names, and those of files of transformers; `qkv` is three of them.
TIMM = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
TIMM_LAYER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


class ViTSmall(VisionTransformer):
    """Films [B, T, 1 or 3, H, W] to an embedding [B, dim]; sides are multiples of 16."""

    config_class, model_class, mean_std = ViTConfig, ViTModel, HALF
    model_options: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}
    call_options: ClassVar[dict[str, Any]] = {"interpolate_pos_encoding": True}
    default: ClassVar[dict[str, Any]] = {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536, "image_size": 384,
        "patch_size": 16, "layer_norm_eps": 1e-6,
    }  # fmt: skip
    published: ClassVar[dict[str, Any]] = {
        "imagenet": Hub(
            "timm/vit_small_patch16_384.augreg_in21k_ft_in1k", ("model.safetensors",), revision="3fe0b849c2d906a2bbcd18e064f37bc2872aaf69"
        ),
        "imagenet-224": Hub("WinKawaks/vit-small-patch16-224"),
    }

    def __init__(
        self,
        input_dim: list[int],
        size: int = 384,
        architecture: dict[str, Any] | None = None,
        slices: str = "mean",
        dim: int = 128,
        dropout: float = 0.3,
        tune_layers: int = -1,
    ):
        super().__init__(input_dim, size, architecture, slices, dim, dropout, tune_layers)

    def _renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if "pos_embed" not in tensors:
            return tensors
        renamed: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            renamed |= _from_timm(name, tensor)
        return renamed


def _from_timm(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor of timm's VisionTransformer by the names of transformers; its head keeps its name and is left out later."""
    start, _, kind = name.rpartition(".")
    if not name.startswith("blocks."):
        new = TIMM.get(start or name)
        return {name if new is None else f"{new}.{kind}" if start else new: tensor}
    _, number, part = start.split(".", 2)
    layer = f"encoder.layer.{number}"
    if part == "attn.qkv":
        return {f"{layer}.attention.attention.{n}.{kind}": part for n, part in zip(("query", "key", "value"), tensor.chunk(3))}
    return {f"{layer}.{TIMM_LAYER.get(part, part)}.{kind}": tensor}
