"""omnifuse demo and list: worlds of both settings, and the whole set."""

import json

import pytest
from command_line import run

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import lung_truth, worldset


def test_a_world_of_the_set_has_its_own_seed_which_can_be_replaced(tmp_path, capsys):
    raw = tmp_path / "raw"
    code, out, _ = run(capsys, "demo", "--setting", "subtyping", "--world", "set32/07", "--patients", 2, "--raw", raw, "--json")
    told = json.loads(out)
    assert code == 0 and told["world"] == "set32/07" and told["seed"] == worldset.find("set32/07").seed and told["written"]
    assert store.read_json(tmp_path / "raw-truth" / "design.json")["seed"] == told["seed"]
    line = ("demo", "--setting", "subtyping", "--world", "set32/07", "--patients", 2, "--seed", 5, "--raw", tmp_path / "other", "--json")
    assert json.loads(run(capsys, *line)[1])["seed"] == 5


def test_the_whole_set_is_written_world_by_world_and_left_alone_when_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lung_truth, "DESIGN", 200)
    line = ("demo", "--setting", "subtyping", "--world-set", "32", "--patients", 1, "--raw", tmp_path / "worlds", "--json")
    code, out, _ = run(capsys, *line)
    told = json.loads(out)
    assert code == 0 and told["fingerprint"] == worldset.fingerprint() and len(told["worlds"]) == 32
    folders = {path.name for path in (tmp_path / "worlds").iterdir() if not path.name.startswith(".")}
    assert folders == {name for one in worldset.members() for name in (one.name, f"{one.name}-truth")}
    assert not any(world["written"] for world in json.loads(run(capsys, *line)[1])["worlds"])


def test_it_is_told_that_another_clinic_gave_way(tmp_path, capsys):
    line = ("demo", "--setting", "subtyping", "--raw", tmp_path / "raw", "--patients")
    told = [run(capsys, *line, patients)[1] for patients in (1, 1, 2)]
    assert ["was there" in text for text in told] == [False, True, False]
    assert ["in place of another clinic" in text for text in told] == [False, False, True]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("--world", "set32/77", "--raw", "raw"), "no world 'set32/77'"),
        (("--world", "defualt", "--setting", "subtyping", "--raw", "raw"), "did you mean default?"),
        (("--world", "", "--raw", "raw"), "no world ''"),
        (("--raw", "raw", "--set", "train.lr=1"), "--set is of the workspace, and goes with FOLDER"),
        (("--world", "clean", "--world-set", "32", "--raw", "raw"), "--world-set goes with --raw DIR, and without --world"),
        (("--world-set", "32", "folder"), "--world-set goes with --raw DIR, and without --world"),
        (("--world-set", "16", "--raw", "raw"), "'16' is not"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_before_anything_is_written(arguments, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "demo", *arguments)
    assert code == 2 and told in err and not list(tmp_path.iterdir())


def test_worlds_are_listed_with_their_place_on_each_axis(capsys):
    code, out, _ = run(capsys, "list", "worlds", "--json")
    rows = {row["name"]: row for row in json.loads(out)["worlds"]}
    assert code == 0 and "default" in rows and set(worldset.names()) < set(rows)
    assert rows["set32/07"]["balance"] == worldset.find("set32/07").coordinates["balance"] and rows["set32/null"]["base"] == "null"
