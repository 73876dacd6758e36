"""What every fusion method owes the trainer: one test a rule, over every method found, every kind of task, one to three modalities."""

import copy
import dataclasses
import inspect

import cohorts
import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from small import method_defaults, small_encoders

from omnifuse import config
from omnifuse.models import registry
from omnifuse.models.context import TrainContext
from omnifuse.models.encoding import encode
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts.heads import probabilities
from omnifuse.models.prediction import Reader
from omnifuse.models.step import Stepper, set_modes
from omnifuse.preprocess.schema import KINDS, PARTS, ConfigError, Task

MODALITIES = ("ehr", "rep", "sig")
CASES = [(name, kind, size) for name in registry.names("method") for kind in KINDS for size in (1, 2, 3)]


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    """Samples of each kind of task, half of them without `rep` or `sig`."""
    made = {}
    for kind in KINDS:
        path = tmp_path_factory.mktemp(kind)
        made[kind] = cohorts.samples(
            path, kind=kind, modalities=MODALITIES, patients=120, dim=5, steps=(2, 6), tails=True, absent=0.5, unknown=0.1
        )
    return made


class Case:
    """A method built on some modalities, with a batch of 24 samples that possess at least one of them."""

    def __init__(self, samples, name: str, size: int, seed: int = 0):
        self.name, self.modalities = name, MODALITIES[:size]
        parts = {key: part_of(part, self.modalities) for key, part in samples.parts.items()}
        self.samples = dataclasses.replace(samples, parts=parts, modalities=self.modalities)
        self.method = self.build(seed)
        self.batch = next(self.samples.part("train").batches(24, seed=3))

    def build(self, seed: int = 0):
        try:
            return registry.build(method_defaults(self.name), small_encoders(self.modalities), self.samples.dims, self.samples.task, seed)
        except ConfigError as error:
            pytest.skip(f"{self.name} does not take {len(self.modalities)} modalities: {error}")

    def begin(self, stage):
        """The stage's hook runs, so that means, priors and teachers are there."""
        reader = Reader(torch.device("cpu"))
        self.method.begin_stage(TrainContext(self.method, self.samples, reader, stage, seed=0, epoch=0, step=0))

    def answer(self, method=None, batch=None, train: bool = False):
        """Outputs of a fresh forward pass, in eval or train mode."""
        method = method or self.method
        method.train(train)
        return method(batch or self.batch)


def part_of(part, modalities):
    keep = np.isin(part.modalities, modalities)
    chosen = dataclasses.replace(part, tokens={m: part.tokens[m] for m in modalities}, present=part.present[:, keep])
    return chosen.where(lambda present: present.any(1))


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def case(request, opened):
    name, kind, size = request.param
    return Case(opened[kind], name, size)


def same(first, second, **tolerance):
    """Logits, heads, traces and weights of two outputs agree."""
    torch.testing.assert_close(first.logits, second.logits, equal_nan=True, **tolerance)
    assert (first.weights is None) == (second.weights is None)
    if first.weights is not None:
        torch.testing.assert_close(first.weights, second.weights, **tolerance)
    for kind in ("heads", "traces"):
        assert getattr(first, kind).keys() == getattr(second, kind).keys()
        for name, value in getattr(first, kind).items():
            torch.testing.assert_close(value, getattr(second, kind)[name], equal_nan=True, **tolerance)


def test_shapes_and_terms(case):
    output, size = case.answer(train=True), len(case.batch)
    for logits in (output.logits, *output.heads.values()):
        assert logits.shape == (size, case.samples.task.outputs)
    assert torch.isfinite(output.logits).all()
    assert all(value.shape == (size,) for value in output.traces.values())
    for stage in case.method.stages():
        terms = case.method.loss(output, case.batch, stage)
        assert "loss" not in terms, "the trainer calls the total so"
        for term in terms.values():
            assert term.sum.shape == term.count.shape == ()
            assert torch.isfinite(term.mean)


def test_weights_of_modalities_are_of_those_present_and_of_evaluation_alone(case):
    assert case.answer(train=True).weights is None
    if (weights := case.answer().weights) is not None:
        assert weights.shape == case.batch.present.shape and weights.dtype == torch.float32
        assert (weights[case.batch.present] >= 0).all() and weights[case.batch.present].any()


def test_a_class_counts_in_every_head_what_it_is_told(case):
    """Each term of the loss is a head's cross entropy, in which a class counts what it is told, or it is no matter of classes."""
    batch, outputs = case.batch, case.samples.task.outputs
    classes = (1, outputs) if case.samples.task.kind == "multiclass" else (outputs, 2)
    threefold = torch.full(classes, 3.0)
    positive = torch.ones(classes)
    positive[:, 1:] = 5.0  # all but the first class
    none = batch.label_mask & (batch.label > 0)
    others = batch.take(~(none if none.ndim == 1 else none.any(1)))  # who has no such class
    for stage in case.method.stages():
        plain, weighed = (weigh_terms(case, batch, stage, weight) for weight in (None, threefold))
        ratio = {name: float(weighed[name].sum / plain[name].sum) for name in plain if plain[name].sum != 0}
        assert all(value == pytest.approx(3, rel=1e-4) or value == pytest.approx(1, rel=1e-4) for value in ratio.values())
        learnt = [value for name, value in ratio.items() if plain[name].count > 0 and float(plain[name].weight) > 0]
        assert max(learnt) > 2
        for name, term in weigh_terms(case, others, stage, positive).items():
            torch.testing.assert_close(term.sum, weigh_terms(case, others, stage, None)[name].sum)
        assert any(term.sum > plain[name].sum for name, term in weigh_terms(case, batch, stage, positive).items())


def weigh_terms(case, batch, stage, class_weight):
    case.method.class_weight = class_weight
    with torch.no_grad():
        terms = case.method.loss(case.answer(batch=batch, train=True), batch, stage)
    case.method.class_weight = None
    return terms


@pytest.mark.parametrize("garbage", [1e6, float("nan")])
def test_what_is_absent_changes_nothing(case, garbage):
    """Neither an absent modality nor a padded step reaches an output or a gradient."""
    spoilt = copy.copy(case.batch)
    spoilt.values = {}
    for place, name in enumerate(case.modalities):
        real = case.batch.mask[name] & case.batch.present[:, place, None]
        spoilt.values[name] = torch.where(real[..., None], case.batch.values[name], garbage)
    for train in (False, True):
        outputs, gradients = [], []
        for batch in (case.batch, spoilt):
            case.method.zero_grad()
            outputs.append(case.answer(batch=batch, train=train))
            outputs[-1].logits.square().sum().backward()
            gradients.append([p.grad.clone() for p in case.method.parameters() if p.grad is not None])
        same(*outputs, rtol=0, atol=0)
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_gradient_reaches_every_present_input(case):
    """And no other: a sample's logits depend on what it possesses, wholly, and on no other sample. A blind method's on no value."""
    values = {name: value.clone().requires_grad_() for name, value in case.batch.values.items()}
    batch = copy.copy(case.batch)
    batch.values = values
    row = int(case.batch.present.sum(1).argmax())
    case.answer(batch=batch).logits[row].sum().backward()
    for place, name in enumerate(case.modalities):
        if case.method.blind:
            assert values[name].grad is None
            continue
        reached = values[name].grad.abs().sum(-1) > 0  # [B, T]
        expected = torch.zeros_like(reached)
        expected[row] = case.batch.mask[name][row] & case.batch.present[row, place]
        assert torch.equal(reached, expected)


def test_saved_and_loaded_it_says_the_same(case):
    other = case.build(seed=1)
    assert not torch.equal(case.answer(other).logits, case.answer().logits)
    other.load_state_dict(load(save({name: tensor.contiguous() for name, tensor in case.method.state_dict().items()})))
    same(case.answer(other), case.answer(), rtol=0, atol=0)


@pytest.mark.parametrize("train", [False, True])
def test_the_order_of_a_batch_does_not_matter(case, train):
    """Nor does, in train mode, what is drawn at random: dropout and patterns belong to the sample."""
    shuffle = torch.randperm(len(case.batch), generator=torch.Generator().manual_seed(0))
    plain, shuffled = case.answer(train=train), case.answer(batch=case.batch.take(shuffle), train=train)
    torch.testing.assert_close(shuffled.logits, plain.logits[shuffle], rtol=1e-4, atol=1e-5)
    for stage in case.method.stages():
        terms = case.method.loss(plain, case.batch, stage)
        for name, term in case.method.loss(shuffled, case.batch.take(shuffle), stage).items():
            torch.testing.assert_close(term.mean, terms[name].mean, rtol=1e-4, atol=1e-5)


def test_a_batch_split_in_two_adds_up(case):
    """Sums and counts of the halves are those of the whole: what makes many processes agree with one."""
    halves = [case.batch.take(torch.arange(start, len(case.batch), 2)) for start in (0, 1)]
    for stage in case.method.stages():
        whole = case.method.loss(case.answer(train=True), case.batch, stage)
        parts = [case.method.loss(case.answer(batch=half, train=True), half, stage) for half in halves]
        for name, term in whole.items():
            torch.testing.assert_close(sum(part[name].sum for part in parts), term.sum, rtol=1e-4, atol=1e-5)
            assert sum(part[name].count for part in parts) == term.count


def test_the_same_seed_gives_the_same_method(case):
    same(case.answer(case.build(), train=True), case.answer(train=True), rtol=0, atol=0)


def test_the_label_does_not_reach_the_forward_pass(case):
    blind = copy.copy(case.batch)
    blind.label, blind.label_mask = torch.zeros_like(case.batch.label), torch.zeros_like(case.batch.label_mask)
    same(case.answer(batch=blind, train=True), case.answer(train=True), rtol=0, atol=0)


def test_one_modality_alone_is_its_head(case):
    if len(case.modalities) > 1:
        pytest.skip("one modality only")
    output, kind = case.answer(), case.samples.task.kind
    pooled = encode(case.method.encoders["ehr"], case.batch, "ehr").pooled
    expected = probabilities(case.method.head_for("ehr")(pooled), kind)
    torch.testing.assert_close(probabilities(output.logits, kind), expected)


def test_a_stage_moves_its_parameters_and_no_other(case):
    for stage in case.method.stages():
        case.begin(stage)
        assert {stage.part, stage.monitor_part} <= set(PARTS) and stage.keep in ("best", "last", "start")
        learning = {id(p) for group in stage.groups for p in group.parameters if group.begin <= 99}
        assert learning
        set_modes(case.method, stage, epoch=99)
        part = case.samples.part(stage.part)
        batch = next((part if stage.modalities is None else part.having(stage.modalities)).batches(24, seed=3))
        before = {name: p.detach().clone() for name, p in case.method.named_parameters()}
        reader = Reader(torch.device("cpu"))
        context = TrainContext(case.method, case.samples, reader, stage, seed=0, epoch=99, step=0)
        stepper = Stepper(case.method, stage, TrainOptions(optimizer="sgd", lr=1.0), reader.processes, reader.device, amp=False)
        stepper.step(batch, context, rate=1.0, stop=False)
        moved = {name for name, p in case.method.named_parameters() if not torch.equal(p, before[name])}
        assert moved and moved <= {name for name, p in case.method.named_parameters() if id(p) in learning}


@pytest.mark.parametrize("what, folder", [("method", "methods"), ("encoder", "encoders")])
def test_every_name_has_a_config_and_its_options_are_the_constructors(what, folder):
    assert registry.names(what) == config.packaged_names(folder)
    for name in registry.names(what):
        fields, meta = config.packaged(folder, name)
        given = ("encoders", "kind", "outputs") if what == "method" else ("input_dim",)
        wanted = {key: p.default for key, p in inspect.signature(registry.find(what, name)).parameters.items() if key not in given}
        assert {key: field.default for key, field in fields.items()} == wanted, name
        assert meta["about"]
        for parameters in (meta.get("flags") or {}).values():
            assert set(parameters) <= set(fields)


@pytest.mark.parametrize(
    "method, encoder, hint",
    [
        ({"name": "conct"}, {"name": "lstm"}, r"no method 'conct' \(did you mean concat\?\)"),
        ({"name": "concat"}, {"name": "lsmt"}, r"no encoder 'lsmt' \(did you mean lstm\?\)"),
        ({"name": "concat", "fil": "zero"}, {"name": "lstm"}, r"method concat has no option 'fil' \(did you mean fill\?\)"),
        ({"name": "concat", "fill": "one"}, {"name": "lstm"}, "unknown fill 'one'"),
        ({"name": "concat"}, {"name": "lstm", "layers": 7}, "1 to 6 layers"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(method, encoder, hint):
    with pytest.raises(ConfigError, match=hint):
        registry.build(method, {"ehr": encoder}, {"ehr": 5}, Task("t", "binary", ("t",)), 0)


def test_another_modality_leaves_an_encoders_first_weights_alone():
    task = Task("t", "binary", ("t",))
    one = registry.build({"name": "unimodal"}, small_encoders(["rep"]), {"rep": 5}, task, 0)
    two = registry.build({"name": "concat"}, small_encoders(["ehr", "rep"]), {"ehr": 9, "rep": 5}, task, 0)
    for name, value in one.encoders["rep"].state_dict().items():
        assert torch.equal(two.encoders["rep"].state_dict()[name], value)
