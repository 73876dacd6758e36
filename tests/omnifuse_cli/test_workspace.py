"""The workspace is found from below, checked when read, and says what is missing."""

import pytest

from omnifuse import chosen, workspace
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError


def cohort(folder, *tasks):
    with store.create(folder, "cohort", fingerprint="x", meta={"tasks": {task: {} for task in tasks}}):
        pass


def test_found_from_any_folder_below(tmp_path):
    workspace.make(tmp_path / "study", None, seed=3, sets=("train.lr=1e-4", "train.epochs=3", "preprocess.step_hours=1"))
    (tmp_path / "study/a/b").mkdir(parents=True)
    space = workspace.find(tmp_path / "study/a/b")
    assert space.root == tmp_path / "study"
    assert space.ehr == tmp_path / "study/raw"
    assert space.settings.values["seed"] == 3
    assert {name: leaf.text for name, leaf in space.layers["train"].items()} == {"train.lr": "1e-4", "train.epochs": "3"}


@pytest.mark.parametrize("name", ["with space", "中文", "a'b: #c", 'quo"te'])
def test_odd_paths_survive(tmp_path, name):
    workspace.make(tmp_path / name, str(tmp_path / name / "tables"))
    assert workspace.find(tmp_path / name).ehr == tmp_path / name / "tables"


def test_the_only_cohort_is_the_default(tmp_path):
    space = workspace.make(tmp_path, None)
    with pytest.raises(ArtefactError, match="omnifuse preprocess mimic makes one"):
        space.cohort(None)
    cohort(tmp_path / "cohorts/one")
    assert space.cohort(None) == tmp_path / "cohorts/one"
    cohort(tmp_path / "cohorts/two")
    assert space.cohort("two") == tmp_path / "cohorts/two"
    assert space.cohort("cohorts/two") == tmp_path / "cohorts/two"
    assert space.cohort(str(tmp_path / "cohorts/two")) == tmp_path / "cohorts/two"


def test_of_several_cohorts_the_one_that_has_the_task(tmp_path):
    space = workspace.make(tmp_path, None)
    cohort(tmp_path / "cohorts/icu", "mortality", "los")
    cohort(tmp_path / "cohorts/lung", "subtyping")
    assert chosen.cohort(space, None, {"subtyping"})[0].name == "lung" and chosen.cohort(space, "icu", {"subtyping"})[0].name == "icu"
    for tasks in ((), ("radiology",)):
        with pytest.raises(ConfigError, match=r"several cohorts: icu, lung \(--cohort icu or lung\)"):
            chosen.cohort(space, None, tasks)
    cohort(tmp_path / "cohorts/another", "subtyping")
    with pytest.raises(ConfigError, match=r"--cohort another or lung"):
        chosen.cohort(space, None, {"subtyping"})


@pytest.mark.parametrize(
    "text, says",
    [
        ("trian:\n  lr: 1\n", r"omnifuse.yaml:2: unknown section trian .did you mean train"),
        ("sede: 1\n", r"unknown key sede .did you mean seed"),
        ("seed: -1\n", "seed must be between 0"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, says):
    (tmp_path / workspace.FILE).write_text(text)
    with pytest.raises(ConfigError, match=says):
        workspace.find(tmp_path)


def test_outside_of_a_workspace(tmp_path):
    space = workspace.find(tmp_path)
    assert space.root is None
    with pytest.raises(ConfigError, match="omnifuse init"):
        space.output("runs")


def test_a_workspace_is_not_made_twice(tmp_path):
    workspace.make(tmp_path, None)
    with pytest.raises(ConfigError, match="is a workspace already"):
        workspace.make(tmp_path, None)


def test_a_wrong_set_leaves_no_half_made_workspace(tmp_path):
    with pytest.raises(ConfigError):
        workspace.make(tmp_path / "new", None, sets=("trian.lr=1",))
    assert not (tmp_path / "new").exists()
