"""What a tuning varies: what is refused and left out, where values lie, and to which stage a tuned parameter belongs."""

import cohorts
import pytest

from omnifuse import choices, config, searches, spaces, trainings, workspace
from omnifuse.models.extraction import extract
from omnifuse.models.options import TrainOptions
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.schema import ConfigError

ENCODERS = {"ehr": "lstm", "lab": "mlp"}


def build(tmp_path, text, *methods, grid=False):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return spaces.build(file, [(method, ENCODERS) for method in methods or ("omnifuse",)], grid)


@pytest.mark.parametrize(
    "text, says",
    [
        ("train.lrr: {log: [1e-4, 1e-2]}", "space.yaml:1: unknown key train.lrr (did you mean train.lr?)"),
        ("train:\n  lr: {lgo: [1e-4, 1e-2]}", "space.yaml:2: train.lr has no lgo (did you mean log?)"),
        ("train.lr: 1e-3", "train.lr needs one of log, uniform, choice"),
        ("train.lr: {log: [1e-4, 1e-2], choice: [1]}", "needs one of log, uniform, choice"),
        ("train.lr: {log: [1e-2, 1e-4]}", "log needs two numbers, the lower one first"),
        ("train.lr: {log: [1e-4, 1e-3, 1e-2]}", "log needs two numbers"),
        ("train.lr: {log: [0, 1]}", "log needs numbers above 0"),
        ("train.lr: {log: [1e-4, 100]}", "train.lr must be between 0 and 10"),
        ("train.lr: {log: [fast, slow]}", "train.lr must be a number"),
        ("train.lr: {log: 1e-3}", "takes a list"),
        ("train.lr: {log: [1e-4, 1e-2], points: 1}", "points must be between 2 and 1000"),
        ("train.optimizer: {choice: [adam, adan]}", "must be one of adam, adamw, sgd"),
        ("train.optimizer: {uniform: [adam, sgd]}", "uniform needs two numbers"),
        ("train.clip: {choice: [1, 1.0]}", "needs choices that differ"),
        ("train.clip: {choice: []}", "needs choices that differ"),
        ("method.dropout: {uniform: [0, 1]}", "method.dropout must be between 0 and 0.99"),
        ("encoder.*.dropuot: {uniform: [0, 1]}", "did you mean encoder.*.dropout?"),
        ("encoder.spleen.dropout: {uniform: [0, 0.5]}", "unknown key encoder.spleen.dropout"),
        ("train.log_steps: {choice: [1, 2]}", "does not change what is learnt"),
        ("seed: {choice: [1, 2]}", "unknown key seed"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, says):
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, text)
    assert says in str(caught.value)


def test_everything_wrong_is_said_at_once_and_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, "train.lrr: {log: [1, 2]}\ntrain.lr: {log: [2, 1]}\nmethod.beta: {uniform: [0, 2]}\n", "omnifuse", "concat")
    told = str(caught.value)
    assert [told.count(f"space.yaml:{line}: ") for line in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "method, name, keys",
    [
        ("concat", "train.lr", ["fusion.train.lr"]),  # stage 1 is shared
        ("concat", "stage1.train.lr", ["stage1.train.lr"]),
        ("concat", "encoder.ehr.hidden", ["encoder.ehr.hidden"]),  # of both stages: the shapes must fit
        ("concat", "fusion.encoder.*.dropout", ["fusion.encoder.ehr.dropout", "fusion.encoder.lab.dropout"]),
        ("concat", "method.dropout", None),  # omnifuse has it
        ("concat", "stage1.method.dropout", ["stage1.method.dropout"]),  # that of unimodal
        ("concat", "encoder.cxr.dropout", None),  # not tuned on films
        ("unimodal", "stage1.train.lr", None),
        ("unimodal", "method.dropout", ["method.dropout"]),
    ],
)
def test_an_axis_sets_what_the_method_has_and_is_else_left_out(tmp_path, method, name, keys):
    (space,) = build(tmp_path, f"{name}: {{choice: [0.1, 0.2]}}".replace("hidden: {choice: [0.1, 0.2]", "hidden: {choice: [8, 16]"), method)
    assert ([list(axis.keys) for axis in space.axes], space.left_out) == (([keys], []) if keys else ([], [name]))


@pytest.mark.parametrize("method", config.packaged_names("methods"))
def test_the_packaged_space_fits_every_method(method):
    for grid in (False, True):
        (space,) = spaces.build(None, [(method, ENCODERS)], grid)
        assert {"train.lr", "train.weight_decay"} <= {axis.name for axis in space.axes}


def test_a_methods_own_block_adds_to_the_default(monkeypatch):
    before = config.packaged_text
    own = "\nspace:\n  alpha: {choice: [0.1, 0.5]}\n  dropout: {choice: [0.1]}\n"
    monkeypatch.setattr(config, "packaged_text", lambda folder, name: before(folder, name) + (own if name == "omnifuse" else ""))
    (space,) = spaces.build(None, [("omnifuse", ENCODERS)])
    axes = {axis.name: axis.values for axis in space.axes}
    assert axes["method.alpha"] == (0.1, 0.5) and axes["method.dropout"] == (0.1,) and "train.lr" in axes
    assert "space" not in config.packaged("methods", "omnifuse")[0]


def axis(text, tmp_path, grid=False):
    return build(tmp_path, text, grid=grid)[0].axes[0]


@pytest.mark.parametrize(
    "text, share, value",
    [
        ("train.lr: {log: [1e-4, 1e-2]}", 0.5, 1e-3),
        ("train.lr: {log: [1.234e-4, 1e-2]}", 0.0, 1.234e-4),  # rounding leaves the range nowhere
        ("train.lr: {log: [1e-4, 1e-2]}", 0.123456, 0.000177),
        ("method.dropout: {uniform: [0, 0.5]}", 0.5, 0.25),
        ("train.batch_size: {log: [16, 256]}", 0.5, 64),
        ("train.batch_size: {uniform: [10, 20]}", 0.33, 13),
        ("train.batch_size: {choice: [10, 20]}", 0.5, 20),
        ("method.imp: {choice: [none, fw]}", 0.1, "none"),
    ],
)
def test_where_values_lie(tmp_path, text, share, value):
    drawn = axis(text, tmp_path).at(share)
    assert drawn == pytest.approx(value) if isinstance(value, float) else (drawn, type(drawn)) == (value, type(value))


@pytest.mark.parametrize(
    "text, values",
    [
        ("train.lr: {log: [1e-4, 1e-2], points: 3}", [1e-4, 1e-3, 1e-2]),
        ("method.dropout: {uniform: [0, 0.5], points: 2}", [0, 0.5]),
        ("train.batch_size: {uniform: [1, 2], points: 5}", [1, 2]),  # whole numbers, each once
    ],
)
def test_a_grid_goes_from_end_to_end(tmp_path, text, values):
    assert axis(text, tmp_path, grid=True).grid() == pytest.approx(values)


def test_a_grid_needs_points(tmp_path):
    with pytest.raises(ConfigError, match=r"space.yaml:1: train.lr has no points"):
        build(tmp_path, "train.lr: {log: [1e-4, 1e-2]}", grid=True)


def draw(axes, present, **asked):
    return searches.settings(axes, present, searches.Asked(**{"fold": 0, "search": "random", "trials": None, "seed": 0} | asked))


def test_draws_depend_on_seed_trial_and_name_alone(tmp_path):
    (one,) = build(tmp_path, "train.lr: {log: [1e-4, 1e-2]}\n")
    (both,) = build(tmp_path, "train.clip: {uniform: [0, 1]}\ntrain.lr: {log: [1e-4, 1e-2]}\n")
    present = {"train.lr": 2e-4}
    eight = draw(one.axes, present)
    assert len(eight) == 8 and eight[0] == present
    assert draw(one.axes, present, trials=12)[:8] == eight
    assert draw(one.axes, present, seed=1)[1:] != eight[1:]
    assert [row["train.lr"] for row in draw(both.axes, {"train.clip": 1.0, **present})] == [row["train.lr"] for row in eight]


def test_no_setting_is_tried_twice(tmp_path):
    (space,) = build(tmp_path, "train.batch_size: {choice: [64, 128, 256]}\n")
    assert sorted(row["train.batch_size"] for row in draw(space.axes, {"train.batch_size": 128})) == [64, 128, 256]
    assert [row["train.batch_size"] for row in draw(space.axes, {"train.batch_size": 128}, search="grid")] == [128, 64, 256]
    with pytest.raises(ConfigError, match="the grid has 3 settings with the defaults, and 2 trials are allowed"):
        draw(space.axes, {"train.batch_size": 128}, search="grid", trials=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("scopes")
    space = workspace.make(root, None)
    cohort = cohorts.make(root / "cohorts/tiny", patients=40, modalities=("ehr", "lab"), dim=3)
    extract(cohort, "binary", root / "features/tiny/binary", fit_normaliser)
    return space


def plan(space, *sets, method="concat", **more):
    told = {"cohort": None, "task": None, "modalities": None, "encoders": {}, "folds": ("0",), "init": "stage1", "config_file": None}
    return trainings.plan(space, method=method, sets=sets, flags={}, seed=None, out=None, **told | more)


@pytest.mark.parametrize(
    "told, own, first",
    [
        ("train.lr=1e-3", 1e-3, 1e-3),
        ("fusion.train.lr=1e-3", 1e-3, 2e-4),
        ("stage1.train.lr=1e-3", 2e-4, 1e-3),
    ],
)
def test_a_scope_tells_the_stage(study, told, own, first):
    made = plan(study, told)
    assert made.resolved.values["train.lr"] == own
    assert {stage.resolved.values["train.lr"] for stage in made.stage_one()} == {first}
    shared = {stage.folder for stage in plan(study).stage_one()}
    assert ({stage.folder for stage in made.stage_one()} == shared) == (first == 2e-4)


def test_runs_that_start_from_other_encoders_have_other_places(study):
    told = [(), ("train.lr=1e-3",), ("fusion.train.lr=1e-3",), ("stage1.train.lr=1e-3",), ("stage1.method.hidden=64",), ("train.epochs=3",)]
    folders = [plan(study, *sets).folder for sets in told]
    assert len(set(folders)) == len(told)
    assert plan(study, "fusion.train.lr=1e-3", "stage1.train.lr=1e-3").folder == plan(study, "train.lr=1e-3").folder
    assert plan(study, "fusion.train.lr=1e-3", method="mask_only").folder == plan(study, "train.lr=1e-3", method="mask_only").folder


@pytest.mark.parametrize(
    "layers, value",
    [
        ({"config": "train.lr: 1e-3", "sets": ()}, 1e-3),  # over what was tuned
        ({"config": None, "sets": ("train.lr=1e-2",)}, 1e-2),
        ({"config": None, "sets": ()}, 5e-3),
        ({"config": "fusion.train.lr: 1e-3\ntrain.lr: 1e-4", "sets": ()}, 1e-3),  # within a layer the scoped key
    ],
)
def test_what_was_tuned_gives_way_to_what_is_told(study, tmp_path, layers, value):
    file = None
    if layers["config"]:
        file = tmp_path / "c.yaml"
        file.write_text(layers["config"])
    tuned = {"fusion.train.lr": config.Leaf("5e-3", "tuned")}
    assert plan(study, *layers["sets"], config_file=file, tuned=tuned).resolved.values["train.lr"] == value


def test_a_scope_for_no_stage_is_refused(study):
    with pytest.raises(ConfigError, match="mask_only starts from no stage-1 runs"):
        plan(study, "stage1.train.lr=1e-3", method="mask_only")
    with pytest.raises(ConfigError, match="did you mean train.lr"):
        plan(study, "fusion.train.lrr=1e-3")


def test_what_decides_an_outcome_is_what_training_says():
    every = {f"train.{name}" for name in config.packaged("train", "default")[0]}
    assert every - trainings.INCIDENTAL == {f"train.{name}" for name in TrainOptions().outcome}
    assert set(choices.SECTIONS) <= set(workspace.SECTIONS)
