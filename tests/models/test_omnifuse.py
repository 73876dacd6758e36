"""OmniFuse as a whole: what each part leaves untouched, what a step computes, and what it learns from."""

import copy
import dataclasses
import itertools
import os
import signal

import cohorts
import numpy as np
import pytest
import torch
from safetensors.numpy import load
from small import small_encoders
from test_contract import part_of
from test_training import Stopper, assert_equal_runs

from omnifuse.models import registry, training
from omnifuse.models.context import TrainContext
from omnifuse.models.contract import Term
from omnifuse.models.encoding import encode
from omnifuse.models.interruption import Interrupted
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts import laziness
from omnifuse.models.prediction import Reader, predict
from omnifuse.models.step import Stepper, set_modes
from omnifuse.preprocess.schema import ConfigError

NAMES = ("ehr", "cxr", "rep", "dn", "ct", "pet")
SMALL = {"blocks": 2, "latent": 4, "hidden": 8}
TRAIN = {"lr": 0.01, "batch_size": 32, "epochs": 3, "patience": 3, "log_steps": 1, "tensorboard": False}
ABLATIONS = [
    {"dwfuse": dwfuse, "tla": tla, "imp": imp}
    for dwfuse, tla, imp in itertools.product([True, False], [True, False], ["none", "fw", "bw", "fw/bw"])
]


def told(ablation: dict) -> str:
    return "-".join(str(value).replace("/", "+") for value in ablation.values())


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(path, modalities=NAMES[:3], patients=240, dim=4, steps=(2, 5), absent=0.3, unknown=0.05)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    return cohorts.samples(
        tmp_path_factory.mktemp("six"), kind="multilabel", modalities=NAMES, patients=120, dim=3, steps=(2, 3), absent=0.3
    )


def seen(samples, size: int):
    """The samples with their first modalities alone."""
    parts = {key: part_of(part, NAMES[:size]) for key, part in samples.parts.items()}
    return dataclasses.replace(samples, parts=parts, modalities=NAMES[:size])


def build(samples, seed: int = 0, **options):
    config = {"name": "omnifuse", **SMALL, **options}
    return registry.build(config, small_encoders(samples.modalities), samples.dims, samples.task, seed)


def context(method, samples, epoch: int = 1):
    (stage,) = method.stages()
    return TrainContext(method, samples, Reader(torch.device("cpu"), size=50), stage, seed=0, epoch=epoch, step=0)


def ready(samples, **options):
    """A method whose stage has begun, in train mode, with a batch."""
    method = build(samples, **options)
    method.begin_stage(context(method, samples))
    set_modes(method, method.stages()[0], epoch=1)
    return method, next(samples.part("train").batches(40, seed=1, epoch=1))


def step(method, samples, batch, **options):
    reader, found = Reader(torch.device("cpu")), context(method, samples)
    stepper = Stepper(method, found.stage, TrainOptions(**options), reader.processes, reader.device, amp=False)
    return stepper.step(batch, found, rate=1.0, stop=False)


def fit(samples, run, method="omnifuse", options=None, train=None, **given):
    config = {"name": method, **(options or {})}
    encoders = small_encoders(samples.modalities)
    return training.train(samples, samples.task, config, encoders, TRAIN | (train or {}), fold=0, seed=0, run=run, device="cpu", **given)


# Ablations


@pytest.mark.parametrize("ablation", ABLATIONS, ids=told)
def test_an_ablation_leaves_first_weights_and_draws_as_they_are(samples, ablation):
    whole, part = build(samples), build(samples, **ablation)
    weights = whole.state_dict()
    for name, value in part.state_dict().items():
        if name in weights and "controls" not in name:
            assert torch.equal(value, weights[name]), name
    batch = next(samples.part("train").batches(40, seed=1))
    visible = [method.train()(batch).parts["slots"].visible for method in (whole, part)]
    drawn = ablation["tla"] or ablation["imp"] != "none"
    assert torch.equal(visible[1], visible[0] if drawn else batch.present)
    names = {name.split(".")[0] + "." + name.split(".")[1] if "." in name else name for name in part.state_dict()}
    assert ("imputer.backward_cascade" in names) == ("bw" in ablation["imp"])
    assert ("imputer.forward_cascade" in names) == (ablation["imp"] != "none")
    assert ("fusion.latent_head" in names) == (ablation["dwfuse"] and ablation["imp"] != "none")
    assert ("lazy" in names, "fusion.heads" in names, "head.weight" in names) == (
        ablation["tla"],
        ablation["dwfuse"],
        not ablation["dwfuse"],
    )


@pytest.mark.parametrize("ablation", ABLATIONS, ids=told)
def test_each_term_is_learnt_where_its_part_is_on(samples, ablation):
    method, batch = ready(samples, **ablation)
    if ablation["tla"]:
        method.lazy.fill_(int(laziness.bits_of(laziness.draw_combinations(batch.present, batch.key))[0]))
    terms = method.loss(method(batch), batch, None)
    weights = {name: float(term.weight) for name, term in terms.items() if not name.startswith("omega/")}
    several = ablation["tla"] or ablation["imp"] != "none"
    main = 10.0 if several else 1.0  # alone it counts 1
    expected = {"encoders": main} if ablation["dwfuse"] else {"task": main}
    expected |= {"latents": 0.1 * main} if ablation["dwfuse"] and ablation["imp"] != "none" else {}
    expected |= {"tla": 0.5} if ablation["tla"] else {}
    expected |= {"forward": 1.0 if "fw" in ablation["imp"] else 0.0} if ablation["imp"] != "none" else {}
    expected |= {"backward": 1.0} if "bw" in ablation["imp"] else {}
    assert weights == pytest.approx(expected)
    assert all(float(terms[name].sum.detach()) > 0 for name in expected)
    assert np.isfinite(step(method, samples, batch).total)


def assert_same_outcome(first, second, names=lambda name: name):
    weights = [load(run.file("weights.safetensors").read_bytes()) for run in (first, second)]
    assert {names(name) for name in weights[1]} == set(weights[0])
    assert all(np.array_equal(weights[0][names(name)], value) for name, value in weights[1].items())
    scores = [run.table("predictions/full.parquet").filter(head="final")["y_score"] for run in (first, second)]
    assert scores[0].equals(scores[1])


def test_with_everything_off_it_is_concat_to_the_bit(samples, tmp_path):
    concat = fit(samples, tmp_path / "concat", "concat")
    assert_same_outcome(concat, fit(samples, tmp_path / "off", options={"dwfuse": False, "tla": False, "imp": "none"}))


def test_a_cascade_of_none_is_no_imputation_to_the_bit(samples, tmp_path):
    assert_same_outcome(fit(samples, tmp_path / "none", options={"imp": "none"}), fit(samples, tmp_path / "zero", options={"blocks": 0}))


def test_one_modality_is_the_unimodal_run_that_it_starts_from(samples, tmp_path):
    alone = seen(samples, 1)
    first = fit(alone, tmp_path / "unimodal", "unimodal")
    run = fit(alone, tmp_path / "omnifuse", init={"ehr": first.file("weights.safetensors")})
    scores = [made.table("predictions/full.parquet").filter(head="final").sort("part", "sample_id")["y_score"] for made in (first, run)]
    np.testing.assert_allclose(*(column.to_numpy() for column in scores), atol=1e-6)
    assert run.meta["best"]["epoch"] == 0 and len(scores[0]) > 10


def test_one_modality_learns_as_unimodal_does(samples, tmp_path, caplog):
    """But for what is drawn apart: with the weights of the one, the loss of the other."""
    alone = seen(samples, 1)
    method = build(alone)
    other = registry.build({"name": "unimodal", "hidden": 8}, small_encoders(["ehr"]), alone.dims, alone.task, seed=7)
    method.start_from("ehr", other.state_dict())
    batch = next(alone.part("train").batches(40, seed=1))
    (mine,) = [term for name, term in method.eval().loss(method(batch), batch, None).items() if float(term.weight)]
    (theirs,) = other.eval().loss(other(batch), batch, None).values()
    assert float(mine.weight) == 1
    torch.testing.assert_close(mine.mean, theirs.mean)
    method.begin_stage(context(method, alone))
    assert "one modality: there is nothing to fuse, omnifuse is the head of ehr" in caplog.text


# A step


def test_each_modality_is_encoded_once_a_step_and_encoder_0_once(samples):
    """By the encoder where it is seen, by the teacher where it is hidden."""
    method, batch = ready(samples)
    rows = {}
    for kind, encoders in (("live", method.encoders), ("teacher", method.imputer.teachers)):
        for name, encoder in encoders.items():
            encoder.register_forward_hook(lambda _m, args, _o, at=(kind, name): rows.setdefault(at, []).append(len(args[0])))
    output = method(batch)
    method.loss(output, batch, None)
    visible = output.parts["slots"].visible
    for place, name in enumerate(samples.modalities):
        assert sorted(rows["live", name]) == sorted([1, int(visible[:, place].sum())])
        assert rows["teacher", name] == [int((batch.present & ~visible)[:, place].sum())]


def test_inference_runs_neither_teacher_nor_backward_cascade(samples):
    method, _ = ready(samples)
    ran = []
    for part in (method.imputer.backward_cascade, *method.imputer.teachers.values()):
        part.register_forward_hook(lambda *_: ran.append(1))
    predict(method, samples.part("test"), Reader(torch.device("cpu")), lambda output, batch: method.loss(output, batch, None))
    assert not ran


def test_v_and_its_complement_cover_every_modality_once(samples):
    method, batch = ready(samples)
    slots = method(batch).parts["slots"]
    hidden = batch.present & ~slots.visible
    wanted = method.imputer.complement(batch, hidden, method.encoders).split([8] * 3, 1)
    assert hidden.any() and slots.visible.any()
    for place, (name, v) in enumerate(zip(samples.modalities, slots.v.split([8] * 3, 1))):
        zero, taught = method.encoders[name].zero(), encode(method.imputer.teachers[name], batch, name).pooled
        shown, concealed = slots.visible[:, place], hidden[:, place]
        assert (v[shown] != zero).any(1).all() and torch.equal(v[~shown], zero.expand(int((~shown).sum()), -1))
        torch.testing.assert_close(wanted[place][concealed], taught[concealed])
        torch.testing.assert_close(wanted[place][~concealed], zero.expand(int((~concealed).sum()), -1), rtol=1e-4, atol=1e-5)


def test_what_is_there_is_kept_and_what_is_not_is_imputed(samples):
    method, batch = ready(samples)
    slots = method(batch).parts["slots"]
    for place in range(3):
        here, block = slots.visible[:, place], slice(8 * place, 8 * place + 8)
        assert torch.equal(slots.filled[here, block], slots.v[here, block])
        assert torch.equal(slots.filled[~here, block], slots.imputed[~here, block])
    assert slots.counted.all()
    bare, _ = ready(samples, imp="none")
    slots = bare(batch).parts["slots"]
    assert torch.equal(slots.counted, slots.visible)


def test_the_teacher_is_stage_one_and_stays_as_it_is(samples):
    method = build(samples)
    for name in samples.modalities:
        other = registry.build({"name": "unimodal", "hidden": 8}, small_encoders([name]), samples.dims, samples.task, seed=3)
        method.start_from(name, other.state_dict())
        assert all(torch.equal(v, method.encoders[name].state_dict()[k]) for k, v in other.encoders[name].state_dict().items())
        assert all(torch.equal(v, method.fusion.heads[name].state_dict()[k]) for k, v in other.head.state_dict().items())
    method.begin_stage(context(method, samples))
    before = copy.deepcopy(method.state_dict())
    set_modes(method, method.stages()[0], epoch=1)
    method.train()
    assert method.imputer.forward_cascade.training and not any(module.training for module in method.imputer.teachers.modules())
    for batch in itertools.islice(samples.part("train").batches(40, seed=1), 3):
        step(method, samples, batch, lr=0.1)
    after = method.state_dict()
    changed = {name for name in before if not torch.equal(before[name].nan_to_num(), after[name].nan_to_num())}
    assert not [name for name in changed if "teachers" in name]
    assert {name for name in before if name.startswith("encoders.")} <= changed
    for name in samples.modalities:
        taken = {key.removeprefix(f"encoders.{name}."): value for key, value in before.items() if key.startswith(f"encoders.{name}.")}
        assert all(torch.equal(value, method.imputer.teachers[name].state_dict()[key]) for key, value in taken.items())


def test_a_stage_one_run_with_another_head_is_refused(samples):
    other = registry.build({"name": "unimodal", "hidden": 9}, small_encoders(["ehr"]), samples.dims, samples.task, seed=3)
    with pytest.raises(ConfigError, match="the stage-1 run of ehr has another head"):
        build(samples).start_from("ehr", other.state_dict())


def test_a_modality_that_was_never_observed_is_no_target(samples):
    """Whatever the disk holds of it, and for the teacher too."""
    method, batch = ready(samples)
    method.imputer.zero_cxr.fill_(50.0)  # would be seen in the mean
    terms = method.loss(method(batch), batch, None)
    without = batch.hide(torch.tensor([True, False, True]))
    hidden = method.loss(method(without), without, None)
    assert float(terms["forward"].mean.detach()) > 100 > float(hidden["forward"].mean.detach())


def test_targets_carry_no_gradient(samples):
    """Of eq 8 the gradient is that with v a constant where it is the target; of eq 7 nothing reaches the teacher."""
    method, batch = ready(samples)
    slots = method(batch).parts["slots"]
    slots.v.retain_grad()
    terms = method.imputer.terms(slots, batch, method.encoders)
    terms["backward"].mean.backward(retain_graph=True)
    v = slots.v.detach().clone().requires_grad_()
    back, _ = method.imputer.backward_cascade(method.imputer.forward_cascade(v)[0])
    hidden = batch.present & ~slots.visible
    compared = ((hidden | slots.visible) & hidden.any(1, keepdim=True)).repeat_interleave(8, 1)
    ((back - slots.v.detach()).square() * compared).sum().div(compared.sum()).backward()
    torch.testing.assert_close(slots.v.grad, v.grad)
    terms["forward"].mean.backward()
    assert all(p.grad is None for p in method.imputer.teachers.parameters())


@pytest.mark.parametrize("detach", [True, False])
def test_omega_carries_a_gradient_only_where_it_is_asked_for(samples, detach):
    method, batch = ready(samples, detach_omega=detach)
    assert method(batch).parts["weighed"].omega.requires_grad is not detach


def test_both_switches_of_the_score_are_shown_beside_it(samples):
    """Turned over, what was the prediction is the other head."""
    batch = next(samples.part("val").batches(30))
    say = lambda **options: (lambda method: (method.begin_stage(context(method, samples)), method.eval()(batch))[1])(
        build(samples, **options)
    )
    usual, plain, literal = say(), say(omega_at_inference=False), say(prior_correct=False)
    for head, switched, back in [("unweighted", plain, "weighted"), ("uncorrected", literal, "corrected")]:
        assert torch.equal(usual.heads[head], switched.logits) and torch.equal(switched.heads[back], usual.logits)
        assert not torch.allclose(usual.logits, switched.logits, atol=1e-4)


# Laziness


def test_only_who_shows_the_lazy_combination_is_trained_on_once_more(samples):
    method, batch = ready(samples)
    output = method(batch)
    shown = laziness.bits_of(output.parts["slots"].visible)
    for bits in range(1, 8):
        method.lazy.fill_(bits)
        term = method.loss(output, batch, None)["tla"]
        rows = [b for b in range(len(batch)) if shown[b] == bits and batch.label_mask[b]]
        each = torch.nn.functional.binary_cross_entropy_with_logits(output.logits[rows], batch.label[rows], reduction="sum")
        assert int(term.count) == len(rows)
        torch.testing.assert_close(term.sum, each)


def test_before_laziness_is_known_and_where_nobody_shows_it_the_term_is_0_and_gradients_are_finite(samples):
    method, batch = ready(samples)
    assert int(method.lazy) == 0
    for bits in (0, 0b100):
        method.lazy.fill_(bits)
        only = batch.hide(torch.tensor([True, True, False]))
        term = method.loss(method(only), only, None)["tla"]
        term.mean.backward()
        assert float(term.mean.detach()) == 0
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_mining_is_what_predicting_each_combination_says(samples):
    """On the probe part alone, the embeddings computed once: as with every combination shown by itself."""
    method, _ = ready(samples)
    here = context(method, samples)
    method.after_epoch(here)
    named = laziness.combinations(samples.modalities)
    (stage,) = method.stages()
    statistic = lambda batch: {"d": Term.of(*_cross_entropy(method(batch), batch))}
    found = here.evaluate("probe", statistic, named)
    for combination in named:
        assert here.traces[f"distance/{'+'.join(combination)}"] == pytest.approx(float(found[combination]["d"].mean), rel=1e-4)
    worst = max(named, key=lambda combination: float(found[combination]["d"].mean))
    assert named[int(method.lazy) - 1] == worst and here.traces[f"lazy/{'+'.join(worst)}"] == 1
    assert stage.part == "train" and method.mine_on == "probe"


def _cross_entropy(output, batch):
    each = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, batch.label, reduction="none")
    return each[:, 0], batch.label_mask[:, 0]


def test_the_traces_of_an_epoch(samples):
    method, _ = ready(samples)
    here = context(method, samples)
    method.after_epoch(here)
    measures = ("error", "plain_cosine", "centred_cosine", "mean_error", "ridge_error", "ridge_centred_cosine")
    wanted = {f"imputation/{name}/{measure}" for name in samples.modalities for measure in measures}
    assert wanted <= set(here.traces) and all(np.isfinite(here.traces[name]) for name in wanted)
    output = method.eval()(next(samples.part("val").batches(30)))
    for name in samples.modalities:
        assert ((output.traces[f"omega/{name}"] >= 0) & (output.traces[f"omega/{name}"] <= 1)).all()


# Any number of modalities, any of them missing


@pytest.mark.parametrize("size", range(1, 7))
def test_any_number_of_modalities_and_any_combination(six, size):
    few = seen(six, size)
    method, batch = ready(few)
    method.after_epoch(context(method, few))
    assert np.isfinite(step(method, few, batch).total)
    method.eval()
    for combination in range(1 << size):  # none of them too
        shown = batch.hide(laziness.visible_of(torch.tensor([combination]), size)[0])
        with torch.no_grad():
            output = method(shown)
        assert torch.isfinite(output.logits).all()
        absent = {name for place, name in enumerate(few.modalities) if not combination >> place & 1}
        assert size == 1 or all(output.heads[name].isnan().all() for name in absent)
    if size > 1:
        assert int(method.lazy) in range(1, 1 << size)


def test_seven_modalities_are_too_many_to_mine(six):
    encoders = small_encoders([f"m{number}" for number in range(7)])
    with pytest.raises(ConfigError, match="7 modalities have 127 combinations to mine"):
        registry.build({"name": "omnifuse"}, encoders, dict.fromkeys(encoders, 3), six.task, 0)


@pytest.mark.parametrize("imp", ["none", "fw/bw"])
def test_a_modality_absent_in_the_whole_fold(samples, imp, tmp_path):
    hide = torch.tensor([True, False, True]).numpy()
    parts = {name: dataclasses.replace(part, present=part.present & hide) for name, part in samples.parts.items()}
    run = fit(dataclasses.replace(samples, parts=parts), tmp_path / "run", options={"imp": imp, **SMALL}, train={"epochs": 2})
    scores = run.table("predictions/full.parquet").filter(head="final")["y_score"]
    assert scores.is_finite().all() and scores.n_unique() > 20


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_batch_with_one_class(samples, label):
    method, batch = ready(samples)
    batch.label = torch.full_like(batch.label, label)
    assert np.isfinite(step(method, samples, batch).total)


def test_nothing_seen_and_no_imputation_is_the_prior(samples):
    method, batch = ready(samples, imp="none")
    nothing = batch.hide(torch.zeros(3, dtype=torch.bool))
    label = samples.part("train").label
    expected = np.nanmean(label)
    torch.testing.assert_close(method.eval()(nothing).logits.sigmoid(), torch.full((len(batch), 1), float(expected)))


# Learning


@pytest.mark.parametrize("ablation", [{}, {"imp": "none", "tla": False}, {"dwfuse": False, "tla": False}], ids=told)
def test_the_loss_falls_where_the_classes_are_apart(tmp_path, ablation):
    apart = cohorts.samples(tmp_path, modalities=("ehr", "rep"), patients=200, dim=3, steps=(5, 6), absent=0.2, signal=12.0)
    options, train = {**SMALL, **ablation}, {"epochs": 8, "patience": 8, "lr": 0.02}
    history = fit(apart, tmp_path / "run", options=options, train=train).table("history.parquet")
    loss = history.filter(name="train/loss")["value"].to_list()
    assert loss[-1] < 0.75 * loss[0]
    assert history.filter(name="val/auroc")["value"].max() > 0.85


def test_stopped_anywhere_it_goes_on_to_the_same_end(samples, tmp_path):
    whole = fit(samples, tmp_path / "whole", options=SMALL)
    total = int(whole.table("history.parquet")["step"].max())
    for place in (4, total - 3):
        with pytest.raises(Interrupted):
            fit(samples, tmp_path / "run", options=SMALL, progress=Stopper(place))
    assert_equal_runs(fit(samples, tmp_path / "run", options=SMALL), whole)


def test_stopped_while_it_mines_it_mines_again(samples, tmp_path, monkeypatch):
    whole = fit(samples, tmp_path / "whole", options=SMALL)
    cls = registry.find("method", "omnifuse")
    hook = cls.after_epoch

    def interrupt(self, here):
        if here.epoch == 2:
            self.lazy.fill_(5)
            os.kill(os.getpid(), signal.SIGTERM)
        hook(self, here)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(cls, "after_epoch", interrupt)
        fit(samples, tmp_path / "run", options=SMALL)
    assert_equal_runs(fit(samples, tmp_path / "run", options=SMALL), whole)


def test_under_autocast_what_is_a_probability_stays_in_32_bits(samples):
    method, batch = ready(samples)
    with torch.autocast("cpu", torch.bfloat16):
        output = method(batch)
        terms = method.loss(output, batch, None)
    weighed = output.parts["weighed"]
    assert weighed.modality.dtype == torch.bfloat16
    assert {weighed.log_prob.dtype, weighed.omega.dtype, output.logits.dtype} == {torch.float32}
    assert all(term.sum.dtype == torch.float32 and torch.isfinite(term.mean) for term in terms.values())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"imp": "back"}, "unknown imp 'back'"),
        ({"mine_on": "test"}, "unknown mine_on 'test'"),
        ({"patterns": "some"}, "unknown patterns 'some'"),
    ],
)
def test_wrong_options(samples, options, message):
    with pytest.raises(ConfigError, match=message):
        build(samples, **options)
