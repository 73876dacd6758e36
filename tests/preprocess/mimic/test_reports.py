"""Radiology reports and discharge notes: three sources, when they are known, what is kept of them, and the rule of leaks."""

import logging
from datetime import timedelta

import polars as pl
import pytest
from raw_cxr import Films
from raw_mimic import Hospital, at
from raw_notes import NoteEvents, Notes

from omnifuse.preprocess import store, text
from omnifuse.preprocess.mimic import reports, windows
from omnifuse.preprocess.mimic.beside import Folders
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.plan import plan
from omnifuse.preprocess.schema import ConfigError, InputError

SUBJECT = 10_000_032
TASKS = ("mortality", "phenotyping", "los", "los_remaining")


def hospital(version: int = 4, stays: int = 1, hours: float = 100.0) -> tuple[Hospital, list[dict]]:
    made, ids = Hospital(version), []
    for number in range(stays):
        ids.append(made.stay(1 + number, subject=SUBJECT + number, hours=hours))
        made.diagnose(ids[-1], "4019")
        for hour in range(0, int(hours), 4):
            made.chart(ids[-1], hour, 220045, "80")
    return made, ids


def build(made: Hospital, folder, name="cohort", folders: Folders = Folders(), **options) -> store.Artefact:  # noqa: B008
    raw = folder / "raw" if (folder / "raw").is_dir() else made.write(folder / "raw")
    return build_cohort(raw, folder / name, Options(**{"tasks": ("mortality",), **options}), folders=folders)


def texts(cohort: store.Artefact, task: str = "mortality", modality: str = "rep") -> dict[str, list[str]]:
    """What each sample reads."""
    table = cohort.table(f"items/{modality}.parquet")
    rows = cohort.table(f"samples/{task}.parquet").select("sample_id", f"{modality}_start", f"{modality}_length").rows()
    return {sample: table["text"][start : start + length].to_list() for sample, start, length in rows}


def counts(cohort: store.Artefact, modality: str = "rep") -> dict:
    told = cohort.json("audit.json")["linked"][modality]
    assert told["rows"] == told["linked"] + sum(told["left_out"].values())
    assert cohort.table(f"items/{modality}.parquet").height == told["items"]
    return told


def saying(words: str) -> str:
    return f"EXAMINATION: CHEST\n\nFINDINGS: \n \n{words}\n\nIMPRESSION: \n\nNormal.\n"


# --- MIMIC-IV-Note ----------------------------------------------------------------------------------------------------


def test_a_report_is_known_when_it_was_stored(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(-3), at(1), saying("taken before, told after admission"))
    notes.report(ids, at(40), at(47.9), saying("in time"))
    notes.report(ids, at(40), at(48), saying("too late"))
    notes.report(ids, at(30), at(20), saying("stored before it was taken"))
    notes.report(ids, at(-9), at(-5), saying("before the stay"))
    notes.report(ids, at(99), at(101), saying("behind the stay"))
    cohort = build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")), tasks=("mortality", "phenotyping"))
    early = ["taken before, told after admission", "stored before it was taken", "in time"]
    assert texts(cohort)["9001"] == early
    assert texts(cohort, "phenotyping")["9001"] == [*early, "too late"]
    assert counts(cohort)["left_out"] == {"available outside of every kept stay": 2}
    assert cohort.table("items/rep.parquet").columns == ["stay_id", "time", "item_id", "patient_id", "section", "text"]
    about = cohort.meta["modalities"]["rep"]
    assert (about["reads"], about["root"], about["source"], about["words"]) == ("text", None, "radiology", 150)


# The other notes of the cohort took 1, 2, ... 11 h.
@pytest.mark.parametrize("told, expected, origin", [(None, 10.0, "90th percentile"), (6.0, 6.0, "as told")])
def test_without_a_storetime_the_delay_of_the_other_notes_counts(tmp_path, told, expected, origin):
    made, (ids,) = hospital()
    notes = Notes()
    for hours in range(1, 12):
        notes.report(ids, at(1), at(1 + hours), saying("other"))
    notes.report({**ids, "subject_id": 99}, at(1), at(90), saying("of a stranger"))
    notes.report(ids, at(20), None, saying("here"))
    cohort = build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")), report_delay_hours=told)
    about = cohort.meta["modalities"]["rep"]
    assert about["delay_hours"] == expected and about["delay_from"].startswith(origin)
    row = cohort.table("items/rep.parquet").row(by_predicate=pl.col("text") == "here", named=True)
    assert row["time"] == at(20 + expected)
    assert counts(cohort)["notes"]["time: charttime and the delay"] == 1
    assert any(f"{expected:g} h after their exam" in line for line in cohort.json("audit.json")["warnings"])


@pytest.mark.parametrize("hours", [47.9, 48, 60, 100, 300])
def test_a_report_that_moves_behind_the_prediction_time_changes_nothing(tmp_path, hours):
    made, (ids,) = hospital()
    notes, without = Notes(), Notes()
    for some in (notes, without):
        some.report(ids, at(1), at(2), saying("before"))
    notes.report(ids, at(3), at(hours), saying("planted"))
    one = build(made, tmp_path, "one", Folders(notes=notes.write(tmp_path / "notes1")))
    other = build(made, tmp_path, "other", Folders(notes=without.write(tmp_path / "notes2")))
    assert (texts(one) == texts(other)) is (hours >= 48)
    assert one.table("samples/mortality.parquet").equals(other.table("samples/mortality.parquet")) is (hours >= 48)


def test_pick_last_takes_the_last_report_of_the_window(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    for hour in (1, 5, 60):
        notes.report(ids, at(hour), at(hour), saying(f"hour {hour}"))
    cohort = build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")), report_pick="last")
    assert texts(cohort)["9001"] == ["hour 5"]


EXAMS = [
    ("CHEST (PORTABLE AP)", True),
    ("CHEST (PA & LAT)", True),
    ("DX CHEST PORT LINE/TUBE PLCMT 1 EXAM", True),
    ("-77 BY DIFFERENT PHYSICIAN  P CHEST (PORTABLE AP)", True),
    ("TRAUMA #2 (AP CXR & PELVIS PORT)", True),
    ("CT CHEST W/CONTRAST", False),
    ("CTA CHEST W&W/O C&RECONS", False),
    ("CHEST U.S.", True),  # no rule for what is spelled like this: it is counted as a film
    ("CHEST US", False),
    ("CHEST FLUORO", False),
    ("CT HEAD W/O CONTRAST", False),
    ("PORTABLE ABDOMEN", False),
    (None, False),
]


@pytest.mark.parametrize("exam, film", EXAMS)
def test_a_chest_film_is_told_by_the_name_of_the_exam(exam, film):
    frame = pl.DataFrame({"exam": [exam]}, schema={"exam": pl.String})
    assert frame.select(reports.is_chest("exam")).item() is film


def test_reports_of_other_exams_are_left_out_unless_all_are_asked_for(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(1), at(2), saying("chest"))
    notes.report(ids, at(1), at(3), saying("head"), exam="CT HEAD W/O CONTRAST")
    folder = notes.write(tmp_path / "notes")
    chest = build(made, tmp_path, "chest", Folders(notes=folder))
    assert texts(chest)["9001"] == ["chest"] and counts(chest)["left_out"] == {"not a chest film": 1}
    assert texts(build(made, tmp_path, "all", Folders(notes=folder), exams="all"))["9001"] == ["chest", "head"]
    (folder / "note" / "radiology_detail.csv.gz").unlink()
    with pytest.raises(InputError, match="RADIOLOGY_DETAIL is missing"):
        build(made, tmp_path, "missing", Folders(notes=folder))
    assert texts(build(made, tmp_path, "all2", Folders(notes=folder), exams="all"))["9001"] == ["chest", "head"]


def test_sections_marks_and_words(tmp_path, caplog):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(1), at(1), saying("Line of [**2151-7-16**] at ___, 63 year old. " + "word " * 200))
    notes.report(ids, at(2), at(2), "IMPRESSION: only this")
    notes.report(ids, at(3), at(3), "COMPARISON: none\n\nA last paragraph")
    notes.report(ids, at(4), at(4), "COMPARISON: none")
    notes.report(ids, at(5), at(5), "")
    notes.report(ids, at(6), at(6), "FINDINGS: " + "x" * 10**6)
    cohort = build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")))
    first, *others = texts(cohort)["9001"]
    assert first.startswith("Line of _ at _ , _ year old . word word") and text.count_words(first) == 150
    assert others[:2] == ["only this", "A last paragraph"] and len(others[2]) <= text.MAX_CHARACTERS
    told = counts(cohort)
    assert told["left_out"] == {"no text left": 2}
    expected = {"section: findings": 2, "section: impression": 1, "section: last_paragraph": 1, "section: empty": 2}
    assert expected.items() <= told["notes"].items()
    assert told["notes"]["texts longer than 150 words"] == 1
    assert told["notes"][text.CUT] == 1 and told["notes"][text.MARKS] == 2 and told["notes"][text.AGES] == 1
    assert cohort.table("items/rep.parquet")["section"].to_list() == ["findings", "impression", "last_paragraph", "findings"]
    whole = build(made, tmp_path, "whole", Folders(notes=tmp_path / "notes"), words=None, sections="full")
    assert text.count_words(texts(whole)["9001"][0]) > 200
    assert not any("word word" in record.getMessage() for record in caplog.records if record.levelno >= logging.DEBUG)


def test_a_quoted_text_of_many_lines_is_one_note_and_a_broken_table_names_no_value(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(1), at(1), saying('He said "fine",\n\n and, "again", left.'))
    folder = notes.write(tmp_path / "notes")
    cohort = build(made, tmp_path, folders=Folders(notes=folder))
    assert texts(cohort)["9001"] == ['He said "fine", and, "again", left.']
    notes.radiology[0]["charttime"] = "SECRET"
    notes.write(folder)
    with pytest.raises(InputError) as caught:
        build(made, tmp_path, "broken", Folders(notes=folder))
    assert "radiology.csv.gz:2:charttime" in str(caught.value) and "SECRET" not in str(caught.value)


def test_notes_of_another_admission_or_patient_are_left_out(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(1), at(2), saying("mine"))
    notes.report({**ids, "hadm_id": 5}, at(1), at(2), saying("of another admission"))
    notes.report({**ids, "hadm_id": ""}, at(1), at(3), saying("without an admission"))
    notes.report({"subject_id": 7, "hadm_id": ids["hadm_id"]}, at(1), at(2), saying("of another patient"))
    cohort = build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")))
    assert texts(cohort)["9001"] == ["mine", "without an admission"]
    assert counts(cohort)["left_out"] == {"of another admission": 1, "patient without a kept stay": 1}


def test_the_order_of_the_notes_changes_nothing(tmp_path):
    made, ids = hospital(stays=4)
    notes = Notes()
    for number in range(40):
        notes.report(ids[number % 4], at(number % 7), at(number % 7), saying(f"note {number}"))
    one = build(made, tmp_path, "one", Folders(notes=notes.write(tmp_path / "notes1")))
    notes.radiology.reverse()
    other = build(made, tmp_path, "other", Folders(notes=notes.write(tmp_path / "notes2")))
    for name in ("items/rep.parquet", "samples/mortality.parquet"):
        assert one.table(name).equals(other.table(name))
    assert one.fingerprint != other.fingerprint


# --- MIMIC-III --------------------------------------------------------------------------------------------------------


def test_noteevents(tmp_path):
    made, (ids,) = hospital(version=3)
    events = NoteEvents()
    chest = {"DESCRIPTION": "CHEST (PORTABLE AP)"}
    told = "[**2150-1-1**] 10:04 AM\n CHEST (PORTABLE AP)\n____________________\n FINAL REPORT\n FINDINGS: {}\n IMPRESSION: Normal.\n"
    events.note(ids, "Radiology", told.format("in time"), time=at(10), **chest)
    events.note(ids, "Radiology  ", told.format("an error"), time=at(11), ISERROR="1", **chest)
    events.note(ids, "Radiology", told.format("too late by the delay"), time=at(37), **chest)
    events.note(ids, "Radiology", told.format("by its date"), date=at(0), **chest)
    events.note(ids, "Radiology", told.format("a head"), time=at(12), DESCRIPTION="CT HEAD W/O CONTRAST")
    events.note(ids, "Nursing", "NURSING", time=at(12), DESCRIPTION="Report")
    events.note(ids, "Discharge summary", "Expired.", date=at(110), DESCRIPTION="Report")
    folder = events.write(tmp_path / "notes")
    cohort = build(made, tmp_path, folders=Folders(notes=folder))
    # The delay is 12 h: no note has a storetime. The dated one is known from the next midnight on, 16 h after intime.
    assert texts(cohort)["9001"] == ["by its date", "in time"]
    assert cohort.table("items/rep.parquet")["time"].to_list() == [at(16), at(22), at(49)]
    told = counts(cohort)
    assert told["left_out"] == {"ISERROR is 1": 1, "not a chest film": 1, "of another category": 2}
    assert told["notes"]["time: end of CHARTDATE"] == 1
    assert cohort.meta["modalities"]["rep"]["delay_hours"] == 12.0
    assert "dn" not in cohort.meta["modalities"]
    assert any(line.startswith("discharge notes are left out") for line in cohort.json("audit.json")["warnings"])
    leaking = build(made, tmp_path, "leaking", Folders(notes=folder), allow_leak=True)
    assert texts(leaking, modality="dn")["9001"] == ["Expired."]
    assert counts(leaking, "dn")["left_out"] == {"of another category": 6}


# --- MIMIC-CXR's tree -------------------------------------------------------------------------------------------------


def tree(hours=(2, 40)) -> Films:
    films = Films()
    for number, hour in enumerate(hours):
        films.film(SUBJECT, at(hour), study=50_000_000 + number)
        films.film(SUBJECT, at(hour) + timedelta(minutes=3), study=50_000_000 + number, view="LATERAL")
        films.report(50_000_000 + number, findings=f"hour {hour}")
    return films


@pytest.mark.parametrize("apart", [False, True])
def test_the_tree_is_dated_by_its_studies_and_the_delay(tmp_path, apart):
    made, _ = hospital()
    films = tree()
    cxr = films.write(tmp_path / "cxr")
    folders = Folders(cxr=cxr)
    if apart:  # as downloaded: mimic-cxr-reports.zip elsewhere
        for path in cxr.rglob("*.txt"):
            path.unlink()
        folders = Folders(cxr=cxr, notes=films.write_reports(tmp_path / "notes" / "mimic-cxr-reports").parent)
    cohort = build(made, tmp_path, folders=folders, tasks=("mortality", "phenotyping"))
    assert texts(cohort)["9001"] == ["hour 2"]  # that of hour 40 is known at hour 52
    assert texts(cohort, "phenotyping")["9001"] == ["hour 2", "hour 40"]
    about = cohort.meta["modalities"]["rep"]
    assert (about["source"], about["delay_hours"], about["delay_from"]) == ("tree", 12.0, "no note has both times")
    assert texts(build(made, tmp_path, "soon", folders, report_delay_hours=3))["9001"] == ["hour 2", "hour 40"]


def test_the_table_of_notes_counts_before_the_tree(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(3), at(8), saying("of the table"))
    folders = Folders(cxr=tree().write(tmp_path / "cxr"), notes=notes.write(tmp_path / "notes"))
    assert texts(build(made, tmp_path, "table", folders))["9001"] == ["of the table"]
    by_tree = build(made, tmp_path, "tree", folders, report_source="tree")
    assert texts(by_tree)["9001"] == ["hour 2", "hour 40"]  # the table says that a report takes 5 h
    assert by_tree.meta["modalities"]["rep"]["delay_hours"] == 5.0


def test_report_files_that_cannot_be_read_are_counted(tmp_path):
    made, _ = hospital()
    films = tree((1, 2, 3, 4))
    films.report(50_000_001, text="右肺结节".encode("gbk"))
    films.report(50_000_002, text=b"")
    films.reports.pop((SUBJECT, 50_000_003))
    cohort = build(made, tmp_path, folders=Folders(cxr=films.write(tmp_path / "cxr")))
    assert texts(cohort)["9001"] == ["hour 1"]
    assert counts(cohort)["left_out"] == {"no report file": 1, "no text left": 1, "report is not in the declared encoding": 1}


def test_a_huge_report_file_is_cut_or_refused(tmp_path):
    made, _ = hospital()
    films = tree((1, 2))
    films.report(50_000_000, text=" FINDINGS: " + "word " * 200_000)
    films.report(50_000_001, text=" FINDINGS: " + "word " * 10**6)
    cohort = build(made, tmp_path, folders=Folders(cxr=films.write(tmp_path / "cxr")), words=None)
    assert [len(told) <= text.MAX_CHARACTERS for told in texts(cohort)["9001"]] == [True]
    told = counts(cohort)
    assert told["left_out"] == {"report is larger than a report can be": 1} and told["notes"][text.CUT] == 1


def test_a_note_that_stands_twice_is_refused_without_being_named(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    note = notes.report(ids, at(1), at(1), saying("once"))
    notes.radiology.append({**notes.radiology[0], "text": saying("SECRET")})
    with pytest.raises(InputError, match="1 notes repeat the id") as caught:
        build(made, tmp_path, folders=Folders(notes=notes.write(tmp_path / "notes")))
    assert note not in str(caught.value) and "SECRET" not in str(caught.value)


def test_rows_that_cannot_be_read_are_skipped_up_to_the_limit_and_counted(tmp_path):
    made, (ids,) = hospital()
    notes = Notes()
    notes.report(ids, at(1), at(1), saying("sound"))
    notes.report({**ids, "subject_id": "x"}, at(1), at(1))
    folders = Folders(notes=notes.write(tmp_path / "notes"))
    with pytest.raises(InputError, match="radiology.csv.gz:3:subject_id: is no whole number"):
        build(made, tmp_path, folders=folders, report_delay_hours=1, exams="all")
    cohort = build(made, tmp_path, folders=folders, report_delay_hours=1, exams="all", on_bad_row="skip", max_bad=1)
    assert texts(cohort)["9001"] == ["sound"]
    assert counts(cohort)["notes"]["rows that cannot be read, skipped"] == 1


def test_a_link_out_of_the_tree_is_not_followed(tmp_path):
    made, _ = hospital()
    cxr = tree().write(tmp_path / "cxr")
    path = cxr / "files" / "p10" / f"p{SUBJECT}" / "s50000001.txt"
    secret = tmp_path / "secret.txt"
    secret.write_text(" FINDINGS: secret")
    path.unlink()
    path.symlink_to(secret)
    cohort = build(made, tmp_path, folders=Folders(cxr=cxr), tasks=("phenotyping",))
    assert texts(cohort, "phenotyping")["9001"] == ["hour 2"]
    assert counts(cohort)["left_out"] == {"report the path leaves the data folder through a link": 1}


def test_another_content_of_a_report_makes_another_cohort(tmp_path):
    made, _ = hospital()
    cxr = tree().write(tmp_path / "cxr")
    first = build(made, tmp_path, folders=Folders(cxr=cxr)).fingerprint
    path = cxr / "files" / "p10" / f"p{SUBJECT}" / "s50000000.txt"
    path.write_text(path.read_text().replace("hour 2", "hour 7"))  # as long as before
    assert build(made, tmp_path, folders=Folders(cxr=cxr)).fingerprint != first


def test_films_without_reports_link_films_alone(tmp_path):
    made, _ = hospital()
    films = tree()
    films.reports.clear()
    folders = Folders(cxr=films.write(tmp_path / "cxr"))
    assert build(made, tmp_path, folders=folders).meta["modalities"].keys() == {"ehr", "cxr"}
    for told in ({"folders": Folders(notes=tmp_path)}, {"folders": folders, "modalities": ("rep",)}):
        with pytest.raises(InputError, match="holds no radiology reports"):
            build(made, tmp_path, "none", **told)


# --- discharge notes and leaks ----------------------------------------------------------------------------------------


def noted(tmp_path) -> tuple[Hospital, Folders]:
    made, ids = hospital(stays=2)
    notes = Notes()
    notes.report(ids[0], at(1), at(2))
    notes.summary(ids[0], at(120), "Discharge Diagnosis: ___\n\nessential hypertension " + "word " * 300)
    notes.summary({**ids[1], "hadm_id": 5}, at(120), "of another admission")
    return made, Folders(notes=notes.write(tmp_path / "notes"))


def test_discharge_notes_are_left_out_with_the_reason(tmp_path):
    made, folders = noted(tmp_path)
    cohort = build(made, tmp_path, folders=folders, tasks=TASKS)
    assert cohort.meta["modalities"].keys() == {"ehr", "rep"} and not cohort.has("items/dn.parquet")
    assert all("dn_start" not in cohort.table(f"samples/{task}.parquet").columns for task in TASKS)
    assert all("leaks" not in told for told in cohort.meta["tasks"].values())
    told = [line for line in cohort.json("audit.json")["warnings"] if "discharge notes are left out" in line]
    assert len(told) == 1 and windows.LEAKS["mortality"]["dn"] in told[0]
    assert told[0] in plan(tmp_path / "raw", Options(), folders)["warnings"]


@pytest.mark.parametrize("task", TASKS)
def test_discharge_notes_asked_for_by_name_are_refused_with_the_reason(task):
    with pytest.raises(ConfigError, match=windows.LEAKS[task]["dn"]):
        Options(tasks=(task,), modalities=("rep", "dn"))
    assert Options(tasks=(task,), modalities=("dn",), allow_leak=True).allow_leak


def test_a_folder_of_nothing_but_discharge_notes_is_refused_with_the_reason(tmp_path):
    made, folders = noted(tmp_path)
    for name in ("radiology", "radiology_detail"):
        (folders.notes / "note" / f"{name}.csv.gz").unlink()
    with pytest.raises(InputError, match="holds no radiology reports.*tells whether the patient died"):
        build(made, tmp_path, folders=folders)
    assert build(made, tmp_path, folders=folders, allow_leak=True).meta["modalities"].keys() == {"ehr", "dn"}


def test_a_table_without_a_row_is_told(tmp_path):
    """As NOTEEVENTS of the public demo of MIMIC-III is."""
    made, _ = hospital(version=3)
    folder = NoteEvents().write(tmp_path / "notes")
    with pytest.raises(InputError, match="there are no reports to link: their table has no row"):
        build(made, tmp_path, folders=Folders(notes=folder))


def test_with_allow_leak_every_task_carries_the_mark(tmp_path):
    made, folders = noted(tmp_path)
    cohort = build(made, tmp_path, folders=folders, tasks=TASKS, allow_leak=True)
    for task in TASKS:
        assert cohort.meta["tasks"][task]["leaks"] == {"dn": windows.LEAKS[task]["dn"]}
    (note,) = texts(cohort, "phenotyping", "dn")["9001"]
    assert note.startswith("Discharge Diagnosis: _ essential hypertension") and text.count_words(note) > 300
    assert texts(cohort, "phenotyping", "dn")["9002"] == []
    assert texts(cohort, "los_remaining", "dn")["9001_0010"] == [note]
    assert counts(cohort, "dn")["left_out"] == {"of no kept stay's admission": 1}


def test_every_task_of_a_stay_leaks_through_the_discharge_note():
    assert {seen.task for seen in windows.table() if seen.leaks} == set(TASKS)
    assert windows.leaks("phenotyping", ("cxr", "rep")) == {} and windows.leaks("radiology", ("dn",)) == {}


def test_wrong_options_are_refused():
    for wrong in (
        {"words": 0},
        {"words": "many"},
        {"report_delay_hours": -1},
        {"pairing": "pa"},
        {"sections": "x"},
        {"modalities": ("ct",)},
    ):
        with pytest.raises(ConfigError):
            Options(**wrong)
