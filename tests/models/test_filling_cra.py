"""`fill: cra`: OmniFuse's cascades for any method that offers them, beside the method and without touching it."""

import cohorts
import pytest
import torch
from safetensors.numpy import load
from small import method_defaults, small_encoders
from test_training import Stopper, assert_equal_runs

from omnifuse import config
from omnifuse.models import registry, training
from omnifuse.models.context import TrainContext
from omnifuse.models.encoding import encode
from omnifuse.models.interruption import Interrupted
from omnifuse.models.options import TrainOptions
from omnifuse.models.prediction import Reader
from omnifuse.models.step import Stepper, set_modes

NAMES = ("ehr", "rep", "sig")
OFFER = [name for name in registry.names("method") if "cra" in (config.packaged("methods", name)[1].get("choices") or {}).get("fill", ())]
TRAIN = {"lr": 0.01, "batch_size": 32, "epochs": 2, "patience": 2, "log_steps": 1, "tensorboard": False}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return cohorts.samples(tmp_path_factory.mktemp("samples"), modalities=NAMES, patients=100, dim=4, steps=(2, 4), absent=0.4)


def build(samples, name: str, fill: str = "cra"):
    """The method in train mode at the start of its last stage."""
    method = registry.build(method_defaults(name) | {"fill": fill}, small_encoders(NAMES), samples.dims, samples.task, 0)
    stage = method.stages()[-1]
    method.begin_stage(TrainContext(method, samples, Reader(torch.device("cpu")), stage, seed=0, epoch=0, step=0))
    set_modes(method, stage, epoch=1)
    return method, stage


def test_every_method_that_fills_offers_it():
    fills = [name for name in registry.names("method") if "fill" in config.packaged("methods", name)[0]]
    assert fills == OFFER and "concat" in OFFER


@pytest.mark.parametrize("name", OFFER)
def test_what_is_there_stays_and_what_is_not_is_imputed_from_it(samples, name):
    method, _ = build(samples, name)
    batch = next(samples.part("train").batches(24, seed=1))
    method.eval()
    blocks = method.filling(method.encoders, batch)
    v = []
    for place, m in enumerate(NAMES):
        there = batch.present[:, place]
        pooled = encode(method.encoders[m], batch, m).pooled
        torch.testing.assert_close(blocks[place][there], pooled[there], rtol=0, atol=0)
        v.append(torch.where(there[:, None], pooled, method.encoders[m].zero()))
    imputed, _ = method.filling.imputer.forward_cascade(torch.cat(v, 1))
    for place, slot in enumerate(imputed.split(8, 1)):
        absent = ~batch.present[:, place]
        torch.testing.assert_close(blocks[place][absent], slot[absent])
        assert absent.any() == (place > 0)


@pytest.mark.parametrize("name", OFFER)
def test_the_cascades_learn_from_hidden_slots_and_nobody_else_does(samples, name):
    method, stage = build(samples, name)
    batch = next(samples.part("train").batches(24, seed=1))
    terms = method.loss(method(batch), batch, stage)
    mine = {key: term for key, term in terms.items() if key.startswith("imputation/")}
    assert set(mine) == {"imputation/forward", "imputation/backward"}
    assert all(float(term.mean.detach()) > 0 and term.weight == 1 for term in mine.values())
    sum(term.mean for term in mine.values()).backward()
    got = {key.split(".")[0] + "." + key.split(".")[2] for key, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert got == {"filling.forward_cascade", "filling.backward_cascade"}
    plain, _ = build(samples, name, "encoder_zero")
    others = {key: p for key, p in method.named_parameters() if not key.startswith("filling.")}
    assert others.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(p, dict(plain.named_parameters())[key]) for key, p in others.items())  # first weights stay as they are
    assert not [key for key in method.eval().loss(method(batch), batch, stage) if key.startswith("imputation/")]


@pytest.mark.parametrize("name", OFFER)
def test_a_step_moves_the_cascades_and_never_the_teacher(samples, name):
    method, stage = build(samples, name)
    before = {key: p.detach().clone() for key, p in method.filling.named_parameters()}
    here = TrainContext(method, samples, Reader(torch.device("cpu")), stage, seed=0, epoch=1, step=0)
    batch = next(samples.part("train").batches(24, seed=1))
    Stepper(method, stage, TrainOptions(lr=0.01), here.reader.processes, here.reader.device, amp=False).step(batch, here, 1.0, False)
    moved = {key.split(".")[1] for key, p in method.filling.named_parameters() if not torch.equal(p, before[key])}
    assert moved == {"forward_cascade", "backward_cascade"}


@pytest.mark.parametrize("name", ["concat", "gblend"])
def test_it_can_be_stopped_and_tells_what_it_imputes(samples, tmp_path, name):
    options = method_defaults(name) | {"fill": "cra"} | ({"estimate_epochs": 1} if name == "gblend" else {})

    def fit(run, **given):
        encoders = small_encoders(NAMES)
        return training.train(samples, samples.task, options, encoders, TRAIN, fold=0, seed=0, run=run, device="cpu", **given)

    whole = fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", progress=Stopper(int(whole.table("history.parquet")["step"].max()) - 1))
    assert_equal_runs(fit(tmp_path / "run"), whole)
    traced = set(whole.table("traces.parquet").filter(stage="fusion")["name"])
    assert {f"imputation/{m}/{about}" for m in NAMES for about in ("centred_cosine", "mean_error", "ridge_error")} <= traced
    assert [key for key in load(whole.file("weights.safetensors").read_bytes()) if key.startswith("filling.imputer.teachers.")]
