"""omnifuse tune in a workspace: what it leaves, what train makes of it, what it never reads, and what stops it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cohorts
import numpy as np
import polars as pl
import pytest
from command_line import run

from omnifuse import evaluations, jobs, trainings, tunings, workspace
from omnifuse.models.extraction import extract
from omnifuse.preprocess import store
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.schema import LockedError, NumericalError

QUICK = ("--set", "train.epochs=2", "--set", "train.tensorboard=false", "--set", "encoder.ehr.hidden=4", "--set", "encoder.lab.hidden=4")
CHEAP = ("tune", "--method", "mask_only", "--set", "train.epochs=2", "--set", "train.tensorboard=false")


def make(root):
    workspace.make(root, None)
    cohort = cohorts.make(root / "cohorts/tiny", patients=100, modalities=("ehr", "lab"), dim=3, steps=(2, 2))
    extract(cohort, "binary", root / "features/tiny/binary", fit_normaliser)
    return root


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return make(tmp_path_factory.mktemp("bare") / "study")


@pytest.fixture
def study(bare, tmp_path, monkeypatch):
    """A workspace in which nothing was tuned."""
    shutil.copytree(bare, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture(scope="module")
def tuned(bare, tmp_path_factory):
    """A workspace in which concat was tuned: its folder, and what the command printed as JSON."""
    folder = tmp_path_factory.mktemp("tuned") / "study"
    shutil.copytree(bare, folder)
    command = [sys.executable, "-m", "omnifuse", "tune", "--method", "concat", "--trials", "3", "--json", *QUICK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return folder, json.loads(done.stdout)["tunings"][0]


@pytest.fixture
def inside(tuned, monkeypatch):
    monkeypatch.chdir(tuned[0])
    return tuned


def folder_of(study, method="mask_only"):
    return study / f"tunings/tiny/binary/{method}-ehr+lab"


def rows(folder):
    with (folder / tunings.TABLE).open() as file:
        return list(csv.DictReader(file))


def settled(folder):
    """What a tuning found, without the clock and without the names of runs."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "run")} for row in rows(folder)]


def test_every_trial_is_an_ordinary_run_and_the_best_of_val_wins(inside):
    study, told = inside
    found = rows(folder_of(study, "concat"))
    runs = [store.open(study / "runs/tiny/binary" / row["run"], "run") for row in found]
    assert [(row["trial"], row["state"]) for row in found] == [("0", "ok"), ("1", "ok"), ("2", "ok")]
    for row, made in zip(found, runs):
        val = made.table("predictions/full.parquet").filter(part="val", head="final")
        assert float(row["val/auroc"]) == pytest.approx(auroc(val["y_true"].to_numpy(), val["y_score"].to_numpy()))
        values = yaml_values(made)
        assert [values[name] for name in ("train.lr", "encoder.lab.dropout")] == [row["train.lr"], row["fusion.encoder.*.dropout"]]
    assert told["best"]["value"] == max(trial["value"] for trial in told["trials"])
    assert told["gain"] == pytest.approx(told["best"]["value"] - told["trials"][0]["value"]) and told["gain"] >= 0
    assert len(told["tried"]) == 3 and told["left_out"] == ["method.dropout"]


def yaml_values(made):
    lines = made.file("config.yaml").read_text().splitlines()
    return {line.split(":")[0]: line.split(":", 1)[1].split("#")[0].strip() for line in lines}


def auroc(label, score):
    """The share of pairs in their right order."""
    positive, negative = score[label == 1], score[label == 0]
    return np.mean((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))


def test_trials_start_from_the_same_encoders(inside):
    study, told = inside
    assert len(list(study.glob("runs/tiny/binary/unimodal-*/*/fold0"))) == 2
    init = [store.open(study / "runs/tiny/binary" / trial["run"], "run").meta["init"] for trial in told["trials"]]
    assert init[0] and init[0] == init[1] == init[2]


def test_tensorboard_has_a_row_a_trial(inside):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study, told = inside
    for trial in told["trials"]:
        events = EventAccumulator(str(folder_of(study, "concat") / f"tb/trial{trial['number']:03d}")).Reload()
        assert "_hparams_/session_start_info" in events.summary_metadata
        assert events.Scalars("best/val/auroc")[0].value == pytest.approx(trial["value"])


@pytest.mark.parametrize(
    "how", [("--tuned",), ("--tuned", *QUICK), ("--config", "best.yaml"), QUICK], ids=["tuned", "tuned and told", "config", "defaults"]
)
def test_train_finds_the_winner_trained(inside, capsys, how):
    study, told = inside
    shutil.copy(folder_of(study, "concat") / tunings.BEST, study / "best.yaml")
    code, out, err = run(capsys, "train", "--method", "concat", "--fold", "0", "--dry-run", "--json", *how)
    assert code == 0, err
    (found,) = json.loads(out)["runs"]
    expected = told["trials"][0]["run"] if how is QUICK else told["best"]["run"]
    assert (found["state"], found["run"]) == ("finished", str(study / "runs/tiny/binary" / expected))


@pytest.mark.parametrize("scope, told", [("", True), ("fusion.", True), ("stage1.", False)])
def test_it_is_told_where_set_wins_over_what_tuning_found(inside, capsys, scope, told):
    trainings._note_once.cache_clear()
    code, _, err = run(capsys, "train", "--method", "concat", "--tuned", "--dry-run", *QUICK, "--set", f"{scope}train.lr=1e-3")
    assert code == 0 and ("concat: --set wins over what tuning found for train.lr;" in err) == told


def test_the_best_is_a_layer_and_a_name(inside):
    study, told = inside
    space, cohort = workspace.find(), store.open(study / "cohorts/tiny", "cohort")
    layer = tunings.best_layer(space, cohort, "binary", "concat", ["ehr", "lab"])
    assert {name: float(leaf.text) for name, leaf in layer.items() if leaf.where.startswith("tuned")} == told["best"]["layer"]
    assert {name: leaf.text for name, leaf in layer.items() if name in told["given"]} == told["given"] != {}
    assert tunings.best_layer(space, cohort, "binary", "sum", ["ehr", "lab"]) is None
    assert tunings.winners(study / "runs/tiny/binary") == {told["best"]["run"].removesuffix("/fold0")}


def test_the_tables_of_tuned_methods_stand_beside_the_others(tuned, tmp_path, monkeypatch, capsys):
    study = shutil.copytree(tuned[0], tmp_path / "study")
    monkeypatch.chdir(study)
    (study / "one.yaml").write_text("about: One.\ncolumns: all\nrows:\n  a: {title: Concat, method: concat}\n")
    for more in ((), ("--tuned",)):
        code, _, err = run(capsys, "eval", "--ablate", "--grid", "one.yaml", "--resamples", "100", *more, *QUICK)
        assert code == 0, err
    texts = [(study / f"reports/tiny/binary-ablation/{name}/table.md").read_text() for name in ("one", "one-tuned")]
    assert ["with what tuning found" in text for text in texts] == [False, True]
    assert (study / "runs/tiny/binary/tensorboard/one-tuned").is_dir()
    code, _, err = run(capsys, "eval", "--resamples", "100")  # the report of the task is made beside them, not over them
    assert code == 0, err
    assert [(study / f"reports/tiny/binary-ablation/{name}/table.md").read_text() for name in ("one", "one-tuned")] == texts


def test_a_modality_alone_that_was_tuned_is_judged_as_tuned(inside, tmp_path, monkeypatch, capsys):
    """Else tuned fusions would be held against a single modality that nobody tuned."""
    grid = tmp_path / "one.yaml"
    grid.write_text("about: One.\ncolumns: all\nrows:\n  a: {title: Concat, method: concat}\n")
    whole = tunings.best_layer
    found = {"fusion.train.lr": tunings.leaf(0.0123, "tuned, trial 1 of 2")}
    layer = lambda *told: found if told[3:] == ("unimodal", ["lab"]) else whole(*told)
    monkeypatch.setattr(tunings, "best_layer", layer)
    code, out, err = run(capsys, "eval", "--ablate", "--grid", str(grid), "--tuned", "--list-cells", *QUICK)
    assert code == 0, err
    alone = [line for line in out.splitlines() if "--method unimodal" in line and "--modalities lab" in line and "--fold 1" in line]
    assert sorted("0.0123" in line for line in alone) == [False, True]  # that the rows start from, and that is judged
    assert not any("0.0123" in line for line in out.splitlines() if "--modalities ehr " in line)


def test_a_tuning_of_another_cohort_is_not_taken(tuned, tmp_path, monkeypatch, capsys):
    shutil.copytree(tuned[0], tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    shutil.rmtree("cohorts/tiny")
    cohort = cohorts.make(tmp_path / "study/cohorts/tiny", patients=80, modalities=("ehr", "lab"), dim=3)
    extract(cohort, "binary", tmp_path / "study/features/tiny/binary", fit_normaliser)
    code, _, err = run(capsys, "train", "--method", "concat", "--tuned", "--dry-run")
    assert code == 4 and "was tuned on another cohort" in err and err.count("\n") == 1


def test_a_second_call_trains_nothing_and_more_trials_go_on(inside, capsys):
    study, told = inside
    before = {path: path.stat().st_mtime_ns for path in study.rglob("manifest.json")}
    code, out, err = run(capsys, "tune", "--method", "concat", "--trials", "3", *QUICK)
    assert code == 0 and "3 trials, 3 finished; 0 stage-1 runs to train" in out, err
    assert f"the defaults come {told['default_rank']} of 3" in out and "looks at one val part of" in out
    assert {path: path.stat().st_mtime_ns for path in study.rglob("manifest.json")} == before
    code, out, _ = run(capsys, "tune", "--method", "concat", "--trials", "5", "--dry-run", "--json", *QUICK)
    assert [trial["run"] for trial in json.loads(out)["tunings"][0]["trials"]][:3] == [trial["run"] for trial in told["trials"]]


@pytest.mark.parametrize(
    "more, says",
    [
        (("--method", "concatt"), "did you mean concat"),
        (("--task", "mortality"), "no task 'mortality'"),
        (("--fold", "9"), "no fold '9'"),
        (("--fold", "all"), "--fold takes one fold"),
        (("--trials", "0"), "--trials"),
        (("--jobs", "0"), "--jobs"),
        (("--search", "bayes"), "random.*grid"),
        (("--space", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("--space", "space.yaml"), "space.yaml:1: unknown key train.lrr .*; space.yaml:2: method.beta must be between 0 and 1"),
        (("--space", "line.yaml", "--search", "grid"), "line.yaml:1: train.lr has no points"),
        (("--space", "grid.yaml", "--search", "grid", "--trials", "2"), "the grid has 3 settings"),
        (("--method", "concat", "--set", "train.lrr=1"), "did you mean train.lr"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_trained(study, capsys, more, says):
    (study / "space.yaml").write_text("train.lrr: {log: [1, 2]}\nmethod.beta: {uniform: [0, 2]}\n")
    (study / "line.yaml").write_text("train.lr: {log: [1e-4, 1e-3]}\n")
    (study / "grid.yaml").write_text("train.batch_size: {choice: [8, 16]}\n")
    code, _, err = run(capsys, "tune", *more)
    assert (code, err.count("\n")) == (2, 1), err
    assert re.search(says, err), err
    assert not list(study.rglob("fold0")) and not (study / "tunings").exists()


def test_a_dry_run_lists_the_trials_and_writes_nothing(study, capsys):
    before = sorted(study.rglob("*"))
    methods = ("--method", "omnifuse", "--method", "mask_only", "--method", "unimodal")
    code, out, err = run(capsys, "tune", *methods, "--trials", "3", "--dry-run")
    assert code == 0, err
    assert sorted(study.rglob("*")) == before
    assert out.count("would train") == 4 and "unimodal ehr: 3 trials" in out and "unimodal lab: 3 trials" in out
    assert len(re.findall(r"^ +\d  to do ", out, re.M)) == 12


def test_the_test_part_is_never_read(study, tmp_path, capsys, monkeypatch):
    """The same outcome on a cohort in which every label of the test part is the other one."""
    assert run(capsys, *CHEAP, "--trials", "4")[0] == 0
    expected = settled(folder_of(study))
    shutil.rmtree(study / "runs"), shutil.rmtree(study / "tunings")
    cohort = store.open(study / "cohorts/tiny", "cohort")
    parts = cohort.table("parts.parquet").filter(fold=0, part="test")["patient_id"]
    table = cohort.table("samples/binary.parquet")
    flipped = pl.when(pl.col("patient_id").is_in(parts.implode())).then(pl.col("y").list.eval(1 - pl.element())).otherwise(pl.col("y"))
    changed = table.with_columns(flipped)
    assert 0 < (changed["y"] != table["y"]).sum() == len(parts)
    store.write_parquet(cohort.folder / "samples/binary.parquet", changed)
    store.finish(cohort.folder, "cohort", fingerprint=cohort.fingerprint, meta=cohort.meta)
    assert run(capsys, *CHEAP, "--trials", "4")[0] == 0
    assert settled(folder_of(study)) == expected


DIVERGING = "train.optimizer: {choice: [sgd]}\ntrain.lr: {choice: [10]}\ntrain.weight_decay: {choice: [0, 10]}\n"
LONG = ("--set", "train.batch_size=4", "--set", "train.epochs=4")


def test_a_trial_that_ends_in_nan_is_lost_and_told(study, capsys):
    (study / "space.yaml").write_text(DIVERGING)
    code, out, err = run(capsys, *CHEAP, *LONG, "--space", "space.yaml", "--search", "grid")
    assert code == 0, err
    found = rows(folder_of(study))
    assert [row["state"] for row in found] == ["ok", "ok", "lost"]
    assert found[2]["train.weight_decay"] == "10.0" and not found[2]["val/auroc"] and found[2]["reason"]
    assert "trial 2: lost: " in out and (folder_of(study) / tunings.FIGURE).read_bytes()[:4] == b"\x89PNG"


def test_where_all_are_lost_nothing_is_written(study, capsys):
    (study / "space.yaml").write_text("train.lr: {choice: [9, 10]}\n")
    wild = ("--set", "train.optimizer=sgd", "--set", "train.weight_decay=10", "--set", "train.lr=8")
    code, _, err = run(capsys, *CHEAP, *LONG, *wild, "--space", "space.yaml")
    assert (code, err.count("\n")) == (7, 1), err
    assert "all 3 trials of mask_only were lost" in err
    assert not folder_of(study).exists()


def test_of_two_at_once_one_is_told(study, capsys):
    with store.lock(folder_of(study)):
        code, _, err = run(capsys, *CHEAP)
    assert (code, err.count("\n")) == (6, 1) and "is being written by another run" in err


def test_interrupted_the_same_command_goes_on(study, capsys, monkeypatch):
    whole, before = [], jobs.attempt

    def stopping(cell, *more):
        if len(whole) == 2:
            raise KeyboardInterrupt
        whole.append(cell.path / store.MANIFEST)
        return before(cell, *more)

    monkeypatch.setattr(jobs, "attempt", stopping)
    assert run(capsys, *CHEAP, "--trials", "3")[0] == 130
    assert not folder_of(study).exists() and not store.building_folder(folder_of(study)).exists()
    made = {path: path.stat().st_mtime_ns for path in whole}
    monkeypatch.setattr(jobs, "attempt", before)
    code, out, _ = run(capsys, *CHEAP, "--trials", "3")
    assert code == 0 and "3 trials, 2 finished" in out
    assert {path: path.stat().st_mtime_ns for path in whole} == made and len(rows(folder_of(study))) == 3


def test_looks_at_val_add_up(study, capsys):
    for seed in ("0", "0", "1"):
        code, out, _ = run(capsys, *CHEAP, "--trials", "2", "--seed", seed, "--json")
        assert code == 0
    assert len(json.loads(out)["tunings"][0]["tried"]) == 4


def test_a_lost_stage_one_loses_its_trials_alone(study, capsys, monkeypatch):
    before = jobs.attempt

    def failing(cell, *more):
        if cell.method == "unimodal" and cell.plan.resolved.values["encoder.ehr.dropout"] == 0.5:
            return jobs.Outcome(reason=str(NumericalError("NaN in the loss")))
        return before(cell, *more)

    monkeypatch.setattr(jobs, "attempt", failing)
    (study / "space.yaml").write_text("encoder.ehr.dropout: {choice: [0.1, 0.5]}\n")
    code, out, err = run(capsys, "tune", "--method", "concat", "--modalities", "ehr", "--space", "space.yaml", *QUICK[:-2])
    assert code == 0, err
    assert "its trials do not share their encoders" in out
    states = {row["encoder.ehr.dropout"]: row["state"] for row in rows(study / "tunings/tiny/binary/concat-ehr")}
    assert states == {"0.3": "ok", "0.1": "ok", "0.5": "lost"}


def test_eval_judges_what_there_is(inside):
    """The trials are runs like others: one of them speaks for the method."""
    study, told = inside
    (judged,) = [run for run in evaluations.find(study / "runs/tiny/binary") if run.meta["method"] == "concat"]
    assert judged.folder.relative_to(study / "runs/tiny/binary").as_posix() in [trial["run"] for trial in told["trials"]]


@pytest.mark.slow
def test_several_at_once_find_the_same(study, capsys):
    assert run(capsys, *CHEAP, "--trials", "4", "--jobs", "2")[0] == 0
    together = settled(folder_of(study))
    shutil.rmtree(study / "runs"), shutil.rmtree(study / "tunings")
    assert run(capsys, *CHEAP, "--trials", "4")[0] == 0
    assert settled(folder_of(study)) == together


@pytest.mark.slow
@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_stopped_by_a_signal_nothing_is_left_running(study, sent, code, jobs):
    endless = ("--trials", "2", "--set", "train.epochs=10000", "--set", "train.patience=10000", "--jobs", jobs)
    command = [sys.executable, "-m", "omnifuse", *CHEAP, *endless]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs do not hear it
    process = subprocess.Popen(command, cwd=study, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=heard)
    underway = lambda: list(study.glob("runs/tiny/binary/mask_only*/*/.fold0.building/scratch/checkpoint/*"))
    assert within(120, lambda: len(underway()) >= int(jobs))
    os.kill(process.pid, sent)
    assert process.wait(timeout=60) == code
    held = [checkpoint.parents[2].with_name("fold0") for checkpoint in underway()]
    assert held and within(60, lambda: all(free(run) for run in held)), "a trial outlived its command"


def within(seconds, holds):
    started = time.monotonic()
    while not holds() and time.monotonic() - started < seconds:
        time.sleep(0.2)
    return holds()


def free(run):
    try:
        with store.lock(run):
            return True
    except LockedError:
        return False
