"""omnifuse eval --ablate as a user meets it: what is trained, found again, written, and refused."""

import json
import re
import shlex
import shutil

import cohorts
import pytest
from command_line import run

from omnifuse import ablations, config, grids, tunings, workspace
from omnifuse.main import main
from omnifuse.preprocess import store

QUICK = ["--set", "train.epochs=1", *(word for name in ("ehr", "cxr", "rep") for key in ("hidden", "dim")
                                      for word in ("--set", f"encoder.{name}.{key}=6"))]  # fmt: skip
MINE = """about: Concatenation and OmniFuse.
columns: combinations
rows:
  a: {title: Concatenation, method: concat}
  f: {title: OmniFuse, method: omnifuse, trained_on: all, options: {imp: fw}}
questions: [f - a]
drop: [random]
rates: [0.5]
masks: 2
"""


ASK = ["eval", "--ablate", "--grid", "mine.yaml", "--fold", "0", "--fold", "1", "--resamples", "100", *QUICK]


def _ablate(folder, *further):
    """A workspace in which the grid was asked for."""
    with pytest.MonkeyPatch.context() as patch:
        main(["init", str(folder)])
        patch.chdir(folder)
        cohorts.make(folder / "cohorts" / "small", patients=300, modalities=("ehr", "cxr", "rep"), dim=6)
        main(["extract"])
        (folder / "mine.yaml").write_text(MINE)
        main([*ASK, *further])
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return _ablate(tmp_path_factory.mktemp("ablate") / "study")


@pytest.fixture
def inside(study, monkeypatch):
    monkeypatch.chdir(study)
    return study


def test_the_tables_are_there_and_whole(inside):
    folder = inside / "reports/small/binary-ablation/mine"
    store.open(folder, "ablation").verify()
    results = json.loads((folder / "results.json").read_text())
    columns = ["ehr+cxr", "ehr+rep", "cxr+rep", "ehr+cxr+rep"]
    whole = [(cell["row"], cell["column"]) for cell in results["cells"] if not cell["drop"]]
    assert set(whole) == {(row, column) for row in "af" for column in columns} | {("single", name) for name in ("ehr", "cxr", "rep")}
    assert all(len(cell["folds"]) == 2 and cell["auroc"] for cell in results["cells"])
    assert {(cell["drop"], cell["rate"]) for cell in results["cells"] if cell["drop"]} == {("random", 0.5)}
    assert all(cell["parameters"] > 0 and cell["seconds"] > 0 for cell in results["cells"] if not cell["drop"])
    for name in ("table.md", "cells.csv", "questions.csv", "table.png", "curves.png"):
        assert (folder / name).stat().st_size > 100


def test_imputing_rows_are_trained_once_on_all_and_pairs_on_themselves(inside):
    made = sorted(path.name for path in (inside / "runs/small/binary").iterdir() if path.is_dir())
    assert made == sorted(["concat-ehr+cxr", "concat-ehr+rep", "concat-cxr+rep", "concat-ehr+cxr+rep", "omnifuse-ehr+cxr+rep",
                           "unimodal-ehr", "unimodal-cxr", "unimodal-rep", "tensorboard"])  # fmt: skip
    runs = [path for name in made if name != "tensorboard" for path in (inside / "runs/small/binary" / name).glob("*/fold*/manifest.json")]
    assert len(runs) == 2 * (len(made) - 1)


def test_again_trains_nothing_and_says_the_same(inside, capsys):
    folder = inside / "reports/small/binary-ablation/mine"
    before = (folder / "results.json").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in inside.glob("runs/**/manifest.json")}
    code, out, _ = run(capsys, *ASK)
    assert code == 0 and re.search(r"mine: (\d+) runs, \1 of them finished", out)
    assert {path: path.stat().st_mtime_ns for path in inside.glob("runs/**/manifest.json")} == stamps
    assert (folder / "results.json").read_bytes() == before


def test_a_run_that_is_missing_alone_is_trained_again(inside, capsys):
    folder = next((inside / "runs/small/binary/concat-ehr+cxr").glob("*/fold1"))
    before = json.loads((inside / "reports/small/binary-ablation/mine/results.json").read_text())
    shutil.rmtree(folder)
    code, out, _ = run(capsys, *ASK, "--dry-run")
    assert code == 0 and re.search(r"mine: 16 runs, 15 of them finished; about \d+ s", out) and not folder.exists()
    code, out, _ = run(capsys, *ASK, "--list-cells")
    assert code == 0 and out.count("omnifuse train") == 1 and "--method concat --modalities ehr,cxr --fold 1" in out
    line = out.strip().split()[1:]
    code, out, _ = run(capsys, *line, "--dry-run", "--json")  # the line is whole: it names the very same run
    assert json.loads(out)["runs"][0]["run"] == str(folder)
    code, out, _ = run(capsys, *ASK)
    assert code == 0 and (folder / "manifest.json").is_file()
    after = json.loads((inside / "reports/small/binary-ablation/mine/results.json").read_text())
    assert [cell["auroc"] for cell in after["cells"]] == [cell["auroc"] for cell in before["cells"]]


TUNED = {"fusion.train.lr": "6e-05", "fusion.encoder.cxr.dropout": "0.5", "train.weight_decay": "0.01", "stage1.train.patience": "3"}
SAID = """
train: {clip: 2.0}
fusion: {train: {lr: 0.001}, encoder: {ehr: {dropout: 0.4}}}
stage1: {train: {batch_size: 64}, method: {dropout: 0.3}}
"""
TOLD = ("--set", "fusion.train.batch_size=32", "--set", "fusion.train.lr=0.0002", "--set", "stage1.method.hidden=16")


@pytest.mark.parametrize("grid, further", [("pins", ()), ("pins", ("--tuned",)), ("table3", TOLD), ("table4,fig4", ("--tuned", *TOLD))])
@pytest.mark.parametrize("said", ["", SAID], ids=["bare", "said"])
def test_each_run_that_is_missing_has_one_command_which_names_it(inside, tmp_path, capsys, monkeypatch, grid, further, said):
    """Also where stage 1 and the fusion are told different values, by the row, by what was tuned, by omnifuse.yaml or by --set."""
    shutil.copytree(inside, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    with (tmp_path / "study" / workspace.FILE).open("a") as file:
        file.write(said)
    layer = {name: config.Leaf(text, "tuned") for name, text in TUNED.items()}
    monkeypatch.setattr(tunings, "require_best", lambda *_: layer)
    sets = tuple(word for word in (*QUICK, *further) if "=" in word)
    asked = {"cohort": None, "task": None, "encoders": {}, "folds": ("1",), "config_file": None, "sets": sets, "seed": 3, "out": None}
    how = {"space": workspace.find(), "modalities": ["ehr", "cxr", "rep"], "tuned": "--tuned" in further, **asked}
    cells = [cell for name in grid.split(",") for cell in ablations.plan(grids.read(name), **how).cells()]
    missing = {str(cell.path) for cell in cells if cell.state != "finished"}
    words = ["eval", "--ablate", "--grid", grid, "--fold", "1", "--seed", "3", *QUICK, *further]
    code, out, err = run(capsys, *words, "--list-cells")
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == len(missing) > 5
    named = []
    for line in lines:
        code, out, err = run(capsys, *shlex.split(line)[1:], "--dry-run", "--json")
        assert code == 0, err
        named += [each["run"] for each in json.loads(out)["runs"]]
    assert len(named) == len(lines) and set(named) == missing


def test_two_jobs_say_the_same_as_one(inside, tmp_path_factory):
    other = _ablate(tmp_path_factory.mktemp("jobs") / "study", "--jobs", "2")
    mine, theirs = (json.loads((place / "reports/small/binary-ablation/mine/results.json").read_text()) for place in (inside, other))
    assert [(cell["row"], cell["column"], cell["auroc"]) for cell in mine["cells"]] == [
        (cell["row"], cell["column"], cell["auroc"]) for cell in theirs["cells"]
    ]


def test_stage_1_is_shared_by_all_rows(inside):
    space = workspace.find()
    asked = {"cohort": None, "task": None, "encoders": {}, "folds": ("all",), "config_file": None, "sets": (), "seed": None, "out": None}
    made = ablations.plan(grids.read("table4"), space=space, modalities=["ehr", "cxr", "rep"], **asked)
    first = made.first_cells()
    assert len(first) == 3 * 5
    # a, b, c on four columns, d, e, f once: A, B, C are a, b, c of the last column.
    assert len(made.cells()) == 3 * 5 + (3 * 4 + 3) * 5


def test_what_is_set_for_stage_1_alone_reaches_the_singles_and_no_method_without_a_stage_1(inside):
    space = workspace.find()
    asked = {"cohort": None, "task": None, "encoders": {}, "folds": ("0",), "config_file": None, "seed": None, "out": None}
    how = {"space": space, "modalities": ["ehr", "cxr", "rep"], **asked}
    made = ablations.plan(grids.read("table3"), sets=("stage1.train.lr=0.01",), **how)
    singles = {entry.column[0]: entry.plan for entry in made.entries if entry.row == ablations.SINGLE}
    assert {plan.resolved.values["train.lr"] for plan in singles.values()} == {0.01}
    concat = next(entry.plan for entry in made.entries if entry.row == "concat" and len(entry.column) == 3)
    assert concat.resolved.values["train.lr"] != 0.01
    assert {plan.folder for plan in concat.stage_one()} == {plan.folder for plan in singles.values()}


def test_tensorboard_has_the_same_numbers(inside):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(inside / "runs/small/binary/tensorboard/mine"))
    events.Reload()
    results = json.loads((inside / "reports/small/binary-ablation/mine/results.json").read_text())
    cell = next(cell for cell in results["cells"] if (cell["row"], cell["column"], cell["drop"]) == ("f", "cxr+rep", ""))
    assert events.Scalars("ablation/f/cxr+rep")[0].value == pytest.approx(cell["auroc"], abs=1e-6)
    assert {"table", "curves"} <= set(events.Tags()["images"]) and events.Tags()["tensors"]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--ablate", "--grid", "tabel4"], "did you mean table4"),
        (["--ablate", "--grid", "nothing.yaml"], "cannot be read"),
        (["--ablate", "--modalities", "ehr,xray"], "unknown modality 'xray'"),
        (["--ablate", "--method", "concat"], "--method does not go with --ablate"),
        (["--jobs", "2"], "--jobs belongs to --ablate"),
        (["--fold", "0"], "--fold belongs to --ablate"),
        (["--ablate", "--fold", "9"], "no fold '9'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(inside, capsys, arguments, told):
    code, out, err = run(capsys, "eval", *arguments)
    assert code == 2 and told in err and err.count("\n") == 1 and not out


def test_a_lost_run_leaves_the_others_and_is_told(inside, capsys, monkeypatch):
    """A learning rate at which everything becomes NaN: the table has dashes, the exit code says that something is missing."""
    (inside / "lost.yaml").write_text(
        "about: x\ncolumns: all\nrows:\n  a: {title: A, method: concat}\n"
        "  b: {title: B, method: concat, fusion: {train: {lr: 10, optimizer: sgd, clip: 0}}}\n"
    )
    from omnifuse.models import training
    from omnifuse.preprocess.schema import NumericalError

    real = training.train

    def fragile(samples, task, method, encoders, options, **how):
        if options["optimizer"] == "sgd":
            raise NumericalError("the loss is not finite")
        return real(samples, task, method, encoders, options, **how)

    monkeypatch.setattr(training, "train", fragile)
    code, _, err = run(capsys, "eval", "--ablate", "--grid", "lost.yaml", "--fold", "0", "--resamples", "100", *QUICK)
    assert code == 8 and "were lost" in err
    page = (inside / "reports/small/binary-ablation/lost/table.md").read_text()
    assert re.search(r"\(a\) A \| 0\.\d+", page) and re.search(r"\(b\) B \| -", page) and "Lost to a number that is not finite" in page
