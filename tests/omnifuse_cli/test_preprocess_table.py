"""A public film set with laboratory values through the real command, its awkward cells counted; and broken input: one line, no value."""

import gzip
import json
import re

import covid_films
import polars as pl
import pytest
from command_line import run

from omnifuse.preprocess import store

CANARY = covid_films.CANARY


@pytest.fixture(scope="module")
def rows():
    return covid_films.table()


@pytest.fixture
def raw(tmp_path, rows):
    folder = covid_films.write(tmp_path / "raw", rows)
    (folder / "films.yaml").write_text(covid_films.MANIFEST)
    return folder


def preprocess(capsys, raw, *more):
    return run(capsys, "preprocess", "table", "--manifest", raw / "films.yaml", "--out", raw.parent / "cohort", *more)


def test_the_film_set_becomes_a_cohort(raw, tmp_path, rows, capsys):
    code, out, err = preprocess(capsys, raw, "--json")
    assert code == 0, err
    audit = json.loads(out)["audit"]
    assert CANARY not in out + err
    people = {row["patientid"]: row["finding"] for row in rows}
    told = [step["samples"] for step in audit["attrition"][:2]]
    assert told == [60, sum(finding not in ("", "todo") for finding in people.values())]
    assert audit["attrition"][1]["left_out"] == {"label is empty": 12, "label is listed as unknown": 12}
    kept = [row for row in rows[:-1] if people[row["patientid"]] not in ("", "todo")]
    temperature = next(row for row in audit["columns"] if row["column"] == "temperature")
    cells = [row["temperature"].strip() for row in kept]
    assert temperature["missing"] == cells.count("")
    assert temperature["infinite"] == sum(cells.count(text) for text in ("inf", "-inf", "1e400"))
    assert temperature["not_a_number"] == sum(cells.count(text) for text in ("36,9", "high", "NaN"))
    assert temperature["present"] + temperature["missing"] + temperature["infinite"] + temperature["not_a_number"] == len(kept)
    films = [row for row in kept if row["modality"] == "X-ray"]
    there = [row for row in films if (raw / "images" / row["filename"]).exists()]
    assert audit["links"][0]["items"] == len(there) and audit["links"][0]["left_out"]["no such file"] == len(films) - len(there)
    cohort = store.open(tmp_path / "cohort", "cohort")
    cohort.verify()
    samples = cohort.table("samples/covid.parquet")
    assert {row["sample_id"]: row["y"] for row in samples.iter_rows(named=True)} == {
        name: [float(finding == covid_films.COVID)] for name, finding in people.items() if finding not in ("", "todo")
    }
    assert samples["film_length"].max() == 2


def test_a_patient_is_on_one_side_of_every_split(raw, tmp_path, capsys):
    text = covid_films.MANIFEST.replace("patient: patientid", "patient: patientid\nsample: filename").replace("  several: drop\n", "")
    (raw / "films.yaml").write_text(text)
    code, _, _ = preprocess(capsys, raw, "--json")
    assert code == 0
    cohort = store.open(tmp_path / "cohort", "cohort")
    samples, parts = cohort.table("samples/covid.parquet"), cohort.table("parts.parquet")
    assert samples.height > samples["patient_id"].n_unique()
    assert (parts.group_by("fold", "patient_id").len()["len"] == 1).all()
    assert set(parts["patient_id"]) == set(samples["patient_id"])


def test_an_unchanged_call_does_nothing(raw, tmp_path, capsys):
    preprocess(capsys, raw)
    manifest = tmp_path / "cohort/manifest.json"
    written = lambda: (manifest.stat().st_mtime_ns, store.open(tmp_path / "cohort", "cohort").fingerprint)
    first = written()
    (raw / "films.yaml").write_text("# a comment\n" + covid_films.MANIFEST)
    code, out, _ = preprocess(capsys, raw)
    assert code == 0 and written() == first and "samples" in out


@pytest.mark.parametrize("change", ["a film more", "a film changed", "a cell", "a setting", "the seed"])
def test_a_changed_input_makes_another_cohort(change, raw, tmp_path, capsys):
    preprocess(capsys, raw)
    before = store.open(tmp_path / "cohort", "cohort").fingerprint
    more = []
    if change == "a film more":
        for n in range(60):
            (raw / "images" / f"film{n}_0.png").touch()
    elif change == "a film changed":
        path = next(raw / "images" / f"film{n}_0.png" for n in range(0, 60, 5) if (raw / "images" / f"film{n}_0.png").exists())
        path.write_bytes(b"another film")
    elif change == "a cell":
        table = raw / "metadata.csv"
        table.write_bytes(table.read_bytes().replace(b"Hospital 1", b"Hospital 9", 1))
    elif change == "a setting":
        (raw / "films.yaml").write_text(covid_films.MANIFEST.replace("categorical: [sex]", "categorical: {sex: [F, M]}"))
    else:
        more = ["--seed", "5"]
    code, _, _ = preprocess(capsys, raw, *more)
    assert code == 0 and store.open(tmp_path / "cohort", "cohort").fingerprint != before


def test_the_container_of_a_table_does_not_matter(raw, tmp_path, rows, capsys):
    preprocess(capsys, raw)
    whole = store.open(tmp_path / "cohort", "cohort")
    expected = whole.table("samples/covid.parquet"), whole.table("items/film.parquet"), whole.array("labs.npy").tobytes()
    frame = pl.DataFrame(rows).with_columns(pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)).name.keep())
    frame.write_parquet(raw / "metadata.parquet")
    (raw / "metadata.csv.gz").write_bytes(gzip.compress((raw / "metadata.csv").read_bytes()))
    (raw / "latin.csv").write_bytes((raw / "metadata.csv").read_bytes().decode("utf-8-sig").encode("latin-1"))
    for name, more in (("metadata.parquet", ""), ("metadata.csv.gz", ""), ("latin.csv", "\nencoding: latin-1")):
        (raw / "films.yaml").write_text(covid_films.MANIFEST.replace("metadata.csv", name + more))
        code, _, err = preprocess(capsys, raw)
        assert code == 0, err
        again = store.open(tmp_path / "cohort", "cohort")
        assert again.table("samples/covid.parquet").equals(expected[0]) and again.table("items/film.parquet").equals(expected[1])
        assert again.array("labs.npy").tobytes() == expected[2]


def edit(before: str, after: str):
    def change(raw):
        text = (raw / "films.yaml").read_text()
        assert before in text
        (raw / "films.yaml").write_text(text.replace(before, after))

    return change


def harm(change):
    return lambda raw: (raw / "metadata.csv").write_bytes(change((raw / "metadata.csv").read_bytes()))


def outside(raw):
    (raw.parent / "outside.csv").write_bytes((raw / "metadata.csv").read_bytes())
    (raw / "metadata.csv").unlink()
    (raw / "metadata.csv").symlink_to(raw.parent / "outside.csv")


def other_labels(raw):
    """The first rows of two patients with several films say something else."""
    edit("  several: drop\n", "")(raw)
    covid = b"," + covid_films.COVID.encode() + b","
    harm(lambda content: content.replace(b",Pneumonia/Bacterial,", covid, 1))(raw)


def occupied(raw):
    (raw.parent / "cohort").mkdir()
    (raw.parent / "cohort/thesis.txt").write_text("x")


LEAVES = r"films\.yaml:1: .*the path leaves the data folder"
ROW = r"metadata\.csv:\d+: "
NEW_LABELS = "positive: 1\n  negative: 0"
OLD_LABELS = "positive: Pneumonia/Viral/COVID-19\n  negative: [Pneumonia/Bacterial, No Finding]"
# what breaks -> how, the exit code, what the one line says
CASES = {
    "a fault of the manifest": (edit("kind: image", "kind: imge"), 2, r"films\.yaml:12: modality film needs a kind \(did you mean image"),
    "no YAML": (edit("label:", "label: ["), 2, r"films\.yaml:\d+: is no valid YAML"),
    "a tag": (edit("task: covid", "task: !!python/object/apply:os.system [ls]"), 2, r"films\.yaml:3: tags are not allowed"),
    "an alias": (edit("task: covid", "task: &a covid"), 2, r"films\.yaml:3: anchors"),
    "no such column": (
        edit("leukocyte_count", "leucocyte_count"),
        2,
        r"films\.yaml:19: metadata\.csv has no column leuco.*mean leukocyte_",
    ),
    "two such columns": (edit("path: filename", "path: file\n    time: when"), 2, r"films\.yaml:14: .* column when.*films\.yaml:13:"),
    "no table": (edit("table: metadata.csv", "table: metadta.csv"), 2, r"films\.yaml:1: table metadta\.csv: no such file"),
    "a table outside": (edit("table: metadata.csv", "table: ../raw/metadata.csv"), 2, LEAVES),
    "an absolute table": (edit("table: metadata.csv", "table: /etc/passwd"), 2, LEAVES),
    "a link outside": (outside, 2, LEAVES + " through a link"),
    "no root": (edit("table:", "root: nowhere\ntable:"), 2, r"root is no folder"),
    "empty": (harm(lambda content: b""), 3, r"metadata\.csv: is empty"),
    "a header alone": (harm(lambda content: content.split(b"\r\n")[0] + b"\r\n"), 3, r"metadata\.csv: holds no row"),
    "cut in a note": (harm(lambda content: content[: content.rindex(b"febrile")]), 3, ROW),
    "a field too few": (harm(lambda content: content + b"a,b,c\r\n"), 3, ROW + "3 fields instead of 24"),
    "another encoding": (harm(lambda content: content.replace("°".encode(), b"\xb0")), 3, ROW + "is not UTF-8"),
    "a column twice": (harm(lambda content: content.replace(b"other_notes", b"clinical_notes", 1)), 3, r"metadata\.csv:1: .*same name"),
    "no header": (harm(lambda content: f"{CANARY}1,0,M\r\n{CANARY}2,3,F\r\n".encode()), 2, r"has no column patientid \(none of its 3 col"),
    "semicolons": (
        harm(lambda content: content.replace(b",", b";")),
        2,
        r"has no column patientid \(its fields are not separated by commas",
    ),
    "labels that disagree": (other_labels, 3, ROW + "1 samples have rows with different labels"),
    "a sample of two": (edit("patient: patientid", "patient: patientid\nsample: location"), 3, ROW + "3 samples have rows of several"),
    "no label": (edit(OLD_LABELS, NEW_LABELS), 3, r"no sample is left for the task covid.*label is none of the values listed"),
    "a bad cell": (edit("categorical: [sex]", "on_bad_cell: error"), 3, r"metadata\.csv:\d+:temperature: is no finite number"),
    "something else at --out": (occupied, 2, r"holds something else"),
}


@pytest.mark.parametrize("name", CASES)
def test_broken_input_is_one_line(name, raw, tmp_path, capsys):
    change, code, says = CASES[name]
    change(raw)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    left, out, err = preprocess(capsys, raw)
    lines = [line for line in err.splitlines() if line.startswith("omnifuse: error: ")]
    assert (left, len(lines), err.count("\n")) == (code, 1, 1), err
    assert re.search(says, lines[0]), lines[0]
    assert CANARY not in out + err and "Hospital" not in out + err and "36,9" not in out + err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "something half-written"


def test_set_is_refused_and_a_dry_run_writes_nothing(raw, tmp_path, capsys):
    assert preprocess(capsys, raw, "--set", "train.lr=1")[0] == 2
    code, out, _ = preprocess(capsys, raw, "--dry-run")
    assert code == 0 and "metadata.csv" in out and not (tmp_path / "cohort").exists()
    (raw / "films.yaml").unlink()
    code, _, err = preprocess(capsys, raw)
    assert code == 2 and "films.yaml: cannot be read" in err


def test_the_workspace_tells_the_manifest_that_no_flag_does(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "preprocess", "table", "--dry-run")
    assert code == 2 and "--manifest FILE.yaml, or manifest: in omnifuse.yaml" in err
    (tmp_path / "omnifuse.yaml").write_text("manifest: raw/films.yaml\n")
    code, out, err = run(capsys, "preprocess", "table", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["out"] == str(tmp_path / "cohorts/films"), err
    code, _, err = run(capsys, "preprocess", "table", "--manifest", raw / "other.yaml", "--dry-run")
    assert code == 2 and "other.yaml: cannot be read" in err, "a flag wins"
