"""DINOv2 over films and slices: a Dinov2Model of transformers; ViT-S/14 by default, any other by its own configuration.

Source: Oquab et al. 2023; weights facebook/dinov2-small. Rad-DINO and others tuned on chest films have the same layout and are told by
their folder. Normalised by ImageNet's mean and deviation, as it was trained. 257 tokens of 384 a film of 224 x 224.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Dinov2Config, Dinov2Model

from omnifuse.models.parts.films import IMAGENET
from omnifuse.models.parts.vision_transformer import VisionTransformer
from omnifuse.models.weights import Hub


class DINOv2(VisionTransformer):
    """Films [B, T, 1 or 3, H, W] to an embedding [B, dim]; sides are multiples of 14."""

    config_class, model_class, mean_std = Dinov2Config, Dinov2Model, IMAGENET
    fixed: ClassVar[dict[str, Any]] = VisionTransformer.fixed | {"drop_path_rate": 0.0, "use_mask_token": False}
    default: ClassVar[dict[str, Any]] = {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4, "image_size": 518, "patch_size": 14,
    }  # fmt: skip
    published: ClassVar[dict[str, Any]] = {"small": Hub("facebook/dinov2-small", revision="ed25f3a31f01632728cabb09d1542f84ab7b0056")}

    def __init__(
        self,
        input_dim: list[int],
        size: int = 224,
        architecture: dict[str, Any] | None = None,
        slices: str = "mean",
        dim: int = 128,
        dropout: float = 0.3,
        tune_layers: int = -1,
    ):
        super().__init__(input_dim, size, architecture, slices, dim, dropout, tune_layers)
