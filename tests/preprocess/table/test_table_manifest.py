"""The YAML is checked as a whole: every fault with its line and a near miss, and nothing but a ConfigError ever comes out."""

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnifuse import config
from omnifuse.preprocess.schema import ConfigError
from omnifuse.preprocess.table import grammar
from omnifuse.preprocess.table.manifest import describe

WHOLE = """root: .
table: people.csv
encoding: utf-8
patient: PID
sample: [pid, visit]
task: outcome
label:
  column: finding
  positive: [COVID-19]
  negative: rest
  unknown: [todo, Unclear]
  several: greatest
time:
  unit: datetime
  origin: admitted
  prediction: decided
group: site
describe: [age, sex]
keep: {modality: X-ray}
missing: [NA, nan]
splits: {kind: temporal, folds: 5}
tables:
  labs: {file: labs.csv.gz, patient: pid, encoding: latin-1}
modalities:
  bloods: {kind: columns, numeric: [crp, age], categorical: {sex: [F, M]}, decimal: comma}
  vitals:
    kind: series
    table: labs
    time: taken
    variable: name
    value: value
    numeric: [Heart Rate, SpO2]
    categorical: {gcs: [low, high]}
    step_hours: 2
    from_hours: -24
    to_hours: 48
  film: {kind: image, path: filename, folder: images, order: offset, take: last, decode: {size: 64}}
  ct: {kind: volume, path: series, decode: {kind: ct}}
  note: {kind: text, file: report, encoding: gb18030, words: 150}
  ecg: {kind: signal, path: record}
"""


def told(text: str):
    return describe(config.read_yaml(text, "study.yaml"), "study.yaml")


def test_everything_that_can_be_said():
    description = told(WHOLE)
    assert (description.tables["main"].patient, description.tables["main"].sample) == ("pid", ("pid", "visit"))
    assert description.label.negative is None and description.label.values == (("COVID-19",),)
    assert description.modalities["bloods"].own["categorical"] == {"sex": ("F", "M")}
    assert description.modalities["vitals"].own["numeric"] == ("Heart Rate", "SpO2")  # values of a column: their case counts
    assert [name for name, one in description.modalities.items() if one.take == "last"] == ["bloods", "film", "ct", "ecg"]
    assert "heart rate" not in description.columns("labs") and set(description.columns("labs")) == {"pid", "taken", "name", "value"}


# what is wrong -> (change of WHOLE, line, what the message says)
WRONG = {
    "unknown key": ("patient: PID", "patientt: PID", "study.yaml:4: the file has no key patientt (did you mean patient?)"),
    "needed key": ("patient: PID", "", "study.yaml:1: the file needs patient"),
    "unknown kind": ("kind: image", "kind: imag", "study.yaml:37: modality film needs a kind (did you mean image?)"),
    "key of another kind": ("path: series", "path: series, words: 3", "study.yaml:38: modality ct has no key words"),
    "unknown table": ("table: labs", "table: lab", "study.yaml:28: modality vitals: no table lab (did you mean labs?)"),
    "number": ("step_hours: 2", "step_hours: two", "study.yaml:34: modality vitals: step_hours must be a number"),
    "range": ("step_hours: 2", "step_hours: 0", "study.yaml:34: modality vitals: step_hours must be from"),
    "no number at all": ("step_hours: 2", "step_hours: .nan", "step_hours must be a number"),
    "infinite": ("step_hours: 2", "step_hours: inf", "step_hours must be finite"),
    "choice": ("several: greatest", "several: most", "study.yaml:12: label: several must be one of refuse, drop, greatest"),
    "encoding": ("encoding: latin-1", "encoding: latin-99", "study.yaml:23: table labs: encoding is no known encoding"),
    "no encoding of text": ("encoding: latin-1", "encoding: base64", "is no"),
    "two owners": ("patient: pid, encoding", "patient: pid, sample: visit, encoding", "needs either patient or sample"),
    "one side of a label": ("  negative: rest\n", "", "label needs positive and negative together"),
    "two meanings": ("unknown: [todo, Unclear]", "unknown: [COVID-19]", "one value has two meanings"),
    "classes of two": ("negative: rest", "classes: [a, b]", "classes belong to a multiclass task"),
    "series without an origin": ("  origin: admitted\n", "", "needs an origin"),
    "windows": ("to_hours: 48", "to_hours: -30", "to_hours must lie behind from_hours"),
    "half of a long table": ("    value: value\n", "", "variable and value belong together"),
    "categories of a series": ("categorical: {gcs: [low, high]}", "categorical: [gcs]", "categories of a series are listed"),
    "task": ("task: outcome", "task: ../outcome", "study.yaml:6: the file: task must be letters"),
    "modality name": ("  film:", "  Film-1:", "a name is small letters"),
    "temporal without a calendar": ("group: site\n", "", "a temporal split needs group"),
    "frozen without a list": ("kind: temporal", "kind: frozen", "a frozen split needs its file"),
    "a name of ours": ("describe: [age, sex]", "describe: [age, film_start]", "describe: film_start is a name of the cohort's own"),
    "text twice": ("file: report", "file: report, column: notes", "needs either column (the text) or file"),
    "empty": ("group: site", "group:", "study.yaml:17: the file: group is empty"),
    "mapping for a value": ("group: site", "group: {a: b}", "group takes a value, not a mapping"),
    "value for a mapping": ("splits: {kind: temporal, folds: 5}", "splits: 5", "splits must be a mapping"),
    "the same column twice": ("[crp, age]", "[crp, CRP]", "names the same thing twice"),
    "number and category": ("[crp, age]", "[crp, sex]", "sex is both numeric and categorical"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_names_its_line(name):
    before, after, says = WRONG[name]
    assert before in WHOLE
    with pytest.raises(ConfigError) as caught:
        told(WHOLE.replace(before, after, 1))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_are_told_together():
    text = WHOLE.replace("patient: PID", "patientt: PID").replace("step_hours: 2", "step_hours: two").replace("table: labs", "table: lab")
    with pytest.raises(ConfigError) as caught:
        told(text)
    assert all(line in str(caught.value) for line in ("study.yaml:4:", "study.yaml:28:", "study.yaml:34:"))


LINES = WHOLE.splitlines()
SCRAPS = st.sampled_from(
    ["", "~", "{}", "[]", "[a, a]", "{a: {b: c}}", "-inf", "nan", "1e999", "\0", "a: b", "'x", "9" * 20, "é\u202e", "[[a]]", "- a"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 10**6), SCRAPS, st.integers(1, 4))
def test_no_change_of_a_manifest_raises_anything_else(seed, scrap, changes):
    draw = random.Random(seed)
    lines = list(LINES)
    for _ in range(changes):
        at = draw.randrange(len(lines))
        key = lines[at].split(":")[0]
        lines[at] = draw.choice(
            [f"{key}: {scrap}", "", lines[draw.randrange(len(lines))], f"{key}s: {scrap}", lines[at][: draw.randrange(40)]]
        )
    try:
        told("\n".join(lines))
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) < 20_000


WORDS = ["columns", "series", "image", "text", "main", "rest", "1", "true", "binary", "multilabel"]
KEYS = [*grammar.TOP, *grammar.LABEL, *grammar.SHARED, *grammar.OWN["series"], *grammar.OWN["text"], "film"]
LEAVES = st.text(max_size=8) | st.sampled_from(WORDS)
TREES = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=3), lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=6), max_leaves=12
)


def as_leaves(tree):
    return {key: as_leaves(value) for key, value in tree.items()} if isinstance(tree, dict) else config.Leaf(tree, "study.yaml:1")


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["table", "patient", "task", "label", "modalities", "tables", "time", "splits", "keep"]), TREES))
def test_no_tree_raises_anything_else(tree):
    with contextlib.suppress(ConfigError):
        describe(as_leaves(tree), "study.yaml")


def test_the_example_of_the_page_is_sound():
    page = (Path(__file__).parents[3] / "docs/tables.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert len(example.strip().split("\n")) <= 20
    assert list(told(example).modalities) == ["film", "labs", "note"]


def test_the_page_names_every_key():
    page = (Path(__file__).parents[3] / "docs/tables.md").read_text()
    keys = {key for keys in (grammar.TOP, grammar.TABLE, grammar.LABEL, grammar.TIME, grammar.SPLITS, grammar.SHARED) for key in keys}
    keys |= {key for own in grammar.OWN.values() for key in own}
    assert not {key for key in keys if f"`{key}`" not in page and f"{key}:" not in page}
