"""The exported folders of the MIMIC-III demo, read and discretised as mimic3-benchmarks would, against what it made itself."""

import csv
import gzip
import json
import os
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from omnifuse.preprocess import store
from omnifuse.preprocess.export import export_arrays, export_layout
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.options import Options

DATA = Path(os.environ.get("OMNIFUSE_TEST_DATA", "absent"))
ORACLE = DATA / "mimic3demo_oracle"
RULES = json.loads((files("omnifuse.preprocess.mimic") / "resources/discretizer_config.json").read_text())
VARIABLES = RULES["id_to_channel"]

pytestmark = pytest.mark.skipif(
    not ORACLE.is_dir(), reason="needs the open demo in $OMNIFUSE_TEST_DATA: https://physionet.org/content/mimiciii-demo/1.4/"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    options = Options(compat="mimic3-benchmarks", tasks=("mortality", "phenotyping", "los_remaining"))
    cohort = build_cohort(DATA / "mimic3demo", folder / "cohort", options)
    return cohort, folder / "out", export_layout(cohort, "mimic3-benchmarks", folder / "out")


def read_lists(folder: Path, names=("train", "val")) -> dict[str, list[list[str]]]:
    """Rows of the lists by the name of the episode."""
    rows: dict[str, list[list[str]]] = {}
    for name in names:
        for line in (folder / f"{name}_listfile.csv").read_text().splitlines()[1:]:
            stay, *fields = line.split(",")
            rows.setdefault(stay, []).append(fields)
    return rows


def read_episode(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()[1:]]


def discretise(rows: list[list[str]], hours: float, step: float) -> np.ndarray:
    """[hours / step, 76]: last value of a bin, carried forward from the normal value, one-hot codes; then the masks."""
    bins = int(hours / step + 1 - 1e-6)
    last: list[dict[str, str]] = [{} for _ in range(bins)]
    for hour, *values in rows:
        last[int(float(hour) / step - 1e-6)] |= {name: value for name, value in zip(VARIABLES, values) if value}
    columns = []
    for name in VARIABLES:
        carried, shown = RULES["normal_values"][name], []
        for charted in last:
            carried = charted.get(name, carried)
            codes = RULES["possible_values"][name]
            shown.append([float(code == carried) for code in codes] if RULES["is_categorical_channel"][name] else [float(carried)])
            assert not codes or sum(shown[-1]) == 1
        columns.append(np.array(shown))
    mask = np.array([[name in charted for name in VARIABLES] for charted in last], float)
    return np.concatenate([*columns, mask], axis=1)


def stays_of(cohort: store.Artefact) -> dict[str, int]:
    """Episode name to stay."""
    seen: Counter = Counter()
    names = {}
    for stay, patient in cohort.table("stays.parquet").sort("intime").select("stay_id", "patient_id").iter_rows():
        seen[patient] += 1
        names[f"{patient}_episode{seen[patient]}_timeseries.csv"] = stay
    return names


def test_the_lists_have_the_published_sizes(exported):
    sizes = {name: [of[part] for part in ("train", "val", "test")] for name, of in exported[2]["tasks"].items()}
    assert sizes == {"in-hospital-mortality": [41, 5, 11], "phenotyping": [81, 14, 18], "length-of-stay": [8283, 759, 1899]}
    assert all(not any(of["left_out"].values()) for of in exported[2]["tasks"].values())


def test_their_tensors_and_labels_come_out(exported):
    cohort, out, _ = exported
    stays, lists = stays_of(cohort), read_lists(out / "in-hospital-mortality")
    with np.load(ORACLE / "ihm_train_2h.npz", allow_pickle=False) as file:
        oracle = dict(zip(file["icustay_id"].tolist(), zip(file["X"], file["y"].tolist())))
    assert {stays[name] for name in lists} == set(oracle)
    for name, ((y,),) in lists.items():
        values, label = oracle[stays[name]]
        np.testing.assert_allclose(discretise(read_episode(out / "in-hospital-mortality/train" / name), 48, 2), values, atol=1e-6)
        assert int(y) == label


def test_the_arrays_are_their_tensors(exported, tmp_path):
    export_arrays(exported[0], "mortality", tmp_path / "a.npz")
    with np.load(ORACLE / "ihm_train_2h.npz", allow_pickle=False) as theirs, np.load(tmp_path / "a.npz", allow_pickle=False) as ours:
        at = {stay: row for row, stay in enumerate(ours["stay_id"].tolist())}
        rows = [at[stay] for stay in theirs["icustay_id"].tolist()]
        assert ours["X"].shape == (57, 24, 76) and ours["header"].tolist() == theirs["header"].tolist()
        np.testing.assert_allclose(ours["X"][rows], theirs["X"], atol=1e-6, rtol=1e-6)
        assert ours["y"][rows].tolist() == theirs["y"].tolist()
        assert Counter(ours["part"].tolist())["test"] == 11 and Counter(ours["part"].tolist())["val"] == 5


def test_their_episodes_come_out_cell_for_cell(exported):
    cohort, out, _ = exported
    theirs: dict[int, list[list[str]]] = {}
    with gzip.open(ORACLE / "episodes_train.csv.gz", "rt", newline="") as file:
        for stay, *fields in list(csv.reader(file))[1:]:
            theirs.setdefault(int(stay), []).append(fields)
    los = dict(cohort.table("stays.parquet").select("stay_id", "los_hours").iter_rows())
    names, cells = read_lists(out / "phenotyping"), 0
    for name in names:
        stay = stays_of(cohort)[name]
        expected = [row for row in theirs[stay] if -1e-6 < float(row[0]) < los[stay] + 1e-6]
        ours = read_episode(out / "phenotyping/train" / name)
        assert len(ours) == len(expected)
        for (hour, *values), (their_hour, *their_values) in zip(ours, expected):
            assert float(hour) == pytest.approx(float(their_hour), abs=1e-9)
            for value, their_value in zip(values, their_values, strict=True):
                assert value == their_value or float(value) == pytest.approx(float(their_value), rel=1e-9)
                cells += bool(value)
    assert len(names) == 95 and cells > 50_000


@pytest.mark.parametrize(("task", "table"), [("phenotyping", "phenotyping_train.csv"), ("length-of-stay", "los_train.csv.gz")])
def test_their_lists_come_out(exported, task, table):
    cohort, out, _ = exported
    opened = gzip.open if table.endswith(".gz") else open
    with opened(ORACLE / table, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    theirs = sorted([int(row[0]), *map(float, row[1:])] for row in rows)
    stays = stays_of(cohort)
    ours = sorted([stays[name], *map(float, row)] for name, listed in read_lists(out / task).items() for row in listed)
    assert (out / task / "train_listfile.csv").read_text().splitlines()[0] == ",".join(["stay", *header[1:]])
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=2e-6)
