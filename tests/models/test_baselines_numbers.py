"""The baselines' numbers against plain re-derivations, a sample and a pair at a time, in float64."""

import math

import pytest
import torch
from small import method_defaults, small_encoders

from omnifuse.models import registry
from omnifuse.models.fusion import drfuse, gblend, ogm_ge, pmr
from omnifuse.models.parts.prototypes import Prototypes, class_sums, entropy, members, prototype_loss
from omnifuse.models.parts.truth import pair_scores, pair_sums, ratios, truth_scores
from omnifuse.preprocess.schema import KINDS, Task

OUTPUTS = {"binary": 1, "multilabel": 4, "multiclass": 3}
CLOSE = {"rtol": 0, "atol": 1e-6}
M, B, D = 3, 24, 5


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(row):
    weights = [math.exp(x - max(row)) for x in row]
    return [weight / sum(weights) for weight in weights]


class Drawn:
    """Logits and embeddings of three modalities, labels of which some are unknown, and who possesses what."""

    def __init__(self, kind: str, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)
        width = OUTPUTS[kind]
        self.kind, self.logits, self.embeddings = kind, normal(B, M, width) * 2, [normal(B, D) for _ in range(M)]
        if kind == "multiclass":
            self.label, self.label_mask = torch.randint(0, width, (B,), generator=draw), normal(B) > -1
        else:
            self.label, self.label_mask = (normal(B, width) > 0).double(), normal(B, width) > -1
        self.present = normal(B, M) > -0.5

    def truth(self, b: int, m: int) -> list[tuple[int, float]]:
        """Of each known label of a sample: its class, and what modality m gives the truth."""
        row = self.logits[b, m].tolist()
        if self.kind == "multiclass":
            label = int(self.label[b])
            return [(label, softmax(row)[label])] if self.label_mask[b] else []
        known = [c for c in range(len(row)) if self.label_mask[b, c]]
        return [(int(self.label[b, c]), sigmoid(row[c]) if self.label[b, c] else 1 - sigmoid(row[c])) for c in known]


@pytest.fixture(params=KINDS)
def drawn(request):
    return Drawn(request.param)


def score_of(drawn, m: int, j: int, score: str) -> float:
    """s of modality m over the samples that possess m and j."""
    shared = [drawn.truth(b, m) for b in range(B) if drawn.present[b, m] and drawn.present[b, j]]
    if score == "mean":
        means = [sum(s for _, s in found) / len(found) for found in shared if found]
        return sum(means) / len(means)
    by_class = {}
    for label, s in (pair for found in shared for pair in found):
        by_class.setdefault(label, []).append(s)
    return sum(sum(found) / len(found) for found in by_class.values()) / len(by_class)


@pytest.mark.parametrize("score", ["mean", "balanced"])
def test_the_coefficient_of_ogm_ge(drawn, score):
    table = pair_sums(*truth_scores(drawn.logits, drawn.label, drawn.label_mask, score), drawn.present)
    for over, gather in {"mean": lambda found: sum(found) / len(found), "max": max}.items():
        ratio, known = ratios(*pair_scores(table), over=over)
        k = ogm_ge.compute_coefficient(ratio, alpha=0.3)
        assert known.all() and ratio.dtype == torch.float64
        for m in range(M):
            rho = gather([score_of(drawn, m, j, score) / score_of(drawn, j, m, score) for j in range(M) if j != m])
            assert float(ratio[m]) == pytest.approx(rho, abs=1e-6)
            assert float(k[m]) == pytest.approx(1 - math.tanh(0.3 * rho) if rho > 1 else 1.0, abs=1e-6)
    assert (k < 1).any() and (k == 1).any()


def test_pair_sums_of_halves_add_up(drawn):
    sums = lambda rows: pair_sums(
        *truth_scores(drawn.logits[rows], drawn.label[rows], drawn.label_mask[rows], "balanced"), drawn.present[rows]
    )
    torch.testing.assert_close(sums(slice(0, 9)) + sums(slice(9, None)), sums(slice(None)), **CLOSE)


def test_a_pair_that_is_never_seen_together_is_no_evidence():
    drawn = Drawn("binary")
    drawn.present[:] = torch.tensor([[True, False, False]])
    drawn.present[:5] = torch.tensor([[False, True, True]])
    drawn.present[5] = True  # one sample of a pair is too few
    drawn.label_mask[:] = True
    score, evidence = pair_scores(pair_sums(*truth_scores(drawn.logits, drawn.label, drawn.label_mask, "mean"), drawn.present))
    assert evidence.tolist() == [[False, False, False], [False, False, True], [False, True, False]]
    ratio, known = ratios(score, evidence, over="mean")
    assert known.tolist() == [False, True, True] and float(ratio[0]) == 1.0
    assert float(ogm_ge.compute_coefficient(ratio, 0.5)[0]) == 1.0


def class_of(drawn, b: int, group: int) -> int | None:
    if drawn.kind == "multiclass":
        return int(drawn.label[b]) if drawn.label_mask[b] else None
    return int(drawn.label[b, group]) if drawn.label_mask[b, group] else None


@pytest.mark.parametrize("shrink", [0.0, 1.5])
def test_prototypes_and_distances_of_pmr(drawn, shrink):
    groups, classes = (1, 3) if drawn.kind == "multiclass" else (OUTPUTS[drawn.kind], 2)
    member = members(drawn.label, drawn.label_mask, classes)
    z, there = drawn.embeddings[0], drawn.present[:, 0]
    prototypes = Prototypes(groups, classes, D, least=1, shrink=shrink, momentum=0.2, temperature=1.7).double()
    old = [torch.zeros(classes, D, dtype=torch.float64)] * groups
    for turn in range(2):  # the first has nothing to keep
        z = z + turn
        term = class_sums(z, member, there)
        prototypes.update(term.sum, term.count)
        for g in range(groups):
            of = {k: [z[b] for b in range(B) if there[b] and class_of(drawn, b, g) == k] for k in range(classes)}
            every = [row for rows in of.values() for row in rows]
            whole = sum(every) / len(every)
            new = torch.stack([(sum(of[k]) + shrink * whole) / (len(of[k]) + shrink) for k in range(classes)])
            expected = 0.8 * new + 0.2 * old[g] if turn else new
            torch.testing.assert_close(prototypes.centre[g], expected, **CLOSE)
            old[g] = expected
    log_chance = prototypes.log_chance(z)
    cross, chance, evidence = prototype_loss(log_chance, member, prototypes.judged(), prototypes.known)
    spread = entropy(log_chance, prototypes.judged())
    for b in range(B):
        losses, entropies = [], []
        for g in range(groups):
            distance = [math.sqrt(sum((float(a) - float(c)) ** 2 for a, c in zip(z[b], old[g][k]))) for k in range(classes)]
            torch.testing.assert_close(prototypes.distances(z)[b, g], torch.tensor(distance, dtype=torch.float64), **CLOSE)
            p = softmax([-d / 1.7 for d in distance])
            entropies.append(-sum(q * math.log(q) for q in p))
            if (truth := class_of(drawn, b, g)) is not None:
                losses.append(-math.log(p[truth]))
        assert float(spread[b]) == pytest.approx(sum(entropies) / groups, abs=1e-6)
        assert bool(evidence[b]) == bool(losses)
        if losses:
            assert float(cross[b]) == pytest.approx(sum(losses) / len(losses), abs=1e-6)
            assert float(chance[b]) == pytest.approx(sum(math.exp(-loss) for loss in losses) / len(losses), abs=1e-6)


@pytest.mark.parametrize("scores, slow, kept_up", [
    ([0.6, 0.5], [0.0, 0.2], [0.2, 0.0]),  # the paper's: clip(rho - 1) of the slow one, whose companion keeps its entropy
    ([0.9, 0.2], [0.0, 1.0], [1.0, 0.0]),  # cut at 1
    ([0.6, 0.5, 0.4], [0.0, 0.2, 0.5], [0.35, 0.25, 0.1]),
])  # fmt: skip
def test_the_coefficients_of_pmr(scores, slow, kept_up):
    score = torch.tensor(scores, dtype=torch.float64)[:, None].expand(-1, len(scores))
    evidence = ~torch.eye(len(scores), dtype=torch.bool)
    ratio, _ = ratios(score.T, evidence, over="max")
    coefficient, entropy_weight = pmr.compute_coefficients(ratio)
    torch.testing.assert_close(coefficient, torch.tensor(slow, dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(entropy_weight, torch.tensor(kept_up, dtype=torch.float64), **CLOSE)


def build(name: str, kind: str = "binary", modalities=("ehr", "rep", "sig"), **options):
    task = Task("t", kind, tuple(f"l{c}" for c in range(OUTPUTS[kind])))
    dims = dict.fromkeys(modalities, 4)
    return registry.build(method_defaults(name) | options, small_encoders(modalities), dims, task, 0).double().eval()


def lstm_step(cell, x, h, c):
    """The equations of an LSTM, gate by gate."""
    gates = cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_the_head_of_medfuse():
    method = build("medfuse", "multilabel", hidden=7, order=["sig", "ehr", "rep"])
    pooled = {name: torch.randn(8, 8, dtype=torch.float64) for name in method.modalities}
    present = torch.tensor([[(b >> m) & 1 for m in range(3)] for b in range(8)], dtype=torch.bool)  # ehr, rep, sig: all eight patterns
    tokens = torch.stack([method._token(name, pooled[name]) for name in method.order], 1)
    logits = method.fuse(tokens, present[:, [2, 0, 1]])
    for b in range(8):
        sequence = []
        for name in ("sig", "ehr", "rep"):
            if present[b, method.modalities.index(name)]:
                projected = pooled[name][b] if name == "sig" else method.project[name].weight @ pooled[name][b] + method.project[name].bias
                sequence.append(projected + method.types[method.order.index(name)])
        h = c = torch.zeros(7, dtype=torch.float64)
        for x in sequence or [method.nothing]:
            h, c = lstm_step(method.lstm, x, h, c)
        torch.testing.assert_close(logits[b], method.head.weight @ h + method.head.bias, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("average", ["probability", "logit"])
def test_late_average(kind, average):
    method, drawn = build("late_average", kind, average=average), Drawn(kind)
    drawn.present[:, 0] |= ~drawn.present.any(1)
    found = method._averaged(drawn.logits, drawn.present)
    for b in range(B):
        rows = [drawn.logits[b, m].tolist() for m in range(M) if drawn.present[b, m]]
        if average == "logit":
            rows = [[sum(column) / len(rows) for column in zip(*rows)]]
        chances = [softmax(row) if kind == "multiclass" else [sigmoid(x) for x in row] for row in rows]
        expected = [sum(column) / len(chances) for column in zip(*chances)]
        said = softmax(found[b].tolist()) if kind == "multiclass" else [sigmoid(x) for x in found[b].tolist()]
        assert said == pytest.approx(expected, abs=1e-6)


def test_logit_pooling_and_divergence_of_drfuse():
    shared = torch.randn(6, 3, 4, dtype=torch.float64) * 2
    present = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1]], dtype=torch.bool)
    pooled, apart = drfuse.pool_logits(shared, present), drfuse.divergence(shared, present)
    bits = lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p)
    for b in range(6):
        each = []
        for h in range(4):
            p = [sigmoid(float(shared[b, m, h])) for m in range(3) if present[b, m]]
            mean = sum(p) / len(p)
            assert sigmoid(float(pooled[b, h])) == pytest.approx(mean, abs=1e-6)
            each.append(bits(mean) - sum(map(bits, p)) / len(p))
        assert float(apart[b]) == pytest.approx(sum(each) / 4, abs=1e-6)
    torch.testing.assert_close(pooled[1], shared[1, 0], **CLOSE)  # alone it is itself
    h1, h2 = shared[0, 0], shared[0, 1]  # the paper's form for two
    zero = torch.zeros_like(h1)
    paper = torch.stack([h1 + h2, h1 + h2, h1, h2]).logsumexp(0) - torch.stack([zero, zero, h1, h2]).logsumexp(0)
    torch.testing.assert_close(pooled[0], paper, **CLOSE)


def test_attention_of_drfuse_by_label():
    method = build("drfuse", "multilabel", hidden=6)
    parts, there = torch.randn(4, 4, 6, dtype=torch.float64), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1], [1, 0, 0, 1]]).bool()
    logits, attention = method._attend(parts, there)
    for b in range(4):
        real = [n for n in range(4) if there[b, n]]
        out = [method.attend.weight @ parts[b, n] + method.attend.bias for n in range(4)]
        query = sum(out[n][:6] for n in real) / len(real)
        for label in range(4):
            key = slice(6 * (2 + label), 6 * (3 + label))
            weight = softmax([float((query @ out[n][key]).detach()) / math.sqrt(6) for n in real])
            assert attention[b, label, real].tolist() == pytest.approx(weight, abs=1e-6)
            fused = sum(w * out[n][6:12] for w, n in zip(weight, real))
            expected = method.head.weight[label] @ fused + method.head.bias[label]
            torch.testing.assert_close(logits[b, label], expected, **CLOSE)


def test_blend_weights_follow_the_formula():
    """Three heads, the last of all modalities; losses as means: (train, val) before and after."""
    before, after = [(0.9, 0.8), (0.7, 0.7), (0.75, 0.75)], [(0.4, 0.6), (0.5, 0.65), (0.3, 0.4)]
    count = torch.tensor([400.0, 100.0], dtype=torch.float64)
    table = lambda rows: torch.stack([torch.tensor(rows, dtype=torch.float64) * count, count.expand(3, 2)], 2)
    raw = []
    for (lt0, lv0), (lt1, lv1) in zip(before, after):
        raw.append((lv0 - lv1) / ((lv1 - lt1) - (lv0 - lt0)) ** 2)
    weights, gain, overfit = gblend.blend_weights(table(before), table(after))
    expected = [w / sum(raw) for w in raw]
    assert 0.1 < expected[2] < 0.9, "no guard acts here"
    assert weights.tolist() == pytest.approx(expected, abs=1e-6)
    assert gain.tolist() == pytest.approx([0.2, 0.05, 0.35]) and overfit.tolist() == pytest.approx([0.3, 0.15, 0.1])
