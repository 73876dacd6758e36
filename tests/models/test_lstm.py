"""The LSTM encoder: the last real state, its levels, and no word from what is padded."""

import pytest
import torch
from torch import nn

from omnifuse.models.encoders.lstm import LSTM


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return LSTM(5, hidden=7, layers=3, dim=4).eval()


def series(*lengths: int):
    torch.manual_seed(1)
    values, steps = torch.randn(len(lengths), max(lengths), 5), torch.arange(max(lengths))
    mask = steps < torch.tensor(lengths)[:, None]
    return values, mask


def test_it_is_torchs_stacked_lstm_at_the_last_real_step(encoder):
    values, mask = series(4, 1, 6)
    stacked = nn.LSTM(5, 7, num_layers=3, batch_first=True)
    own = {f"{kind}_l{n}": getattr(layer, f"{kind}_l0") for n, layer in enumerate(encoder.layers) for kind in ("weight_ih", "weight_hh")}
    own |= {f"{kind}_l{n}": getattr(layer, f"{kind}_l0") for n, layer in enumerate(encoder.layers) for kind in ("bias_ih", "bias_hh")}
    stacked.load_state_dict(own)
    packed = nn.utils.rnn.pack_padded_sequence(values, mask.sum(1), batch_first=True, enforce_sorted=False)
    _, (final, _) = stacked(packed)
    torch.testing.assert_close(encoder(values, mask).pooled, encoder.project(final[-1]))


def test_padding_changes_nothing(encoder):
    values, mask = series(4, 1, 6)
    short = encoder(values[:2, :4], mask[:2, :4])
    long = encoder(values[:2].masked_fill(~mask[:2, :, None], float("nan")), mask[:2])
    torch.testing.assert_close(long.pooled, short.pooled)
    torch.testing.assert_close(long.tokens[:, :4][mask[:2, :4]], short.tokens[mask[:2, :4]])


def test_tokens_are_the_last_of_its_levels(encoder):
    values, mask = series(4, 6)
    encoded = encoder(values, mask)
    assert [level.shape for level, _ in encoded.levels] == [(2, 6, dim) for dim in encoder.level_dims]
    assert torch.equal(encoded.levels[-1][0], encoded.tokens) and encoded.tokens.shape[-1] == encoder.token_dim
    assert torch.equal(encoded.mask, mask) and all(torch.equal(level_mask, mask) for _, level_mask in encoded.levels)


def test_zero_is_one_zero_step(encoder):
    expected = encoder(torch.zeros(1, 1, 5), torch.ones(1, 1, dtype=torch.bool)).pooled
    encoder.train()
    assert torch.equal(encoder.zero(), expected)  # dropout leaves the stand-in alone
