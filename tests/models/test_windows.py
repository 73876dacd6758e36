"""Windows: each id once, where it stood, in groups with little padding."""

import pytest
import torch

from omnifuse.models.parts import windows
from omnifuse.models.parts.texts import END, Texts
from omnifuse.models.parts.windows import Windows, chunks

LENGTHS = [[7], [1, 5, 0, 12, 10], [0, 0], [3, 3, 3], [10, 20, 30], [1664, 40, 700]]


def mask_of(lengths):
    return torch.arange(max(lengths) or 1) < torch.tensor(lengths)[:, None]


def cut_of(mask: torch.Tensor, window: int) -> Windows:
    """Of samples with one text each."""
    return Windows.cut(Texts.of(mask.long(), mask), window)


def through(cut: Windows, values: torch.Tensor) -> torch.Tensor:
    """Every group's places run through the identity, and back."""
    flat, groups = values.flatten(0, 1)[cut.at], cut.groups()
    found = [cut.places(group) for group in groups]
    return cut.back([flat[number][real] for number, real in found], [number[real] for number, real in found], values.shape[-1])


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("window", [1, 5, 510])
def test_what_goes_through_comes_back_where_it_was(lengths, window):
    mask = mask_of(lengths)
    values = torch.randn(*mask.shape, 3)
    assert torch.equal(through(cut_of(mask, window), values), values * mask[..., None])


def test_ids_are_counted_over_the_real_ones():
    mask = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]]).bool()
    assert chunks(mask, 2).tolist() == [[0, -1, 0, 1, -1, 1], [-1, 0, -1, -1, -1, -1]]
    cut, values = cut_of(mask, 2), torch.randn(2, 6, 3)
    assert cut.text.tolist() == [0, 0, 1] and cut.length.tolist() == [2, 2, 1] and cut.rank.tolist() == [0, 1, 0]
    assert torch.equal(through(cut, values), values * mask[..., None])


def test_1748_characters_fit_four_windows():
    cut = cut_of(mask_of([1748]), 510)
    assert cut.length.tolist() == [510, 510, 510, 218] and cut.rank.tolist() == [0, 1, 2, 3]
    assert chunks(mask_of([1748]), 510)[0].bincount().tolist() == [510, 510, 510, 218]


@pytest.mark.parametrize("spread", [(1, 30), (20, 600), (500, 1200)])
def test_groups_are_complete_and_hardly_padded(spread):
    lengths = torch.randint(*spread, (200,), generator=torch.Generator().manual_seed(0))
    cut = cut_of(mask_of(lengths.tolist()), 510)
    groups = cut.groups()
    assert torch.equal(torch.cat(groups).sort().values, torch.arange(len(cut.text)))
    for group in groups:
        length = cut.length[group]
        longest = int(length.max())
        assert longest - int(length.min()) <= max(windows.SLACK, longest // 8)
        assert len(group) == 1 or len(group) * longest <= windows.IDS_AT_ONCE
    computed = sum(len(group) * int(cut.length[group].max()) for group in groups)
    if spread[0] > 1:
        assert computed <= 1.08 * int(lengths.sum())


def test_the_mean_over_windows():
    cut = cut_of(mask_of([3, 0, 1]), 2)
    vectors = torch.tensor([[1.0], [3.0], [7.0]])  # of windows 0 and 1 of text 0, and of window 0 of text 2
    groups = cut.groups()
    assert cut.mean([vectors[group] for group in groups], groups, 1).tolist() == [[2.0], [0.0], [7.0]]


def test_each_window_of_a_text_has_its_own_key_whatever_the_batch():
    key = torch.tensor([11, 12, 13])
    mask = mask_of([9, 2, 30])
    keys = cut_of(mask, 4).keys(key)
    assert len(set(keys.tolist())) == len(keys) == 3 + 1 + 8
    assert torch.equal(cut_of(mask[:1], 4).keys(key[:1]), keys[:3])
    assert cut_of(mask, 4).keys(None) is None


# Several texts of a sample

ROW = torch.tensor([[5, 6, 7, END, 8, END, 0, 0], [9, 9, 9, 9, 9, END, 3, END], [1, 2, 0, 0, 0, 0, 0, 0], [0] * 8])
THERE = torch.arange(8) < torch.tensor([6, 8, 2, 0])[:, None]


def test_texts_are_told_apart_by_their_ends():
    texts = Texts.of(ROW, THERE)
    assert texts.sample.tolist() == [0, 0, 1, 1, 2] and texts.length.tolist() == [3, 1, 5, 1, 2]
    assert texts.share.tolist() == [0.5] * 4 + [1.0] and texts.text.tolist() == [0] * 3 + [1] + [2] * 5 + [3] + [4] * 2
    assert torch.equal(texts.real, THERE & (ROW != END))


def test_every_text_counts_the_same_whatever_its_length():
    texts = Texts.of(ROW, THERE)
    tokens = (ROW * texts.real)[..., None].double()
    assert texts.mean(tokens)[:, 0].tolist() == pytest.approx([(6 + 8) / 2, (9 + 3) / 2, 1.5, 0])
    assert texts.average(torch.tensor([[6.0], [8.0], [9.0], [3.0], [1.5]]))[:, 0].tolist() == [7.0, 6.0, 1.5, 0.0]


def test_no_window_reaches_into_the_next_text():
    cut, values = Windows.cut(Texts.of(ROW, THERE), 2), torch.randn(4, 8, 3)
    assert cut.length.tolist() == [2, 1, 1, 2, 2, 1, 1, 2] and cut.rank.tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert torch.equal(through(cut, values), values * cut.texts.real[..., None])
    groups, vectors = cut.groups(), torch.arange(8.0)[:, None]
    mean = cut.mean([vectors[group] for group in groups], groups, 1)[:, 0]  # first over the windows of a text, then over its texts
    assert mean.tolist() == pytest.approx([(0.5 + 2) / 2, (4 + 6) / 2, 7, 0])
    keys = cut.keys(torch.tensor([1, 2, 3, 4]))
    assert len(set(keys.tolist())) == 8


def test_an_end_that_is_masked_ends_nothing():
    mask = torch.tensor([[True, False, True]])
    assert Texts.of(torch.tensor([[4, END, 5]]), mask).length.tolist() == [2]
