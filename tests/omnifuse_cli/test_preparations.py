"""Options of `preprocess` commands: defaults, omnifuse.yaml, --set, flags."""

import pytest

from omnifuse import preparations, workspace
from omnifuse.preprocess.schema import ConfigError


@pytest.fixture
def space(tmp_path):
    """A workspace for cohorts of both kinds."""
    (tmp_path / workspace.FILE).write_text("seed: 4\npreprocess:\n  step_hours: 2\n  size: 64\n  windows: [lung, bone]\n")
    return workspace.find(tmp_path)


def test_each_source_takes_its_own_of_the_workspace(space):
    lung, mimic = (preparations.options(source, space, {}, (), None) for source in ("lung", "mimic"))
    assert (lung.size, lung.windows, lung.slices, lung.seed) == (64, ("lung", "bone"), 24, 4)
    assert (mimic.step_hours, mimic.seed) == (2, 4)


def test_set_wins_over_the_workspace_and_flags_over_both(space):
    sets = ("preprocess.size=96", "preprocess.slices=6")
    given = {"slices": 3, "windows": "bone, lung", "suv": None, "assign_new": True}
    made = preparations.options("lung", space, given, sets, 9)
    assert (made.size, made.slices, made.windows, made.assign_new, made.seed) == (96, 3, ("bone", "lung"), True, 9)


def test_what_no_source_has_is_refused_with_its_line(tmp_path):
    (tmp_path / workspace.FILE).write_text("preprocess:\n  sise: 64\n")
    with pytest.raises(ConfigError) as told:
        preparations.options("lung", workspace.find(tmp_path), {}, (), None)
    assert "sise" in str(told.value) and "omnifuse.yaml:2" in str(told.value)


def test_an_option_of_the_other_source_is_refused_where_it_is_told_to_this_one(space):
    with pytest.raises(ConfigError, match="step_hours"):
        preparations.options("lung", space, {}, ("preprocess.step_hours=2",), None)
