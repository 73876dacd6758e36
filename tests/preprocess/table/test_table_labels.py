"""Labels: what is listed has a meaning, everything else leaves the label unknown; rows of one sample may not disagree in silence."""

import pytest
from table_study import HEAD, people

from omnifuse.preprocess.schema import InputError
from omnifuse.preprocess.table.labels import REASONS, outcomes

EMPTY, UNKNOWN, UNLISTED, CONTRADICTS = REASONS
COLUMNS = "modalities: {m: {kind: columns, numeric: [x]}}\n"


def table(cells: list[str]) -> str:
    return "pid,y,x\n" + "".join(f'p{n:03d},"{cell}",{n}\n' for n, cell in enumerate(cells))


def build(study, label: str, text: str):
    manifest = HEAD.replace("{column: y}", label) + COLUMNS
    cohort = study.build(manifest, people_csv=text)
    samples = cohort.table("samples/outcome.parquet")
    left = next(step["left_out"] for step in cohort.json("audit.json")["attrition"] if step["step"] == "with a label")
    return dict(zip(samples["sample_id"], samples["y"].to_list())), left, cohort


CASES = {
    "zero and one": ("{column: y}", ["1", "0", "1.0", "true", "false", "", "Unclear", "-inf", "2"],
                     [1, 0, 1, 1, 0], {EMPTY: 1, UNLISTED: 3}),
    "listed": ("{column: y, positive: [Y], negative: [N], unknown: Unclear}", ["Y", " N ", "Unclear", "y", "inf"],
               [1, 0], {UNKNOWN: 1, UNLISTED: 2}),
    "rest": ("{column: y, positive: [COVID], negative: rest, unknown: [todo]}", ["COVID", "SARS", "todo", "", "No Finding"],
             [1, 0, 0], {EMPTY: 1, UNKNOWN: 1}),
    "numbers in words": ("{column: y, positive: [3, 4], negative: [1, 2]}", ["3.0", "1", "04", "5"], [1, 0, 1], {UNLISTED: 1}),
    "classes": ("{column: y, kind: multiclass, classes: [a, b, c]}", ["b", "a", "c", "d", ""], [1, 0, 2], {EMPTY: 1, UNLISTED: 1}),
    "classes of several": ("{column: y, kind: multiclass, classes: {well: [a, b], ill: c}}", ["b", "a", "c"], [0, 0, 1], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_label(name, study):
    label, cells, expected, left = CASES[name]
    y, told, _ = build(study, label, table(cells))
    assert [value for (value,) in y.values()] == expected
    assert told == left


def test_several_labels_in_columns_keep_what_is_known(study):
    text = "pid,y,z,x\na,1,,1\nb,0,1,2\nc,,,3\nd,-1,0,4\n"
    y, left, _ = build(study, "{kind: multilabel, columns: [y, z]}", text)
    assert y == {"a": [1, None], "b": [0, 1], "d": [None, 0]}
    assert left == {EMPTY: 1}


def test_several_labels_in_one_cell(study):
    text = table(["Mass|Nodule", "No Finding", "", "todo", "Nodule| Edema "])
    y, left, _ = build(study, '{kind: multilabel, column: y, separator: "|", classes: [Nodule, Edema], unknown: todo}', text)
    assert list(y.values()) == [[1, 0], [0, 0], [1, 1]]
    assert left == {EMPTY: 1, UNKNOWN: 1}


TWICE = "pid,y,x\na,1,1\na,0,2\nb,0,3\nb,,4\nc,1,5\nc,1,6\n"


def test_rows_that_disagree_are_refused_with_their_row(study):
    with pytest.raises(InputError) as caught:
        build(study, "{column: y}", TWICE)
    assert "people.csv:3: 1 samples have rows with different labels" in str(caught.value)


@pytest.mark.parametrize("several, expected, left", [
    ("drop", {"b": [0], "c": [1]}, {CONTRADICTS: 1}),
    ("greatest", {"a": [1], "b": [0], "c": [1]}, {}),
])  # fmt: skip
def test_rows_that_disagree(study, several, expected, left):
    y, told, _ = build(study, f"{{column: y, several: {several}}}", TWICE)
    assert (y, told) == (expected, left)


def test_no_label_at_all_is_refused_with_the_reasons(study):
    with pytest.raises(InputError, match="no sample is left for the task outcome.*2 label is none of the values listed"):
        build(study, "{column: y}", table(["a", "b"]))


def test_parts_are_stratified_by_the_label(study):
    cohort = study.build(HEAD + COLUMNS, people_csv=people(100, x=lambda n: n))
    counts = cohort.meta["splits"]["counts"]
    assert cohort.meta["splits"]["refused"] is None
    assert all(abs(2 * part["positive"] - part["patients"]) <= 2 for fold in counts.values() for part in fold.values())


def test_several_labels_are_stratified_by_one_that_is_known_of_everybody():
    import polars as pl

    y = pl.Series([[1.0, 1.0, None], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, None]])
    assert outcomes(y, "multilabel").to_list() == [1, 0, 0, 1]
