"""The contract carries what later methods need: here one that uses all of it at once, trained, stopped and resumed."""

import os
import signal

import cohorts
import polars as pl
import pytest
import torch
from small import small_encoders
from test_training import Stopper, assert_equal_runs

from omnifuse.models import registry, training
from omnifuse.models.checkpoint import Checkpoints
from omnifuse.models.context import TrainContext
from omnifuse.models.contract import Group, Method, Output, Stage, Term, build_head
from omnifuse.models.distributed import Processes
from omnifuse.models.interruption import Interrupted
from omnifuse.models.parts import keyed
from omnifuse.models.parts.heads import task_loss
from omnifuse.models.prediction import Reader
from omnifuse.preprocess import store

TRAIN = {"lr": 0.02, "batch_size": 24, "epochs": 3, "patience": 3, "log_steps": 1}


class Everything(Method):
    """Heads a modality, stages a modality, a trial, a temperature on calib, patterns, mining, gates on gradients, weights that learn."""

    def __init__(self, encoders, kind, outputs):
        super().__init__(encoders, kind, outputs)
        self.heads = torch.nn.ModuleDict({m: build_head("mlp", e.dim, outputs, hidden=6) for m, e in encoders.items()})
        self.mix = torch.nn.Parameter(torch.zeros(2))
        self.temperature = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("prior", torch.zeros(1))
        self.register_buffer("lazy", torch.tensor(-1))

    def stages(self):
        group = lambda name, *modules, **how: Group(name, [p for module in modules for p in module.parameters()], **how)
        alone = [
            Stage(f"alone-{m}", [group(m, self.encoders[m], self.heads[m])], modalities=(m,), epochs=2, monitor=f"auroc/{m}")
            for m in self.modalities
        ]
        encoders, tau = group("encoders", self.encoders, rate=0.1, begin=2), Group("tau", [self.temperature])
        trial = Stage("trial", [group("heads", self.heads)], epochs=1, keep="start")
        fusion = Stage("fusion", [encoders, Group("mix", [self.mix])], monitor="mined", better="min")
        calibration = Stage("calibration", [tau], part="calib", monitor_part="calib", monitor="loss", keep="last")
        return [*alone, trial, fusion, calibration]

    def forward(self, batch):
        heads = {}
        for place, m in enumerate(self.modalities):
            logits = self.heads[m](self.encode(batch, m).pooled, batch.key)
            heads[m] = logits.masked_fill(~batch.present[:, place, None], float("nan"))
        known = torch.stack([*heads.values()])
        fused = torch.nansum(known, 0) / self.temperature
        dropped = keyed.uniform(batch.key, "pattern") < 0.5 if self.training else torch.zeros(len(batch), dtype=torch.bool)
        return Output(fused, heads, {"both": batch.present.all(1).float()}, {"dropped": dropped})

    def loss(self, output, batch, stage):
        weights = torch.softmax(self.mix, 0)
        terms = {"fused": Term.of(*task_loss(output.logits, batch.label, batch.label_mask), weight=weights[0])}
        for place, (m, logits) in enumerate(output.heads.items()):
            loss, known = task_loss(logits.nan_to_num(0.0), batch.label, batch.label_mask)
            terms[m] = Term.of(loss, known & batch.present[:, place] & ~output.parts["dropped"], weight=weights[1])
        return terms | {"looked at": Term.of(torch.full((len(batch),), 7.0), weight=0.0)}

    def begin_stage(self, context):
        train = context.evaluate("train", lambda batch: {"y": Term(batch.label.sum(0), batch.label_mask.sum(0))})
        self.prior.copy_(train["y"].mean)

    def after_backward(self, context):
        context.rates["encoders"] = 0.5
        for p in self.encoders.parameters():
            if p.grad is not None:
                p.grad += 1e-4 * torch.randn(p.shape, generator=context.generator("noise"))

    def after_epoch(self, context):
        if context.stage.modalities is not None:
            return
        found = context.evaluate("probe", patterns=[("ehr",), ("rep",), ("ehr", "rep")])
        worst = max(found, key=lambda pattern: float(found[pattern]["fused"].mean))
        self.lazy.fill_(len(worst))
        context.metrics["mined"] = float(found["ehr",]["fused"].mean)
        context.trace("lazy", self.lazy)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(path, modalities=("ehr", "rep"), patients=120, dim=4, steps=(2, 5), absent=0.4)


@pytest.fixture
def fit(samples, monkeypatch):
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda what, name: Everything if name == "everything" else find(what, name))

    def fit(run, **given):
        encoders, train = small_encoders(samples.modalities), TRAIN | {"tensorboard": given.pop("tensorboard", False)}
        return training.train(
            samples, samples.task, {"name": "everything"}, encoders, train, fold=0, seed=0, run=run, device="cpu", **given
        )

    return fit


def test_stages_learn_on_their_parts_and_leave_what_they_say(samples, fit, tmp_path, monkeypatch):
    states = {}

    def remember(self, context):
        states[context.stage.name] = {name: value.clone() for name, value in self.state_dict().items()}

    monkeypatch.setattr(Everything, "end_stage", remember)
    run = fit(tmp_path / "run")
    history, best = run.table("history.parquet"), {stage["stage"]: stage for stage in run.meta["stages"]}
    changed = lambda a, b: {name.split(".")[0] for name in states[a] if not torch.equal(states[a][name], states[b][name])}
    assert changed("alone-ehr", "alone-rep") == {"encoders", "heads", "prior"}
    assert all(torch.equal(states["alone-ehr"][n], states["alone-rep"][n]) for n in states["alone-ehr"] if ".ehr." in n)
    assert changed("alone-rep", "trial") <= {"lazy", "prior"}  # a trial leaves the weights of its start
    assert changed("trial", "fusion") <= {"encoders", "mix", "lazy", "prior"} and "mix" in changed("trial", "fusion")
    assert changed("fusion", "calibration") <= {"temperature", "lazy", "prior"}
    assert (best["trial"]["epoch"], best["trial"]["value"], best["calibration"]["epoch"]) == (0, None, 3)
    assert best["alone-rep"]["monitor"] == "val/auroc/rep"
    mined = history.filter(stage="fusion", name="mined")
    assert best["fusion"]["value"] == mined["value"].min()
    assert set(history.filter(stage="calibration")["name"]) >= {"calib/loss", "train/looked at"}
    steps = history.filter(name="train/looked at").group_by("stage", maintain_order=True).agg(pl.col("step").min())
    sizes = [len(samples.part("train").having([m]).plan(24)) for m in ("ehr", "rep")]
    assert steps["step"].to_list()[:2] == [sizes[0], 2 * sizes[0] + sizes[1]]  # a stage sees only who possesses its modality
    traced = {"both", "both/p10", "both/median", "both/p90", "lazy", "ece/final", "ece/ehr", "ece/rep"}
    assert set(run.table("traces.parquet")["name"]) == traced
    prior = samples.part("train").label.mean()
    assert float(states["fusion"]["prior"]) == pytest.approx(prior, abs=1e-6)


def test_a_group_begins_to_learn_when_it_is_told(fit, tmp_path, monkeypatch):
    states, after_epoch = {}, Everything.after_epoch

    def remember(self, context):
        after_epoch(self, context)
        states[context.stage.name, context.epoch] = {n: p.detach().clone() for n, p in self.encoders.named_parameters()}

    monkeypatch.setattr(Everything, "after_epoch", remember)
    fit(tmp_path / "run")
    same = lambda a, b: all(torch.equal(states[a][name], states[b][name]) for name in states[a])
    assert same(("trial", 1), ("fusion", 1)) and not same(("fusion", 1), ("fusion", 2))


def test_further_heads_speak_only_of_whom_they_know(samples, fit, tmp_path):
    table = fit(tmp_path / "run").table("predictions/full.parquet")
    counts = dict(table.filter(part="test").group_by("head").len().iter_rows())
    test = samples.part("test")
    assert counts == {"final": len(test), "ehr": int(test.present[:, 0].sum()), "rep": int(test.present[:, 1].sum())}
    assert counts["rep"] < counts["final"]


def test_it_too_can_be_stopped_anywhere(fit, tmp_path):
    whole = fit(tmp_path / "whole", tensorboard=True)
    total = int(whole.table("history.parquet")["step"].max())
    for step in range(2, total, 5):
        with pytest.raises(Interrupted):
            fit(tmp_path / "run", progress=Stopper(step), tensorboard=True)
        found = Checkpoints(store.building_folder(tmp_path / "run") / "scratch/checkpoint").load()
        assert found.state["at"]["total"] in (step, step + 1)  # at the end of an epoch at once, else after one step more
    assert_equal_runs(fit(tmp_path / "run", tensorboard=True), whole)


@pytest.mark.parametrize("place", [("begin_stage", "fusion", 0), ("after_epoch", "fusion", 2), ("end_stage", "trial", 1)])
def test_stopped_between_steps_it_repeats_what_the_hooks_did(fit, tmp_path, monkeypatch, place):
    """The hook has begun to change buffers when the evaluation that it asks for is cut off."""
    whole = fit(tmp_path / "whole")
    hook = getattr(Everything, place[0])

    def interrupt(self, context):
        if (context.stage.name, context.epoch) == place[1:]:
            self.lazy.fill_(99)
            self.prior.fill_(99)
            os.kill(os.getpid(), signal.SIGTERM)
            context.evaluate("train")
        hook(self, context)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Everything, place[0], interrupt)
        fit(tmp_path / "run")
    assert_equal_runs(fit(tmp_path / "run"), whole)


def test_evaluate_sees_those_who_possess_a_pattern_and_nothing_else(samples):
    method = registry.build({"name": "concat"}, small_encoders(samples.modalities), samples.dims, samples.task, 0)
    (stage,) = method.stages()
    context = TrainContext(method, samples, Reader(torch.device("cpu"), size=7), stage, seed=3, epoch=2, step=5)
    method.train()
    method.encoders["ehr"].eval()
    found = context.evaluate("probe", lambda batch: {"n": Term.of(batch.present.sum(1).float())}, patterns=[("rep",), ("ehr", "rep")])
    present = samples.part("probe").present
    assert {pattern: float(terms["n"].count) for pattern, terms in found.items()} == {
        ("rep",): present[:, 1].sum(), ("ehr", "rep"): present.all(1).sum(),
    }  # fmt: skip
    assert {pattern: float(terms["n"].mean) for pattern, terms in found.items()} == {("rep",): 1, ("ehr", "rep"): 2}
    assert method.training and not method.encoders["ehr"].training and torch.is_grad_enabled()
    loss = context.evaluate("probe")["task"]
    (batch,) = samples.part("probe").batches(1000)
    with torch.no_grad():
        expected = method.eval().loss(method(batch), batch, stage)["task"]
    torch.testing.assert_close(loss.mean.float(), expected.mean)


def test_each_process_reads_its_share_and_knows_whose_it_is(samples):
    part, seen = samples.part("test"), []
    for rank in range(3):
        reader = Reader(torch.device("cpu"), size=4, processes=Processes(rank, 3))
        for batch in reader.batches(part):
            assert batch.sample_id == part.sample_id.gather(batch.index.numpy()).to_list()
            assert torch.equal(batch.label, torch.from_numpy(part.label[batch.index.numpy()]))
            seen += batch.index.tolist()
    assert sorted(seen) == list(range(len(part)))


def test_a_generator_belongs_to_its_step_and_name(samples):
    method = registry.build({"name": "concat"}, small_encoders(samples.modalities), samples.dims, samples.task, 0)
    (stage,) = method.stages()
    draw = lambda step, name: float(
        torch.rand(1, generator=TrainContext(method, samples, Reader(torch.device("cpu")), stage, 3, 2, step).generator(name))
    )
    assert draw(5, "a") == draw(5, "a") and len({draw(5, "a"), draw(6, "a"), draw(5, "b")}) == 3
