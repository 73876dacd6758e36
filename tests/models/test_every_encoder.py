"""What every encoder owes a method, whatever it reads: one test a rule, over every encoder found."""

import copy

import pytest
import torch
from safetensors.torch import load, save

from omnifuse import config
from omnifuse.models import registry
from omnifuse.models.encoding import MAX_LEVELS, READS
from omnifuse.models.parts import keyed
from omnifuse.models.parts.texts import END
from omnifuse.models.weights import Weights
from omnifuse.preprocess.schema import ConfigError

ENCODERS = registry.names("encoder")
WIDTH = {"hidden_size": 24, "num_hidden_layers": 8, "num_attention_heads": 2}
# Where the default is too large to be tried on a CPU, or would leave the lengths below in one window.
SMALL = {
    "vit_small": {"architecture": WIDTH | {"intermediate_size": 32, "image_size": 32, "patch_size": 16}},
    "dinov2": {"architecture": WIDTH | {"mlp_ratio": 2, "image_size": 28, "patch_size": 14}},
    "lstm": {"hidden": 16},
    "transformer": {"hidden": 16, "pool": "attention"},
    "resnet1d": {"width": 4},
}
SIDE = {"densenet121": 32, "resnet34": 64, "dinov2": 42, "vit_small": 48}
SHAPES = {"series": 5, "signal": 3, "embedding": [4, 6], "text": 0}
LENGTHS = (7, 1, 4, 3)


def shape(name):
    kind = registry.find("encoder", name)
    return [1, SIDE.get(name, 16), SIDE.get(name, 16)] if kind.reads == "image" else SHAPES[kind.reads]


def made(name, seed=0, **options):
    encoder = registry.build_encoder({"name": name, **SMALL.get(name, {}), **options}, shape(name), seed, "m")
    keyed.name_dropouts(encoder)
    return encoder.eval()


def sample(encoder, lengths=LENGTHS, seed=1):
    """values [B, T, ...] and mask [B, T]; films are at most 3 a sample, signals are longer."""
    lengths = (
        [min(n, 3) for n in lengths] if encoder.reads == "image" else [n * 20 for n in lengths] if encoder.reads == "signal" else lengths
    )
    draw, size = torch.Generator().manual_seed(seed), (len(lengths), max(lengths))
    mask = torch.arange(size[1]) < torch.tensor(lengths)[:, None]
    if encoder.reads == "image":
        return torch.randint(0, 256, (*size, *encoder.input_dim), generator=draw, dtype=torch.uint8), mask
    if encoder.reads == "text":
        return torch.randint(110, 1000, size, generator=draw), mask
    width = encoder.input_dim if isinstance(encoder.input_dim, int) else sum(encoder.input_dim)
    return torch.randn(*size, width, generator=draw), mask


def real(encoded):
    """What counts: pooled, and the real ones among tokens and levels."""
    return [encoded.pooled, encoded.tokens[encoded.mask], *(level[mask] for level, mask in encoded.levels)]


def alike(first, second, **tolerance):
    for a, b in zip(real(first), real(second), strict=True):
        torch.testing.assert_close(a, b, **({"rtol": 1e-4, "atol": 1e-4} | tolerance))


def taken(encoded, rows):
    some = copy.copy(encoded)
    some.pooled, some.tokens, some.mask = encoded.pooled[rows], encoded.tokens[rows], encoded.mask[rows]
    some.levels = [(level[rows], mask[rows]) for level, mask in encoded.levels]
    return some


@pytest.fixture(params=ENCODERS)
def encoder(request):
    return made(request.param)


def test_shapes_are_what_it_says(encoder):
    values, mask = sample(encoder)
    encoded, size = encoder(values, mask), len(LENGTHS)
    assert encoder.reads in READS and 1 <= len(encoder.level_dims) <= MAX_LEVELS
    assert encoded.pooled.shape == (size, encoder.dim)
    assert encoded.tokens.shape == (*encoded.mask.shape, encoder.token_dim) and encoded.mask.shape[0] == size
    assert [level.shape for level, _ in encoded.levels] == [(*at.shape, dim) for (_, at), dim in zip(encoded.levels, encoder.level_dims)]
    assert all(at.dtype == torch.bool and at.any(1).all() for at in (encoded.mask, *(at for _, at in encoded.levels)))
    assert all(torch.isfinite(part).all() for part in real(encoded))
    assert all(len(part) for part in real(encoded)) and encoded.pooled.std(0).max() > 1e-3  # it says different things of samples


@pytest.mark.parametrize("name", [name for name in ENCODERS if made(name).end()])
def test_features_and_the_end_make_the_encoder(name):
    """What `extract` keeps of an encoder and what `embedding` builds of its end say what the whole encoder says."""
    encoder = made(name)
    values, mask = sample(encoder)
    if encoder.reads == "text":
        values[0, 2] = END  # two texts
    whole, (architecture, state) = encoder(values, mask).pooled, encoder.end()
    bare = made(name).bare()
    if encoder.reads == "image":  # each film by itself
        films = [bare(values[:, [place]], torch.ones(len(values), 1, dtype=torch.bool)).pooled for place in range(values.shape[1])]
        features, real_rows = torch.stack(films, 1), mask
    elif encoder.reads == "text":  # each text by itself
        texts = [bare(values[:, part], mask[:, part]).pooled for part in (slice(0, 2), slice(3, None))]
        rest = bare(values[1:], mask[1:]).pooled
        features = torch.stack([torch.cat([texts[0][:1], rest]), torch.cat([texts[1][:1], torch.zeros_like(rest)])], 1)
        real_rows = torch.tensor([[True, True], *[[True, False]] * (len(values) - 1)])
    else:
        features, real_rows = bare(values, mask).pooled[:, None], torch.ones(len(values), 1, dtype=torch.bool)
    after = registry.build_encoder({"name": "embedding", "architecture": architecture}, bare.dim, 1, "m").eval()
    after.load_state_dict(state)
    torch.testing.assert_close(after(features, real_rows).pooled, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train", [False, True])
def test_neither_batch_nor_order_changes_a_sample(encoder, train):
    """In train mode too: what is dropped belongs to the sample, and there are no statistics of a batch."""
    values, mask = sample(encoder)
    encoder.train(train)
    key, shuffle = torch.tensor([5, 6, 7, 8]), torch.tensor([2, 0, 3, 1])
    plain = encoder(values, mask, key)
    alike(encoder(values[shuffle], mask[shuffle], key[shuffle]), taken(plain, shuffle))
    short = int(mask[1].sum())
    alone = encoder(values[1:2, :short], mask[1:2, :short], key[1:2])
    torch.testing.assert_close(alone.pooled, plain.pooled[1:2], rtol=1e-4, atol=1e-4)
    alike(encoder(values, mask, key), plain, rtol=0, atol=0)


def test_what_is_padded_changes_nothing(encoder):
    values, mask = sample(encoder)
    plain = encoder(values, mask)
    garbage = {torch.uint8: 255, torch.int64: 0}.get(values.dtype, float("nan"))
    spoilt = values.masked_fill(~mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), garbage)
    padding = [0, 0] * (values.ndim - 2)
    wide = torch.nn.functional.pad(spoilt, (*padding, 0, 6), value=garbage), torch.nn.functional.pad(mask, (0, 6))
    alike(encoder(spoilt, mask), plain)
    alike(encoder(*wide), plain)


def test_dropout_is_drawn_from_the_key_alone(encoder):
    values, mask = sample(encoder)
    plain, key = encoder(values, mask, torch.arange(4)), torch.arange(4)
    encoder.train()
    torch.testing.assert_close(encoder(values, mask).pooled, plain.pooled, rtol=1e-4, atol=1e-4)  # no key, no dropout
    before = torch.get_rng_state()
    dropped = encoder(values, mask, key).pooled
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.allclose(dropped, plain.pooled) and not torch.allclose(dropped, encoder(values, mask, key + 1).pooled)


def test_a_gradient_reaches_all_that_learns_and_all_that_is_real(encoder):
    values, mask = sample(encoder)
    if values.is_floating_point() or encoder.reads == "image":
        values = (values / 255 if encoder.reads == "image" else values).requires_grad_()
    if hasattr(encoder, "tune_layers") and encoder.reads == "text":
        encoder = made(registry_name(encoder), tune_layers=-1)
    for parameter in encoder.parameters():
        if not parameter.any():  # an attention that begins as the mean passes nothing back before its first step
            torch.nn.init.normal_(parameter, std=0.1)
    encoded = encoder(values, mask)
    parts = [encoded.pooled, encoded.tokens, *(level for level, _ in encoded.levels)]
    sum((part[:1] * torch.randn(part[:1].shape, generator=torch.Generator().manual_seed(0))).sum() for part in parts).backward()
    silent = {name for name, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert {name for name in silent if not name.endswith(("mask_token", "key.bias", "k_proj.bias"))} <= expected_silent(encoder)
    if values.requires_grad:
        reached = values.grad.flatten(2).abs().sum(-1) > 0
        assert torch.equal(reached, mask & (torch.arange(4)[:, None] == 0))


def expected_silent(encoder):
    """Embeddings of positions and pieces that no text here has; the softmax knows no constant, so that a key's bias learns nothing."""
    return {name for name, _ in encoder.named_parameters() if "token_type" in name or "global" in name}


def registry_name(encoder):
    return type(encoder).__module__.rpartition(".")[2]


@pytest.mark.parametrize("name", ENCODERS)
def test_only_what_learns_moves(name):
    """`learnable` holds true for a copy too, as a teacher is one."""
    encoder = made(name)
    assert {id(p) for p in encoder.learnable()} <= {id(p) for p in encoder.parameters()}
    assert {id(p) for p in encoder.project.parameters()} <= {id(p) for p in encoder.learnable()}
    twin = copy.deepcopy(encoder)
    names = lambda one: {name for name, p in one.named_parameters() if id(p) in {id(q) for q in one.learnable()}}
    assert names(twin) == names(encoder)
    if "tune_layers" not in config.packaged("encoders", name)[0]:
        assert names(encoder) == {name for name, _ in encoder.named_parameters()}
        return
    inside = lambda found: {n for n in found if n.startswith("network.")}
    none, one, two, all_ = (inside(names(made(name, tune_layers=layers))) for layers in (0, 1, 2, -1))
    assert not none and one and one < two and two <= all_ and all_ == inside(n for n, _ in encoder.named_parameters())
    with pytest.raises(ConfigError, match="tune_layers is -1"):
        made(name, tune_layers=99)


def test_zero_is_one_token_of_zeros_and_has_no_dropout(encoder):
    expected = encoder.zero()
    assert expected.shape == (1, encoder.dim) and torch.isfinite(expected).all()
    encoder.train()
    torch.testing.assert_close(encoder.zero(), expected)


def test_the_same_seed_gives_the_same_encoder_and_another_another(encoder):
    name, values = registry_name(encoder), sample(encoder)
    alike(made(name)(*values), encoder(*values), rtol=0, atol=0)
    assert not torch.allclose(made(name, seed=1)(*values).pooled, encoder(*values).pooled)


def test_saved_and_loaded_as_a_run_it_says_the_same(encoder, tmp_path):
    """The state_dict of an encoder comes back through the way of a run's weights; that of another encoder does not."""
    state = {f"encoders.m.{name}": tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    (tmp_path / "weights.safetensors").write_bytes(save(state | {"head.weight": torch.zeros(1)}))
    assert load(save(state)).keys() == state.keys()
    weights = Weights("run", tmp_path, ("weights.safetensors",), "digest", modality="m")
    other, values = made(registry_name(encoder), seed=1), sample(encoder)
    other.load(weights)
    alike(other(*values), encoder(*values), rtol=0, atol=0)
    with pytest.raises(ConfigError, match="another network"):
        made(registry_name(encoder), dim=encoder.dim + 1).load(weights)


def test_it_computes_in_sixteen_bits_where_it_is_told(encoder):
    values, mask = sample(encoder)
    plain = encoder(values, mask)
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder(values, mask)
    assert all(torch.isfinite(part.float()).all() for part in real(low))
    cosine = torch.nn.functional.cosine_similarity(low.pooled.float(), plain.pooled)
    assert cosine.min() > 0.98
    assert [level.shape for level, _ in low.levels] == [level.shape for level, _ in plain.levels]


def test_bare_it_gives_what_its_projection_reads(encoder):
    values, mask = sample(encoder)
    full, project = encoder(values, mask).pooled, encoder.project
    bare = encoder.bare()
    features = bare(values, mask).pooled
    assert features.shape == (4, bare.dim)
    torch.testing.assert_close(project(features), full)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_list_tells_what_it_reads(name):
    assert config.packaged("encoders", name)[1]["reads"] == registry.find("encoder", name).reads
