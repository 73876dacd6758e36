"""WFDB recordings: ECGs by their list, matched waveforms by the times of their headers."""

from datetime import datetime, timedelta

import pytest
from raw_mimic import Hospital, at
from raw_signals import Ecgs, waveforms

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic import recordings
from omnifuse.preprocess.mimic.beside import Folders
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.schema import InputError

SUBJECT = 10_000_032


def hospital(version: int = 4, subject: int = SUBJECT) -> Hospital:
    made = Hospital(version)
    ids = made.stay(1, subject=subject, hours=100)
    for hour in range(0, 100, 4):
        made.chart(ids, hour, 220045, "80")
    return made


def build(made: Hospital, folder, signals, name="cohort", **options) -> store.Artefact:
    raw = folder / "raw" if (folder / "raw").is_dir() else made.write(folder / "raw")
    return build_cohort(raw, folder / name, Options(**{"tasks": ("mortality",), **options}), folders=Folders(signals=signals))


def seen(cohort: store.Artefact, task: str = "mortality") -> list[dict]:
    table = cohort.table("items/sig.parquet")
    start, length = cohort.table(f"samples/{task}.parquet").select("sig_start", "sig_length").row(0)
    return table[start : start + length].rows(named=True)


def test_an_ecg_counts_as_known_a_tolerance_after_the_time_of_its_cart(tmp_path):
    ecgs = Ecgs()
    ecgs.ecg(SUBJECT, at(-1.5))
    ecgs.ecg(SUBJECT, at(-0.5))
    last = ecgs.ecg(SUBJECT, at(46.9))
    ecgs.ecg(SUBJECT, at(47.5))  # by a slow clock it is one of the time behind 48 h
    ecgs.ecg(SUBJECT, at(99.5))
    ecgs.ecg(SUBJECT + 1, at(2))
    ecgs.ecg(SUBJECT, at(3), absent=True)
    cohort = build(hospital(), tmp_path, ecgs.write(tmp_path / "ecg"))
    (item,) = seen(cohort)
    assert (item["path"], item["start_s"], item["length_s"], item["stay_id"]) == (last, 0.0, 10.0, 9001)
    told = cohort.json("audit.json")["linked"]["sig"]
    assert told["left_out"] == {"available outside of every kept stay": 2, "no header file": 1, "patient without a kept stay": 1}
    assert told["rows"] == told["linked"] + sum(told["left_out"].values()) == 7
    assert any("not synchronised" in line and " 1 h " in line for line in cohort.json("audit.json")["warnings"])
    wide = build(hospital(), tmp_path, tmp_path / "ecg", "wide", signal_tolerance_hours=0)
    assert seen(wide)[0]["time"] == at(47.5)


def test_an_ecg_that_moves_behind_the_prediction_time_changes_nothing(tmp_path):
    made = []
    for name, hours in (("one", 60), ("other", 90)):
        ecgs = Ecgs()
        ecgs.ecg(SUBJECT, at(2))
        ecgs.ecg(SUBJECT, at(hours))
        made.append(build(hospital(), tmp_path, ecgs.write(tmp_path / f"ecg-{name}"), name))
    assert made[0].table("samples/mortality.parquet").equals(made[1].table("samples/mortality.parquet"))
    assert seen(made[0]) == seen(made[1])


def test_waveforms_are_cut_into_hours_and_a_piece_is_known_at_its_end(tmp_path):
    begin = at(-2.5)
    root = waveforms(tmp_path / "waves", [(32, begin, 60.25), (44, at(0), 5)])
    cohort = build(hospital(3, subject=32), tmp_path, root)
    table = cohort.table("items/sig.parquet")
    # Hours from 0.5 h on lie in the stay whole: the third piece begins at -0.5 h. The last is a quarter of an hour.
    assert table["start_s"].to_list() == [3600.0 * number for number in range(3, 61)]
    assert table["length_s"].to_list() == [3600.0] * 57 + [900.0]
    assert table["time"][0] == begin + timedelta(hours=4)
    (item,) = seen(cohort)
    assert item["time"] == at(47.5) and item["start_s"] == 49 * 3600.0
    assert item["path"] == f"p00/p000032/p000032-{begin:%Y-%m-%d-%H-%M}"
    told = cohort.json("audit.json")["linked"]["sig"]
    assert told["left_out"] == {"available outside of every kept stay": 2, "begins before the stay": 1}
    assert told["notes"] == {"records": 2, "records: patient without a kept stay": 1}
    assert told["rows"] == 61 == told["linked"] + 3


@pytest.mark.parametrize(
    "line, expected",
    [
        ("p1/12 4 125/999.56(0) 45000 17:47:00.500 28/04/2183", (datetime(2183, 4, 28, 17, 47, 0, 500_000), 360.0)),
        ("# comment\n40689238 12 500 5000 08:44:00 23/07/2180\n", (datetime(2180, 7, 23, 8, 44), 10.0)),
        ("r 1 62.4725 62472500 0:05:00.000 01/02/2150", (datetime(2150, 2, 1, 0, 5), 1e6)),
        ("r 1 125 45000", None),
        ("r 1 125 45000 17:47:00", None),
        ("r 1 0 45000 17:47:00 28/04/2183", None),
        ("r 1 125 0 17:47:00 28/04/2183", None),
        ("r 1 x 45000 17:47:00 28/04/2183", None),
        ("r 1 125 45000 17:47:00 31/02/2183", None),
        ("", None),
        ("\x00\xff", None),
    ],
)
def test_the_record_line_of_a_header(line, expected):
    assert recordings.read_begin(line.encode("latin-1")) == expected


def test_a_header_without_a_date_is_counted(tmp_path):
    root = waveforms(tmp_path / "waves", [(32, at(0), 5), (32, at(10), 5)], listed="RECORDS")
    header = sorted(root.rglob("*.hea"))[0]
    header.write_text("p000032 3 125 45000\n")
    cohort = build(hospital(3, subject=32), tmp_path, root)
    told = cohort.json("audit.json")["linked"]["sig"]
    assert told["notes"] == {"records": 2, "records: header tells no begin or length": 1} and told["linked"] == 5


def test_a_header_that_changed_makes_another_cohort(tmp_path):
    root = waveforms(tmp_path / "waves", [(32, at(0), 5)])
    first = build(hospital(3, subject=32), tmp_path, root).fingerprint
    header = next(root.rglob("*.hea"))
    header.write_text(header.read_text().replace("layout", "LAYOUT"))
    assert build(hospital(3, subject=32), tmp_path, root).fingerprint != first


def test_a_folder_without_a_list_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no record_list.csv, RECORDS-waveforms or RECORDS"):
        build(hospital(), tmp_path, tmp_path / "empty")
    (tmp_path / "empty" / "RECORDS").write_text("p00/p000020/\n")
    with pytest.raises(InputError, match="names no record"):
        build(hospital(), tmp_path, tmp_path / "empty", "two")
    (tmp_path / "empty" / "RECORDS").write_text("../../etc/passwd\n")
    with pytest.raises(InputError, match="1 of 1 records lie in no folder of a patient"):
        build(hospital(), tmp_path, tmp_path / "empty", "three")
