"""Exported folders are read with readers written here from the description of the two repositories' formats, line by line as theirs."""

import csv
import json
import stat
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic.layouts import PROBE, export_layout
from omnifuse.preprocess.schema import ConfigError, InputError

RULES = json.loads((files("omnifuse.preprocess.mimic") / "resources/discretizer_config.json").read_text())
VARIABLES = RULES["id_to_channel"]
FOLDERS = {"mortality": "in-hospital-mortality", "phenotyping": "phenotyping", "los_remaining": "length-of-stay"}
BENCHMARKS, MEDFUSE = "mimic3-benchmarks", "medfuse"


def read_list(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, as their readers split them: at every comma, without quotes."""
    lines = path.read_text().splitlines()
    return lines[0].split(","), [line.split(",") for line in lines[1:]]


def read_episode(path: Path, until: float | None = None) -> list[tuple[float, dict[str, str]]]:
    """(hours, what was charted) of each row; what their discretizer cannot take raises."""
    lines = path.read_text().split("\n")
    names = lines[0].split(",")
    assert names == ["Hours", *VARIABLES] and lines[-1] == ""
    rows = []
    for line in lines[1:-1]:
        fields = line.split(",")
        assert len(fields) == 18
        hours = float(fields[0])
        if until is not None and hours > until + 1e-6:
            break
        charted = {name: value for name, value in zip(names[1:], fields[1:]) if value}
        for name, value in charted.items():
            RULES["possible_values"][name].index(value) if RULES["is_categorical_channel"][name] else float(value)
        rows.append((hours, charted))
    assert rows, "their readers stack the rows, and there is none"
    return rows


def events_of(cohort: store.Artefact, stay: int) -> list[tuple[float, dict[str, str]]]:
    rows = cohort.table("events.parquet").filter(stay_id=stay).drop("stay_id").iter_rows(named=True)
    return [(row.pop("hours"), {name: value for name, value in row.items() if value is not None}) for row in rows]


def episode_names(cohort: store.Artefact) -> dict[str, int]:
    """SUBJECT_episodeK_timeseries.csv to stay_id: K counts a subject's stays by intime."""
    names, count = {}, {}
    for stay, patient in cohort.table("stays.parquet").sort("intime").select("stay_id", "patient_id").iter_rows():
        count[patient] = count.get(patient, 0) + 1
        names[f"{patient}_episode{count[patient]}_timeseries.csv"] = stay
    return names


@pytest.fixture(scope="module")
def exported(icu, tmp_path_factory):
    """(cohort, folder, summary) of a format and compat mode."""
    made: dict[tuple[str, str], tuple] = {}

    def make(format: str, compat: str = BENCHMARKS):
        if (format, compat) not in made:
            out = tmp_path_factory.mktemp("layout") / "out"
            made[format, compat] = (icu(compat=compat), out, export_layout(icu(compat=compat), format, out, fold=2))
        return made[format, compat]

    return make


# --- listfiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "task", "columns"),
    [
        (BENCHMARKS, "mortality", ["stay", "y_true"]),
        (BENCHMARKS, "phenotyping", ["stay", "period_length", "LABELS"]),
        (BENCHMARKS, "los_remaining", ["stay", "period_length", "y_true"]),
        (MEDFUSE, "mortality", ["stay", "period_length", "stay_id", "y_true"]),
        (MEDFUSE, "phenotyping", ["stay", "period_length", "stay_id", "LABELS"]),
        (MEDFUSE, "los_remaining", ["stay", "period_length", "stay_id", "y_true"]),
    ],
)
def test_lists_hold_the_samples_of_their_part(exported, format, task, columns):
    cohort, out, summary = exported(format)
    labels = cohort.meta["tasks"]["phenotyping"]["labels"]
    columns = [name for column in columns for name in (labels if column == "LABELS" else [column])]
    stays, parts = episode_names(cohort), dict(cohort.table("parts.parquet").filter(fold=2).select("patient_id", "part").iter_rows())
    samples = {(row["stay_id"], row["prediction_hours"]): row for row in cohort.table(f"samples/{task}.parquet").iter_rows(named=True)}
    expected = {"train": ("train", "calib", "probe"), "val": ("val",), "test": ("test",)}
    for name, of_parts in expected.items():
        header, rows = read_list(out / FOLDERS[task] / f"{name}_listfile.csv")
        assert header == columns and len(rows) == summary["tasks"][FOLDERS[task]][name] > 0
        for row in rows:
            told = dict(zip(header, row, strict=True))
            stay = stays[told["stay"]]
            hours = float(told["period_length"]) if task == "los_remaining" else None
            sample = samples[stay, hours] if hours else next(row for (of, _), row in samples.items() if of == stay)
            assert parts[sample["patient_id"]] in of_parts
            assert int(told.get("stay_id", stay)) == stay
            if task == "phenotyping":
                assert [int(told[label]) for label in labels] == sample["y"]
                assert float(told["period_length"]) == pytest.approx(sample["period_length"], abs=1e-6)
            elif task == "mortality":
                assert int(told["y_true"]) == sample["y"][0] and told.get("period_length", "0") == "0"
            else:
                assert float(told["y_true"]) == pytest.approx(sample["remaining_hours"], abs=1e-6)


@pytest.mark.parametrize("format", [BENCHMARKS, MEDFUSE])
@pytest.mark.parametrize("task", FOLDERS)
def test_no_sample_is_lost_or_listed_twice(exported, format, task):
    cohort, out, summary = exported(format)
    folder, counts = out / FOLDERS[task], summary["tasks"][FOLDERS[task]]
    lists = {name: read_list(folder / f"{name}_listfile.csv")[1] for name in ("train", "val", "test")}
    rows = [tuple(row) for of_list in lists.values() for row in of_list]
    assert len(set(rows)) == len(rows)
    assert len(rows) + sum(counts["left_out"].values()) == cohort.table(f"samples/{task}.parquet").height
    assert sorted(read_list(folder / "train/listfile.csv")[1]) == sorted(lists["train"] + lists["val"])
    assert sorted(read_list(folder / "test/listfile.csv")[1]) == sorted(lists["test"])
    subjects = {name: {row[0].split("_")[0] for row in of_list} for name, of_list in lists.items()}
    assert not (subjects["train"] & subjects["val"] or subjects["train"] & subjects["test"] or subjects["val"] & subjects["test"])
    for name, of_folder in (("train", lists["train"] + lists["val"]), ("test", lists["test"])):
        there = {path.name for path in (folder / name).glob("*_timeseries.csv")} - {PROBE}
        assert {row[0] for row in of_folder} <= there


def test_what_their_readers_fail_on_is_left_out_and_counted(exported):
    cohort, _, summary = exported(BENCHMARKS)
    mortality, without_events = cohort.table("samples/mortality.parquet"), cohort.table("stays.parquet")["stay_id"][1]
    unknown = mortality.filter(pl.col("y").list.get(0).is_null())
    left_out = summary["tasks"]["in-hospital-mortality"]["left_out"]
    assert unknown.height and left_out["label unknown"] == unknown.height
    assert summary["tasks"]["phenotyping"]["left_out"] == {"label unknown": 0, "no row in the window": 1}
    events = cohort.table("events.parquet").filter(pl.col("hours") >= -1e-6)
    first = dict(events.group_by("stay_id").agg(pl.col("hours").min()).iter_rows())
    remaining = cohort.table("samples/los_remaining.parquet").select("stay_id", "prediction_hours")
    early = sum(stay == without_events or first[stay] > hours for stay, hours in remaining.iter_rows())
    assert summary["tasks"]["length-of-stay"]["left_out"]["no row in the window"] == early > 1


# --- episodes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [BENCHMARKS, MEDFUSE])
@pytest.mark.parametrize("compat", [BENCHMARKS, "none"])
@pytest.mark.parametrize("task", FOLDERS)
def test_episodes_hold_the_events_of_their_window(exported, format, compat, task):
    cohort, out, _ = exported(format, compat)
    stays = episode_names(cohort)
    los = dict(cohort.table("stays.parquet").select("stay_id", "los_hours").iter_rows())
    rows = 0
    for name in ("train", "val", "test"):
        for path in {row[0] for row in read_list(out / FOLDERS[task] / f"{name}_listfile.csv")[1]}:
            read = read_episode(out / FOLDERS[task] / name.replace("val", "train") / path)
            end = 48.0 if task == "mortality" else los[stays[path]]
            inside = (lambda t, end=end: -1e-6 < t < end + 1e-6) if compat == BENCHMARKS else (lambda t, end=end: 0 <= t < end)
            assert read == [(hours, charted) for hours, charted in events_of(cohort, stays[path]) if inside(hours)]
            rows += len(read)
    assert rows > 500


def test_the_borders_of_the_window(exported):
    for compat, expected in ((BENCHMARKS, [-5e-7, 0.0, 5e-7, 2.0, 47.9999, 48.0, 48.0 + 5e-7]), ("none", [0.0, 5e-7, 2.0, 47.9999])):
        cohort, out, _ = exported(BENCHMARKS, compat)
        stay = cohort.table("stays.parquet")["stay_id"][0]
        (name,) = (name for name, of in episode_names(cohort).items() if of == stay)
        (path,) = (out / "in-hospital-mortality").glob(f"*/{name}")
        assert [hours for hours, _ in read_episode(path)] == expected


def test_a_sample_of_length_of_stay_reads_up_to_its_hour(exported):
    cohort, out, _ = exported(BENCHMARKS)
    stays = episode_names(cohort)
    _, rows = read_list(out / "length-of-stay/train_listfile.csv")
    for path, hours, _ in rows[::17]:
        read = read_episode(out / "length-of-stay/train" / path, until=float(hours))
        assert len(read) == sum(-1e-6 < t <= float(hours) + 1e-6 for t, _ in events_of(cohort, stays[path]))


def test_batches_do_not_cut_a_stay(icu, exported, tmp_path, monkeypatch):
    cohort, out, summary = exported(BENCHMARKS)
    batches = store.Artefact.batches
    monkeypatch.setattr(store.Artefact, "batches", lambda self, name, columns=None, rows=13: batches(self, name, columns, rows))
    again = export_layout(cohort, BENCHMARKS, tmp_path / "again", fold=2)
    assert again == summary
    assert store.open(tmp_path / "again", "export").files == store.open(out, "export").files


def test_cells_that_their_discretizer_refuses_are_emptied_and_counted(icu, tmp_path):
    cohort = icu()
    bad = {
        "Heart Rate": ["1,000", "ERR", "88", 'a"b'],
        "Glascow coma scale total": ["15", "16", "15.0", "3"],
        "pH": [" 7.4", "two\nlines", "7.4", ""],
    }
    events = cohort.table("events.parquet")
    fixed = (
        events.filter(pl.col("hours") > 0)
        .filter(pl.col("stay_id") == events["stay_id"][-1])
        .head(4)
        .with_columns(**{k: pl.Series(v) for k, v in bad.items()})
    )
    with store.create(tmp_path / "c", "cohort", fingerprint="", meta=cohort.meta) as out:
        for name in cohort.files:
            out.path(name).write_bytes(cohort.file(name).read_bytes())
        store.write_parquet(out.path("events.parquet"), fixed)
    summary = export_layout(store.open(tmp_path / "c", "cohort"), BENCHMARKS, tmp_path / "out")
    assert any(note.startswith("7 cells hold a text") for note in summary["notes"])
    (path,) = (tmp_path / "out/phenotyping").glob("*/*_timeseries.csv")
    kept = [{name: value for name, value in charted.items() if name in bad} for _, charted in read_episode(path)]
    assert kept == [
        {"Glascow coma scale total": "15", "pH": " 7.4"},
        {},
        {"Heart Rate": "88", "pH": "7.4"},
        {"Glascow coma scale total": "3"},
    ]


# --- MedFuse ----------------------------------------------------------------------------------------------------------


def test_medfuse_finds_its_probe_and_its_stays(exported):
    cohort, out, _ = exported(MEDFUSE)
    for folder in FOLDERS.values():
        assert read_episode(out / folder / "train" / PROBE) == [(1.0, {})]
    with (out / "root/all_stays.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = [(row["subject_id"], row["stay_id"], row["intime"], row["outtime"]) for row in rows]
    stays = cohort.table("stays.parquet").select("patient_id", "stay_id", "intime", "outtime").iter_rows()
    assert sorted(told) == sorted((str(p), str(s), f"{i:%Y-%m-%d %H:%M:%S}", f"{o:%Y-%m-%d %H:%M:%S}") for p, s, i, o in stays)


def test_no_film_of_a_val_or_test_patient_stays_in_train(icu, tmp_path):
    cohort = icu()
    parts = dict(cohort.table("parts.parquet").filter(fold=2).select("patient_id", "part").iter_rows())
    films = [(f"film-{number}", 50_000_000 + number, patient, "train") for number, patient in enumerate([*parts, 99])]
    text = "\n".join(["dicom_id,study_id,subject_id,split", *(",".join(map(str, film)) for film in films)])
    (tmp_path / "split.csv").write_text(text)
    summary = export_layout(cohort, MEDFUSE, tmp_path / "out", fold=2, cxr_split=tmp_path / "split.csv")
    header, rows = read_list(tmp_path / "out/mimic-cxr-ehr-split.csv")
    assert header == ["dicom_id", "study_id", "subject_id", "split"]
    spelling = {"val": "validate", "test": "test"}
    assert rows == [[film, str(study), str(patient), spelling.get(parts.get(patient), "train")] for film, study, patient, _ in films]
    assert any("films; put it beside them" in note for note in summary["notes"])


def test_without_a_list_of_films_there_is_no_split_of_them(exported):
    _, out, summary = exported(MEDFUSE)
    assert not list(out.rglob("*cxr*")) and "no mimic-cxr-ehr-split.csv: no list of films was given" in summary["notes"]


@pytest.mark.parametrize(
    "text", ["subject_id,split\n1,train\n", "dicom_id,study_id,subject_id\n1,2\n", "dicom_id,study_id,subject_id\n1,,3\n", ""]
)
def test_a_list_of_films_that_is_none(icu, tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(InputError, match=r"is missing|2 fields instead of 3|is empty"):
        export_layout(icu(), MEDFUSE, tmp_path / "out", cxr_split=tmp_path / "split.csv")
    assert not (tmp_path / "out").exists()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_same_cohort_gives_the_same_bytes_and_only_the_owner_reads(exported, tmp_path):
    cohort, out, summary = exported(MEDFUSE)
    assert export_layout(cohort, MEDFUSE, tmp_path / "again", fold=2) == summary
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path: (tmp_path / "again" / path).read_bytes() for path in files} == files
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o600}
    assert summary["files"] == len(files) - 1 and summary["rows"] > 1000  # the manifest is not counted
    json.dumps(summary)


def test_our_own_export_is_replaced_and_nothing_else(icu, tmp_path):
    cohort = icu()
    export_layout(cohort, BENCHMARKS, tmp_path / "out")
    export_layout(cohort, MEDFUSE, tmp_path / "out")
    assert (tmp_path / "out/root/all_stays.csv").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    for folder in (tmp_path / "mine", cohort.folder):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(ConfigError, match="is not replaced by this export"):
            export_layout(cohort, BENCHMARKS, folder)
        assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"format": "medfusion"}, "unknown format 'medfusion' .did you mean medfuse"),
        ({"format": BENCHMARKS, "fold": 7}, "no fold 7"),
        ({"format": BENCHMARKS, "cxr_split": Path("x.csv")}, "no films to split"),
    ],
)
def test_wrong_options_are_named(icu, tmp_path, options, error):
    with pytest.raises(ConfigError, match=error):
        export_layout(icu(), out=tmp_path / "out", **options)


def test_text_ids_have_no_place_in_these_formats(icu, tmp_path):
    with pytest.raises(ConfigError, match="text ids"):
        export_layout(icu(text_ids=True), BENCHMARKS, tmp_path / "out")
