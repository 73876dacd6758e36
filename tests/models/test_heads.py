"""Losses on logits, label by label, unknown labels left out."""

import pytest
import torch
from torch.nn import functional as F

from omnifuse.models.contract import Term
from omnifuse.models.parts.heads import build_head, probabilities, task_loss
from omnifuse.preprocess.schema import ConfigError

NAN = float("nan")


def test_a_multilabel_loss_is_the_mean_over_the_known_labels():
    logits = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 0.0], [1.0, 1.0, 1.0]])
    label = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    loss, counted = task_loss(logits, label, known)
    first = (F.softplus(torch.tensor(-1.0)) + F.softplus(torch.tensor(-2.0))) / 2
    torch.testing.assert_close(loss, torch.stack([first, F.softplus(torch.tensor(0.5)), torch.tensor(0.0)]))
    assert counted.tolist() == [True, True, False]


def test_a_multiclass_loss_is_cross_entropy_of_the_known():
    logits, label = torch.randn(4, 3), torch.tensor([0, 2, 1, 0])
    known = torch.tensor([True, True, False, True])
    loss, _ = task_loss(logits, label, known)
    expected = -torch.log_softmax(logits, 1)[torch.arange(4), label] * known
    torch.testing.assert_close(loss, expected)


def test_sixteen_bit_logits_are_judged_in_thirty_two():
    logits = torch.tensor([[30.0]], dtype=torch.bfloat16)
    assert task_loss(logits, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))[0].dtype == torch.float32
    assert probabilities(logits, "binary").dtype == torch.float32


def test_where_nothing_was_counted_the_mean_is_zero():
    term = Term.of(torch.tensor([1.0, NAN]), torch.tensor([False, False]))
    assert term.mean == 0


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match="unknown head 'cubic'"):
        build_head("cubic", 3, 1)
