"""Encoders of films and slices: the numbers of torchvision and transformers, films in and out of place, published layouts of weights."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.transforms.v2 import functional
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model, ViTConfig, ViTForImageClassification, ViTModel

from omnifuse.models.encoders.densenet121 import DenseNet121
from omnifuse.models.encoders.dinov2 import DINOv2
from omnifuse.models.encoders.film_conv import FilmConv
from omnifuse.models.encoders.resnet34 import ResNet34
from omnifuse.models.encoders.vit_small import ViTSmall
from omnifuse.models.parts.films import HALF, IMAGENET
from omnifuse.models.weights import find_weights
from omnifuse.preprocess.schema import ConfigError

SHAPE = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
VIT = SHAPE | {"intermediate_size": 32, "image_size": 48, "patch_size": 16}
DINO = SHAPE | {"mlp_ratio": 2, "image_size": 56, "patch_size": 14}
ONE = torch.ones(1, 1, dtype=torch.bool)


def films(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def prepared(films, mean_std, dtype=torch.float32):
    """As torchvision prepares grey bytes: three channels, 0..1, normalised."""
    grey = functional.to_dtype(functional.grayscale_to_rgb(films), dtype, scale=True)
    return functional.normalize(grey, *map(list, mean_std))


def randomised(network):
    """Statistics and scales that are not those of a fresh network, so that a lost one shows."""
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.4 + 0.6 if "var" in name or "weight" in name else torch.randn_like(tensor) * 0.1)
    return network.eval()


def close(found, expected):
    """To 1e-6 of the largest number, which is what another order of adding leaves of 32 bits."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max().clamp(min=1)))


# torchvision


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_resnet34_is_torchvisions_by_the_path_of_user_weights(tmp_path, suffix):
    torch.manual_seed(7)
    theirs = randomised(torchvision.models.resnet34(weights=None))
    path = tmp_path / f"mine{suffix}"
    (torch.save if suffix == ".pth" else save_file)(theirs.state_dict(), path)
    encoder = ResNet34([1, 64, 96]).eval()
    encoder.load(find_weights(ResNet34, str(path)))
    x = films(2, 1, 64, 96)
    theirs.fc = torch.nn.Identity()
    stages = {name: module for name, module in theirs.named_children() if name.startswith("layer")}
    maps = {}
    for name, module in stages.items():
        module.register_forward_hook(lambda _, __, output, name=name: maps.update({name: output}))
    with torch.no_grad():
        expected, encoded = theirs.double()(prepared(x, IMAGENET, torch.float64)), encoder.bare().double()(x[:, None], ONE.expand(2, 1))
    close(encoded.pooled, expected)
    close(encoded.tokens, maps["layer4"].flatten(2).transpose(1, 2))
    close(encoded.levels[2][0], maps["layer3"].flatten(2).transpose(1, 2))
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps["layer1"], (7, 7))
    close(encoded.levels[0][0], pooled.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("old", [False, True])
def test_densenet121_is_torchvisions_also_by_the_names_of_its_published_file(tmp_path, old):
    torch.manual_seed(7)
    theirs = randomised(torchvision.models.densenet121(weights=None))
    tensors = theirs.state_dict()
    if old:  # the file on download.pytorch.org says norm.1, and counts no batches
        for kind in ("norm", "relu", "conv"):
            tensors = {
                name.replace(f".{kind}1.", f".{kind}.1.").replace(f".{kind}2.", f".{kind}.2.") if "denselayer" in name else name: tensor
                for name, tensor in tensors.items()
                if not name.endswith("num_batches_tracked")
            }
        assert "features.denseblock1.denselayer1.norm.1.weight" in tensors
    torch.save(tensors, tmp_path / "w.pth")
    encoder = DenseNet121([1, 64, 64]).eval()
    encoder.load(find_weights(DenseNet121, str(tmp_path / "w.pth")))
    theirs.classifier = torch.nn.Identity()
    x = films(2, 1, 64, 64)
    with torch.no_grad():
        expected, encoded = theirs(prepared(x, IMAGENET)), encoder.bare()(x[:, None], ONE.expand(2, 1))
        maps = torch.relu(theirs.features(prepared(x, IMAGENET)))
    close(encoded.pooled, expected)
    close(encoded.tokens, maps.flatten(2).transpose(1, 2))


# transformers


def timm_names(tensors):
    """The tensors of a ViTModel's file as timm has them: what its published file holds."""
    fixed = {
        "embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed", "layernorm": "norm",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
    }  # fmt: skip
    layer = {
        "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.o_proj": "attn.proj", "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    found = {}
    for name, tensor in tensors.items():
        start, _, kind = name.rpartition(".")
        if not name.startswith("layers."):
            found[fixed[name] if name in fixed else f"{fixed[start]}.{kind}"] = tensor
            continue
        _, number, part = start.split(".", 2)
        if part == "attention.q_proj":
            parts = [tensors[f"layers.{number}.attention.{x}_proj.{kind}"] for x in "qkv"]
            found[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat(parts)
        elif part in layer:
            found[f"blocks.{number}.{layer[part]}.{kind}"] = tensor
    return found | {"head.weight": torch.ones(3, 24), "head.bias": torch.ones(3)}


def kept(network, layout, path):
    """Saves a network as its publisher does, and gives the path to tell."""
    if layout == "timm":
        save_file(timm_names(network.state_dict()), path / "model.safetensors")
        return path / "model.safetensors"
    if layout == "classifier":
        kind = ViTForImageClassification if isinstance(network, ViTModel) else Dinov2ForImageClassification
        whole = kind(network.config)
        whole.base_model.load_state_dict(network.state_dict())
        network = whole
    network.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "encoder, layout, mean_std",
    [
        (ViTSmall, "model", HALF),
        (ViTSmall, "classifier", HALF),
        (ViTSmall, "timm", HALF),
        (DINOv2, "model", IMAGENET),
        (DINOv2, "classifier", IMAGENET),
        (DINOv2, "mask token", IMAGENET),
    ],
)
def test_vision_transformers_are_those_of_transformers(tmp_path, encoder, layout, mean_std):
    torch.manual_seed(7)
    if encoder is ViTSmall:
        theirs = randomised(ViTModel(ViTConfig(**VIT), add_pooling_layer=False))
    else:
        theirs = randomised(Dinov2Model(Dinov2Config(**DINO, use_mask_token=layout == "mask token")))  # the published one has it
    weights = find_weights(encoder, str(kept(theirs, layout, tmp_path)))
    side = 48 if encoder is ViTSmall else 56
    mine = encoder([1, side, side], architecture=weights.architecture or VIT).eval()
    mine.load(weights)
    x = films(2, 1, side, side)
    with torch.no_grad():
        expected = theirs(pixel_values=prepared(x, mean_std), output_hidden_states=True)
        encoded = mine.bare()(x[:, None], ONE.expand(2, 1))
    close(encoded.tokens, expected.last_hidden_state)
    close(encoded.pooled, expected.last_hidden_state[:, 0])
    for place, (level, _) in enumerate(encoded.levels[:-1], 1):
        close(level, expected.hidden_states[place])


@pytest.mark.parametrize("encoder, config, size", [(ViTSmall, VIT, 64), (DINOv2, DINO, 84)])
def test_positions_are_interpolated_to_another_size(tmp_path, encoder, config, size):
    kind, make = (ViTConfig, ViTModel) if encoder is ViTSmall else (Dinov2Config, Dinov2Model)
    torch.manual_seed(7)
    theirs = randomised(make(kind(**config)))
    theirs.save_pretrained(tmp_path)
    weights = find_weights(encoder, str(tmp_path))
    mine = encoder([1, size, size], architecture=weights.architecture).eval()
    mine.load(weights)
    x, options = films(1, 1, size, size), {"interpolate_pos_encoding": True} if encoder is ViTSmall else {}
    with torch.no_grad():
        expected = theirs(pixel_values=prepared(x, mine.mean_std), **options).last_hidden_state
    close(mine(x[None], ONE).tokens, expected)


def test_positions_of_a_file_for_another_size_are_brought_to_the_networks_own(tmp_path):
    """timm's 224 weights in the network of 384: a constant field stays what it is, the CLS position too."""
    theirs = ViTModel(ViTConfig(**VIT | {"image_size": 64}), add_pooling_layer=False)
    positions = theirs.state_dict()["embeddings.position_embeddings"]
    positions[:, 0], positions[:, 1:] = 3.0, torch.arange(24.0)
    save_file(timm_names(theirs.state_dict()), tmp_path / "w.safetensors")
    mine = ViTSmall([1, 48, 48], architecture=VIT)
    mine.load(find_weights(ViTSmall, str(tmp_path / "w.safetensors")))
    found = mine.network.state_dict()["embeddings.position_embeddings"]
    assert found.shape == (1, 10, 24) and torch.equal(found[0, 0], torch.full((24,), 3.0))
    torch.testing.assert_close(found[0, 1:], torch.arange(24.0).expand(9, 24))


@pytest.mark.parametrize("change", [lambda t: t | {"blocks.9.norm1.weight": torch.ones(24)}, lambda t: t | {"norm.weight": torch.ones(9)}])
def test_a_transformer_of_another_shape_is_refused_in_one_line(tmp_path, change, capsys):
    theirs = ViTModel(ViTConfig(**VIT), add_pooling_layer=False)
    save_file(change(timm_names(theirs.state_dict())), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="of another network"):
        ViTSmall([1, 48, 48], architecture=VIT).load(find_weights(ViTSmall, str(tmp_path / "w.safetensors")))
    with pytest.raises(ConfigError, match="of another network"):
        DINOv2([1, 56, 56], architecture=DINO).load(find_weights(DINOv2, str(tmp_path / "w.safetensors")))
    assert capsys.readouterr() == ("", "")


def test_the_default_networks_are_those_that_were_published():
    """Counts of parameters that their authors give: ViT-S/16 at 384 has 22.2 M with its head of 1000, DINOv2-S 22.06 M."""
    count = lambda network: sum(p.numel() for p in network.parameters())
    vit = ViTSmall([3, 32, 32])
    assert count(vit.network) + 384 * 1000 + 1000 == 22_196_584 and vit.network.embeddings.position_embeddings.shape[1] == 577
    assert count(DINOv2([3, 28, 28]).network) + 384 == 22_056_576  # with its mask token


# Films


@pytest.mark.parametrize("kind", [ResNet34, FilmConv])
def test_grey_and_colour_bytes_and_fractions_are_one(kind):
    torch.manual_seed(0)
    encoder, x = kind([1, 32, 32]).eval(), films(2, 1, 1, 32, 32)
    mask = ONE.expand(2, 1)
    plain = encoder(x, mask).pooled
    torch.testing.assert_close(encoder(x.float() / 255, mask).pooled, plain)
    if kind is ResNet34:
        torch.testing.assert_close(encoder(x.expand(-1, -1, 3, -1, -1), mask).pooled, plain)


@pytest.mark.parametrize("slices", ["mean", "attention", "last"])
def test_films_are_pooled_over_the_real_ones(slices):
    torch.manual_seed(0)
    encoder = FilmConv([1, 32, 32], slices=slices, levels=2).eval().bare()
    if slices == "attention":
        torch.nn.init.normal_(encoder.pool.attention.score.weight)
    x, mask = films(2, 3, 1, 32, 32), torch.tensor([[True, True, True], [True, False, True]])
    alone = encoder(x.reshape(6, 1, 1, 32, 32), ONE.expand(6, 1)).pooled.reshape(2, 3, -1)
    if slices == "attention":
        inner = encoder.pool.attention
        score = inner.score(torch.tanh(inner.value(alone)) * torch.sigmoid(inner.gate(alone)))[..., 0]
        weight = torch.softmax(score.masked_fill(~mask, -torch.inf), 1)
        expected = (weight[..., None] * alone).sum(1)
    else:
        expected = torch.stack([alone[0].mean(0), alone[1, [0, 2]].mean(0)]) if slices == "mean" else alone[:, 2]
    torch.testing.assert_close(encoder(x, mask).pooled, expected)


def test_the_tokens_of_a_film_stand_at_its_place():
    torch.manual_seed(0)
    encoder = FilmConv([1, 32, 32]).eval()
    x, mask = films(2, 3, 1, 32, 32), torch.tensor([[True, True, True], [False, False, True]])
    encoded = encoder(x, mask)
    assert encoded.tokens.shape == (2, 3 * 16, 64) and torch.equal(encoded.mask, mask.repeat_interleave(16, 1))
    torch.testing.assert_close(encoded.tokens[1, 32:], encoder(x[1:, 2:], ONE).tokens[0])
    assert not encoded.tokens[1, :32].any()


def test_statistics_stay_while_scale_and_shift_learn():
    encoder = ResNet34([1, 32, 32])
    encoder.train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    learning = torch.optim.SGD(encoder.learnable(), lr=0.1)
    encoder(films(4, 1, 1, 32, 32), ONE.expand(4, 1), torch.arange(4)).pooled[:, 0].sum().backward()
    learning.step()
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "network.bn1.weight" in moved and not any("running" in name or "batches" in name for name in moved)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ResNet34(5), "resnet34 reads films, not vectors"),
        (lambda: ResNet34([2, 32, 32]), "films of 1 or 3 channels, not 2"),
        (lambda: ResNet34([1, 16, 64]), "at least 32 pixels, not 16 x 64"),
        (lambda: ViTSmall([1, 50, 48]), "multiples of 16, not 50 x 48"),
        (lambda: DINOv2([1, 384, 384]), "multiples of 14, not 384 x 384"),
        (lambda: DenseNet121([1, 32, 32], slices="max"), "unknown pooling 'max'"),
        (lambda: FilmConv([1, 64, 64], levels=7), "1 to 6 levels"),
    ],
)
def test_films_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def energy_of(film, cell):
    """Sum of squares of 3 x 3 details around every second pixel of a film [H, W], by cells: re-derived pixel by pixel."""
    height, width = film.shape
    padded = torch.nn.functional.pad(film[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    total = torch.zeros(height // cell, width // cell)
    for row in range(0, height, 2):
        for column in range(0, width, 2):
            patch = padded[row : row + 3, column : column + 3]
            total[row // cell, column // cell] += ((patch - patch.mean()) ** 2).sum()
    return total


def test_details_hold_all_that_differs_from_the_mean_of_a_patch():
    """The eight filters are orthonormal: their energies add up to the squares of patches less their mean."""
    film = films(1, 1, 64, 64)
    encoder = FilmConv([1, 64, 64])
    found = encoder.details(film)[0, 2:10]
    energy = (found * 2.0 - 4.5).exp() - 1e-3  # mean squares, by filter [8, 8, 8]
    expected = energy_of(film[0, 0].float() / 255 * 4 - 2, 8) / 16
    torch.testing.assert_close(energy.sum(0), expected, rtol=1e-3, atol=1e-3)


def test_film_conv_learns_a_fine_texture_whose_mean_says_nothing():
    """Coarse noise, and in half of 96 films fine lines of zero mean in a quarter of it; other films tell whether it was learnt."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    label = torch.arange(160) % 2
    x = torch.nn.functional.interpolate(torch.rand(160, 1, 8, 8, generator=draw), 64, mode="bilinear")
    x = x * 0.6 + 0.2 + 0.02 * torch.randn(160, 1, 64, 64, generator=draw)
    for number in range(1, 160, 2):
        row, column = torch.randint(0, 32, (2,), generator=draw).tolist()
        x[number, 0, row : row + 32, column : column + 32] += 0.04 * torch.randn(32, 32, generator=draw)
    encoder, head = FilmConv([1, 64, 64], dim=16), torch.nn.Linear(16, 1)
    learning = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(30):
        rows = torch.arange(32) + step % 3 * 32
        score = head(encoder(x[rows, None], ONE.expand(32, 1), rows).pooled)[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(score, label[rows].float()).backward()
        learning.step()
        learning.zero_grad()
    with torch.no_grad():
        score = head(encoder.eval()(x[96:, None], ONE.expand(64, 1)).pooled)[:, 0]
    assert (score[1::2, None] > score[None, ::2]).float().mean() > 0.95


def test_film_conv_learns_to_see_a_spot():
    """Noise, and in half of 96 films a spot of 8 x 8 anywhere; other films tell whether it was learnt."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    x, label = torch.rand(160, 1, 1, 32, 32, generator=draw) * 0.5, torch.arange(160) % 2
    for number in range(1, 160, 2):
        row, column = torch.randint(0, 24, (2,), generator=draw).tolist()
        x[number, 0, 0, row : row + 8, column : column + 8] += 0.5
    encoder, head = FilmConv([1, 32, 32], dim=16), torch.nn.Linear(16, 1)
    learning = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(30):
        rows = torch.arange(32) + step % 3 * 32
        score = head(encoder(x[rows], ONE.expand(32, 1), rows).pooled)[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(score, label[rows].float()).backward()
        learning.step()
        learning.zero_grad()
    with torch.no_grad():
        score = head(encoder.eval()(x[96:], ONE.expand(64, 1)).pooled)[:, 0]
    assert (score[1::2, None] > score[None, ::2]).float().mean() > 0.9
