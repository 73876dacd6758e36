"""The time that is announced before a grid is trained: what is timed for it, how often, and what an interruption of it says."""

import logging
import os
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import click
import cohorts
import pytest
from command_line import run

from omnifuse import pace, workspace
from omnifuse.main import main
from omnifuse.models.contract import Stage
from omnifuse.models.loop import Trainer
from omnifuse.preprocess.schema import NumericalError

DRY = ["eval", "--ablate", "--fold", "0", "--dry-run", "--set", "train.epochs=3", "--set", "encoder.ehr.hidden=4"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    workspace.make(tmp_path / "study", None)
    monkeypatch.chdir(tmp_path / "study")
    cohorts.make(tmp_path / "study/cohorts/tiny", patients=100, modalities=("ehr", "lab"), dim=3, steps=(2, 2))
    main(["extract"])
    (tmp_path / "aside").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "aside"))
    return tmp_path / "study"


@dataclass
class Fake:
    method: str
    path: Path
    modalities: list = field(default_factory=lambda: ["ehr", "lab"])
    state: str = "to do"


def fakes(*names):
    return [Fake(name.split("-")[0], Path(name)) for name in names]


@pytest.fixture
def timed(monkeypatch):
    """The methods that were timed, a second a modality and half a second beside each."""
    found = []
    monkeypatch.setattr(pace, "_timed", lambda cell, device: found.append(cell.method) or pace.Pace(1.0, 0.5))
    return found


def test_a_command_times_a_method_once_and_counts_a_run_once_however_many_grids_ask_for_it(timed):
    first, second = fakes("sum-1", "sum-2", "concat-1"), fakes("sum-2", "concat-1", "concat-2")
    for _ in range(2):  # a second command knows nothing of the first
        with click.Context(click.Command("eval")):
            assert pace.predicted_seconds(first, first, "cpu") == 3 * 2.5
            assert pace.predicted_seconds(second, second, "cpu") == 2.5
            assert pace.predicted_seconds(first, first, "cpu") == 0
    assert timed == ["sum", "concat"] * 2


def test_what_the_first_timing_imports_is_no_part_of_every_run(monkeypatch):
    beside = iter([9.0, 1.0])
    monkeypatch.setattr(pace, "_timed", lambda cell, device: pace.Pace(1.0, next(beside)))
    assert pace.predicted_seconds(cells := fakes("sum-1", "concat-1", "concat-2"), cells, "cpu") == 3 * (2 + 1)


def test_a_stage_is_at_its_best_and_then_waits_but_a_trial_run_has_all_its_epochs():
    options = {"epochs": 60, "patience": 10, "keep": "best"}
    assert pace._epochs(Stage("fusion", []), options) == 30
    assert pace._epochs(Stage("unimodal", [], epochs=30, patience=5), options) == 15
    assert pace._epochs(Stage("estimate", [], epochs=10, keep="start"), options) == 10
    assert pace._epochs(Stage("fusion", []), options | {"epochs": 6}) == 6
    assert pace._epochs(Stage("fusion", []), options | {"keep": "last"}) == 60


def test_each_method_of_all_grids_is_trained_once_for_an_epoch_and_nothing_of_it_stays(study, capsys, monkeypatch):
    real, seen = Trainer.run, []
    monkeypatch.setattr(Trainer, "run", lambda self, *found: seen.append(type(self.method).__name__) or real(self, *found))
    code, out, err = run(capsys, *DRY, "--grid", "table2,table4,fig5")
    assert code == 0, err
    assert sorted(seen) == ["Concat", "OmniFuse", "Unimodal"] and out.count("about") == 3
    assert not list(study.parent.rglob(".fold0*")) and not list(study.parent.rglob("fold0"))


def test_stopped_while_it_times_it_promises_nothing(study, capsys, caplog, monkeypatch):
    real = Trainer._step

    def killed(self, *told):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *told)

    monkeypatch.setattr(Trainer, "_step", killed)
    with caplog.at_level(logging.WARNING, "omnifuse"):
        code, _, err = run(capsys, *DRY)
    assert code == 128 + signal.SIGTERM and not caplog.messages
    assert err == "omnifuse: stopped by SIGTERM while a training was timed, of which nothing is kept\n"
    assert not list(study.parent.rglob(".fold0*")) and logging.getLogger("omnifuse.models").level == logging.NOTSET


def test_a_method_that_is_lost_to_nan_stops_no_announcement(study, capsys, monkeypatch):
    def broken(self, *_):
        raise NumericalError("the loss is not finite")

    monkeypatch.setattr(Trainer, "_step", broken)
    code, out, err = run(capsys, *DRY, "--grid", "table2")
    assert code == 0 and "for the others" in out, err
