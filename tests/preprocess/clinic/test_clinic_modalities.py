"""Films, notes and signals: valid for independent readers, in the published layouts, true to their tokens, repeatable to the byte."""

import csv
import gzip
import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from omnifuse.preprocess.clinic import generate as module
from omnifuse.preprocess.clinic.generate import generate, truth_path

# As published (MIMIC-CXR-JPG 2.0.0, MIMIC-IV-Note 2.2, MIMIC-IV-ECG 1.0), typed here by hand.
LAYOUT = {
    "cxr/mimic-cxr-2.0.0-metadata.csv.gz": "dicom_id,subject_id,study_id,"
    "PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,"
    "StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
    "cxr/mimic-cxr-2.0.0-split.csv.gz": "dicom_id,study_id,subject_id,split",
    "cxr/mimic-cxr-2.0.0-chexpert.csv.gz": "subject_id,study_id,Atelectasis,"
    "Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
    "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices",
    "note/radiology.csv.gz": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "note/radiology_detail.csv.gz": "note_id,subject_id,field_name,field_value,field_ordinal",
    "note/discharge.csv.gz": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "note/discharge_detail.csv.gz": "note_id,subject_id,field_name,field_value,field_ordinal",
    "ecg/record_list.csv": "subject_id,study_id,file_name,ecg_time,path",
}
TIME = "%Y-%m-%d %H:%M:%S"


def table(raw: Path, name: str) -> pl.DataFrame:
    path = next(raw.glob(f"{name}.csv*"))
    return pl.read_csv(path, infer_schema_length=None)


@pytest.fixture(scope="module")
def icu(clinic):
    return table(clinic[0], "icu/icustays").with_columns(pl.col("intime", "outtime").str.to_datetime(TIME))


def truth(clinic, name: str) -> pl.DataFrame:
    return pl.read_parquet(truth_path(clinic[0]) / f"{name}.parquet")


def test_headers_are_the_published_ones_and_every_row_is_whole(clinic):
    for name, header in LAYOUT.items():
        data = (clinic[0] / name).read_bytes()
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert rows[0] == header.split(",")
        assert {len(row) for row in rows} == {len(rows[0])}
        assert len(rows) - 1 == clinic[1]["rows"][name.partition(".csv")[0]] > 20
    found = {path.relative_to(clinic[0]).as_posix() for folder in ("cxr", "note", "ecg") for path in (clinic[0] / folder).glob("*.*")}
    assert found == set(LAYOUT)


def test_every_film_is_listed_and_a_valid_grey_jpeg(clinic):
    raw, metadata = clinic[0], table(clinic[0], "cxr/mimic-cxr-2.0.0-metadata")
    listed = {
        f"p{str(p)[:2]}/p{p}/s{s}/{d}.jpg": (h, w)
        for p, s, d, h, w in metadata.select("subject_id", "study_id", "dicom_id", "Rows", "Columns").rows()
    }
    assert set(listed) == {path.relative_to(raw / "cxr/files").as_posix() for path in raw.glob("cxr/files/**/*.jpg")}
    for name, (rows, columns) in listed.items():
        with Image.open(raw / "cxr/files" / name) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (columns, rows)) and np.asarray(image).std() > 15
    assert metadata["dicom_id"].str.contains(r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$").all() and metadata["dicom_id"].is_unique().all()
    assert set(metadata["ViewPosition"]) == {"AP", "PA", "LATERAL"}
    views = metadata.group_by("study_id").agg(pl.col("ViewPosition").sort())["ViewPosition"].to_list()
    assert {tuple(view) for view in views} == {("AP",), ("LATERAL", "PA")}


def test_every_study_has_a_report_and_its_times_are_those_of_a_stay(clinic, icu):
    raw, metadata = clinic[0], table(clinic[0], "cxr/mimic-cxr-2.0.0-metadata")
    clock = pl.col("StudyTime").cast(int).cast(str).str.zfill(6)
    metadata = metadata.with_columns(time=(pl.col("StudyDate").cast(str) + clock).str.to_datetime("%Y%m%d%H%M%S"))
    notes = table(raw, "note/radiology").with_columns(pl.col("charttime").str.to_datetime(TIME))
    same = metadata.unique("study_id").join(notes, left_on=["subject_id", "time"], right_on=["subject_id", "charttime"], how="left")
    assert same["note_id"].null_count() == 0  # the note of the same exam
    for subject, study, text in same.select("subject_id", "study_id", "text").rows():
        report = (raw / f"cxr/files/p{str(subject)[:2]}/p{subject}/s{study}.txt").read_text()
        assert "FINAL REPORT" in report and all(line.startswith(" ") for line in report.splitlines())
        assert re.search(r"\n (FINDINGS|IMPRESSION): ", report)
        assert " ".join(text.split("IMPRESSION:")[-1].split()) in " ".join(report.split())
    labels = table(raw, "cxr/mimic-cxr-2.0.0-chexpert")
    assert set(labels["study_id"]) == set(metadata["study_id"])
    assert set(labels["Pleural Effusion"].drop_nulls()) == {1.0, 0.0, -1.0}


def test_notes_are_numbered_charted_before_they_are_stored_and_belong_to_an_admission(clinic):
    raw = clinic[0]
    admissions = table(raw, "hosp/admissions").with_columns(pl.col("admittime", "dischtime").str.to_datetime(TIME))
    for name, kind in (("radiology", "RR"), ("discharge", "DS")):
        notes = table(raw, f"note/{name}").with_columns(pl.col("charttime", "storetime").str.to_datetime(TIME))
        assert notes["note_id"].is_unique().all() and (notes["note_type"] == kind).all() and notes["text"].str.len_chars().min() > 40
        expected = pl.format(f"{{}}-{kind}-{{}}", "subject_id", "note_seq")
        assert notes.select((pl.col("note_id") == expected).all()).item()
        assert notes.join(admissions, on=["subject_id", "hadm_id"], how="anti").is_empty()
        assert (notes["storetime"] >= notes["charttime"]).all()
        placed = notes.join(admissions, on="hadm_id")
        if kind == "RR":
            assert placed.select(pl.col("charttime").is_between(pl.col("admittime"), pl.col("dischtime")).all()).item()
        else:
            assert (placed["storetime"] > placed["dischtime"]).all() and notes["text"].str.contains("___").all()
            dead = notes.join(admissions.filter(pl.col("hospital_expire_flag") == 1), on="hadm_id")
            assert dead["text"].str.contains("Expired").all()
        detail = table(raw, f"note/{name}_detail")
        assert set(detail["note_id"]) == set(notes["note_id"])
    exams = table(raw, "note/radiology_detail").filter(pl.col("field_name") == "exam_name")["field_value"]
    assert {"CHEST (PORTABLE AP)", "CHEST (PA AND LAT)", "CT HEAD W/O CONTRAST"} <= set(exams)


def test_late_reports_are_as_frequent_as_designed(clinic):
    exams = truth(clinic, "exams")
    late = (exams["delay"] >= 1440).to_numpy()
    assert len(late) > 300 and abs(late.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / len(late)) + 0.02


def test_every_record_can_be_read_by_wfdb(clinic, icu):
    wfdb = pytest.importorskip("wfdb", reason="wfdb reads the records independently: pip install wfdb")
    raw, records = clinic[0], table(clinic[0], "ecg/record_list").with_columns(pl.col("ecg_time").str.to_datetime(TIME))
    assert {path.relative_to(raw / "ecg").with_suffix("").as_posix() for path in raw.glob("ecg/files/**/*.hea")} == set(records["path"])
    for subject, study, path, time in records.select("subject_id", "study_id", "path", "ecg_time").rows():
        assert path == f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        record = wfdb.rdrecord(str(raw / "ecg" / path), physical=False)
        assert record.fs == 100 and record.sig_len == 1000 and record.sig_name[:3] == ["I", "II", "III"] and record.n_sig == 12
        assert set(record.units) == {"mV"} and set(record.fmt) == {"16"} and record.base_datetime == time
        assert record.calc_checksum() == [c % 65536 for c in record.checksum] and record.d_signal[0].tolist() == record.init_value
    within = records.join(icu, on="subject_id").filter(pl.col("ecg_time").is_between("intime", "outtime"))
    assert set(within["study_id"]) == set(records["study_id"])


def test_families_share_no_sentence_and_the_third_is_the_other_sites(clinic):
    from omnifuse.preprocess.clinic import templates

    def sentences(entry) -> set:
        return {entry} if isinstance(entry, str) else set().union(*(sentences(part) for part in entry))

    pools = [
        set().union(*(sentences(pool[k]) for pool in (
            templates.EFFUSION, templates.OWN_STATED, templates.OWN_HEDGED, templates.GRADE_EASY, templates.GRADE_HARD, templates.FILLERS,
            templates.HISTORIES, templates.MARKS, templates.INDICATIONS,
        )))
        for k in range(templates.FAMILIES)
    ]  # fmt: skip
    assert not (pools[0] & pools[1] or pools[0] & pools[2] or pools[1] & pools[2])
    patients = truth(clinic, "patients")
    assert ((patients["family"] == "third") == patients["external"]).all() and 5 < patients["external"].sum() < 35
    held = pl.read_csv(truth_path(clinic[0]) / "heldout.csv")
    assert set(held.filter(pl.col("part") == "test")["patient_id"]) == set(patients.filter("external")["subject_id"])
    third = (
        table(clinic[0], "note/radiology").join(patients.filter("external"), on="subject_id").filter(pl.col("text").str.contains("CHEST"))
    )
    known = re.compile("|".join(re.escape(line[:12]) for line in templates.FILLERS[2]))
    assert third["text"].str.contains(known.pattern).mean() > 0.9


@pytest.mark.parametrize("pool", ["OWN_HEDGED"])
def test_a_hard_statement_is_told_by_the_order_of_its_words(pool):
    """The first wordings of yes and no hold the same words: only their order tells."""
    from omnifuse.preprocess.clinic import templates

    for family in getattr(templates, pool):
        for yes, no in zip(family[0], family[1]):
            words = [sorted(re.findall(r"[a-z]+", sentence.lower())) for sentence in (yes, no)]
            assert words[0] == words[1] and yes != no


def test_copied_reports_repeat_the_text_and_cut_ones_say_nothing(clinic):
    exams = truth(clinic, "exams").with_columns(row=pl.int_range(pl.len()).over("stay_id"))
    assert 10 < exams["copied"].sum() < 0.2 * len(exams) and exams["cut"].sum() > 5
    silent = exams.filter("cut")
    assert (silent["says_effusion"] == 3).all() and (silent["says_own"] == 3).all() and (silent["says_grade"] == 4).all()
    whole = exams.filter(~pl.col("cut") & ~pl.col("before")).with_columns(
        last=pl.col("says_effusion").shift().over("stay_id"), own=pl.col("says_own").shift().over("stay_id")
    )
    copies = whole.filter("copied")
    assert (copies["says_effusion"] == copies["last"]).all() and (copies["says_own"] == copies["own"]).all()


def test_the_same_call_gives_the_same_bytes_whatever_the_number_of_patients_and_modalities(tmp_path, monkeypatch):
    generate(tmp_path / "few", patients=6, seed=2)
    generate(tmp_path / "some", patients=6, seed=2, modalities=("cxr",))
    monkeypatch.setattr(module, "BLOCK", 4)
    generate(tmp_path / "many", patients=9, seed=2)
    few, many, some = (tmp_path / name for name in ("few", "many", "some"))
    files = [path.relative_to(few) for path in few.rglob("files/**/*") if path.is_file()]
    assert len(files) > 10 and all((many / name).read_bytes() == (few / name).read_bytes() for name in files)
    for name in LAYOUT:
        old, new = (((root / name).read_bytes()) for root in (few, many))
        old, new = (gzip.decompress(data) if name.endswith(".gz") else data for data in (old, new))
        assert new.startswith(old), name
    films = [name for name in files if name.parts[0] == "cxr"]
    assert films and all((some / name).read_bytes() == (few / name).read_bytes() for name in films)
    assert not (some / "note").exists() and not (some / "ecg").exists()
    tables = [path.relative_to(few) for folder in ("hosp", "icu") for path in (few / folder).iterdir()]
    assert all((some / name).read_bytes() == (few / name).read_bytes() for name in tables)


def test_an_unknown_modality_is_refused(tmp_path):
    from omnifuse.preprocess.schema import ConfigError

    with pytest.raises(ConfigError, match="no modality 'cxrs'"):
        generate(tmp_path / "raw", patients=1, modalities=("cxrs",))
    assert not list(tmp_path.iterdir())
