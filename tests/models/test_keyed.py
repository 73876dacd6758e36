"""Randomness by key: uniform, independent between samples and places, and the same in whatever batch."""

import pytest
import torch

from omnifuse.models.parts import keyed
from omnifuse.models.parts.keyed import Dropout, bits, name_dropouts, uniform

KEY = torch.arange(400) * 0x1234567  # as regular as keys can be


def test_uniform_numbers_are_uniform():
    drawn = uniform(KEY, "place", (500,))
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 20, 0, 1)
    assert ((counts - 10_000).abs() < 5 * 10_000**0.5).all()


def test_neither_samples_nor_places_nor_elements_go_together():
    drawn = uniform(KEY, "place", (500,))
    for table in (drawn, drawn.T, torch.cat([drawn[:200], uniform(KEY[:200], "other", (500,))])):
        correlation = torch.corrcoef(table).fill_diagonal_(0)
        assert correlation.std() < 1.1 * table.shape[1] ** -0.5
        assert correlation.abs().max() < 6 * table.shape[1] ** -0.5


def test_a_sample_draws_the_same_in_any_batch_and_at_any_width():
    drawn = bits(KEY, "place", (7, 3))
    shuffle = torch.randperm(len(KEY))
    assert torch.equal(bits(KEY[shuffle], "place", (7, 3)), drawn[shuffle])
    assert torch.equal(bits(KEY, "place", (9, 3))[:, :7], drawn)
    assert not torch.equal(bits(KEY, "elsewhere", (7, 3)), drawn)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    dropout = Dropout(p)
    kept = dropout(torch.ones(400, 1000), KEY)
    assert (kept == 0).float().mean() == pytest.approx(p, abs=0.004)
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - p).item()}


@pytest.mark.parametrize("why", ["eval mode", "no key", "p = 0"])
def test_dropout_that_does_nothing(why):
    dropout, x = Dropout(0.0 if why == "p = 0" else 0.5), torch.randn(400, 5)
    dropout.train(why != "eval mode")
    assert torch.equal(dropout(x, None if why == "no key" else KEY), x)


def test_every_dropout_of_a_model_draws_its_own():
    model = torch.nn.ModuleDict({"a": Dropout(0.5), "b": torch.nn.Sequential(Dropout(0.5))})
    name_dropouts(model)
    x = torch.ones(400, 10)
    assert not torch.equal(model["a"](x, KEY), model["b"][0](x, KEY))
    assert model["a"].salt == keyed.number("a")


def test_numbers_of_names_differ():
    assert len({keyed.number(*names) for names in [(1, 2), (12,), ("1", "2", ""), (2, 1)]}) == 4
