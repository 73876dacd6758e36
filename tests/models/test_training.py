"""The trainer: what it learns, what it keeps, and that stopping it anywhere changes nothing."""

import contextlib
import dataclasses
import json
import os
import signal

import cohorts
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load
from small import small_encoders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from omnifuse import config
from omnifuse.models import training
from omnifuse.models.checkpoint import Checkpoints
from omnifuse.models.interruption import Interrupted
from omnifuse.models.journal import Journal
from omnifuse.models.monitoring import compute_auroc
from omnifuse.models.options import TrainOptions
from omnifuse.models.parts import keyed
from omnifuse.models.prediction import Reader, load_run, predict
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ConfigError, InputError, NumericalError, ResourceError

FAST = {"lr": 0.01, "batch_size": 32, "epochs": 4, "patience": 4, "log_steps": 3}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """135 training samples: 5 steps an epoch."""
    path = tmp_path_factory.mktemp("samples")
    return cohorts.samples(path, kind="binary", modalities=("ehr", "rep"), patients=250, dim=4, steps=(2, 6), tails=True, absent=0.4)


def fit(samples, run, method="concat", *, options=None, seed=0, train=None, modalities=None, **given):
    encoders = small_encoders(modalities or samples.modalities)
    method = {"name": method, **(options or {})}
    return training.train(
        samples, samples.task, method, encoders, FAST | (train or {}), fold=samples.fold, seed=seed, run=run, device="cpu", **given
    )


class Stopper(schema.Silent):
    """A progress bar that sends this process a signal after so many steps."""

    def __init__(self, after: int, number: int = signal.SIGTERM):
        super().__init__()
        self.after, self.number = after, number

    def __call__(self, description, total, unit):
        self.total = total
        return self

    def update(self, n=1):
        super().update(n)
        if n and self.n == self.after:
            os.kill(os.getpid(), self.number)


def stop(samples, run, step: int, **given):
    """Trains until `step` steps are done and checkpointed."""
    with pytest.raises(Interrupted) as caught:
        fit(samples, run, progress=Stopper(step - 1), **given)
    assert caught.value.code == 143


def scalars(run: store.Artefact) -> dict:
    if not (run.folder / "tb").exists():
        return {}
    events = EventAccumulator(str(run.folder / "tb"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_equal_runs(first: store.Artefact, second: store.Artefact) -> None:
    assert first.file("weights.safetensors").read_bytes() == second.file("weights.safetensors").read_bytes()
    for name in ("history.parquet", "traces.parquet", "predictions/full.parquet"):
        assert first.table(name).equals(second.table(name)), name
    assert scalars(first) == scalars(second)
    assert first.meta["best"] == second.meta["best"]


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory):
    return fit(samples, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def steps(whole) -> int:
    return int(whole.table("history.parquet")["step"].max())


def test_a_run_holds_what_the_docs_say(samples, whole):
    assert {"config.yaml", "weights.safetensors", "history.parquet", "traces.parquet", "predictions/full.parquet"} <= set(whole.files)
    assert not [name for name in whole.files if "scratch" in name or "checkpoint" in name]
    table = whole.table("predictions/full.parquet")
    assert tuple(table.columns) == schema.PREDICTION_COLUMNS
    assert table.group_by("part").len().sort("part").rows() == sorted((n, len(p)) for n, p in samples.parts.items() if n != "train")
    assert table["y_score"].is_between(0, 1).all() and table["run_id"].unique().to_list() == [whole.fingerprint[:16]]
    order = table.filter(part="test")
    assert order["sample_id"].to_list() == samples.part("test").sample_id.to_list()
    np.testing.assert_array_equal(order["y_true"], samples.part("test").label[:, 0])
    names = set(whole.table("history.parquet")["name"])
    assert names >= {"train/task", "train/loss", "step/loss", "val/task", "val/loss", "val/auroc", "lr"}


def test_it_learns_the_signal_that_is_there(tmp_path):
    from sklearn.metrics import roc_auc_score

    samples = cohorts.samples(tmp_path, patients=250, dim=4, signal=5.0)
    run = fit(samples, tmp_path / "run", train={"epochs": 12, "patience": 12})
    test = run.table("predictions/full.parquet").filter(part="test")
    assert roc_auc_score(test["y_true"], test["y_score"]) > 0.85
    loss = run.table("history.parquet").filter(name="train/loss")["value"]
    assert loss[-1] < 0.8 * loss[0]


def test_a_finished_run_is_left_as_it_is(samples, whole):
    before = whole.file("history.parquet").stat().st_mtime_ns
    again = fit(samples, whole.folder, progress=None)
    assert again.file("history.parquet").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_run_and_another_does_not(samples, whole, tmp_path):
    bar = Stopper(after=-1)
    assert_equal_runs(fit(samples, tmp_path / "again", progress=bar), whole)
    assert bar.n == bar.total == 20
    other = fit(samples, tmp_path / "other", seed=1)
    assert other.file("weights.safetensors").read_bytes() != whole.file("weights.safetensors").read_bytes()


def test_stopped_and_resumed_anywhere_it_is_the_same_run(samples, whole, steps, tmp_path, monkeypatch):
    """At the end of every epoch and at ten steps inside of epochs: bit for bit, and TensorBoard neither doubles nor loses a step."""
    monkeypatch.setattr(Journal, "curves", lambda *_: None)  # drawing takes longer than all the rest
    epochs = [5, 10, 15]
    inside = np.random.default_rng(0).choice([s for s in range(2, steps) if s not in epochs], 10, replace=False)
    for step in [*epochs, *inside.tolist()]:
        stop(samples, tmp_path / f"{step}", step)
        with pytest.raises(schema.ArtefactError, match="an unfinished run"):
            store.open(tmp_path / f"{step}", "run")
        assert_equal_runs(fit(samples, tmp_path / f"{step}"), whole)


def test_stopped_many_times_it_is_the_same_run(samples, whole, tmp_path):
    for step in (3, 5, 6, 12, 15, 19):
        stop(samples, tmp_path / "run", step)
    assert_equal_runs(fit(samples, tmp_path / "run"), whole)


def test_optimiser_and_counters_come_back_bit_for_bit(samples, tmp_path):
    """Two ways to step 13, straight and with a stop at 7, leave the same checkpoint."""
    found = []
    for name, stops in (("straight", [13]), ("twice", [7, 13])):
        for step in stops:
            stop(samples, tmp_path / name, step, train={"optimizer": "adamw", "weight_decay": 0.1})
        found.append(Checkpoints(store.building_folder(tmp_path / name) / "scratch/checkpoint").load())
    straight, twice = found
    assert straight.tensors.keys() == twice.tensors.keys()
    assert {name.split("/")[0] for name in straight.tensors} == {"model", "best", "optimizer"}
    assert all(torch.equal(straight.tensors[name], twice.tensors[name]) for name in straight.tensors)
    assert {**straight.state, "clock": 0} == {**twice.state, "clock": 0}


def test_a_broken_checkpoint_is_gone_back_from_and_named(samples, whole, tmp_path, caplog):
    run = tmp_path / "run"
    stop(samples, run, 12, train={"checkpoint_steps": 1})
    folder = store.building_folder(run) / "scratch/checkpoint"
    newest = folder / "000000000012.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert_equal_runs(fit(samples, run), whole)
    assert "checkpoint 000000000012 is broken: going back to step 11" in caplog.text


def test_a_changed_configuration_is_refused_with_the_difference(samples, tmp_path):
    stop(samples, tmp_path / "run", 4)
    with pytest.raises(ConfigError, match=r"another configuration: seed was 0, is 1; train\.lr was 0\.01, is 0\.02"):
        fit(samples, tmp_path / "run", seed=1, train={"lr": 0.02})
    fresh = fit(samples, tmp_path / "run", seed=1, resume=False, train={"epochs": 1})
    assert fresh.meta["seed"] == 1


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_leaves_a_checkpoint_and_its_exit_code(samples, tmp_path, number, code):
    with pytest.raises(Interrupted) as caught:
        fit(samples, tmp_path / "run", progress=Stopper(2, number))
    assert caught.value.code == code
    assert Checkpoints(store.building_folder(tmp_path / "run") / "scratch/checkpoint").load().state["at"]["total"] == 3
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_the_best_epoch_is_restored(samples, tmp_path):
    """A rate so high that validation gets worse: the weights are those of the best epoch, and training stopped `patience` epochs later."""
    train = {"lr": 0.3, "epochs": 30, "patience": 3, "schedule": "constant"}
    run = fit(samples, tmp_path / "run", train=train)
    auroc = run.table("history.parquet").filter(name="val/auroc")
    best = run.meta["best"]
    assert best["value"] == auroc["value"].max() and best["epoch"] == auroc["epoch"][int(auroc["value"].arg_max())]
    assert best["epochs"] == best["epoch"] + 3 < 30
    method, _ = load_run(run)
    predicted = predict(method, samples.part("val"), Reader(torch.device("cpu")))
    assert compute_auroc(predicted.logits["final"], samples.part("val").label)[0] == best["value"]


def test_the_last_epoch_is_left_where_that_is_asked_for(samples, tmp_path):
    """Nothing is chosen by validation: neither when to stop, nor which weights to leave."""
    train = {"lr": 0.3, "epochs": 12, "patience": 1, "schedule": "constant", "keep": "last"}
    last = fit(samples, tmp_path / "run", train=train)
    auroc = last.table("history.parquet").filter(name="val/auroc")["value"]
    told = last.meta["best"]
    assert (told["epoch"], told["epochs"], told["value"]) == (12, 12, auroc[-1]) and len(auroc) == 12
    assert any(auroc[place] <= auroc[:place].max() for place in range(1, 11)), "patience would have ended it"
    predicted = predict(load_run(last)[0], samples.part("val"), Reader(torch.device("cpu")))
    assert compute_auroc(predicted.logits["final"], samples.part("val").label)[0] == auroc[-1]


def test_what_is_traced_of_each_sample_has_its_distribution_and_each_head_its_calibration(samples, tmp_path):
    """Omega of OmniFuse; kept in the table and shown by TensorBoard."""
    run = fit(samples, tmp_path / "run", "omnifuse", train={"epochs": 1})
    found = dict(run.table("traces.parquet").select("name", "value").iter_rows())
    part, (method, _) = samples.part("val"), load_run(run)
    predicted = predict(method, part, Reader(torch.device("cpu")))
    for name in samples.modalities:
        values = predicted.traces[f"omega/{name}"]
        values = values[~np.isnan(values)]
        told = [found[f"omega/{name}{about}"] for about in ("", "/p10", "/median", "/p90")]
        np.testing.assert_allclose(told, [values.mean(), *np.quantile(values, [0.1, 0.5, 0.9])], rtol=1e-5)
        assert told[1] < told[3]
    heads = {"final", *samples.modalities, "latents", "unweighted", "uncorrected"}
    assert {name.removeprefix("ece/") for name in found if name.startswith("ece/")} == heads == set(predicted.logits)
    score, truth = 1 / (1 + np.exp(-predicted.logits["rep"][:, 0])), part.label[:, 0]
    known = ~np.isnan(score)
    bins = (score[known] * 15).astype(int)
    error = sum(abs((score[known] - truth[known])[bins == place].sum()) for place in range(15)) / known.sum()
    assert found["ece/rep"] == pytest.approx(error, rel=1e-4) and 0 < known.sum() < len(part)
    shown = scalars(run)
    for name, value in found.items():
        assert shown[f"joint/trace/{name}"][-1][1] == pytest.approx(value, rel=1e-5), name


def test_one_modality_concatenated_is_unimodal_with_a_linear_head(tmp_path):
    samples = cohorts.samples(tmp_path, patients=100, dim=4)
    train = {"epochs": 2, "patience": 2}
    alone = fit(samples, tmp_path / "alone", "unimodal", options={"head": "linear"}, train=train)
    concat = fit(samples, tmp_path / "concat", "concat", train=train)
    assert alone.file("weights.safetensors").read_bytes() == concat.file("weights.safetensors").read_bytes()


def test_encoders_of_stage_one_are_taken_over(samples, tmp_path):
    small = {"epochs": 1}
    only = dataclasses.replace(samples, modalities=("rep",), parts={n: p.having(["rep"]) for n, p in samples.parts.items()})
    only = dataclasses.replace(
        only, parts={n: dataclasses.replace(p, tokens={"rep": p.tokens["rep"]}, present=p.present[:, 1:]) for n, p in only.parts.items()}
    )
    one = fit(only, tmp_path / "one", "unimodal", train=small)
    weights = load(one.file("weights.safetensors").read_bytes())
    plan = training.make_plan(
        samples, samples.task, {"name": "concat"}, small_encoders(samples.modalities), FAST, fold=0, seed=5,
        init={"rep": one.file("weights.safetensors")},
    )  # fmt: skip
    state = plan.build().state_dict()
    taken = {name: value for name, value in state.items() if name.startswith("encoders.rep.")}
    assert taken and all(np.array_equal(weights[name], value.numpy()) for name, value in taken.items())
    without = dataclasses.replace(plan, init={})
    assert plan.fingerprint != without.fingerprint
    assert not np.array_equal(
        without.build().state_dict()["encoders.rep.project.0.weight"].numpy(), weights["encoders.rep.project.0.weight"]
    )
    wide = dataclasses.replace(plan, encoders=small_encoders(samples.modalities, dim=9))
    with pytest.raises(ConfigError, match="the stage-1 run of rep has another encoder"):
        wide.build()


@contextlib.contextmanager
def spoilt(samples, value: float, place: int):
    """One value of one training sample is NaN or infinite."""
    part = samples.part("train")
    tokens = part.tokens["ehr"]
    rows = np.array(tokens.rows)
    rows[tokens.start[part.at[place]], 2] = value
    parts = {**samples.parts, "train": dataclasses.replace(part, tokens={**part.tokens, "ehr": dataclasses.replace(tokens, rows=rows)})}
    yield dataclasses.replace(samples, parts=parts), int(part.row[place])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_an_input_stops_before_an_update(samples, tmp_path, value):
    third = samples.part("train").plan(32, seed=keyed.number(0, 0), epoch=1)[2]
    with spoilt(samples, value, third[4]) as (broken, row), pytest.raises(NumericalError) as caught:
        fit(broken, tmp_path / "run", train={"checkpoint_steps": 1})
    text = str(caught.value)
    assert f"samples/binary.parquet:{row}: values of ehr holds NaN or infinity in 1 of" in text and "stage fusion, epoch 1, step 3" in text
    assert not any(name in text for name in samples.part("train").sample_id)
    kept = Checkpoints(store.building_folder(tmp_path / "run") / "scratch/checkpoint").load()
    assert kept.state["at"]["total"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())


def test_nan_in_an_activation_names_the_module(samples, tmp_path, monkeypatch):
    from omnifuse.models.encoders.lstm import LSTM

    forward, calls = LSTM.forward, []

    def overflow(self, values, mask, key=None):
        calls.append(1)
        encoded = forward(self, values, mask, key)
        if len(calls) > 8 and len(values) > 1:
            encoded.pooled = encoded.pooled * float("inf")
        return encoded

    monkeypatch.setattr(LSTM, "forward", overflow)
    with pytest.raises(NumericalError, match="the output of encoders.ehr holds NaN or infinity in"):
        fit(samples, tmp_path / "run")


def test_a_diverging_loss_stops(samples, tmp_path):
    with pytest.raises(NumericalError, match="NaN or infinity"):
        fit(samples, tmp_path / "run", train={"lr": 1e30, "optimizer": "sgd", "clip": 0.0})


def relabelled(samples, part: str, label: float):
    changed = dataclasses.replace(samples.part(part), label=np.full_like(samples.part(part).label, label))
    return dataclasses.replace(samples, parts={**samples.parts, part: changed})


def test_nothing_to_learn_from_is_an_input_error(samples, tmp_path):
    with pytest.raises(InputError, match="every training sample of fold 0 has the same label"):
        fit(relabelled(samples, "train", 1.0), tmp_path / "run")
    empty = samples.part("train").where(lambda present: present[:, 0] & False)
    with pytest.raises(InputError, match="the part train of fold 0 has no sample with any of ehr, rep"):
        fit(dataclasses.replace(samples, parts={**samples.parts, "train": empty}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_without_a_label_to_rank_the_loss_chooses_and_says_so(samples, tmp_path, caplog):
    run = fit(relabelled(samples, "val", 0.0), tmp_path / "run")
    assert "val/auroc" not in set(run.table("history.parquet")["name"])
    loss = run.table("history.parquet").filter(name="val/loss")["value"]
    assert run.meta["best"]["monitor"] == "val/loss" and run.meta["best"]["value"] == loss.min()
    assert "auroc cannot be computed on val, the loss chooses the epoch instead" in caplog.text


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_other_kinds_of_task(kind, tmp_path):
    samples = cohorts.samples(tmp_path, kind=kind, modalities=("ehr", "rep"), patients=200, dim=4, unknown=0.2)
    run = fit(samples, tmp_path / "run", train={"epochs": 8, "patience": 8, "lr": 0.02})
    table = run.table("predictions/full.parquet")
    assert run.meta["best"]["value"] > 0.7
    assert table["label_name"].n_unique() == samples.task.outputs
    if kind == "multiclass":
        sums = table.group_by("part", "sample_id").agg(pl.col("y_score").sum(), pl.col("y_true").sum())
        assert (sums["y_score"] - 1).abs().max() < 1e-5 and (sums["y_true"] == 1).all()
    else:
        assert (table["y_mask"] == table["y_true"].is_not_null()).all() and not table["y_mask"].all()


def test_a_finished_run_says_again_what_it_wrote(samples, whole):
    method, _ = load_run(whole)
    predicted = predict(method, samples.part("calib"), Reader(torch.device("cpu"), size=7))
    written = whole.table("predictions/full.parquet").filter(part="calib")["y_score"]
    np.testing.assert_allclose(1 / (1 + np.exp(-predicted.logits["final"][:, 0])), written, atol=1e-6)


def test_the_packaged_training_options_are_the_trainers(monkeypatch):
    fields, _ = config.packaged("train", "default")
    assert {name: field.default for name, field in fields.items()} == vars(TrainOptions())


@pytest.mark.parametrize(
    "train, message",
    [
        ({"learning_rate": 1}, "no option train.learning_rate"),
        ({"lr": -1}, "train.lr must not be negative"),
        ({"optimizer": "adm"}, "train.optimizer must be one of adam, adamw, sgd"),
        ({"epochs": 0}, "train.epochs must be at least 1"),
    ],
)
def test_wrong_options(samples, tmp_path, train, message):
    with pytest.raises(ConfigError, match=message):
        fit(samples, tmp_path / "run", train=train)


@pytest.mark.parametrize("epochs, expected", [(4, [1, 1, 2 / 3, 1 / 3]), (5, [1, 1, 1, 2 / 3, 1 / 3]), (1, [1])])
def test_the_rate_falls_over_the_second_half(epochs, expected):
    rates = [TrainOptions().rate(epoch, epochs) for epoch in range(1, epochs + 1)]
    assert rates == pytest.approx(expected)


def test_tensorboard_holds_no_patient(samples, whole):
    content = b"".join(path.read_bytes() for path in (whole.folder / "tb").iterdir())
    held = [name.encode() for part in samples.parts.values() for name in (*part.sample_id, *part.patient_id)]
    assert not [name for name in held if name in content]
    tags = EventAccumulator(str(whole.folder / "tb"))
    tags.Reload()
    assert tags.Tags()["images"] == ["roc"] and "pr/binary" in tags.Tags()["tensors"]
    assert json.loads(json.dumps(whole.meta))["environment"]["device"] == "cpu"


def test_nan_in_a_test_sample_is_told_not_dropped(samples, tmp_path):
    part = samples.part("test")
    tokens = part.tokens["ehr"]
    rows = np.array(tokens.rows)
    rows[tokens.start[part.at[3]]] = np.nan
    parts = {**samples.parts, "test": dataclasses.replace(part, tokens={**part.tokens, "ehr": dataclasses.replace(tokens, rows=rows)})}
    with pytest.raises(NumericalError, match=rf"samples/binary.parquet:{part.row[3]}: the prediction is NaN or infinite for 1 of"):
        fit(dataclasses.replace(samples, parts=parts), tmp_path / "run", train={"epochs": 1})


def test_where_every_prediction_is_nan_the_learning_rate_is_blamed_and_no_row(samples, tmp_path):
    one_step = {"epochs": 1, "batch_size": 1000, "optimizer": "sgd", "lr": 1e35, "clip": 0}
    with pytest.raises(NumericalError) as caught:
        fit(samples, tmp_path / "run", train=one_step)
    count = len(samples.part("val"))
    said = f"the prediction is NaN or infinite for all {count} samples of the part val: the weights diverged, not these rows"
    assert str(caught.value) == f"{said} (train.lr is probably too high)" and caught.value.exit_code == 7


def test_out_of_memory_is_a_resource_error_with_a_smaller_batch(samples, tmp_path, monkeypatch):
    from omnifuse.models.encoders.lstm import LSTM

    def exhausted(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(LSTM, "forward", exhausted)
    with pytest.raises(ResourceError, match=r"out of memory while training \(--set train.batch_size=16\)"):
        fit(samples, tmp_path / "run")
