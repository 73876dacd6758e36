"""The multiplicative weight and the score: against plain loops, at their limits, and against Bayes."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from omnifuse.models.parts import dwfuse

KINDS = {"binary": 1, "multilabel": 4, "multiclass": 3}


def draws(kind: str, samples: int = 7, modalities: int = 3, seed: int = 0):
    """Logits [B, M, C], counted [B, M], label and mask of a task."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, modalities, KINDS[kind], generator=random, dtype=torch.float64) * 2
    counted = torch.rand(samples, modalities, generator=random) < 0.7
    counted[0], counted[1] = True, False
    if kind == "multiclass":
        return logits, counted, torch.randint(3, (samples,), generator=random), torch.rand(samples, generator=random) < 0.8
    label = (torch.rand(samples, KINDS[kind], generator=random) < 0.4).float()
    return logits, counted, label, torch.rand(samples, KINDS[kind], generator=random) < 0.8


def plain_probabilities(logits, kind: str) -> np.ndarray:
    """[L, c] of one head of one sample."""
    x = logits.numpy()
    if kind == "multiclass":
        return (np.exp(x) / np.exp(x).sum())[None]
    p = 1 / (1 + np.exp(-x))
    return np.stack([1 - p, p], 1)


def plain_omega(p: list[np.ndarray], counted, m: int, beta: float) -> np.ndarray:
    """Eq 10 by its letter: p[n] [L, c] of each modality."""
    others = [n for n in range(len(p)) if n != m and counted[n]]
    product = np.ones_like(p[0])
    for n in others:
        product = product * (1 - np.clip(p[n], 1e-6, 1 - 1e-6))
    return product ** (beta / max(len(others), 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_weights_losses_and_scores_equal_plain_loops(kind, beta):
    logits, counted, label, mask = draws(kind)
    log_prob = dwfuse.log_probabilities(logits, kind)
    truth, known = dwfuse.true_classes(label, mask)
    losses, weights = dwfuse.weighted_losses(log_prob, counted, truth, known, beta, detach=True)
    prior = torch.rand(log_prob.shape[2:], dtype=torch.float64).log_softmax(-1)
    latent = torch.randn(len(logits), KINDS[kind], dtype=torch.float64)
    log_latent = dwfuse.log_probabilities(latent, kind)
    omega = dwfuse.omega(log_prob.exp(), counted, beta)
    corrected, literal = (dwfuse.fuse(log_prob, omega, prior, log_latent, 0.1, how) for how in (True, False))
    for b in range(len(logits)):
        p = [plain_probabilities(logits[b, m], kind) for m in range(3)]
        o, pi = plain_probabilities(latent[b], kind), prior.exp().numpy()
        score, plain = np.log(pi) + 0.1 * (np.log(o) - np.log(pi)), 0.1 * np.log(o)
        for m in range(3):
            if not counted[b, m]:
                assert not losses[b, m] and not omega[b, m].any()
                continue
            w = plain_omega(p, counted[b], m, beta)
            np.testing.assert_allclose(omega[b, m], w, rtol=1e-9)
            score, plain = score + w * (np.log(p[m]) - np.log(pi)), plain + w * np.log(p[m])
            told = [k for k in range(len(pi)) if known[b, k]]
            each = [-w[k, truth[b, k]] * math.log(p[m][k, truth[b, k]]) for k in told]
            assert float(losses[b, m]) == pytest.approx(np.mean(each) if told else 0.0, abs=1e-9)
            assert float(weights[b, m]) == pytest.approx(np.mean([w[k, truth[b, k]] for k in told]) if told else 0.0, abs=1e-9)
        np.testing.assert_allclose(corrected[b], score, atol=1e-9)
        np.testing.assert_allclose(literal[b], plain, atol=1e-9)


@pytest.mark.parametrize(
    "others, beta, expected",
    [
        ([0.0], 0.5, 1.0),  # the only companion is surely wrong: full weight
        ([1.0], 0.5, 0.0),  # it is surely right: nothing left to learn
        ([0.75], 0.5, 0.5),  # sqrt(1 - 0.75)
        ([0.75, 0.75], 0.5, 0.5),  # the geometric mean over companions
        ([0.3, 0.9], 0.0, 1.0),  # beta 0 weighs all alike
        ([], 0.5, 1.0),  # alone
    ],
)
def test_omega_follows_eq_10(others, beta, expected):
    prob = torch.tensor([0.2, *others], dtype=torch.float64)[None, :, None, None]
    weight = dwfuse.omega(prob, torch.ones(1, prob.shape[1], dtype=torch.bool), beta)
    assert float(weight[0, 0]) == pytest.approx(expected, abs=2e-3)


def test_what_does_not_count_neither_weighs_nor_is_weighed():
    prob = torch.tensor([0.2, 0.75, 0.999])[None, :, None, None]
    weight = dwfuse.omega(prob, torch.tensor([[True, True, False]]), 0.5)[0, :, 0, 0]
    torch.testing.assert_close(weight, torch.tensor([0.5, 0.8**0.5, 0.0]))


def test_a_surely_wrong_head_still_learns_and_omega_carries_no_gradient():
    """log p has its whole range, 1 - p only within omega is bounded; with a gradient through omega it stays finite too."""
    for detach in (True, False):
        logits = torch.tensor([[[-60.0], [60.0]]], requires_grad=True)
        losses, _ = dwfuse.weighted_losses(
            dwfuse.log_probabilities(logits, "binary"), torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 1).long(),
            torch.ones(1, 1, dtype=torch.bool), 0.5, detach,
        )  # fmt: skip
        losses.sum().backward()
        assert torch.isfinite(logits.grad).all()
        if detach:
            assert float(logits.grad[0, 0]) == pytest.approx(-((1e-6) ** 0.5), rel=0.05)  # omega * (p - 1)
    logits = torch.zeros(1, 2, 1, requires_grad=True)
    truth, known, both = torch.ones(1, 1).long(), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    for detach, expected in [(True, -0.5 * 0.5**0.5), (False, -0.5 * 0.5**0.5 + -0.5 * 0.5**0.5 * 0.5 * -math.log(0.5))]:
        logits.grad = None
        dwfuse.weighted_losses(dwfuse.log_probabilities(logits, "binary"), both, truth, known, 0.5, detach)[0].sum().backward()
        assert float(logits.grad[0, 0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corrected", [True, False])
def test_one_modality_is_its_head(kind, corrected):
    logits = draws(kind, modalities=1)[0]
    log_prob = dwfuse.log_probabilities(logits, kind)
    weight = dwfuse.omega(log_prob.exp(), torch.ones(len(logits), 1, dtype=torch.bool))
    prior = torch.rand(log_prob.shape[2:], dtype=torch.float64).log_softmax(-1)
    score = dwfuse.fuse(log_prob, weight, prior, prior_correct=corrected)
    torch.testing.assert_close(dwfuse.as_logits(score, kind).softmax(-1), logits[:, 0].softmax(-1))
    if kind != "multiclass":
        torch.testing.assert_close(dwfuse.as_logits(score, kind), logits[:, 0])


def test_with_nothing_seen_the_prior_is_said():
    prior = torch.tensor([[0.88, 0.12]]).log()
    score = dwfuse.fuse(torch.randn(2, 3, 1, 2), torch.zeros(2, 3, 1, 2), prior)
    torch.testing.assert_close(dwfuse.as_logits(score, "binary").sigmoid(), torch.full((2, 1), 0.12))


def test_the_prior_of_a_label_that_is_never_positive_or_never_known_is_finite():
    prior = dwfuse.log_prior(torch.tensor([[30.0, 10.0], [40.0, 0.0], [0.0, 0.0]]), torch.tensor([40.0, 40.0, 0.0]))
    torch.testing.assert_close(prior.exp(), torch.tensor([[0.75, 0.25], [1.0, 0.5 / 40], [0.5, 0.5]]))


def test_sixteen_bits_go_no_further_than_the_logits():
    logits = torch.randn(4, 3, 1).bfloat16()
    log_prob = dwfuse.log_probabilities(logits, "binary")
    weight = dwfuse.omega(log_prob.exp(), torch.ones(4, 3, dtype=torch.bool))
    assert log_prob.dtype == weight.dtype == dwfuse.fuse(log_prob, weight, torch.zeros(1, 2)).dtype == torch.float32


def calibrated(prevalence: float, samples: int = 60_000, seed: int = 0):
    """Heads of AUROC .836, .624 and .527 that say P(y | x_m), the x_m independent given y: logits [B, 3], y, and the prior's log odds."""
    random = np.random.default_rng(seed)
    y = random.random(samples) < prevalence
    d = math.sqrt(2) * norm.ppf([0.836, 0.624, 0.527])
    x = random.normal(size=(samples, 3)) + d * y[:, None]
    odds = math.log(prevalence / (1 - prevalence))
    return torch.from_numpy(odds + d * x - d**2 / 2), y, odds


PATTERNS = {"complete": (1, 1, 1), "half": (0.5, 0.5, 0.5), "natural": (1.0, 0.3, 0.2)}


def fused(logits, counted, prevalence: float, corrected: bool):
    log_prob = dwfuse.log_probabilities(logits[..., None], "binary")
    prior = torch.tensor([[1 - prevalence, prevalence]], dtype=torch.float64).log()
    score = dwfuse.fuse(log_prob, dwfuse.omega(log_prob.exp(), counted), prior, prior_correct=corrected)
    return dwfuse.as_logits(score, "binary")[:, 0]


@pytest.mark.parametrize("prevalence", [0.12, 0.3, 0.5])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_calibrated_heads_are_fused_as_bayes_would(prevalence, pattern):
    logits, y, odds = calibrated(prevalence)
    counted = torch.from_numpy(np.random.default_rng(1).random(logits.shape) < np.array(PATTERNS[pattern]))
    bayes = odds + torch.where(counted, logits - odds, 0.0).sum(1)
    score = fused(logits, counted, prevalence, corrected=True)
    auroc = roc_auc_score(y, score)
    best = max(roc_auc_score(y, torch.where(counted[:, m], logits[:, m], odds)) for m in range(3))
    assert auroc > roc_auc_score(y, bayes) - 0.005
    assert auroc >= best
    if pattern == "natural" and prevalence == 0.12:  # the rule that this replaces: the prior once per present modality
        literal = fused(logits, counted, prevalence, corrected=False)
        assert roc_auc_score(y, literal) < best - 0.02 and float(literal.sigmoid().mean()) < 0.08
        assert float(F.sigmoid(score).mean()) == pytest.approx(0.12, abs=0.03)
