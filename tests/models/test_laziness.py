"""Which combination is lazy, who shows it, and how combinations are drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_dwfuse import calibrated, fused

from omnifuse.models.contract import Term
from omnifuse.models.parts import laziness


def test_combinations_stand_in_the_order_of_their_bit_masks():
    names = laziness.combinations(("ehr", "cxr", "rep"))
    assert names == [("ehr",), ("cxr",), ("ehr", "cxr"), ("rep",), ("ehr", "rep"), ("cxr", "rep"), ("ehr", "cxr", "rep")]
    bits = torch.arange(1, 8)
    visible = laziness.visible_of(bits, 3)
    assert torch.equal(laziness.bits_of(visible), bits)
    assert [tuple(np.array(["ehr", "cxr", "rep"])[row.numpy()]) for row in visible] == names


@pytest.mark.parametrize("possessed", [0b1, 0b101, 0b111, 0b111111, 0])
def test_drawn_combinations_are_all_those_of_what_is_possessed_and_equally_likely(possessed):
    key = torch.randint(2**62, (20_000,), generator=torch.Generator().manual_seed(0))
    present = laziness.visible_of(torch.full((len(key),), possessed), 6)
    drawn = laziness.draw_combinations(present, key)
    bits, count = laziness.bits_of(drawn).unique(return_counts=True)
    expected = [b for b in range(1, 64) if b & possessed == b] or [0]
    assert bits.tolist() == expected
    share = len(key) / len(expected)
    assert (count - share).abs().max() < 5 * share**0.5
    shuffle = torch.randperm(len(key), generator=torch.Generator().manual_seed(1))
    assert torch.equal(laziness.draw_combinations(present[shuffle], key[shuffle]), drawn[shuffle])


@pytest.mark.parametrize(
    "sums, counts, lazy",
    [
        ([1.0, 2.0, 3.0], [1, 1, 1], 3),
        ([4.0, 30.0, 3.0], [1, 10, 1], 1),  # the mean, not the sum
        ([2.0, 4.0, 1.0], [1, 2, 1], 1),  # the lowest of equals
        ([0.0, 2.0, 0.0], [0, 4, 0], 2),  # nobody possesses the others
        ([0.0, 0.0, 0.0], [0, 0, 0], 0),
    ],
)
def test_the_lazy_combination(sums, counts, lazy):
    assert laziness.find_lazy(Term(torch.tensor(sums), torch.tensor(counts))) == lazy


def test_distances_are_over_those_who_possess_all_members_with_only_these_visible():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 3, 1, generator=random)
    batch = SimpleNamespace(
        present=torch.rand(30, 3, generator=random) < 0.6,
        label=(torch.rand(30, 1, generator=random) < 0.5).float(),
        label_mask=torch.rand(30, 1, generator=random) < 0.8,
    )
    found = laziness.distances(batch, lambda rows, visible: (logits[rows] * visible[..., None]).sum(1))
    for bits in range(1, 8):
        members = [m for m in range(3) if bits >> m & 1]
        rows = [b for b in range(30) if all(batch.present[b, m] for m in members) and batch.label_mask[b]]
        total = 0.0
        for b in rows:
            p = torch.sigmoid(sum(logits[b, m] for m in members))
            total -= float((p if batch.label[b] else 1 - p).log())
        assert int(found.count[bits - 1]) == len(rows)
        assert float(found.sum[bits - 1]) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("prevalence, literal", [(0.12, 0b111), (0.3, 0b110)])
def test_calibrated_heads_never_make_the_full_set_lazy(prevalence, literal):
    """The literal score counts the prior once a modality: where the outcome is rare it names all three, else the two weak ones."""
    logits, y, _ = calibrated(prevalence)
    label = torch.from_numpy(y).double()[:, None]
    batch = SimpleNamespace(present=torch.ones(len(y), 3, dtype=torch.bool), label=label.float(), label_mask=label > -1)
    lazy = [
        laziness.find_lazy(laziness.distances(batch, lambda rows, visible, how=how: fused(logits[rows], visible, prevalence, how)[:, None]))
        for how in (True, False)
    ]
    assert lazy == [0b100, literal]  # corrected, the weakest modality alone
