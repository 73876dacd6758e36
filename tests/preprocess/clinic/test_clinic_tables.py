"""The raw tables: valid for independent readers, consistent with each other, repeatable to the byte, and without the truth."""

import csv
import gzip
import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from omnifuse.preprocess import store
from omnifuse.preprocess.clinic import generate as module
from omnifuse.preprocess.clinic import items
from omnifuse.preprocess.clinic.generate import generate, truth_path
from omnifuse.preprocess.clinic.latent import probit_share
from omnifuse.preprocess.clinic.modalities import MODALITIES
from omnifuse.preprocess.clinic.worldfile import read_world
from omnifuse.preprocess.schema import ConfigError, ResourceError

# As published for MIMIC-IV v2.2 (https://mimic.mit.edu/docs/iv/modules/), typed here by hand.
LAYOUT = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,"
    "discharge_location,insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/d_icd_diagnoses": "icd_code,icd_version,long_title",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,valuenum,valueuom,"
    "ref_range_lower,ref_range_upper,flag,priority,comments",
    "hosp/d_labitems": "itemid,label,fluid,category",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning",
    "icu/d_items": "itemid,label,abbreviation,linksto,category,unitname,param_type,lownormalvalue,highnormalvalue",
}
TIMES = {"admittime", "dischtime", "deathtime", "edregtime", "edouttime", "intime", "outtime", "charttime", "storetime"}
NUMBERS = {"valuenum", "los", "ref_range_lower", "ref_range_upper", "lownormalvalue", "highnormalvalue"}
WHOLE = {"subject_id", "hadm_id", "stay_id", "itemid", "labevent_id", "specimen_id", "caregiver_id", "seq_num", "icd_version", "warning",
         "anchor_age", "anchor_year", "hospital_expire_flag"}  # fmt: skip


def text_of(raw: Path, name: str) -> str:
    with gzip.open(raw / f"{name}.csv.gz", "rt", encoding="utf-8") as handle:
        return handle.read()


def read(raw: Path, name: str) -> pl.DataFrame:
    """Strictly: a cell that is no number or time of the published kind raises."""
    columns = LAYOUT[name].split(",")
    kinds = {c: pl.Datetime if c in TIMES else pl.Float64 if c in NUMBERS else pl.Int64 if c in WHOLE else pl.String for c in columns}
    frame = pl.read_csv(raw / f"{name}.csv.gz", schema_overrides={c: pl.String if k == pl.Datetime else k for c, k in kinds.items()})
    return frame.with_columns(pl.col(c).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=True) for c, k in kinds.items() if k == pl.Datetime)


@pytest.fixture(scope="module")
def tables(clinic):
    return {name: read(clinic[0], name) for name in LAYOUT}


@pytest.fixture(scope="module")
def stays(clinic):
    return pl.read_parquet(truth_path(clinic[0]) / "stays.parquet")


def test_headers_are_the_published_ones_and_every_row_is_whole(clinic):
    for name, header in LAYOUT.items():
        with gzip.open(clinic[0] / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as handle:
            rows = csv.reader(handle, strict=True)
            assert next(rows) == header.split(",")
            count = 0
            for row in rows:
                count += 1
                assert len(row) == len(header.split(","))
        assert count == clinic[1]["rows"][name] > 0


def test_the_folder_holds_the_tables_and_a_notice_only(clinic):
    found = {path.relative_to(clinic[0]).as_posix() for path in clinic[0].rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith(("cxr/", "note/", "ecg/"))}  # test_clinic_modalities.py
    assert found == {f"{name}.csv.gz" for name in LAYOUT} | {"manifest.json"}


def test_ids_point_at_each_other(tables):
    patients, admissions, icu = tables["hosp/patients"], tables["hosp/admissions"], tables["icu/icustays"]
    for frame, key in ((patients, "subject_id"), (admissions, "hadm_id"), (icu, "stay_id"), (tables["hosp/labevents"], "labevent_id")):
        assert frame[key].is_unique().all() and frame[key].null_count() == 0
    assert admissions.join(patients, on="subject_id", how="anti").is_empty()
    assert icu.join(admissions, on=["subject_id", "hadm_id"], how="anti").is_empty()
    assert tables["icu/chartevents"].join(icu, on=["subject_id", "hadm_id", "stay_id"], how="anti").is_empty()
    assert tables["hosp/diagnoses_icd"].join(admissions, on=["subject_id", "hadm_id"], how="anti").is_empty()
    labs = tables["hosp/labevents"]
    assert labs.drop_nulls("hadm_id").join(admissions, on=["subject_id", "hadm_id"], how="anti").is_empty()
    assert labs.join(patients, on="subject_id", how="anti").is_empty()
    for events, dictionary in (("icu/chartevents", "icu/d_items"), ("hosp/labevents", "hosp/d_labitems")):
        assert tables[events].join(tables[dictionary], on="itemid", how="anti").is_empty()
    codes = tables["hosp/diagnoses_icd"].join(tables["hosp/d_icd_diagnoses"], on=["icd_code", "icd_version"], how="anti")
    assert codes.is_empty() and tables["hosp/d_icd_diagnoses"].select("icd_code", "icd_version").is_unique().all()
    for low, column in ((10, "subject_id"), (20, "hadm_id"), (30, "stay_id")):
        assert icu[column].is_between(low * 1_000_000, (low + 10) * 1_000_000 - 1).all()


def test_times_are_in_order(tables):
    admissions, icu, chart = tables["hosp/admissions"], tables["icu/icustays"], tables["icu/chartevents"]
    assert (admissions["admittime"] < admissions["dischtime"]).all()
    assert (icu["intime"] < icu["outtime"]).all()
    assert np.allclose(icu["los"], (icu["outtime"] - icu["intime"]).dt.total_seconds() / 86400)
    placed = icu.join(admissions, on="hadm_id")
    assert (placed["intime"] >= placed["admittime"]).all() and (placed["outtime"].dt.truncate("1m") <= placed["dischtime"]).all()
    placed = chart.join(icu, on="stay_id")
    assert (placed["charttime"] >= placed["intime"]).all() and (placed["charttime"] < placed["outtime"]).all()
    assert (chart["storetime"] >= chart["charttime"]).all()
    following = admissions.sort("subject_id", "admittime").with_columns(before=pl.col("dischtime").shift().over("subject_id"))
    assert (following.drop_nulls("before")["admittime"] > following.drop_nulls("before")["before"]).all()


def test_the_dead_stay_dead(tables):
    admissions, patients = tables["hosp/admissions"], tables["hosp/patients"]
    dead = admissions.filter(pl.col("hospital_expire_flag") == 1)
    assert len(dead) > 5 and (dead["deathtime"] == dead["dischtime"]).all() and (dead["discharge_location"] == "DIED").all()
    assert admissions.filter(pl.col("hospital_expire_flag") == 0)["deathtime"].null_count() == len(admissions) - len(dead)
    last = admissions.group_by("subject_id").agg(pl.col("admittime").max())
    assert dead.join(last, on=["subject_id", "admittime"], how="anti").is_empty()
    told = dead.join(patients, on="subject_id").with_columns(pl.col("dod").str.to_date())
    assert (told["dod"] == told["deathtime"].dt.date()).all()


def test_the_design_is_what_the_benchmarks_keep(tables, stays):
    """Stays alone in their admission, in one unit, of 48 hours or more: counted from the tables alone."""
    icu = tables["icu/icustays"].with_columns(together=pl.len().over("hadm_id"))
    kept = icu.filter(
        (pl.col("together") == 1) & (pl.col("first_careunit") == pl.col("last_careunit")) & (pl.col("los") * 24 >= 48 - 1 / 3600)
    )
    assert set(kept["stay_id"]) == set(stays.filter("design")["stay_id"])
    died = kept.join(tables["hosp/admissions"], on="hadm_id").sort("stay_id")["hospital_expire_flag"]
    assert died.to_list() == stays.filter("design").sort("stay_id")["died"].cast(int).to_list()


def test_codes_follow_the_era(tables):
    admissions = tables["hosp/admissions"].join(tables["hosp/patients"], on="subject_id")
    year = pl.col("anchor_year_group").str.slice(0, 4).cast(int) + pl.col("admittime").dt.year() - pl.col("anchor_year")
    coded = tables["hosp/diagnoses_icd"].join(admissions.select("hadm_id", year=year), on="hadm_id")
    assert (coded.filter(pl.col("year") < 2013)["icd_version"] == 9).all()
    assert (coded.filter(pl.col("year") > 2015)["icd_version"] == 10).all()
    assert {9, 10} == set(coded["icd_version"])
    first = coded.group_by("hadm_id").agg(pl.col("icd_version").n_unique(), pl.col("seq_num").sort())
    assert (first["icd_version"] == 1).all() and all(s.to_list() == list(range(1, len(s) + 1)) for s in first["seq_num"])


def test_conditions_are_coded_as_often_as_designed(tables, stays, clinic):
    world = read_world("default")
    conditions = pl.read_parquet(truth_path(clinic[0]) / "conditions/*.parquet").join(stays.select("stay_id", "hadm_id"), on="stay_id")
    codes = pl.DataFrame(
        [(c.condition, c.code, c.version) for c in items.codes()], schema=["condition", "icd_code", "icd_version"], orient="row"
    )
    coded = tables["hosp/diagnoses_icd"].join(codes, on=["icd_code", "icd_version"]).select("hadm_id", "condition").unique()
    version = tables["hosp/diagnoses_icd"].select("hadm_id", "icd_version").unique()
    joined = conditions.join(version, on="hadm_id").join(coded.with_columns(coded=True), on=["hadm_id", "condition"], how="left")
    joined = joined.with_columns(pl.col("coded").fill_null(False))
    knobs = world.coding
    for rows, rate in (
        (joined.filter(pl.col("present") & (pl.col("icd_version") == 9)), knobs.icd9_sensitivity),
        (joined.filter(pl.col("present") & (pl.col("icd_version") == 10)), knobs.icd10_sensitivity),
        (joined.filter(~pl.col("present")), knobs.false_positive),
    ):
        assert len(rows) > 150 and abs(rows["coded"].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / len(rows))


def test_codes_mean_their_phenotype():
    """ICD-9 codes stand in the benchmarks' own list of that phenotype; the background codes in none."""
    told = json.loads((Path(module.__file__).parents[1] / "mimic/resources/phenotypes_ccs2015.json").read_text())
    of = {code: name for name, entry in told.items() for code in entry["icd9"]}
    assert sorted(items.conditions()) == sorted(told)
    for code in items.codes():
        if code.version == 9:
            assert of.get(code.code, "") == code.condition
    assert {(c.condition, v) for c in items.codes() for v in (9, 10)} == {(c.condition, c.version) for c in items.codes()}


def test_texts_are_metavisions(tables):
    chart = tables["icu/chartevents"]
    eyes = chart.filter(pl.col("itemid") == 220739)
    assert "None" in set(eyes["value"]) and set(eyes["value"]) <= {"Spontaneously", "To Speech", "To Pain", "None"}
    assert "No Response-ETT" in set(chart.filter(pl.col("itemid") == 223900)["value"])
    assert set(chart.filter(pl.col("itemid") == 223951)["value"]) == {"Normal <3 Seconds", "Abnormal >3 Seconds"}
    numeric = chart.filter(~pl.col("itemid").is_in([220739, 223900, 223901, 223951, 224308]))
    assert (numeric["value"].cast(pl.Float64) == numeric["valuenum"]).all()
    assert set(tables["hosp/labevents"].filter(pl.col("itemid") == 52033)["value"]) == {"ART.", "VEN."}


@pytest.mark.parametrize(
    "item, low, high",
    [(220045, 70, 110), (220277, 93, 99), (223761, 97.5, 99.5), (223835, 35, 60), (225664, 90, 190), (226730, 160, 180), (224639, 65, 100)],
)
def test_medians_are_a_patients(tables, item, low, high):
    assert low < tables["icu/chartevents"].filter(pl.col("itemid") == item)["valuenum"].median() < high


def test_results_of_the_laboratory_are_known_later(tables):
    lab = tables["hosp/labevents"]
    lag = (
        lab.with_columns(lag=(pl.col("storetime") - pl.col("charttime")).dt.total_minutes()).group_by("itemid").agg(pl.col("lag").median())
    )
    told = dict(lag.iter_rows())
    assert 50 < told[50931] < 85 and 1 <= told[50820] <= 6
    copies = (
        tables["icu/chartevents"]
        .filter(pl.col("itemid") == 220621)
        .join(lab.filter(pl.col("itemid") == 50931), on=["subject_id", "charttime"], how="left")
    )
    assert copies["labevent_id"].null_count() == 0


def test_faults_are_as_frequent_as_designed(clinic, tables, tmp_path):
    """Shares of faults counted in the tables of a world with many."""
    path = tmp_path / "faulty.yaml"
    path.write_text(
        "base: default\nfaults: {outlier: 0.05, outlier_warned: 0.8, warning: 0.02, duplicate: 0.03, censored_lab: 0.1, fio2_fraction: 0.2,"
        " swapped_temperature: 0.1, lab_without_admission: 0.3, venous_gas: 0.5}\n"
    )
    generate(tmp_path / "raw", patients=25, world=path)
    chart, lab = read(tmp_path / "raw", "icu/chartevents"), read(tmp_path / "raw", "hosp/labevents")

    def near(found: pl.Series, rate: float):
        assert len(found) > 100 and abs(found.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / len(found))

    heart = chart.filter(pl.col("itemid") == 220045)
    once = heart.unique(["stay_id", "charttime"])
    near(1 - once["valuenum"].is_between(20, 250).cast(float), 0.05 * 0.95)  # /10 may stay plausible, * 10 may not
    near(pl.Series(1 - np.array([len(once) / len(heart)] * len(heart))), 0.03 / 1.03)
    near(heart.filter(~pl.col("valuenum").is_between(20, 250))["warning"].cast(float), 0.8)
    near(heart.filter(pl.col("valuenum").is_between(30, 250))["warning"].cast(float), 0.02)
    near((chart.filter(pl.col("itemid") == 223835)["valuenum"] <= 1).cast(float), 0.2 * 0.95 + 0.05 * 0.35)
    near((lab.filter(pl.col("itemid") == 50931)["value"] == "___").cast(float), 0.1)
    near(lab["hadm_id"].is_null().cast(float), 0.3)
    near((lab.filter(pl.col("itemid") == 52033)["value"] == "VEN.").cast(float), 0.5)
    assert lab.filter(pl.col("value") == "___")["valuenum"].null_count() == len(lab.filter(pl.col("value") == "___"))


def test_missing_rates_are_recovered_from_the_tables(tables, stays):
    """Stays of two days or more without a blood gas in labevents, against the rate designed for their severity."""
    knobs = read_world("default").rounds["gas"]
    long = stays.filter(pl.col("los_hours") > 72).join(
        tables["icu/icustays"].select("stay_id", "subject_id", "intime", "outtime"), on="stay_id"
    )
    gases = tables["hosp/labevents"].filter(pl.col("itemid") == 50820).select("subject_id", "charttime")
    found = (
        long.join(gases, on="subject_id", how="left")
        .group_by("stay_id", "level")
        .agg(seen=pl.col("charttime").is_between(pl.col("intime"), pl.col("outtime")).any())
    )
    share = probit_share(knobs.missing, knobs.missing_severity, found["level"].to_numpy())
    missing = ~found["seen"].fill_null(False).to_numpy()
    assert len(found) > 50 and abs((missing - share).sum()) < 3.5 * np.sqrt((share * (1 - share)).sum())


def test_the_same_call_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        generate(tmp_path / name, patients=6, seed=9)
    for file in sorted(tmp_path.glob("a*/**/*")):
        if file.is_file() and file.name != "manifest.json":
            twin = tmp_path / file.relative_to(tmp_path).as_posix().replace("a", "b", 1)
            assert file.read_bytes() == twin.read_bytes(), file.name
    generate(tmp_path / "c", patients=6, seed=10)
    assert (tmp_path / "a/icu/chartevents.csv.gz").read_bytes() != (tmp_path / "c/icu/chartevents.csv.gz").read_bytes()


def test_a_patient_is_the_same_in_any_clinic(tmp_path, monkeypatch):
    """Rows of the first eight patients in a clinic of eight, and of thirteen made in blocks of another size."""
    generate(tmp_path / "few", patients=8, seed=2)
    monkeypatch.setattr(module, "BLOCK", 5)
    generate(tmp_path / "many", patients=13, seed=2)
    for name in LAYOUT:
        few, many = (text_of(tmp_path / folder, name) for folder in ("few", "many"))
        assert many.startswith(few), name
        assert (many == few) == name.rpartition("/")[2].startswith("d_")
    few, many = (pl.read_parquet(truth_path(tmp_path / folder) / "stays.parquet") for folder in ("few", "many"))
    assert many.head(len(few)).equals(few)


def test_the_truth_lies_beside_and_is_told_nowhere_in_the_tables(clinic):
    raw = clinic[0]
    truth = truth_path(raw)
    assert truth.parent == raw.parent and raw not in truth.parents and truth not in raw.parents
    told = (raw / "manifest.json").read_text()
    notice = json.loads(told)["meta"]
    assert notice == {"synthetic": "made by omnifuse, no patient", "layout": module.LAYOUT, "patients": 150, "modalities": list(MODALITIES)}
    for secret in ("world", "seed", "knobs", "auroc", "truth", "probability"):
        assert secret not in told
    hidden = set(pl.read_parquet(truth / "stays.parquet").columns) - {"subject_id", "hadm_id", "stay_id"}
    for name in LAYOUT:
        assert not hidden & set(text_of(raw, name).partition("\n")[0].split(","))
    assert not any(path.is_symlink() for path in raw.rglob("*"))


def test_the_truth_tells_what_it_was_made_from(clinic, stays):
    design = json.loads((truth_path(clinic[0]) / "design.json").read_text())
    assert design["seed"] == 3 and design["world"] == "default" and design["knobs_sha256"] == read_world("default").fingerprint
    assert design["auroc"]["p_measured"]["stays"] == stays.filter("design").height == clinic[1]["design_stays"]
    assert design["variables"]["Heart Rate"]["signal"] == 4.5
    assert stays.filter(~pl.col("design"))["p_measured"].null_count() == stays.filter(~pl.col("design")).height
    assert stays.filter("design")["p_measured"].is_between(0, 1).all()
    severity = pl.read_parquet(truth_path(clinic[0]) / "severity/*.parquet").group_by("stay_id").agg(pl.col("hour").max())
    joined = severity.join(stays, on="stay_id")
    assert len(joined) == len(stays) and (joined["hour"] <= joined["los_hours"]).all()


def test_a_second_call_writes_nothing(tmp_path):
    first = generate(tmp_path / "raw", patients=3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = generate(tmp_path / "raw", patients=3)
    assert first.pop("written") and not again.pop("written") and first == again
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "raw/hosp/mine.csv").write_text("mine")
    with pytest.raises(ConfigError, match="hosp/mine.csv, which is no part of the clinic there"):
        generate(tmp_path / "raw", patients=2)
    (tmp_path / "raw/hosp/mine.csv").unlink()
    assert generate(tmp_path / "raw", patients=2)["written"]  # a clinic of ours is replaced


@pytest.mark.parametrize("where", ["raw", "raw-truth"])
@pytest.mark.parametrize("kind", ["folder", "file", "cohort"])
def test_what_is_not_a_clinic_is_left_alone(where, kind, tmp_path):
    target = tmp_path / where
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        (target / "hosp").mkdir(parents=True)
        (target / "hosp/patients.csv").write_text("mine")
    else:
        with store.create(target, "cohort", fingerprint="x"):
            pass
    with pytest.raises(ConfigError, match="is not replaced by this clinic"):
        generate(tmp_path / "raw", patients=2)
    assert target.exists() and not (tmp_path / ("raw" if where == "raw-truth" else "raw-truth")).exists()


@pytest.mark.parametrize(
    "options, told", [({"patients": 0}, "0 patients"), ({"patients": 500_001}, "patients"), ({"patients": 1, "seed": -1}, "seed")]
)
def test_impossible_numbers_are_refused(options, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        generate(tmp_path / "raw", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("block", [1, 3])
def test_an_interrupted_clinic_goes_on_to_the_same_bytes(tmp_path, monkeypatch, block):
    """Cut off in its first block it leaves nothing, in a later one what is whole; the next call makes only what is missing."""
    monkeypatch.setattr(module, "BLOCK", 2)
    generate(tmp_path / "whole/raw", patients=6, seed=1)
    real, calls = module.diagnose, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == block:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "diagnose", fails)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "cut/raw", patients=6, seed=1)
    assert not (tmp_path / "cut/raw").exists() and bool(list((tmp_path / "cut").iterdir())) == (block > 1)
    calls[:] = [1] * 10
    assert generate(tmp_path / "cut/raw", patients=6, seed=1)["written"]
    assert len(calls) - 10 == 3 - (block - 1)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_what_another_call_left_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    real = module.diagnose
    monkeypatch.setattr(
        module,
        "diagnose",
        lambda world, seed, people, hospital: 1 / (0 if people.patient[0] > 1 else 1) and real(world, seed, people, hospital),
    )
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path / "cut/raw", patients=4, seed=1)
    monkeypatch.setattr(module, "diagnose", real)
    for name in ("cut", "whole"):
        generate(tmp_path / name / "raw", patients=4, seed=2)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "free_bytes", lambda path: 1000)
    with pytest.raises(ResourceError, match="are free"):
        generate(tmp_path / "raw", patients=10)
    assert not list(tmp_path.iterdir())


def test_progress_counts_patients(tmp_path):
    seen = []

    class Bar:
        def __init__(self, description, total, unit):
            seen.append((total, unit))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, n=1):
            seen.append(n)

    generate(tmp_path / "raw", patients=3, progress=Bar)
    assert seen == [(3, "patient"), 3]


def test_files_are_for_the_owner_only(clinic):
    for root in (clinic[0], truth_path(clinic[0])):
        assert all(os.stat(path).st_mode & 0o077 == 0 for path in [root, *root.rglob("*")])


def test_years_are_shifted(tables):
    assert (tables["hosp/admissions"]["admittime"] > datetime(2100, 1, 1)).all()
