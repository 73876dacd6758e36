"""Encoders of signals, series and extracted features: what a moment sees, what the ends of a signal do, and how rows are pooled."""

import pytest
import torch
from torch import nn

from omnifuse.models import registry
from omnifuse.models.encoders.embedding import Embedding
from omnifuse.models.encoders.resnet1d import ResNet1d
from omnifuse.models.encoders.transformer import Transformer, positions
from omnifuse.models.parts.masked_conv import MaskedConv, shortened
from omnifuse.models.parts.pooling import Attention, last_real, masked_mean
from omnifuse.preprocess.schema import ConfigError


def rows(*lengths, width=5, seed=1):
    """values [B, T, width], mask [B, T]."""
    values = torch.randn(len(lengths), max(lengths), width, generator=torch.Generator().manual_seed(seed))
    return values, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


# Pooling


def test_pooling_counts_what_is_real():
    x = torch.tensor([[[1.0], [3.0], [float("nan")]], [[4.0], [float("nan")], [8.0]], [[float("nan")]] * 3])
    mask = torch.tensor([[True, True, False], [True, False, True], [False] * 3])
    assert masked_mean(x, mask).tolist() == [[2.0], [6.0], [0.0]]
    assert last_real(x, mask).tolist() == [[3.0], [8.0], [0.0]]
    assert Attention(1)(x, mask).tolist() == [[2.0], [6.0], [0.0]]  # before it has learnt anything


def test_attention_learns_to_look_at_one_row():
    pool = Attention(2, hidden=4)
    x, mask = torch.randn(64, 6, 2, generator=torch.Generator().manual_seed(0)), torch.ones(64, 6, dtype=torch.bool)
    wanted = x[torch.arange(64), x[..., 0].argmax(1), 1]
    learning = torch.optim.Adam(pool.parameters(), lr=0.05)
    losses = []
    for _ in range(150):
        loss = (pool(x, mask)[:, 1] - wanted).square().mean()
        learning.zero_grad()
        loss.backward()
        learning.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


# Signals


@pytest.mark.parametrize("stride, kernel", [(1, 3), (2, 7), (4, 5)])
@pytest.mark.parametrize("length", [1, 7, 16])
def test_a_convolution_sees_zeros_behind_the_end(stride, kernel, length):
    """What torch's convolution and layer normalisation over (channels, time) say of the signal alone."""
    torch.manual_seed(0)
    layer = MaskedConv(3, 4, kernel, stride)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(1, 3, length)
    plain = layer.convolution(x)
    expected = nn.functional.layer_norm(plain, plain.shape[1:]) * layer.weight[:, None] + layer.bias[:, None]
    mask = torch.arange(40)[None] < length
    found, real = layer(nn.functional.pad(x, (0, 40 - length), value=9.0), mask)
    assert int(real.sum()) == plain.shape[-1] == -(-length // stride)
    torch.testing.assert_close(found[..., : plain.shape[-1]], expected)
    assert not found[..., plain.shape[-1] :].any()


def test_a_shortened_mask_keeps_every_group_with_a_real_moment():
    mask = torch.tensor([[True] * 5, [False, False, False, True, False]])
    assert shortened(mask, 2).tolist() == [[True, True, True], [False, True, False]]


def test_levels_of_a_signal_halve():
    encoder = ResNet1d(2, width=4).eval()
    values, mask = rows(100, 33, width=2)
    encoded = encoder(values, mask)
    assert [level.shape for level, _ in encoded.levels] == [(2, 25, 4), (2, 13, 8), (2, 7, 16), (2, 4, 32)]
    assert [real.sum(1).tolist() for _, real in encoded.levels] == [[25, 9], [13, 5], [7, 3], [4, 2]]
    assert torch.equal(encoded.tokens, encoded.levels[-1][0])


def test_resnet1d_learns_a_beat_that_comes_early():
    """One wave in noise, in half of the signals with a second one soon after it: order and distance, at any place."""
    torch.manual_seed(0)
    draw, wave = torch.Generator().manual_seed(1), torch.hann_window(9)
    x, label = 0.1 * torch.randn(192, 128, 1, generator=draw), torch.arange(192) % 2
    for number in range(192):
        start = int(torch.randint(0, 60, (1,), generator=draw))
        for place in (start, start + (20 if number % 2 else 50)):
            x[number, place : place + 9, 0] += wave
    encoder, head, mask = ResNet1d(1, width=8, stages=3, dim=16, dropout=0.0), nn.Linear(16, 1), torch.ones(192, 128, dtype=torch.bool)
    learning = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(45):
        at = torch.arange(32) + step % 4 * 32
        score = head(encoder(x[at], mask[at], at).pooled)[:, 0]
        nn.functional.binary_cross_entropy_with_logits(score, label[at].float()).backward()
        learning.step()
        learning.zero_grad()
    with torch.no_grad():
        score = head(encoder.eval()(x[128:], mask[128:]).pooled)[:, 0]
    assert (score[1::2, None] > score[None, ::2]).float().mean() > 0.9


# Series


def test_the_transformer_is_torchs_pre_ln_layer():
    torch.manual_seed(0)
    encoder = Transformer(5, hidden=8, layers=2, heads=2, inner=2).eval()
    values, mask = rows(6, 3)
    h = encoder.enter(values) + positions(6, 8, values.device)
    for layer in encoder.layers:
        theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        own = layer.state_dict()
        names = {
            "self_attn.in_proj_": "query_key_value.", "self_attn.out_proj.": "out.", "linear1.": "mlp.0.", "linear2.": "mlp.2.",
            "norm1.": "norm1.", "norm2.": "norm2.",
        }  # fmt: skip
        theirs.load_state_dict({f"{name}{kind}": own[f"{mine}{kind}"] for name, mine in names.items() for kind in ("weight", "bias")})
        h = theirs(h, src_key_padding_mask=~mask)
    torch.testing.assert_close(encoder(values, mask).tokens[mask], encoder.norm(h)[mask], rtol=1e-5, atol=1e-5)


def test_positions_are_sines_of_the_step():
    found = positions(50, 6, torch.device("cpu"))
    torch.testing.assert_close(found[7, 1], torch.sin(torch.tensor(7 / 10_000 ** (2 / 6))))
    torch.testing.assert_close(found[7, 4], torch.cos(torch.tensor(7 / 10_000 ** (2 / 6))))


def test_a_series_without_a_real_step_has_no_nan():
    encoder = Transformer(5, hidden=8, heads=2).eval()
    values, mask = rows(4)
    assert torch.isfinite(encoder(values, mask & False).pooled).all()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("transformer", {"layers": 7}, "1 to 6 layers"),
        ("transformer", {"hidden": 10, "heads": 4}, "multiple of its heads"),
        ("transformer", {"pool": "max"}, "unknown pooling"),
        ("resnet1d", {"stages": 7}, "1 to 6 stages"),
        ("resnet1d", {"kernel": 4}, "is odd"),
        ("beats", {"levels": 7}, "1 to 6 levels"),
    ],
)
def test_shapes_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        registry.build_encoder({"name": name, **options}, 5, 0, "m")


# Features


def test_features_are_projected_from_their_last_level():
    encoder = Embedding([2, 3], dim=4).eval()
    values, mask = rows(3, 1)
    encoded = encoder(values, mask)
    assert [level.shape[-1] for level, _ in encoded.levels] == [2, 3]
    torch.testing.assert_close(encoded.levels[0][0][mask], values[..., :2][mask])
    torch.testing.assert_close(encoded.tokens[mask], values[..., 2:][mask])
    torch.testing.assert_close(encoded.pooled[:1], encoder.project(values[:1, :, 2:].mean(1)))
    torch.testing.assert_close(encoded.pooled[1], encoder.project(values[1, 0, 2:]))


@pytest.mark.parametrize("pool", ["mean", "attention", "last"])
def test_a_vector_is_a_series_of_one_row(pool):
    encoder = Embedding(5, pool=pool).eval()
    values, mask = rows(1, 1)
    assert torch.equal(encoder(values[:, 0], mask).pooled, encoder(values, mask).pooled)
    assert torch.equal(encoder.zero(vector=True), encoder.zero())


def test_features_of_sixteen_bits_are_read():
    encoder = Embedding(5).eval()
    values, mask = rows(3, 1)
    torch.testing.assert_close(encoder(values.half(), mask).pooled, encoder(values.half().float(), mask).pooled)


def test_more_levels_than_a_method_takes_are_refused():
    with pytest.raises(ConfigError, match="1 to 6 levels"):
        Embedding([2] * 7)
