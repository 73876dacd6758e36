"""The rules of each baseline, by hand, on a batch of generated patients."""

import math

import cohorts
import pytest
import torch
from small import method_defaults, small_encoders

from omnifuse.models import registry
from omnifuse.models.context import TrainContext
from omnifuse.models.contract import Stage
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts.heads import task_loss
from omnifuse.models.prediction import Reader
from omnifuse.models.step import Stepper
from omnifuse.preprocess.schema import ConfigError

MODALITIES = ("ehr", "rep", "sig")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(path, kind="multilabel", modalities=MODALITIES, patients=200, dim=4, steps=(2, 6), absent=0.4, unknown=0.1)


def built(samples, name: str, **options):
    return registry.build(method_defaults(name) | options, small_encoders(samples.modalities), samples.dims, samples.task, 0)


def test_pmr_weighs_a_step_by_the_scores_of_the_step_before(samples):
    method = built(samples, "pmr")
    (stage,) = method.stages()
    reader = Reader(torch.device("cpu"))
    context = TrainContext(method, samples, reader, stage, seed=0, epoch=1, step=0)
    method.begin_stage(context)
    stepper = Stepper(method, stage, TrainOptions(lr=0.01), reader.processes, reader.device, amp=False)
    for batch in samples.part("train").batches(32, seed=1):
        with torch.no_grad():
            output = method.train()(batch)
            blocks = output.parts["blocks"]
            terms = method.loss(output, batch, stage)
            weights = [float(terms[f"prototype/{m}"].weight) for m in MODALITIES]
            assert weights == pytest.approx(method.coefficient.tolist())  # alpha 1
            expected = plain_coefficients(method, batch, blocks)
        stepper.step(batch, context, rate=1.0, stop=False)
        assert method.coefficient.tolist() == pytest.approx(expected, abs=1e-4)
    assert method.coefficient.any()


def plain_coefficients(method, batch, blocks) -> list[float]:
    """clip(max_j s_j / s_m - 1), over the samples that possess both and have a label."""
    chance = []
    for prototypes, block in zip(method.prototypes.values(), blocks):
        p = torch.softmax(-(block[:, None, None] - prototypes.centre).norm(dim=3), 2)  # [B, L, 2]
        truth = torch.where(batch.label > 0.5, p[..., 1], p[..., 0]) * batch.label_mask
        chance.append(truth.sum(1) / batch.label_mask.sum(1).clamp(min=1))
    found = []
    for m in range(3):
        ratios = []
        for j in set(range(3)) - {m}:
            both = batch.present[:, m] & batch.present[:, j] & batch.label_mask.any(1)
            ratios.append(float(chance[j][both].mean() / chance[m][both].mean()))
        found.append(min(max(max(ratios) - 1, 0.0), 1.0))
    return found


def test_healnet_skips_what_is_absent(samples):
    """By sample, by hand: cross-attention and network of each modality present, then the latents among themselves."""
    method = built(samples, "healnet", latents=5, dim=12, heads=3, depth=2).eval()
    batch = next(samples.part("train").batches(12, seed=2))
    logits = method(batch).logits

    def attend(module, x, tokens):
        q, kv = module.query(module.norm(x)), module.key_value(module.norm_tokens(tokens))
        k, v = kv[:, :12], kv[:, 12:]
        heads = []
        for h in range(3):
            at = slice(4 * h, 4 * h + 4)
            heads.append(torch.softmax(q[:, at] @ k[:, at].T / 2, 1) @ v[:, at])
        return module.out(torch.cat(heads, 1))

    def digest(module, x):
        value, gate = module.inner(module.norm(x)).split(48, dim=1)
        return module.outer(value * torch.nn.functional.selu(gate))

    for row in range(len(batch)):
        alone, x = batch.take(torch.tensor([row])), method.latents
        for one in method.rounds:
            for place, m in enumerate(MODALITIES):
                if alone.present[0, place]:
                    found = method.encode(alone, m, full=True)
                    tokens = found.tokens[0][found.mask[0]]
                    at = torch.linspace(0, 1, len(tokens)) if len(tokens) > 1 else torch.zeros(1)
                    waves = [wave(at * f * math.pi) for wave in (torch.sin, torch.cos) for f in (1.0, 5.0)]
                    x = x + attend(one.read[m], x, torch.cat([tokens, torch.stack([*waves, at], 1)], 1))
                    x = x + digest(one.digest[m], x)
            x = x + attend(one.among, x, x)
            x = x + digest(one.settle, x)
        torch.testing.assert_close(logits[row], method.head(method.norm(x.mean(0))), rtol=1e-4, atol=1e-4)


def test_a_trial_of_gblend_looks_at_one_head_and_its_samples(samples):
    method = built(samples, "gblend")
    batch = next(samples.part("train").batches(32, seed=1))
    output = method(batch)
    stages = {stage.name: stage for stage in method.stages()}
    trial, fusion = stages["estimate-1-rep"], stages["fusion"]
    terms = method.loss(output, batch, trial)
    loss, known = task_loss(method.heads["rep"](method.encode(batch, "rep").pooled), batch.label, batch.label_mask)
    assert list(terms) == ["rep"] and terms["rep"].weight == 1 and terms["rep"].count == int((known & batch.present[:, 1]).sum())
    torch.testing.assert_close(terms["rep"].mean, loss[known & batch.present[:, 1]].mean())
    assert trial.modalities == ("rep",) and stages["estimate-1-fused"].modalities is None
    method.weights.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert [float(term.weight) for term in method.loss(output, batch, fusion).values()] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_modality_dropout_hides_some_and_never_all(samples):
    method, key = built(samples, "modality_dropout", rate=0.6), torch.arange(4000) * 1_000_003
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, True, False]]).repeat(1000, 1)
    visible = method._visible(key, present)
    assert not (visible & ~present).any() and visible.any(1).all()
    rows = present.all(1)
    hidden = 1 - visible[rows].float().mean(0)
    torch.testing.assert_close(hidden, torch.full((3,), 0.6 - 0.6**3 / 3), atol=0.05, rtol=0)
    assert torch.equal(visible[2::4], present[2::4])  # its only one stays
    assert torch.equal(method._visible(key.flip(0), present.flip(0)), visible.flip(0))
    batch = next(samples.part("train").batches(32))
    torch.testing.assert_close(
        method.eval()(batch).logits, method.head(method.filling(method.encoders, batch))
    )  # nothing is hidden at test


def test_mask_only_knows_the_mask_and_nothing_else(samples):
    method, batch = built(samples, "mask_only"), next(samples.part("train").batches(32))
    logits = method(batch).logits
    torch.testing.assert_close(logits, batch.present.float() @ method.head.weight.T + method.head.bias)
    batch.values = {name: value + 99 for name, value in batch.values.items()}
    assert torch.equal(method(batch).logits, logits)
    assert {id(p) for stage in method.stages() for group in stage.groups for p in group.parameters} == {
        id(p) for p in method.head.parameters()
    }


@pytest.mark.parametrize("over", ["embedding", "logit"])
@pytest.mark.parametrize("fill", ["zero", "encoder_zero"])
def test_sum_is_a_mean_over_what_counts(samples, over, fill):
    method, batch = built(samples, "sum", over=over, fill=fill).eval(), next(samples.part("train").batches(32))
    logits = method(batch).logits
    for row in range(len(batch)):
        alone = batch.take(torch.tensor([row]))
        blocks = []
        for place, name in enumerate(MODALITIES):
            if alone.present[0, place]:
                blocks.append((name, method.encode(alone, name).pooled[0]))
            elif fill == "encoder_zero":
                blocks.append((name, method.encoders[name].zero()[0]))
        if over == "embedding":
            expected = method.head(sum(z for _, z in blocks) / len(blocks))
        else:
            expected = sum(method.heads[name](z) for name, z in blocks) / len(blocks)
        torch.testing.assert_close(logits[row], expected, rtol=1e-4, atol=1e-5)


def test_unequal_embeddings_cannot_be_summed(samples):
    encoders = small_encoders(samples.modalities)
    encoders["rep"]["dim"] = 6
    with pytest.raises(ConfigError, match=r"ehr 8, rep 6, sig 8\) \(the same encoder"):
        registry.build({"name": "sum"}, encoders, samples.dims, samples.task, 0)
    registry.build({"name": "sum", "over": "logit"}, encoders, samples.dims, samples.task, 0)


@pytest.mark.parametrize("gate", ["channel", "modality"])
def test_se_gate_shuts_what_is_absent_and_starts_open(samples, gate):
    method, batch = built(samples, "se_gate", gate=gate).eval(), next(samples.part("train").batches(32))
    blocks = [method.encode(batch, name).pooled for name in MODALITIES]
    gates = method._gates(blocks, batch.present)
    squeezed = torch.relu(torch.cat([*blocks, batch.present.float()], 1) @ method.squeeze.weight.T + method.squeeze.bias)
    assert squeezed.shape[1] == 8  # at least
    plain = torch.sigmoid(squeezed @ method.excite.weight.T + method.excite.bias)
    if gate == "modality":
        plain = plain.repeat_interleave(8, 1)
    plain = plain * batch.present.float().repeat_interleave(8, 1)
    torch.testing.assert_close(method(batch).logits, (plain * torch.cat(blocks, 1)) @ method.head.weight.T + method.head.bias)
    for one, there, trace in zip(gates, batch.present.T, method(batch).traces.values()):
        assert not one[~there].any() and 0.7 < float(one[there].detach().mean()) < 0.98
        assert torch.equal(trace.isnan(), ~there)


@pytest.mark.parametrize("gate", ["channel", "modality"])
def test_what_stands_for_an_absent_modality_is_gated_by_se_gate_as_the_others_are(samples, gate):
    method, batch = built(samples, "se_gate", gate=gate, fill="encoder_zero").eval(), next(samples.part("train").batches(32))
    blocks = []
    for place, name in enumerate(MODALITIES):
        there = batch.present[:, place, None]
        blocks.append(torch.where(there, method.encode(batch, name).pooled, method.encoders[name].zero()))
    squeezed = torch.relu(method.squeeze(torch.cat([*blocks, batch.present.float()], 1)))
    gates = torch.sigmoid(method.excite(squeezed))
    wide = gates.repeat_interleave(8, 1) if gate == "modality" else gates
    output = method(batch)
    torch.testing.assert_close(output.logits, method.head([wide * torch.cat(blocks, 1)]))
    assert all(torch.equal(trace.isnan(), ~there) for trace, there in zip(output.traces.values(), batch.present.T))


def test_late_average_takes_over_stage_one_whole(samples):
    one = registry.build(method_defaults("unimodal"), small_encoders(("rep",)), {"rep": 4}, samples.task, 5).eval()
    method = built(samples, "late_average").eval()
    method.start_from("rep", one.state_dict())
    batch = next(samples.part("train").where(lambda present: present[:, 1]).batches(16)).hide(torch.tensor([False, True, False]))
    expected = one.head(method.encode(batch, "rep").pooled)
    torch.testing.assert_close(method(batch).logits, expected, rtol=1e-4, atol=1e-5)
    other = built(samples, "late_average", hidden=64)
    with pytest.raises(ConfigError, match="has another head"):
        other.start_from("rep", one.state_dict())


def test_late_average_learns_nothing_of_the_average(samples):
    method, batch = built(samples, "late_average"), next(samples.part("train").batches(32))
    terms = method.loss(method(batch), batch, Stage("fusion", []))
    assert terms["task"].weight == 0
    (terms["ehr"].weight * terms["ehr"].mean).backward()
    assert all(p.grad is None or not p.grad.any() for m in ("rep", "sig") for p in method.encoders[m].parameters())


def test_drfuse_ranks_attention_by_the_heads(samples):
    """Of two parts present, on labels that are known, the worse one's surplus of attention."""
    method = built(samples, "drfuse").eval()
    batch = next(samples.part("train").batches(24, seed=2))
    parts = method(batch).parts
    alone, attention, there = parts["alone"].detach(), parts["attention"].detach(), parts["there"]
    found, known = method._rank(alone, attention, there, batch)
    for b in range(len(batch)):
        total, count = 0.0, 0
        for c in range(4):
            p = torch.sigmoid(alone[b, :, c])
            loss = -(batch.label[b, c] * p.log() + (1 - batch.label[b, c]) * (1 - p).log())
            for i in range(4):
                for j in range(i + 1, 4):
                    if batch.label_mask[b, c] and there[b, i] and there[b, j]:
                        better, worse = (i, j) if loss[i] < loss[j] else (j, i)
                        total, count = total + max(0.0, float(attention[b, c, worse] - attention[b, c, better])), count + 1
        assert bool(known[b]) == (count > 0)
        assert float(found[b]) == pytest.approx(total / max(count, 1), abs=1e-5)
