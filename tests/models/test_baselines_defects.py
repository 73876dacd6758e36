"""Known defects of the baselines' public code: the fixed rule holds, and the released one fails in the same test."""

import random
from types import SimpleNamespace

import cohorts
import polars as pl
import pytest
import torch
from small import method_defaults, small_encoders

from omnifuse.models import registry
from omnifuse.models.context import TrainContext
from omnifuse.models.fusion.gblend import blend_weights
from omnifuse.models.prediction import Reader
from omnifuse.preprocess.dataset import Batch
from omnifuse.preprocess.schema import ConfigError, Task

BINARY = Task("t", "binary", ("t",))


def losses(rows, train: float = 400.0, val: float = 100.0):
    """Mean losses (train, val) of each head as sums and counts."""
    count = torch.tensor([train, val], dtype=torch.float64)
    mean = torch.tensor(rows, dtype=torch.float64)
    return torch.stack([mean * count, count.expand_as(mean)], 2)


RISING = losses([(0.7, 0.6), (0.7, 0.7), (0.7, 0.7)]), losses([(0.3, 0.9), (0.5, 0.6), (0.4, 0.5)])  # the first head's val loss


def test_a_head_with_rising_loss_has_no_weight_in_gblend():
    weights, gain, _ = blend_weights(*RISING)
    assert weights[0] == 0 and float(weights.sum()) == pytest.approx(1) and gain[0] < 0
    released, _, _ = blend_weights(*RISING, "released")
    assert released[0] > 0.01


def test_the_size_of_a_part_changes_no_weight_of_gblend():
    large = losses([(0.7, 0.7), (0.6, 0.6)], 400, 100), losses([(0.4, 0.6), (0.3, 0.4)], 400, 100)
    small = losses([(0.7, 0.7), (0.6, 0.6)], 4000, 100), losses([(0.4, 0.6), (0.3, 0.4)], 4000, 100)
    torch.testing.assert_close(blend_weights(*large)[0], blend_weights(*small)[0])
    difference = blend_weights(*large, "released")[0] - blend_weights(*small, "released")[0]
    assert difference.abs().max() > 0.01


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ([(0.7, 0.7)] * 3, [(0.5, 0.8)] * 3, [1 / 3] * 3),  # nothing generalises: all weigh alike
        ([(0.7, 0.7)] * 3, [(0.7, 0.7), (0.4, 0.8), (0.4, 0.8)], [1 / 3] * 3),  # nor where one stands still
        ([(0.7, 0.7)] * 3, [(0.5, 0.8), (0.4, 0.4), (0.4, 0.8)], [0.0, 0.9, 0.1]),  # one alone: the head of all still learns
        ([(0.7, 0.7)] * 3, [(0.5, 0.8), (0.6, 0.5), (0.4, 0.4)], [0.0, 0.1, 0.9]),  # O = 0 is no reason to have all
    ],
)
def test_the_guards_of_gblend(before, after, expected):
    weights, _, _ = blend_weights(losses(before), losses(after))
    assert weights.tolist() == pytest.approx(expected, abs=1e-3)


def test_a_head_with_few_samples_has_no_weight_in_gblend():
    before, after = losses([(0.7, 0.7)] * 3), losses([(0.4, 0.4), (0.5, 0.6), (0.4, 0.5)])
    for table in (before, after):
        table[0] *= 49 / 400  # 49 training samples
    assert blend_weights(before, after)[0][0] == 0 < blend_weights(*(losses([(0.7, 0.7)] * 3), after))[0][1]
    nobody = [table * 0 for table in RISING]
    assert torch.isfinite(blend_weights(*nobody)[0]).all()
    assert not torch.isfinite(blend_weights(*nobody, "released")[0]).all()


FALLS, RISES, STAYS = (0.4, 0.6), (0.4, 0.8), (0.4, 0.7)  # after a trial that began at .7 on train and val


@pytest.mark.parametrize(
    "after, expected",
    [
        ([FALLS, RISES, FALLS], [0.5, 0.0, 0.5]),
        ([FALLS, STAYS, (0.3, 0.2)], [0.5, 0.0, 0.5]),  # by how much it falls tells nothing here
        ([FALLS, RISES, RISES], [0.9, 0.0, 0.1]),  # the head of all still learns
        ([RISES, RISES, FALLS], [0.0, 0.0, 1.0]),
        ([FALLS, FALLS, FALLS], [1 / 3] * 3),
        ([RISES, STAYS, RISES], [1 / 3] * 3),  # nobody gains
    ],
)
def test_where_no_head_of_gblend_has_enough_samples_those_that_gain_weigh_alike(after, expected):
    few = lambda rows: losses(rows, train=49)
    weights, _, _ = blend_weights(few([(0.7, 0.7)] * 3), few(after))
    assert weights.tolist() == pytest.approx(expected)


def test_what_rises_has_a_weight_in_released_gblend_with_few_samples_too():
    tables = [table * 0.1 for table in RISING]
    assert blend_weights(*tables)[0][0] == 0 and blend_weights(*tables, "released")[0][0] > 0.01


@pytest.mark.parametrize("after, variant, told", [(RISES, "fixed", True), (FALLS, "fixed", False), (RISES, "released", False)])
def test_gblend_says_that_all_weigh_alike_for_none_gained(unequal, caplog, after, variant, told):
    method = registry.build(
        method_defaults("gblend") | {"variant": variant}, small_encoders(unequal.modalities), unequal.dims, unequal.task, 0
    )
    method.before.copy_(losses([(0.7, 0.7)] * 3))
    method.after.copy_(losses([after, RISES, RISES]))
    method.begin_stage(TrainContext(method, unequal, Reader(torch.device("cpu")), method.stages()[-1], seed=0, epoch=0, step=0))
    said = "stage fusion: no head that counts gained on val in its trial, they weigh alike: ehr 0.33, rep 0.33, fused 0.33"
    assert (said in caplog.text) == told and bool(caplog.text) == told


ENCODERS = {
    "lstm": ({"hidden": 6}, 4, lambda size: torch.randn(size, 5, 4)),
    "transformer": ({"hidden": 8, "layers": 1, "heads": 2}, 4, lambda size: torch.randn(size, 5, 4)),
    "textcnn": ({"embedded": 6, "maps": 4}, 0, lambda size: torch.randint(1, 99, (size, 7))),
    "embedding": ({}, 4, lambda size: torch.randn(size, 4)),  # frozen features, of which the projection learns
    "film_conv": ({"size": 32, "width": 4, "levels": 1}, [1, 32, 32], lambda size: torch.rand(size, 1, 1, 32, 32)),
}


def stepped(encoder: str, *, size: int = 12, absent=(), label=None, **options):
    """Gradients of both encoders before and after OGM-GE has had its say, and the method."""
    given, dim, values = ENCODERS[encoder]
    told = {name: {"name": encoder, "dim": 8, "dropout": 0.0, **given} for name in ("one", "two")}
    method = registry.build(method_defaults("ogm_ge") | options, told, dict.fromkeys(told, dim), BINARY, 0)
    torch.manual_seed(1)
    batch = batch_of({name: values(size) for name in told}, label)
    batch.present[list(absent), 1] = False
    output = method(batch)
    term = method.loss(output, batch, method.stages()[0])["task"]
    term.mean.backward()
    take = lambda: {name: None if p.grad is None else p.grad.clone() for name, p in method.encoders.named_parameters()}
    before = take()
    generator = lambda name: torch.Generator().manual_seed(5)
    context = SimpleNamespace(batch=batch, output=output, epoch=1, rates={}, reduce=lambda value: value, generator=generator)
    method.after_backward(context)
    return before, take(), method, context


def batch_of(values, label=None):
    size = len(next(iter(values.values())))
    mask = {
        name: torch.ones(size, 1 if value.ndim == 2 and value.is_floating_point() else value.shape[1], dtype=torch.bool)
        for name, value in values.items()
    }
    label = (torch.arange(size) % 2).float()[:, None] if label is None else label
    index = torch.arange(size)
    return Batch(
        tuple(values), values, mask, torch.ones(size, len(values), dtype=torch.bool), label, torch.ones_like(label, dtype=torch.bool),
        index * 7919, index, pl.Series([f"s{number}" for number in range(size)]),
    )  # fmt: skip


@pytest.mark.parametrize("encoder", ENCODERS)
def test_ogm_ge_modulates_every_encoder(encoder):
    """The surer one's gradients are multiplied by k, all weights of both get noise; biases and norms none."""
    before, after, method, _ = stepped(encoder, noise=False, alpha=0.8)
    k = dict(zip(method.modalities, method.coefficient.take()))
    assert min(k.values()) < 0.4 and max(k.values()) == 1.0
    _, noisy, _, _ = stepped(encoder, alpha=0.8)
    for name, gradient in before.items():
        if gradient.ndim > 1:
            torch.testing.assert_close(after[name], gradient * k[name.split(".")[0]])
            assert not torch.equal(noisy[name], after[name])
            width = float((noisy[name] - after[name]).std() / (gradient.std() + 1e-8))
            assert gradient.numel() < 30 or 0.6 < width < 1.4
        else:
            assert torch.equal(after[name], gradient) and torch.equal(noisy[name], gradient)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_released_ogm_ge_leaves_all_but_convolutions_of_films_alone(encoder):
    before, after, _, _ = stepped(encoder, variant="released")
    changed = {name for name, gradient in before.items() if not torch.equal(after[name], gradient)}
    assert changed == {name for name, gradient in before.items() if gradient.ndim == 4}
    assert bool(changed) == (encoder == "film_conv")


def test_an_absent_modality_gets_neither_gradient_nor_noise_from_ogm_ge():
    for fill in ("zero", "encoder_zero"):
        before, after, method, _ = stepped("lstm", absent=range(12), fill=fill)
        two = {name for name in before if name.startswith("two")}
        assert all(before[name] is after[name] is None if fill == "zero" else torch.equal(before[name], after[name]) for name in two)
        assert all(torch.isfinite(gradient).all() for gradient in after.values() if gradient is not None)
        assert method.coefficient.steps.sum() == 0  # no pair: no evidence


def test_a_batch_of_one_breaks_nothing_in_ogm_ge():
    _, after, _, _ = stepped("lstm", size=1)
    assert all(torch.isfinite(gradient).all() for gradient in after.values())


def test_ogm_ge_can_scale_the_step_instead_of_the_gradient():
    before, after, method, context = stepped("lstm", noise=False, apply="update")
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())
    k = dict(zip(method.modalities, method.coefficient.take()))
    assert context.rates == {f"encoder/{name}": pytest.approx(value) for name, value in k.items()} and min(k.values()) < 1
    assert set(context.rates) <= {group.name for group in method.stages()[0].groups}


def test_ogm_ge_refuses_encoders_that_do_not_learn(monkeypatch):
    from omnifuse.models.encoders.lstm import LSTM

    monkeypatch.setattr(LSTM, "learnable", lambda self: [])
    with pytest.raises(ConfigError, match="nothing in the encoder of one learns"):
        stepped("lstm")


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """Three classes, of which the training part has two."""
    opened = cohorts.samples(
        tmp_path_factory.mktemp("s"), kind="multiclass", modalities=("ehr", "rep"), patients=90, dim=4, steps=(2, 5), absent=0.4
    )
    label = opened.part("train").label
    label[label == 2] = 1
    return opened


@pytest.mark.parametrize("variant, finite", [("fixed", True), ("released", False)])
def test_an_empty_class_gives_no_nan_prototype_in_pmr(unequal, variant, finite):
    method = registry.build(
        method_defaults("pmr") | {"variant": variant}, small_encoders(unequal.modalities), unequal.dims, unequal.task, 0
    )
    (stage,) = method.stages()
    context = TrainContext(method, unequal, Reader(torch.device("cpu")), stage, seed=0, epoch=1, step=0)
    method.begin_stage(context)
    batch = next(unequal.part("train").batches(32))
    batch.label[:3] = 2  # such samples are no evidence
    output = method(batch)
    terms = method.loss(output, batch, stage)
    total = sum(term.weight * term.mean for term in terms.values())
    total.backward()
    prototypes = torch.stack([one.centre for one in method.prototypes.values()])
    gradients = torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])
    assert bool(torch.isfinite(prototypes).all()) == bool(torch.isfinite(total)) == bool(torch.isfinite(gradients).all()) == finite
    if finite:
        assert [one.known.tolist() for one in method.prototypes.values()] == [[[True, True, False]]] * 2
        assert terms["prototype/ehr"].count == len(batch) - 3
        assert torch.all(method.prototypes["ehr"].log_chance(output.parts["blocks"][0])[..., 2].exp() == 0)


def test_what_fills_an_absent_modality_enters_no_prototype(unequal):
    found = {}
    for fill in ("encoder_zero", "zero"):
        method = registry.build(method_defaults("pmr") | {"fill": fill}, small_encoders(unequal.modalities), unequal.dims, unequal.task, 0)
        context = TrainContext(method, unequal, Reader(torch.device("cpu")), method.stages()[0], seed=0, epoch=0, step=0)
        method.begin_stage(context)
        found[fill] = [(one.centre.clone(), method.coefficient.clone()) for one in method.prototypes.values()]
    for one, other in zip(*found.values()):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def visits(draw) -> tuple[list[str], list[str]]:
    return draw(), draw()


def test_unpaired_stays_are_read_once_each_and_alike_every_time(unequal):
    """Met by the dataset that all methods read, not by MedFuse; its public loader draws an unpaired stay anew for each index."""
    part = unequal.part("test")
    first, second = visits(lambda: [name for batch in part.batches(8) for name in batch.sample_id])
    assert first == second and sorted(first) == sorted(part.sample_id.to_list())
    unpaired = part.sample_id.filter(pl.Series(~part.present.all(1))).to_list()
    assert len(unpaired) > 3 and set(unpaired) <= set(first)
    train = unequal.part("train")
    epochs = [[name for batch in train.batches(8, seed=1, epoch=epoch) for name in batch.sample_id] for epoch in (1, 2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(train.sample_id.to_list()) and epochs[0] != epochs[1]
    drawer = random.Random(0)
    first, second = visits(lambda: [unpaired[drawer.randint(0, len(unpaired) - 1)] for _ in unpaired])
    assert first != second and len(set(first)) < len(unpaired)


def test_medfuse_does_not_encode_who_has_no_film(unequal, monkeypatch):
    method = registry.build(method_defaults("medfuse"), small_encoders(unequal.modalities), unequal.dims, unequal.task, 0)
    seen, encode = [], method.encoders["rep"].forward
    monkeypatch.setattr(
        method.encoders["rep"], "forward", lambda values, mask, key=None: seen.append(len(values)) or encode(values, mask, key)
    )
    batch = next(unequal.part("train").batches(32))
    method(batch)
    assert seen == [int(batch.present[:, 1].sum())] and seen[0] < len(batch)


@pytest.mark.parametrize(
    "order, hint", [(["rep", "cxr"], "order names 'cxr'"), (["rep"], "must name every modality"), (["rep", "rep"], "once")]
)
def test_medfuse_takes_an_order_of_its_modalities_alone(unequal, order, hint):
    with pytest.raises(ConfigError, match=hint):
        registry.build({"name": "medfuse", "order": order}, small_encoders(unequal.modalities), unequal.dims, unequal.task, 0)
