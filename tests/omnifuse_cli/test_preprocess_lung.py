"""omnifuse preprocess lung through the real command: what it prints, exit codes, one line for an error, nothing half-written."""

import json

import dicoms
import pytest
from command_line import run


@pytest.fixture
def data(tmp_path):
    dicoms.write_series(tmp_path / "ct", series="ct")
    dicoms.write_series(tmp_path / "pet", modality="PT", series="pet")
    lines = ["patient_id,subtype,ct_series,pet_series,report,report_date,pathology_date,lesion_xyz_mm"]
    lines += [f"CANARY{k},{('AIS', 'MIA', 'IA3')[k % 3]},ct,pet,所见：结节{k},2020-01-01,2020-02-01,0 0 15" for k in range(21)]
    (tmp_path / "m.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_the_whole_command(data, capsys):
    options = ["--slices", 2, "--size", 16, "--sections", "findings,impression"]
    code, out, err = run(capsys, "preprocess", "lung", "--manifest", data / "m.csv", "--out", data / "c", *options)
    assert code == 0
    for told in ("21", "ct", "what gives the label away", "scanner", "L3"):
        assert told in out
    assert "CANARY" not in out + err
    code, out, _ = run(capsys, "preprocess", "lung", "--manifest", data / "m.csv", "--out", data / "c", "--json", *options)
    told = json.loads(out)
    assert told["meta"]["modalities"]["ct"]["decode"]["slices"] == 2
    assert told["meta"]["modalities"]["rep"]["sections"] == ["findings", "impression"]
    assert told["audit"]["present"] == {"ct": 21, "pet": 21, "rep": 21}


def test_a_dry_run_writes_nothing(data, capsys):
    code, out, _ = run(capsys, "preprocess", "lung", "--manifest", data / "m.csv", "--out", data / "c", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["lesions"] == 21 and not (data / "c").exists()


def test_a_tcia_download_through_the_command(tmp_path, capsys):
    dicoms.write_series(tmp_path / "Lung_Dx-A0001" / "ct", series="ct")
    dicoms.write_boxes(tmp_path / "Annotation" / "A0001", {dicoms.make_uid("ct:5"): [(4, 4, 20, 20)]})
    told = "Subject ID,Study UID,Modality,Number of Images,File Location\nLung_Dx-A0001,s,CT,12,./Lung_Dx-A0001/ct\n"
    (tmp_path / "metadata.csv").write_text(told)
    arguments = ["preprocess", "lung", "--tcia", tmp_path, "--classes", "histology", "--out", tmp_path / "c", "--json"]
    code, out, _ = run(capsys, *arguments, "--dry-run")
    assert code == 0 and json.loads(out)["lesions"] == 1 and not (tmp_path / "manifest.csv").exists()
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and json.loads(out)["audit"]["input"] == {"crop": 1, "field": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([], 2, "--manifest"),
        (["--manifest", "m.csv", "--tcia", "."], 2, "--manifest"),
        (["--manifest", "nothing.csv"], 3, "nothing.csv"),
        (["--manifest", "m.csv", "--sections", "findngs"], 2, "findings"),
        (["--manifest", "m.csv", "--windows", "lungs"], 2, "lung"),
        (["--manifest", "m.csv", "--classes", "histology"], 2, "--classes 3 or 6"),
        (["--manifest", "m.csv", "--encoding", "klingon"], 2, "encoding"),
        (["--manifest", "m.csv", "--set", "preprocess.slicess=3"], 2, "slices"),
        (["--manifest", "m.csv", "--root", "ct"], 3, "m.csv:2:ct_series"),
    ],
)
def test_errors_are_one_line_with_their_code(data, capsys, monkeypatch, arguments, code, what):
    monkeypatch.chdir(data)
    got, _, err = run(capsys, "preprocess", "lung", "--out", "c", *arguments)
    assert got == code and what in err and len(err.strip().splitlines()) == 1 and "CANARY" not in err
    assert not (data / "c").exists()


def test_options_by_set_and_none(data, capsys):
    arguments = ["--manifest", data / "m.csv", "--out", data / "c", "--suv", "none", "--set", "preprocess.crop_mm=30", "--json"]
    code, out, _ = run(capsys, "preprocess", "lung", *arguments)
    told = json.loads(out)["meta"]["modalities"]["pet"]["decode"]
    assert code == 0 and told["crop_mm"] == 30.0 and told["suv_max"] == 50_000.0
