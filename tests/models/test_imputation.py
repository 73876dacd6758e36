"""The cascade, its losses and its targets against plain loops; the controls; the calibration error."""

import numpy as np
import pytest
import torch
from torch import nn

from omnifuse.models.contract import Term
from omnifuse.models.parts import calibration_error, imputation
from omnifuse.models.parts import imputation_quality as quality

WIDTHS = [3, 4, 2]


@pytest.fixture
def cascade():
    torch.manual_seed(0)
    return imputation.Cascade(sum(WIDTHS), blocks=3, latent=2).double()


def plain(layers, x: np.ndarray, leak: float) -> np.ndarray:
    """Linear layers with a (leaky) ReLU between."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(linear):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if place + 1 < len(linear):
            x = np.where(x > 0, x, leak * x)
    return x


def plain_cascade(cascade, v: np.ndarray):
    residuals, latents = [], []
    for block in cascade.blocks:
        c = plain(block.encoder, v + sum(residuals), leak=0.01)  # dz_k = phi_k(v + sum_{j<k} dz_j)
        residuals.append(plain(block.decoder, c, leak=0.0))
        latents.append(c)
    return v + sum(residuals), np.concatenate(latents, 1)


def test_the_cascade_is_eq_4_and_5(cascade):
    v = torch.randn(5, sum(WIDTHS), dtype=torch.float64)
    found, latents = cascade(v)
    wanted, coded = plain_cascade(cascade, v.numpy())
    np.testing.assert_allclose(found.detach(), wanted, atol=1e-9)
    np.testing.assert_allclose(latents.detach(), coded, atol=1e-9)
    assert latents.shape == (5, cascade.latent_dim) == (5, 6)


def test_the_transition_of_mmin_comes_last(cascade):
    torch.manual_seed(0)
    other = imputation.Cascade(sum(WIDTHS), blocks=3, latent=2, transition=True).double()
    v = torch.randn(5, sum(WIDTHS), dtype=torch.float64)
    np.testing.assert_allclose(other(v)[0].detach(), plain(other.transition, cascade(v)[0].detach().numpy(), leak=0.0), atol=1e-9)


def test_the_autoencoders_are_as_wide_as_mmins():
    block = imputation.Cascade(384).blocks
    shapes = [layer.out_features for layer in (*block[0].encoder, *block[0].decoder) if isinstance(layer, nn.Linear)]
    assert (len(block), shapes) == (5, [256, 128, 64, 128, 256, 384])


@pytest.mark.parametrize("blocks", [0, 2])
def test_without_residuals_nothing_is_changed(blocks):
    """Eq 4-6 with phi = 0: v'' = v' = v."""
    cascade = imputation.Cascade(6, blocks, latent=2)
    for block in cascade.blocks:
        nn.init.zeros_(block.decoder[-1].weight)
        nn.init.zeros_(block.decoder[-1].bias)
    v = torch.randn(4, 6)
    once, latents = cascade(v)
    twice, _ = cascade(once)
    assert torch.equal(once, v) and torch.equal(twice, v) and latents.shape == (4, 2 * blocks)


CASES = {  # visible, hidden -> the slots that are compared, of the complement and of what is masked
    "one hidden": ((1, 0, 1), (0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "one never observed": ((1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 1, 0)),
    "complete": ((1, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    "all it has": ((1, 1, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    "nothing": ((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
}


@pytest.mark.parametrize("visible, hidden, complement, masked", CASES.values(), ids=CASES)
def test_what_is_compared(visible, hidden, complement, masked):
    visible, hidden = torch.tensor([visible]).bool(), torch.tensor([hidden]).bool()
    assert imputation.imputation_slots(visible, hidden).tolist() == [[bool(x) for x in complement]]
    assert imputation.imputation_slots(visible, hidden, "masked").tolist() == [[bool(x) for x in masked]]


@pytest.mark.parametrize("target", imputation.TARGETS)
@pytest.mark.parametrize("reduction", imputation.REDUCTIONS)
def test_the_losses_are_eq_7_and_8(cascade, target, reduction):
    torch.manual_seed(1)
    backward = imputation.Cascade(sum(WIDTHS), blocks=3, latent=2).double()
    visible, hidden = (torch.tensor([case[place] for case in CASES.values()]).bool() for place in (0, 1))
    v, wanted = torch.randn(2, len(CASES), sum(WIDTHS), dtype=torch.float64)
    slots = imputation.imputation_slots(visible, hidden, target)
    once, _ = cascade(v)
    twice, _ = backward(once)
    term = lambda found, aim: imputation.imputation_term(imputation.slot_errors(found, aim, WIDTHS, reduction), slots, 1.0, reduction)
    plain_once = plain_cascade(cascade, v.numpy())[0]
    plain_twice = plain_cascade(backward, plain_once)[0]
    for found, aim, expected in [(once, wanted, plain_once), (twice, v, plain_twice)]:
        squares = (expected - aim.numpy()) ** 2
        bounds = np.cumsum([0, *WIDTHS])
        each = [
            (b, squares[b, bounds[m] : bounds[m + 1]])
            for b, case in enumerate(CASES.values())
            for m in range(3)
            if case[2 if target == "complement" else 3][m]
        ]
        if reduction == "mean":
            value = np.mean([slot.mean() for _, slot in each])
        else:
            value = sum(slot.sum() for _, slot in each) / len({b for b, _ in each})
        assert float(term(found, aim).mean.detach()) == pytest.approx(value, abs=1e-9)


def test_where_nothing_is_hidden_the_loss_is_nothing_and_so_is_its_gradient(cascade):
    v = torch.randn(4, sum(WIDTHS), dtype=torch.float64)
    slots = imputation.imputation_slots(torch.ones(4, 3).bool(), torch.zeros(4, 3).bool())
    term = imputation.imputation_term(imputation.slot_errors(cascade(v)[0], v + 1, WIDTHS), slots, 1.0)
    term.mean.backward()
    assert float(term.mean.detach()) == 0 and all(float(p.grad.abs().max()) == 0 for p in cascade.parameters())


class Evaluated:
    """A context whose parts are single batches."""

    def __init__(self, **parts):
        self.parts = parts

    def evaluate(self, part, statistic):
        return statistic(self.parts[part])


class Taught:
    def __init__(self, embeddings, present):
        self.embeddings, self.present = embeddings, present


def test_the_controls_are_the_mean_and_a_ridge_regression():
    """The second modality is linear in the first, the third is noise: ridge finds the one and no more than the mean of the other."""
    random = torch.Generator().manual_seed(0)
    made = {}
    mix = torch.randn(3, 4, generator=random)
    for part, size in (("train", 400), ("val", 150)):
        x = torch.randn(size, 9, generator=random)
        x[:, 3:7] = x[:, :3] @ mix + 2
        present = torch.rand(size, 3, generator=random) < 0.8
        present[:, 0] = True
        made[part] = Taught(x, present)
    means = [made["train"].embeddings[made["train"].present[:, m]].split(WIDTHS, 1)[m].mean(0, keepdim=True) for m in range(3)]
    controls = quality.compute_controls(Evaluated(**made), WIDTHS, means, lambda batch: batch.embeddings)
    mean, ridge, cosine = controls.T
    val = made["val"]
    for m in range(3):
        rows = val.present[:, m] & (val.present.sum(1) > 1)
        expected = (val.embeddings.split(WIDTHS, 1)[m][rows] - means[m]).square().mean()
        assert float(mean[m]) == pytest.approx(float(expected), rel=1e-4)
    assert ridge[1] < 0.01 * mean[1] and cosine[1] > 0.99
    assert ridge[2] > 0.9 * mean[2] and abs(cosine[2]) < 0.3
    alone = Taught(val.embeddings, torch.eye(3).bool()[torch.zeros(150).long()])
    nobody = quality.compute_controls(Evaluated(train=made["train"], val=alone), WIDTHS, means, lambda b: b.embeddings)
    assert nobody.isnan().all()


def test_agreement_is_centred_on_the_mean():
    mean = torch.tensor([[10.0, 10.0]])
    terms = quality.agreement(mean + torch.tensor([[1.0, 0.0]]), mean + torch.tensor([[0.0, 1.0]]), mean)
    assert float(terms["error"].mean) == 1 and float(terms["plain_cosine"].mean) > 0.99
    assert float(terms["centred_cosine"].mean) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_calibration_error_of_bins(kind):
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(500, 1 if kind == "binary" else 3)))
    logits[3] = torch.nan
    known = random.random(500) < 0.9
    if kind == "binary":
        p, label = torch.sigmoid(logits)[:, 0].numpy(), random.random(500) < 0.3
        told, came = torch.from_numpy(label[:, None]).float(), label
    else:
        q, label = torch.softmax(logits, 1).numpy(), random.integers(3, size=500)
        p, told, came = q.max(1), torch.from_numpy(label), q.argmax(1) == label
    mask = torch.from_numpy(known[:, None] if kind == "binary" else known)
    halves = [slice(0, 200), slice(200, 500)]
    first, second = (calibration_error.calibration_bins(logits[h], told[h], mask[h], kind) for h in halves)
    found = calibration_error.expected_calibration_error(Term(first.sum + second.sum, first.count + second.count))
    used = known & ~np.isnan(p)
    expected = 0.0
    for number in range(15):
        inside = used & (np.floor(p * 15) == number)
        if inside.any():
            expected += inside.sum() / used.sum() * abs(p[inside].mean() - came[inside].mean())
    assert found == pytest.approx(expected, abs=1e-6)
    column = label.astype(np.float64)[:, None]
    whole = calibration_error.calibration_error_of(logits.numpy(), np.where(known[:, None], column, np.nan), kind)
    assert whole == pytest.approx(expected, abs=1e-6)
