"""Items: which files a sample has and in what order, what is no item and why, and paths that leave the folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from table_study import HEAD

from omnifuse.preprocess import items
from omnifuse.preprocess.schema import ConfigError


def build(study, text: str, modality: str, head: str = HEAD, **files):
    cohort = study.build(head + f"modalities:\n  m: {{{modality}}}\n", people_csv=text, **files)
    samples, table = cohort.table("samples/outcome.parquet"), cohort.table("items/m.parquet")
    column = next(name for name in ("text", "path", "names") if name in table.columns)
    found = {
        name: table[column][start : start + length].to_list()
        for name, start, length in samples.select("sample_id", "m_start", "m_length").iter_rows()
    }
    return found, cohort.json("audit.json")["links"][0], cohort


FILMS = """pid,y,day,file
a,1,3,a3.png
a,1,-2,a1.png
a,1,10,a10.png
a,1,,a0.png
a,1,10 or more,b.png
b,0,1,b.png
b,0,7,b.png
b,0,2,
c,1,1,gone.png
d,0,1,../secret.png
e,1,1,/etc/passwd
f,0,1,C:\\films\\f.png
g,1,1,link.png
h,0,1,folder
i,1,1,pipe
"""


@pytest.fixture
def films(study):
    folder = study.folder / "films"
    (folder / "folder").mkdir(parents=True)
    for name in ("a3.png", "a1.png", "a10.png", "a0.png", "b.png"):
        (folder / name).write_bytes(b"film")
    (study.folder.parent / "secret.png").write_bytes(b"secret")
    (study.folder / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(study.folder.parent / "secret.png")
    os.mkfifo(folder / "pipe")
    return study


@pytest.mark.parametrize("take, a", [
    ("order: day", ["a0.png", "b.png", "a1.png", "a3.png", "a10.png"]),  # without an order first, by name
    ("order: day, take: last", ["a10.png"]),
    ("order: day, take: first", ["a1.png"]),
    ("take: all", ["a0.png", "a1.png", "a10.png", "a3.png", "b.png"]),
])  # fmt: skip
def test_several_films_a_sample(films, take, a):
    found, _, _ = build(films, FILMS, f"kind: image, path: file, folder: films, {take}")
    assert found["a"] == [f"films/{name}" for name in a] and found["b"] == ["films/b.png"]
    assert all(found[name] == [] for name in "cdefghi")


def test_what_is_no_film_is_counted(films):
    _, told, cohort = build(films, FILMS, "kind: image, path: file, folder: films, order: day")
    assert told["left_out"] == {
        "cell is empty": 1, "no such file": 2, "the path leaves the data folder": 2, "the path leaves the data folder through a link": 1,
        "is no regular file": 2, "the same item again": 1,
    }  # fmt: skip
    assert (told["items"], told["samples"]) == (6, 2)
    warnings = " ".join(cohort.json("audit.json")["warnings"])
    assert "1 files belong to several patients" in warnings
    assert "secret" not in warnings and "passwd" not in warnings


def test_items_open(films):
    _, _, cohort = build(films, FILMS, "kind: image, path: file, folder: films, decode: {size: 64, equalise: true, fit: crop}")
    opened = items.open_items(cohort, "m")
    assert opened.shape == (1, 64, 64) and opened.root == films.folder and opened.settings["equalise"] is True


@pytest.mark.parametrize("decode, says", [
    ("{siez: 64}", "study.yaml:6: m: a decoder of images has no setting siez .did you mean size"),
    ("{size: big}", "study.yaml:6: m: size must be a number"),
    ("{size: 0}", "size of a film must be"),
])  # fmt: skip
def test_settings_of_the_decoder_are_checked(films, decode, says):
    with pytest.raises(ConfigError, match=says):
        build(films, FILMS, f"kind: image, path: file, decode: {decode}")


def test_a_path_in_several_columns(films):
    text = "pid,y,where,file\na,1,films,a1.png\nb,0,,b.png\nc,1,films,\n"
    found, told, _ = build(films, text, "kind: image, path: [where, file]")
    assert found == {"a": ["films/a1.png"], "b": [], "c": []} and told["left_out"] == {"cell is empty": 2}


NOTES = 'pid,y,note\na,1,"Febrile, 37,5\n  since ___ days; ""ill"""\nb,0,   \nc,1,\nd,0,ＰＥＴ／ＣＴ 阴性\n'


def test_texts_of_a_column(study):
    found, told, cohort = build(study, NOTES, "kind: text, column: note")
    assert found == {"a": ['Febrile, 37,5 since _ days; "ill"'], "b": [], "c": [], "d": ["PET/CT 阴性"]}
    assert told["left_out"] == {"cell is empty": 2} and told["counts"]["de-identification marks"] == 1
    assert items.open_items(cohort, "m").text(0) == found["a"][0]


def test_texts_are_cut_to_their_words(study):
    text = "pid,y,note\n" + "".join(f"p{n},{n % 2},one two three {'x ' * n}\n" for n in range(4))
    found, _, _ = build(study, text, "kind: text, column: note, words: 2")
    assert set(map(tuple, found.values())) == {("one two",)}


def test_texts_of_files_in_a_declared_encoding(study):
    (study.folder / "notes").mkdir()
    for name, content in {"a": "肺结节".encode("gb18030"), "b": "肺结节".encode(), "c": b"", "d": b"FINDINGS: clear\n"}.items():
        (study.folder / "notes" / f"{name}.txt").write_bytes(content)
    text = "pid,y,note\n" + "".join(f"{name},{n % 2},{name}\n" for n, name in enumerate("abcde"))
    found, told, _ = build(study, text, "kind: text, file: note, folder: notes, suffix: .txt, encoding: gb18030")
    assert found["a"] == ["肺结节"] and found["d"] == ["FINDINGS: clear"]
    assert told["left_out"] == {"is not in the declared encoding": 1, "text is empty": 1, "no such file": 1}


def test_sections_of_a_report(study):
    text = 'pid,y,note\na,1,"FINDINGS: clear\nIMPRESSION: well"\nb,0,"nothing to say"\n'
    found, told, _ = build(study, text, "kind: text, column: note, sections: findings")
    assert found == {"a": ["clear"], "b": []}
    assert told["counts"] == {"section: findings": 1, "section: empty": 1}


def test_records_of_signals_are_found_by_their_header(study):
    (study.folder / "a.hea").write_text("a 1 100 1000\n")
    found, told, _ = build(study, "pid,y,rec\na,1,a\nb,0,a.hea\nc,1,b\n", "kind: signal, path: rec, decode: {rate: 50}")
    assert found == {"a": ["a"], "b": ["a"], "c": []} and told["left_out"] == {"no such file": 1}


def test_a_film_after_the_prediction_is_not_seen(films):
    text = "pid,y,until,day,file\na,1,5,3,a3.png\na,1,5,5,a1.png\na,1,5,,a0.png\nb,0,9,8.99,b.png\n"
    head = HEAD + "time: {unit: days, prediction: until}\n"
    found, _, cohort = build(films, text, "kind: image, path: file, folder: films, time: day", head=head)
    assert found == {"a": ["films/a3.png"], "b": ["films/b.png"]}
    row = cohort.json("audit.json")["rows"][1]
    assert row["dropped"] == {"time unknown": 1, "not before the prediction": 1} and row["in"] == 4 and row["used"] == 2


def test_a_folder_of_slices_is_a_volume(study):
    series = Path(os.environ.get("OMNIFUSE_TEST_DATA", "/nonexistent")) / "ct_lidc0314"
    if not series.is_dir():
        pytest.skip("set OMNIFUSE_TEST_DATA to a folder that holds ct_lidc0314 (https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX)")
    text = "pid,y,ct\na,1,scan\nb,0,empty\nc,1,../scan\n"
    (study.folder / "scan").mkdir()
    (study.folder / "empty").mkdir()
    for path in sorted(series.rglob("*.dcm")):
        (study.folder / "scan" / path.name).write_bytes(path.read_bytes())
    _, told, cohort = build(study, text, "kind: volume, path: ct, decode: {size: 32, slices: 4, max_gap_mm: 100}")
    assert (told["items"], told["samples"]) == (1, 1)
    planes = items.open_items(cohort, "m").decode(0)
    assert planes.shape[1:] == (3, 32, 32) and np.ptp(planes) > 100
