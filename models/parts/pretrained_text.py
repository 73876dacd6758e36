"""What the encoders of pretrained language networks share: windows, special tokens, levels, pooling, weights.

Each of them names a model class of transformers and its configuration class; nothing is looked up by a name that stands in a file, and of
a configuration only the keys in a family's `shape` are used, which are numbers and names of activations. transformers' own dropout is
set to 0: it draws from torch's generators, so that a sample's result would depend on its batch. The only dropout is keyed, before the
projection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder, Tokenise
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pretrained import fill
from omnifuse.models.parts.texts import Texts
from omnifuse.models.parts.windows import Windows
from omnifuse.models.parts.word_pieces import VOCABULARIES, word_pieces
from omnifuse.models.weights import Weights
from omnifuse.preprocess.schema import ConfigError

SMALL = {"vocab_size": 1024, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
SHAPE = (*SMALL, "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps", "pad_token_id", "initializer_range")
UNDROPPED = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
SDPA = {"attn_implementation": "sdpa"}
POOLS = ("mean", "cls")


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Args:
        name: `model_type` of its configurations.
        prefix: of its tensors' names where a head stands on it.
        special: its first and last special token, and `special_ids`, their ids in published vocabularies.
        shape: keys of a configuration that are used; `fixed`: what stands whatever it says; `small`: without one.
        options: of the model's constructor.
        lost: positions that no id ever stands at.
    """

    name: str
    config: type
    model: type
    prefix: str
    special: tuple[str, str] = ("[CLS]", "[SEP]")
    special_ids: tuple[int, int] = (101, 102)
    shape: tuple[str, ...] = SHAPE
    fixed: dict[str, Any] = field(default_factory=lambda: UNDROPPED | SDPA)
    small: dict[str, Any] = field(default_factory=lambda: SMALL)
    options: dict[str, Any] = field(default_factory=lambda: {"add_pooling_layer": False})
    lost: int = 0

    def build(self, architecture: dict[str, Any] | None) -> nn.Module:
        """The network with random weights. Raises ConfigError where the architecture is of another family, or impossible."""
        told = architecture or self.small
        if "auto_map" in told:
            raise ConfigError("the network brings code of its own, which is not run", hint="use a built-in architecture")
        if told.get("model_type", self.name) != self.name:
            raise ConfigError(f"these weights are no {self.name}", hint="take the encoder of their model_type")
        if told.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(f"a {self.name} without absolute positions is not supported")
        try:
            return self.model(self.config(**{key: told[key] for key in self.shape if key in told}, **self.fixed), **self.options)
        except Exception as error:  # transformers, torch and huggingface_hub each have their own
            raise ConfigError(f"this architecture of a {self.name} cannot be built ({type(error).__name__})") from None


class PretrainedText(Encoder):
    """Word pieces [B, T] to an embedding [B, dim], one token a piece, and up to six levels.

    A text is read in windows of at most `window` ids, each between the special tokens of the network (parts/windows.py); piece t stands
    in window t // window. Tokens are the network's last hidden states of the pieces; special tokens are left out. Levels are hidden
    states of layers at even distances, the last of them the tokens: 2, 4, .. 12 of 12 layers.

    Args:
        architecture: the weights' configuration; None: a small network, for random weights.
        pool: `mean` over a text's pieces, each counted once, or `cls`, the mean over its windows of their first state.
        dim: of the projection.
        tune_layers: 0: the network is frozen and only the projection learns; n: its last n layers learn too; -1: all of it.
    """

    reads = "text"
    family: ClassVar[Family]

    def __init__(
        self,
        input_dim: int = 0,
        architecture: dict[str, Any] | None = None,
        pool: str = "mean",
        dim: int = 128,
        dropout: float = 0.1,
        tune_layers: int = 0,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ConfigError(f"unknown pool {pool!r}", hint=" or ".join(POOLS))
        self.network = self.family.build(architecture)
        config = self.network.config
        depth, width = config.num_hidden_layers, config.hidden_size
        self.picked = level_layers(depth)
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, width, (width,) * len(self.picked)
        self.window = config.max_position_embeddings - self.family.lost - 2
        if self.window < 1:
            raise ConfigError(f"a {self.family.name} of {config.max_position_embeddings} positions has no room for a text")
        self.pool, self.dropout = pool, Dropout(dropout)
        self.project = nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))
        self.register_buffer("framing", torch.tensor(self.family.special_ids).clamp(max=config.vocab_size - 1))  # kept with the weights
        if not -1 <= tune_layers <= depth:
            raise ConfigError(f"tune_layers is -1 (all), or 0 to {depth}, the layers of this {self.family.name}")
        self.tune_layers = tune_layers
        self.network.requires_grad_(False)
        for parameter in self.tuned():
            parameter.requires_grad_(True)

    def layers(self) -> nn.ModuleList:
        """The network's layers, from the input to the output."""
        return self.network.encoder.layer

    def tuned(self) -> list[nn.Parameter]:
        """Parameters of the network that learn."""
        if self.tune_layers == -1:
            return list(self.network.parameters())
        layers = list(self.layers())
        return [p for layer in layers[len(layers) - self.tune_layers :] for p in layer.parameters()]

    def learnable(self) -> list[nn.Parameter]:
        """The layers that are tuned, and the projection."""
        return [*self.tuned(), *self.project.parameters()]

    @classmethod
    def tokeniser(cls, weights: Weights | None) -> Tokenise:
        return word_pieces(weights, cls.family.name)

    def load(self, weights: Weights) -> None:
        if weights.native:
            super().load(weights)
            return
        fill(self.network, self._renamed(weights.tensors()), weights.told)
        if any(weights.has(name) for name in VOCABULARIES):
            pieces = self.tokeniser(weights)
            numbers = [pieces.number(piece) for piece in self.family.special]
            if None in numbers:
                raise ConfigError(f"the vocabulary has no {' or '.join(self.family.special)}", where=weights.folder)
            self.framing.copy_(torch.tensor(numbers))

    def _renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """By the network's own names, without the heads that stand on it; a LayerNorm's gamma and beta are of old files."""
        prefix = self.family.prefix
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        parts = {name.split(".")[0] for name, _ in self.network.named_parameters()}
        return {
            name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
            for name, tensor in tensors.items()
            if name.split(".")[0] in parts and not name.endswith(("position_ids", "token_type_ids", "inv_freq"))
        }

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        texts = Texts.of(values, mask)
        windows = Windows.cut(texts, self.window)
        ids = values.flatten()[windows.at].long()  # [R]
        self._check(ids)
        groups, numbers, states, firsts = windows.groups(), [], [], []
        for group in groups:
            number, real = windows.places(group)  # [n, L]
            hidden = self._hidden(ids[number], real)  # each [n, 1 + L + 1, E]
            inside = real.flatten().nonzero()[:, 0]
            numbers.append(number.flatten()[inside])
            states.append([level[:, 1:-1].flatten(0, 1)[inside] for level in hidden])
            firsts.append(hidden[-1][:, 0])
        count = len(self.picked) if self.gives_levels else 1
        levels = [windows.back([state[place] for state in states], numbers, self.token_dim) for place in range(count)]
        tokens = levels[-1]  # [B, T, E]
        pool = texts.mean(tokens) if self.pool == "mean" else windows.mean(firsts, groups, self.token_dim)  # [B, E]
        real = texts.real
        return Encoded(self.project(self.dropout(pool, key)), tokens, real, [(level, real) for level in levels if self.gives_levels])

    def _check(self, ids: Tensor) -> None:
        size = self.network.config.vocab_size
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            raise ConfigError(
                f"the texts were cut for another vocabulary than this {self.family.name} of {size} pieces", hint="extract them anew"
            )

    def _hidden(self, ids: Tensor, real: Tensor) -> list[Tensor]:
        """Hidden states of the picked layers, [n, L + 2, E] each, of windows [n, L] between their special tokens."""
        lengths = real.sum(1, keepdim=True)  # [n, 1]
        framed = torch.nn.functional.pad(torch.where(real, ids, self.network.config.pad_token_id or 0), (1, 1))  # [n, 1 + L + 1]
        framed[:, -1] = self.network.config.pad_token_id or 0
        framed[:, 0] = self.framing[0]
        framed.scatter_(1, lengths + 1, self.framing[1].expand_as(lengths))
        attended = torch.arange(framed.shape[1], device=ids.device) < lengths + 2
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune_layers != 0):
            found = self._run(framed, attended.long())
        below = self.picked[:-1] if self.gives_levels else ()
        return [found.hidden_states[layer] for layer in below] + [found.last_hidden_state]

    def _run(self, framed: Tensor, attended: Tensor) -> Any:
        return self.network(input_ids=framed, attention_mask=attended, output_hidden_states=self.gives_levels)


def level_layers(depth: int) -> tuple[int, ...]:
    """Numbers (from 1) of at most six layers at even distances, the last among them."""
    count = min(depth, MAX_LEVELS)
    return tuple(-(-depth * number // count) for number in range(1, count + 1))
