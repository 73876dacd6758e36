"""The planted bench: real rows but for what was planted, and a truth that is what it says."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import run
from PIL import Image

from omnifuse.preprocess.clinic.outcome import auroc_with_error

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import planted
import planted_films
import planted_tables
import semi_synthetic

SEED, PATIENTS = 3, 14
CHART = "icu/chartevents"
IDS = ["subject_id", "hadm_id", "stay_id"]
OUTCOME = ["dischtime", "deathtime", "discharge_location", "hospital_expire_flag", "dod"]


@pytest.fixture(scope="module")
def demo(mimic4demo):
    return planted_tables.read_demo(mimic4demo)


@pytest.fixture(scope="module")
def large(demo):
    return planted.draw_truth(SEED, 20_000, demo.stays.height)


@pytest.fixture(scope="module")
def films(cxr_hannover):
    return planted_films.read_backgrounds(cxr_hannover)


@pytest.fixture(scope="module")
def benches(demo, films, tmp_path_factory):
    """Folders of doses 0 and 2, and of dose 2 again."""
    truth, place = planted.draw_truth(SEED, PATIENTS, demo.stays.height), tmp_path_factory.mktemp("planted")
    for name, dose in (("0", 0.0), ("2", 2.0), ("again", 2.0)):
        planted_tables.write_bench(demo, place / name, truth, dose, SEED, partial(semi_synthetic.draw_films, films, dose, SEED))
    return place


def read(bench: Path, table: str) -> pl.DataFrame:
    return pl.read_csv(bench / f"raw/{table}.csv.gz", infer_schema=False)


def truth_of(bench: Path) -> pl.DataFrame:
    return pl.read_parquet(bench / "truth/stays.parquet")


@pytest.mark.parametrize("table", [CHART, "hosp/labevents", "hosp/diagnoses_icd", "icu/icustays", "hosp/admissions", "hosp/patients"])
def test_dose_0_is_the_demo_but_for_ids_and_outcome(benches, mimic4demo, table):
    real = pl.read_csv(mimic4demo / f"{table}.csv.gz", infer_schema=False)
    truth = truth_of(benches / "0").with_columns(pl.col(IDS).cast(pl.String))
    stays = pl.read_csv(mimic4demo / "icu/icustays.csv.gz", infer_schema=False).select(IDS)
    compared = 0
    made = read(benches / "0", table)
    key = next(name for name in ("stay_id", "hadm_id", "subject_id") if name in real.columns)
    for source, *ids in truth.select("source_stay", *IDS).iter_rows():
        source = dict(zip(IDS, stays.row(by_predicate=pl.col("stay_id") == source)))
        mine = made.filter(pl.col(key) == dict(zip(IDS, ids))[key])
        its = real.filter(pl.col(key) == source[key])
        if table == CHART:
            its = its.filter(pl.col("itemid").is_in(mine["itemid"].unique().implode()))
        left_out = [name for name in (*IDS, *OUTCOME) if name in real.columns]
        assert mine.drop(left_out).equals(its.drop(left_out), null_equal=True)
        compared += mine.height
    assert compared == made.height > 0, "no row without its original"


def decimals(column: str) -> pl.Expr:
    return pl.col(column).str.split(".").list.get(1, null_on_oob=True).str.len_chars().fill_null(0)


def test_a_dose_moves_the_carriers_by_what_it_says_and_nothing_else(benches, demo):
    before, after = read(benches / "0", CHART), read(benches / "2", CHART)
    assert before.drop("value", "valuenum").equals(after.drop("value", "valuenum"), null_equal=True), "what was charted and when stays"
    carriers = [str(item) for carrier in planted.SHOWN.values() for item in carrier.items]
    others = ~before["itemid"].is_in(carriers)
    assert before.filter(others).equals(after.filter(others), null_equal=True)
    hidden = truth_of(benches / "2").select(pl.col("stay_id").cast(pl.String), *planted.HIDDEN)
    both = before.select("stay_id", "itemid", old="valuenum").hstack(after.select(new="valuenum")).join(hidden, on="stay_id")
    both = both.with_columns(pl.col("old", "new").cast(pl.Float64), unit=pl.lit(10.0) ** -decimals("old").cast(pl.Float64))
    checked = 0
    for name, carrier in planted.SHOWN.items():
        mine = both.filter(pl.col("itemid").is_in([str(item) for item in carrier.items]))
        inside = mine.filter(pl.col("new").is_between(carrier.low, carrier.high, closed="none"), pl.col("old") > carrier.low)
        for stay, rows in inside.group_by("stay_id"):
            expected = 2 * carrier.step * demo.sd[name] * rows[carrier.hidden][0]
            clipped = mine.filter(pl.col("stay_id") == stay[0]).height - rows.height
            if rows.height >= 20 and not clipped:
                moved, unit = (rows["new"] - rows["old"]).to_numpy(), rows["unit"].to_numpy()
                assert abs(moved.mean() - expected) < 4 * np.sqrt((unit**2 / 4).sum()) / len(moved) + 1e-6, name
                assert (np.abs(moved - expected) < unit + 1e-6).all(), name
                checked += 1
        assert mine["new"].max() <= max(carrier.high, mine["old"].max())
    assert checked >= 4 * PATIENTS
    texts = after.filter(~others)
    assert texts["value"].equals(texts["valuenum"]) and texts["value"].str.contains(r"^-?\d+(\.\d+)?$").all()
    had = before.filter(~others).select(decimals("value"))["value"]
    assert (texts.select(decimals("value"))["value"] <= had).all(), "a value keeps its decimals"


def test_who_dies_is_planted_and_is_in_the_tables(benches, large):
    truth = truth_of(benches / "2")
    admissions = read(benches / "2", "hosp/admissions").join(
        truth.select(pl.col("hadm_id").cast(pl.String), "died"), on="hadm_id", maintain_order="left"
    )
    died = admissions["died"]
    assert 0 < died.sum() < PATIENTS
    assert ((admissions["hospital_expire_flag"] == "1") == died).all()
    assert (admissions["deathtime"].is_not_null() == died).all() and ((admissions["discharge_location"] == "DIED") == died).all()
    assert (read(benches / "2", "hosp/patients")["dod"].is_not_null() == died).all()
    assert large.head(PATIENTS).equals(truth.select(large.columns)), "a patient is the same in a bench of any size"
    for score in ("p_ehr", "p_cxr", "p_ehr+cxr", "p_present"):
        bins = large.with_columns(bin=(pl.col(score) * 5).floor()).group_by("bin").agg(pl.col(score, "died").mean(), n=pl.len())
        off = (bins["died"] - bins[score]) / (bins[score] * (1 - bins[score]) / bins["n"]).sqrt()
        assert off.abs().max() < 4, f"deaths follow {score}"
    assert abs(large["died"].mean() - planted.PREVALENCE) < 0.013


def test_the_truth_has_the_designed_auroc(large):
    share = large["has_film"].mean()
    designed = {f"p_{sees}": planted.designed_auroc(sees=sees) for sees in planted.SEES} | {"p_present": planted.designed_auroc(share)}
    assert designed["p_cxr"] < designed["p_ehr"] < designed["p_present"] < designed["p_ehr+cxr"]
    for score, expected in designed.items():
        found, error = auroc_with_error(large[score].to_numpy(), large["died"].to_numpy(), large["subject_id"].to_numpy())
        assert abs(found - expected) < 3 * error, score


def test_nothing_that_is_not_hidden_tells_of_death(large):
    """Which real stay it is, and whether there is a film, know nothing: a leak here would pass for a signal at dose 0."""
    rates = large.group_by("source").agg(pl.col("died").mean(), n=pl.len())
    off = (rates["died"] - planted.PREVALENCE) / (planted.PREVALENCE * (1 - planted.PREVALENCE) / rates["n"]).sqrt()
    assert 0.5 < off.std() < 1.5 and off.abs().max() < 4.5
    film = large.group_by("has_film").agg(pl.col("died").mean())["died"]
    assert abs(film[0] - film[1]) < 0.03


@pytest.mark.parametrize("z_film, z_both", [(1.0, 0.5), (-1.0, -0.5), (0.0, 1.0)])
def test_films_differ_from_the_background_in_proportion_to_dose(films, z_film, z_both):
    for patient in range(3):
        film = planted_films.background(films, SEED, patient)
        added = [planted_films.finding(film, dose, z_film, z_both, SEED, patient) for dose in (0.0, 0.5, 1.0, 2.0)]
        assert not added[0].any()
        np.testing.assert_allclose(added[3], 4 * added[1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(added[3], 2 * added[2], rtol=1e-4, atol=1e-4)
        disc = added[2][145:165, 66:82].mean()
        assert np.sign(disc) == np.sign(z_both) and 0.5 < abs(disc) / (planted_films.DISC * abs(z_both) * film.std()) < 1.2


def test_films_are_valid_and_at_dose_0_the_background(benches, films):
    truth = truth_of(benches / "0")
    shown = truth.filter("has_film")
    assert 0 < shown.height < PATIENTS
    for subject, z_film, z_both in shown.select("subject_id", "z_film", "z_both").iter_rows():
        patient = subject - planted.SUBJECT
        plain = planted_films.background(films, SEED, patient)
        apart = {}
        for dose in ("0", "2"):
            [path] = (benches / dose / f"raw/cxr/files/p{str(subject)[:2]}/p{subject}").rglob("*.jpg")
            with Image.open(path) as image:
                image.load()
                assert (image.format, image.mode, image.size) == ("JPEG", "L", (planted_films.SIDE,) * 2)
                apart[dose] = np.abs(np.asarray(image, float) - np.clip(plain, 0, 255)).mean()
        added = np.abs(planted_films.finding(plain, 2.0, z_film, z_both, SEED, patient)).mean()
        assert apart["0"] < 3, "no more than what JPEG takes"
        assert apart["2"] > 0.4 * added - 1, "what was planted is in the file"


def test_preprocessing_reads_it_all(benches, tmp_path, capsys):
    raw, cohort = benches / "2/raw", tmp_path / "cohort"
    code, _, told = run(capsys, "preprocess", "mimic", "--ehr", raw, "--cxr", raw / "cxr", "--task", "mortality", "--out", cohort)
    assert code == 0, told
    truth = truth_of(benches / "2").sort("stay_id")
    samples = pl.read_parquet(cohort / "samples/mortality.parquet").sort("stay_id")
    assert samples["stay_id"].to_list() == truth["stay_id"].to_list(), "every planted patient is a sample"
    assert samples["y"].list.get(0).cast(pl.Boolean).to_list() == truth["died"].to_list()
    assert (samples["cxr_length"] == 1).to_list() == truth["has_film"].to_list(), "every film is seen"
    source = json.loads((cohort / "manifest.json").read_text())["meta"]["source"]
    assert (source["dataset"], source["version"]) == ("mimic-iv", "2.2")


def test_the_same_call_gives_the_same_bytes(benches):
    def digests(bench: Path) -> dict[str, str]:
        return {
            path.relative_to(bench).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in bench.rglob("*") if path.is_file()
        }

    assert digests(benches / "2") == digests(benches / "again") != digests(benches / "0")


def test_the_table_tells_the_share_of_what_can_be_gained():
    truth = planted.draw_truth(SEED, 50, 5)
    asked = {"folds": [0, 1], "epochs": 12, "seed": SEED}
    row = {"method": "concat", "sees": "ehr+cxr", "stays": 20, "value": 0.6, "low": 0.4, "high": 0.7, "truth": 0.9}
    told = semi_synthetic.table({0.0: [row], 1.0: [{**row, "value": 0.8, "low": 0.7, "high": 0.9}]}, truth, 5, asked)
    assert "| 1 | concat | ehr cxr | 20 | 0.800 (0.700 to 0.900) | 0.900 | 75% |" in told
    assert told.endswith("Dose 0: every interval holds 0.5.")


@pytest.mark.parametrize(
    "interval, verdict",
    [
        ((0.4, 0.6), "every interval holds 0.5"),
        ((0.52, 0.7), "concat ehr cxr above 0.5, a leak or chance"),
        ((0.3, 0.48), "concat ehr cxr below 0.5, which no leak explains"),
        ((None, None), "every interval holds 0.5"),
    ],
)
def test_dose_0_is_judged_by_the_interval(interval, verdict):
    assert semi_synthetic.null_verdict([{"method": "concat", "sees": "ehr+cxr", "low": interval[0], "high": interval[1]}]) == verdict


def test_a_folder_of_other_settings_is_refused(tmp_path):
    asked = {"patients": 10, "seed": 0}
    assert semi_synthetic.finished(tmp_path, asked) is None
    (tmp_path / "result.json").write_text(json.dumps({"models": []}))
    assert semi_synthetic.finished(tmp_path, asked) == {"models": []}, "a finished dose is kept"
    with pytest.raises(SystemExit, match="other settings"):
        semi_synthetic.finished(tmp_path, {**asked, "seed": 1})
