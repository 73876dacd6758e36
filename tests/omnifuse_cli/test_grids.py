"""Grids: what the packaged ones ask for, and what is wrong with a file is told at once."""

import pytest

from omnifuse import config, grids
from omnifuse.preprocess.schema import ConfigError


@pytest.mark.parametrize("name", config.packaged_names("grids"))
def test_every_packaged_grid_can_be_read_and_its_options_exist(name):
    grid = grids.read(name)
    assert grid.about and grid.rows
    for row in grid.rows:
        fields = {f"method.{key}": field for key, field in config.packaged("methods", row.method)[0].items()}
        fields |= {
            f"{scope}train.{key}": field
            for scope in ("fusion.", "stage1.")
            for key, field in config.packaged("train", "default")[0].items()
        }
        config.resolve(fields, [row.layer])
    assert set(grids.EVERY) <= set(config.packaged_names("grids"))


def test_the_rows_of_table_4_switch_what_the_paper_says():
    rows = {row.name: row for row in grids.read("table4").rows}
    switches = {name: {key.removeprefix("method."): leaf.text for key, leaf in row.layer.items()} for name, row in rows.items()}
    assert {name: row.method for name, row in rows.items() if row.method != "omnifuse"} == {"a": "concat", "A": "concat"}
    assert switches["b"] == switches["B"] == {"tla": "false", "imp": "none"}
    assert switches["c"] == switches["C"] == {"imp": "none"}
    assert (switches["d"], switches["e"], switches["f"]) == ({"imp": "fw"}, {"tla": "false", "imp": "fw/bw"}, {})
    # Imputation of what a column leaves out presupposes having seen it: d to f and the fair controls are trained on all.
    assert {name for name, row in rows.items() if row.trained_on == "all"} == {"A", "B", "C", "d", "e", "f"}


@pytest.mark.parametrize(
    "columns, expected",
    [
        ("combinations", [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]),
        ("all", [("a", "b", "c")]),
    ],
)
def test_columns(tmp_path, columns, expected):
    path = tmp_path / "g.yaml"
    path.write_text(f"columns: {columns}\nrows:\n  x: {{method: concat}}\n")
    assert grids.read(str(path)).columns_of(["a", "b", "c"]) == expected


@pytest.mark.parametrize(
    "text, told",
    [
        ("rows: {}\n", "has no rows"),
        ("rows:\n  a: {method: conkat}\n", "no method 'conkat' (did you mean concat?)"),
        ("row: 1\nrows:\n  a: {method: concat}\n", "unknown key row (did you mean rows?)"),
        ("rows:\n  a: {method: concat, colour: red}\n", "rows.a: unknown key colour"),
        ("rates: [0.5, 1.5]\nrows:\n  a: {method: concat}\n", "rates must lie between 0 and 1"),
        ("masks: 0\nrows:\n  a: {method: concat}\n", "masks must be a whole number"),
        ("columns: some\nrows:\n  a: {method: concat}\n", "columns must be combinations or all"),
        ("questions: [a against b]\nrows:\n  a: {method: concat}\n", "is not of the form 'b - a'"),
        ("questions: [b - a]\nrows:\n  a: {method: concat}\n", "is not of the form 'b - a'"),
        ("rows:\n  a: {method: concat, trained_on: some}\n", "trained_on must be column or all"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path, text, told):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        grids.read(str(path))
    assert told in str(raised.value) and "mine.yaml" in str(raised.value)


def test_all_faults_are_told_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("rates: [2]\nmasks: x\nrows:\n  a: {method: nothing}\n")
    with pytest.raises(ConfigError) as raised:
        grids.read(str(path))
    assert all(told in str(raised.value) for told in ("rates", "masks", "no method 'nothing'"))


def test_an_unknown_grid_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean table4"):
        grids.read("tabel4")
    assert grids.names("all") == list(grids.EVERY) and grids.names("table2, fig5") == ["table2", "fig5"]


@pytest.mark.parametrize(
    "drop, expected", [("[random]", ["random"]), ("[each, random]", ["a", "b", "random"]), ("[b]", ["b"]), ("[c]", []), ("[]", [])]
)
def test_what_a_column_loses(tmp_path, drop, expected):
    path = tmp_path / "g.yaml"
    path.write_text(f"drop: {drop}\nrates: [0.5]\nrows:\n  x: {{method: concat}}\n")
    assert grids.read(str(path)).dropped(("a", "b")) == expected


def test_the_grid_of_methods_has_a_row_for_each_that_fuses_and_asks_about_omnifuse_against_each():
    grid = grids.read("methods")
    rows = [row.name for row in grid.rows]
    assert set(rows) == set(config.packaged_names("methods")) - {"unimodal"} and all(row.method == row.name for row in grid.rows)
    assert set(grid.questions) == {("omnifuse", row) for row in rows if row != "omnifuse"}
