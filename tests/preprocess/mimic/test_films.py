"""MIMIC-CXR's films: linked to stays, and as samples of the task radiology."""

import json
from datetime import timedelta

import polars as pl
import pytest
from raw_cxr import LABELS, Films, table
from raw_mimic import Hospital, at

from omnifuse.preprocess import items, store
from omnifuse.preprocess.mimic.beside import Folders
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.films import CHEXPERT, study_time
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.plan import plan
from omnifuse.preprocess.schema import ConfigError, InputError

SUBJECT = 10_000_032


def hospital(stays: int = 1, hours: float = 100.0) -> tuple[Hospital, list[dict]]:
    """One stay a patient of MIMIC-IV, with a pulse every four hours."""
    made, ids = Hospital(4), []
    for number in range(stays):
        ids.append(made.stay(1 + number, subject=SUBJECT + number, hours=hours, died=number % 3 == 0))
        made.diagnose(ids[-1], "4019")
        for hour in range(0, int(hours), 4):
            made.chart(ids[-1], hour, 220045, "80")
    return made, ids


def build(made: Hospital, films: Films, folder, name="cohort", suffix=".jpg", **options) -> store.Artefact:
    raw = folder / "raw" if (folder / "raw").is_dir() else made.write(folder / "raw")
    told = {"tasks": ("mortality",), **options}
    return build_cohort(raw, folder / name, Options(**told), folders=Folders(cxr=films.write(folder / f"{name}-cxr", suffix)))


def seen(cohort: store.Artefact, task: str = "mortality", modality: str = "cxr") -> dict[str, list]:
    """The ids (of films) that each sample sees."""
    table = cohort.table(f"items/{modality}.parquet")
    rows = cohort.table(f"samples/{task}.parquet").select("sample_id", f"{modality}_start", f"{modality}_length").rows()
    return {sample: table["dicom_id"][start : start + length].to_list() for sample, start, length in rows}


@pytest.mark.parametrize(
    "date, clock, expected",
    [
        ("21800506", "213014.531", "2180-05-06 21:30:14"),
        ("21800506", "93014.5", "2180-05-06 09:30:14"),
        ("21800506", "3014.0", "2180-05-06 00:30:14"),
        ("21800506", "0", "2180-05-06 00:00:00"),
        ("21800506.0", "120000", "2180-05-06 12:00:00"),
        ("", "120000", None),
        ("21800506", None, None),
        ("21801306", "120000", None),
        ("21800506", "250000", None),
    ],
)
def test_study_times_lost_their_leading_zeros(date, clock, expected):
    frame = pl.DataFrame({"studydate": [date], "studytime": [clock]}, schema={"studydate": pl.String, "studytime": pl.String})
    told = frame.select(study_time())[0, 0]
    assert (None if told is None else str(told)) == expected


def test_a_sample_sees_the_last_ap_film_of_its_window(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(-1))  # before the stay
    films.film(SUBJECT, at(2))
    last = films.film(SUBJECT, at(47.9))
    films.film(SUBJECT, at(47.95), view="PA")
    films.film(SUBJECT, at(47.95), view="")
    late = films.film(SUBJECT, at(48))
    films.film(SUBJECT, at(101))  # after it
    cohort = build(made, films, tmp_path, tasks=("mortality", "phenotyping", "los", "los_remaining"))
    assert seen(cohort) == {"9001": [last]}
    assert seen(cohort, "phenotyping") == {"9001": [late]}
    assert seen(cohort, "los") == {"9001": [films.films[1]["dicom_id"]]}
    hourly = seen(cohort, "los_remaining")
    assert (hourly["9001_0048"], hourly["9001_0049"]) == ([last], [late])
    told = json.loads((tmp_path / "cohort" / "audit.json").read_text())["linked"]["cxr"]
    assert told["left_out"] == {"available outside of every kept stay": 2, "view is not AP": 2}
    assert (told["rows"], told["linked"], told["items"]) == (7, 3, 3)
    about = cohort.meta["modalities"]["cxr"]
    assert about["pairing"] == "medfuse" and about["views"] == ["AP"] and about["pick"] == "last"
    assert about["root"] == str((tmp_path / "cohort-cxr").resolve()) and len(about["files"]) == 64


def test_the_items_are_films_below_the_root(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2), study=50_000_001, labels={"Edema": 1.0, "Pneumonia": -1.0, "No Finding": 0.0})
    cohort = build(made, films, tmp_path)
    opened = cohort.table("items/cxr.parquet")
    row = opened.row(0, named=True)
    assert row["path"] == f"files/p10/p{SUBJECT}/s50000001/{row['dicom_id']}.jpg"
    assert (tmp_path / "cohort-cxr" / row["path"]).is_file()
    assert (row["patient_id"], row["stay_id"], row["study_id"], row["view"], row["split"]) == (SUBJECT, 9001, 50_000_001, "AP", "train")
    known = {name: value for name, value in zip(CHEXPERT, row["chexpert"]) if value is not None}
    assert known == {"Edema": 1.0, "Pneumonia": -1.0, "No Finding": 0.0}
    assert items.open_items(cohort, "cxr").reads == "image"


@pytest.mark.parametrize("pairing, views", [("medfuse", {"AP"}), ("frontal", {"AP", "PA"}), ("any-view", {"AP", "PA", "LATERAL", None})])
def test_the_pairing_says_which_views_count(tmp_path, pairing, views):
    made, _ = hospital()
    films = Films()
    for hour, view in enumerate(("AP", "PA", "LATERAL", "")):
        films.film(SUBJECT, at(hour), view=view)
    cohort = build(made, films, tmp_path, pairing=pairing)
    assert set(cohort.table("items/cxr.parquet")["view"]) == views


@pytest.mark.parametrize("hours", [47.9, 48, 72, 99.9, 100, 103])
def test_a_film_that_moves_behind_the_prediction_time_changes_nothing(tmp_path, hours):
    """The same samples and items as without it, up to 48 h exactly."""
    made, _ = hospital()
    films, without = Films(), Films()
    for made_films in (films, without):
        made_films.film(SUBJECT, at(3))
    films.film(SUBJECT, at(hours))
    one, other = build(made, films, tmp_path, "one"), build(made, without, tmp_path, "other")
    assert (seen(one) == seen(other)) is (hours >= 48)
    same = one.table("samples/mortality.parquet").equals(other.table("samples/mortality.parquet"))
    assert same is (hours >= 48)


def test_medfuse_closes_the_window(tmp_path):
    made, _ = hospital()
    made.tables["icustays"][0]["los"] = "4.1667"  # rounded: 100.0008 h
    films = Films()
    at_48, at_end = films.film(SUBJECT, at(48)), films.film(SUBJECT, at(100))
    films.film(SUBJECT, at(100) + timedelta(seconds=1))
    closed = build(made, films, tmp_path, "closed", compat="medfuse", tasks=("mortality", "los"))
    assert seen(closed) == {"9001": [at_48]}
    assert closed.table("items/cxr.parquet")["dicom_id"].to_list() == [at_48, at_end]
    assert build(made, films, tmp_path, "open").table("items/cxr.parquet")["dicom_id"].to_list() == [at_48]


def test_a_dicom_tree_with_the_same_tables_is_read(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2))
    assert build(made, films, tmp_path, suffix=".dcm").table("items/cxr.parquet")["path"][0].endswith(".dcm")


def test_films_that_are_not_there_are_counted_and_the_last_that_is_counts(tmp_path):
    made, _ = hospital()
    films = Films()
    there = films.film(SUBJECT, at(2))
    films.film(SUBJECT, at(3), content=None)
    films.film(SUBJECT, at(4), content=b"")
    films.film(SUBJECT, at(5), dicom_id="../../../../etc/passwd", content=None)
    films.film(SUBJECT, None)
    films.film(SUBJECT + 500, at(2))
    cohort = build(made, films, tmp_path)
    assert seen(cohort) == {"9001": [there]}
    told = cohort.json("audit.json")["linked"]["cxr"]
    assert told["left_out"] == {
        "dicom_id is no file name": 1,
        "file is empty": 1,
        "no file": 1,
        "no time": 1,
        "patient without a kept stay": 1,
    }
    assert told["rows"] == told["linked"] + sum(told["left_out"].values())


def test_without_folders_the_cohort_is_as_before(tmp_path):
    """Linking adds columns and files, and changes nothing else."""
    made, _ = hospital(3)
    films = Films()
    films.film(SUBJECT, at(2))
    linked = build(made, films, tmp_path)
    plain = build_cohort(tmp_path / "raw", tmp_path / "plain", Options(tasks=("mortality",)))
    assert set(linked.files) - set(plain.files) == {"items/cxr.parquet"}
    changed = {name for name in plain.files if plain.files[name]["sha256"] != linked.files[name]["sha256"]}
    assert changed == {"samples/mortality.parquet", "audit.json"}
    assert linked.table("samples/mortality.parquet").drop("cxr_start", "cxr_length").equals(plain.table("samples/mortality.parquet"))
    audit = linked.json("audit.json")
    audit.pop("linked")
    assert audit == plain.json("audit.json")
    assert plain.meta["modalities"].keys() == {"ehr"}


def test_a_cohort_is_current_until_a_film_or_a_table_changes(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2), study=5)
    first = build(made, films, tmp_path)
    assert build(made, films, tmp_path).fingerprint == first.fingerprint
    films.bytes[films.films[0]["dicom_id"]] = b"\xff\xd8 a longer film"
    longer = build(made, films, tmp_path).fingerprint
    assert longer != first.fingerprint
    films.labels[5] = {"Edema": 1.0}
    assert build(made, films, tmp_path).fingerprint != longer


def test_a_moved_folder_is_the_same_cohort_at_another_place(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2))
    first = build(made, films, tmp_path)
    (tmp_path / "cohort-cxr").rename(tmp_path / "moved")
    again = build_cohort(tmp_path / "raw", tmp_path / "cohort", Options(tasks=("mortality",)), folders=Folders(cxr=tmp_path / "moved"))
    assert again.fingerprint == first.fingerprint
    assert again.meta["modalities"]["cxr"]["root"] == str(tmp_path / "moved")


# --- the task radiology -----------------------------------------------------------------------------------------------


def _radiology(tmp_path, **options) -> store.Artefact:
    """20 patients of the cohort with two labelled films each, one of them outside of the stay, and 6 patients of no stay."""
    made, ids = hospital(20)
    films = Films()
    for told in ids:
        films.film(told["subject_id"], at(2), labels={"Edema": 1.0, "Pneumonia": -1.0, "No Finding": 0.0})
        films.film(told["subject_id"], at(500), view="LATERAL", labels={"Edema": 0.0})
    for number in range(6):
        films.film(19_000_000 + number, at(2), labels={"Fracture": 1.0})
    films.film(SUBJECT, at(3))  # no row in CheXpert's table
    films.film(SUBJECT, at(4), labels={"Edema": 1.0}, content=None)
    return build(made, films, tmp_path, tasks=("mortality", "radiology"), **options)


def test_samples_of_radiology_are_films_with_chexperts_labels(tmp_path):
    cohort = _radiology(tmp_path)
    samples, table = cohort.table("samples/radiology.parquet"), cohort.table("items/cxr.parquet")
    assert samples.height == cohort.meta["tasks"]["radiology"]["samples"] == 46
    assert tuple(cohort.meta["tasks"]["radiology"]["labels"]) == LABELS == CHEXPERT
    for sample, start, length in samples.select("sample_id", "cxr_start", "cxr_length").iter_rows():
        assert table["dicom_id"][start : start + length].to_list() == [sample]
    assert not [name for name in samples.columns if name.startswith("ehr_")]  # a film has no series
    assert table["stay_id"].is_null().to_list() == [False] * 21 + [True] * 26  # the stays' come first
    counts = cohort.json("audit.json")["linked"]["cxr"]["radiology"]
    assert counts == {"films": 47, "without CheXpert labels": 1, "samples": 46, "patients who train only": 6}
    positive = {told["label"]: told["positive"] for told in cohort.json("audit.json")["labels"] if told["task"] == "radiology"}
    assert positive["Edema"] == 20 and positive["Fracture"] == 6 and positive["Pneumonia"] == 0


@pytest.mark.parametrize("uncertain, pneumonia", [("zero", 0.0), ("ignore", None)])
def test_what_is_not_mentioned_is_zero_and_what_is_uncertain_as_told(tmp_path, uncertain, pneumonia):
    cohort = _radiology(tmp_path, uncertain=uncertain)
    first = cohort.table("items/cxr.parquet")["dicom_id"][0]
    y = cohort.table("samples/radiology.parquet").row(by_predicate=pl.col("sample_id") == first, named=True)["y"]
    told = dict(zip(CHEXPERT, y))
    assert told.pop("Edema") == 1.0 and told.pop("Pneumonia") == pneumonia
    assert set(told.values()) == {0.0}


def test_nobody_outside_the_training_part_has_a_film_that_an_encoder_is_tuned_on(tmp_path):
    cohort = _radiology(tmp_path)
    plain = build_cohort(tmp_path / "raw", tmp_path / "plain", Options(tasks=("mortality",)))
    parts, before = cohort.table("parts.parquet"), plain.table("parts.parquet")
    films, stays = cohort.table("samples/radiology.parquet"), cohort.table("stays.parquet")
    outside = set(films["patient_id"]) - set(stays["patient_id"])
    assert len(outside) == 6 == cohort.meta["splits"]["outside"]["patients"]
    assert before.join(parts, on=["fold", "patient_id", "part"], how="anti").is_empty()  # patients of the cohort keep their parts
    for fold in cohort.meta["splits"]["folds"]:
        part = dict(parts.filter(fold=fold).select("patient_id", "part").iter_rows())
        tuned = {patient for patient in films["patient_id"] if part[patient] == "train"}
        held = {patient for patient in stays["patient_id"] if part[patient] != "train"}
        assert outside <= tuned
        assert held and not tuned & held
        assert held < set(films["patient_id"])  # they do have films: only not for tuning
    assert parts.select("fold", "patient_id").is_unique().all()


def test_films_of_strangers_alone_are_enough_to_tune_on(tmp_path):
    """No film of the list falls into a stay: the samples of the stays have none, and the task radiology has them all."""
    made, _ = hospital(3)
    films = Films()
    films.film(19_000_000, at(2), labels={"Fracture": 1.0})
    cohort = build(made, films, tmp_path, tasks=("mortality", "radiology"))
    assert cohort.table("samples/mortality.parquet")["cxr_length"].to_list() == [0, 0, 0]
    assert cohort.table("samples/radiology.parquet").select("cxr_start", "cxr_length", "stay_id").rows() == [(0, 1, None)]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    made, _ = hospital()
    raw = made.write(tmp_path / "raw")
    films = Films()
    films.film(SUBJECT, at(2))
    cxr = films.write(tmp_path / "cxr")

    def refused(kind, text, folders=Folders(cxr=cxr), **options):  # noqa: B008
        with pytest.raises(kind, match=text):
            build_cohort(raw, tmp_path / "out", Options(**{"tasks": ("mortality",), **options}), folders=folders)

    refused(ConfigError, "radiology needs --cxr", Folders(), tasks=("radiology",))
    refused(ConfigError, "modality cxr needs --cxr", Folders(), modalities=("cxr",))
    refused(InputError, "is no folder", Folders(cxr=tmp_path / "nothing"))
    refused(InputError, "holds no mimic-cxr-2.0.0-metadata", Folders(cxr=raw))
    (cxr / "mimic-cxr-2.1.0-metadata.csv").write_text("x")
    refused(InputError, "holds the table metadata twice")
    (cxr / "mimic-cxr-2.1.0-metadata.csv").unlink()
    (cxr / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    refused(InputError, "chexpert.csv.gz; the task radiology needs it", tasks=("radiology",))
    assert not (tmp_path / "out").exists()


def test_mimic_iii_has_no_films(tmp_path):
    iii = Hospital(3)
    iii.chart(iii.stay(), 1, 211, "80")
    films = Films()
    films.film(1, at(2))
    with pytest.raises(ConfigError, match="ids mean other people"):
        build(iii, films, tmp_path)


def test_a_folder_of_other_peoples_films_is_an_error(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(99, at(2))
    with pytest.raises(InputError, match=r"nothing of modality cxr belongs to a kept stay \(patient without a kept stay: 1\)"):
        build(made, films, tmp_path)


@pytest.mark.parametrize("column", ["dicom_id", "study_id"])
def test_an_id_that_stands_twice_is_refused_without_being_named(tmp_path, column):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2), study=5, labels={})
    films.film(SUBJECT, at(3), study=5, labels={})
    cxr = films.write(tmp_path / "cxr")
    if column == "dicom_id":
        films.films[1]["dicom_id"] = films.films[0]["dicom_id"]
        films.bytes = {films.films[0]["dicom_id"]: b"x"}
        films.write(cxr)
    else:
        table(cxr / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *LABELS], [{"subject_id": SUBJECT, "study_id": 5}] * 2)
    with pytest.raises(InputError, match=f"1 rows repeat a {column}"):
        build_cohort(made.write(tmp_path / "raw"), tmp_path / "out", Options(tasks=("mortality",)), folders=Folders(cxr=cxr))


def test_the_plan_names_the_tables(tmp_path):
    made, _ = hospital()
    films = Films()
    films.film(SUBJECT, at(2))
    told = plan(made.write(tmp_path / "raw"), Options(), Folders(cxr=films.write(tmp_path / "cxr")))
    named = {row["name"]: row["rows"] for row in told["tables"]}
    assert named["cxr/mimic-cxr-2.0.0-metadata.csv.gz"] == 1
    assert told["output_bytes"] > plan(tmp_path / "raw", Options())["output_bytes"]
