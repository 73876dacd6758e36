"""`--compat mimic3-benchmarks` against what mimic3-benchmarks itself made of the MIMIC-III demo, cell for cell."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_mimic import tokens

from omnifuse.preprocess import store, tables
from omnifuse.preprocess.mimic import cohort as stays_of
from omnifuse.preprocess.mimic import events
from omnifuse.preprocess.mimic.build import build_cohort
from omnifuse.preprocess.mimic.ledger import Ledger
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.source import detect
from omnifuse.preprocess.mimic.variables import CATEGORIES, COLUMNS, NORMAL_TEXT, VARIABLES


@pytest.fixture(scope="module")
def cohort(mimic3demo, tmp_path_factory) -> store.Artefact:
    return build_cohort(mimic3demo, tmp_path_factory.mktemp("oracle") / "cohort", Options(compat="mimic3-benchmarks"))


@pytest.fixture(scope="module")
def episodes(oracle: Path) -> pl.DataFrame:
    return pl.read_csv(oracle / "episodes_train.csv.gz", infer_schema=False)


def test_every_row_of_every_training_episode_is_the_same_text(cohort, episodes):
    ours = cohort.table("events.parquet").rename({"stay_id": "icustay_id", "hours": "Hours"})
    ours = ours.with_columns(pl.col("icustay_id").cast(pl.String)).filter(pl.col("icustay_id").is_in(episodes["icustay_id"].implode()))
    ours = ours.with_columns(pl.Series("Hours", [repr(hours) for hours in ours["Hours"].to_list()])).select(episodes.columns)
    assert ours.shape == (14_817, 19)
    assert ours.sort(pl.all()).equals(episodes.sort(pl.all()))


def test_tensors_of_the_48_hours_equal_the_oracles(cohort, oracle):
    arrays = np.load(oracle / "ihm_train_2h.npz", allow_pickle=False)
    assert list(arrays["header"]) == list(COLUMNS)
    assert arrays["X"].shape == (46, 24, 76)
    y = dict(cohort.table("samples/mortality.parquet").select("stay_id", "y").rows())
    for stay, expected, label in zip(arrays["icustay_id"], arrays["X"], arrays["y"]):
        ours = tokens(cohort, "mortality", str(stay))
        assert np.array_equal(ours, expected.astype(np.float32))  # what is stored is float32, exact to its last bit
        assert y[int(stay)] == [float(label)]


def test_mortality_reads_a_prefix_of_phenotyping(cohort):
    for stay in cohort.table("samples/mortality.parquet")["sample_id"][:10]:
        assert np.array_equal(tokens(cohort, "mortality", stay), tokens(cohort, "phenotyping", stay)[:24])


def test_phenotypes_equal_the_oracles(cohort, oracle):
    expected = pl.read_csv(oracle / "phenotyping_train.csv")
    ours = cohort.table("samples/phenotyping.parquet").select(pl.col("stay_id").alias("icustay_id"), "period_length", "y")
    both = expected.join(ours, on="icustay_id", how="left", suffix="_ours")
    assert both.height == 81 + 14
    assert cohort.meta["tasks"]["phenotyping"]["labels"] == expected.columns[2:]
    assert both["y"].to_list() == [list(map(float, row[2:27])) for row in both.iter_rows()]
    assert np.allclose(both["period_length"], both["period_length_ours"], rtol=0, atol=1e-6)


def test_remaining_lengths_of_stay_equal_the_oracles(cohort, oracle):
    expected = pl.read_csv(oracle / "los_train.csv.gz").sort("icustay_id", "period_length")
    ours = cohort.table("samples/los_remaining.parquet").filter(pl.col("stay_id").is_in(expected["icustay_id"].unique().implode()))
    ours = ours.sort("stay_id", "period_length")
    assert ours.height == expected.height == 8_283 + 759
    assert ours["stay_id"].equals(expected["icustay_id"].alias("stay_id"))
    assert np.array_equal(ours["period_length"], expected["period_length"])
    assert np.allclose(ours["remaining_hours"], expected["y_true"], rtol=0, atol=1e-6)
    days = ours["remaining_hours"].to_numpy() / 24
    assert np.array_equal(ours["y"].list.first(), np.searchsorted([1, 2, 3, 4, 5, 6, 7, 8, 14], days, side="right"))


TOTALS = {
    "Capillary refill rate": (15, 2), "Diastolic blood pressure": (12_005, 111), "Fraction inspired oxygen": (1_020, 41),
    "Glascow coma scale eye opening": (3_238, 111), "Glascow coma scale motor response": (3_210, 111),
    "Glascow coma scale total": (1_565, 49), "Glascow coma scale verbal response": (3_223, 111), "Glucose": (3_524, 114),
    "Heart Rate": (12_227, 111), "Height": (31, 31), "Mean blood pressure": (11_969, 111), "Oxygen saturation": (12_345, 112),
    "Respiratory rate": (12_408, 111), "Systolic blood pressure": (12_012, 111), "Temperature": (3_654, 111), "Weight": (338, 98),
    "pH": (1_238, 109),
}  # fmt: skip
POSITIVES = [41, 4, 12, 51, 17, 19, 16, 6, 36, 27, 15, 29, 31, 49, 47, 12, 17, 11, 2, 16, 10, 28, 31, 38, 21]


def test_totals_of_the_whole_demo(cohort):
    audit, rows = cohort.json("audit.json"), cohort.table("events.parquet")
    assert (rows.height, rows.filter(pl.col("hours") < 0).height, rows["stay_id"].n_unique()) == (17_663, 415, 114)
    steps = [(step["stays"], step["admissions"], step["patients"]) for step in audit["attrition"][:5]]
    assert steps == [(136, 129, 100), (126, 120, 94), (126, 120, 94), (115, 115, 90), (114, 114, 89)]
    assert {name: task["samples"] for name, task in cohort.meta["tasks"].items() if name != "los"} == {
        "mortality": 57, "phenotyping": 113, "los_remaining": 8_283 + 759 + 1_899,
    }  # fmt: skip
    assert {entry["variable"]: (entry["values"], entry["stays"]) for entry in audit["variables"]} == TOTALS
    assert [label["positive"] for label in audit["labels"] if label["task"] == "phenotyping"] == POSITIVES
    assert next(label["positive"] for label in audit["labels"] if label["task"] == "mortality") == 10 + 2 + 5
    assert rows.select((pl.col(VARIABLES[3]) == "None").sum()).item() == 438  # what pandas 2 reads as missing


def test_parts_are_those_of_the_published_lists(cohort):
    parts = cohort.table("parts.parquet")
    assert cohort.meta["splits"]["kind"] == "frozen"
    assert parts.filter(pl.col("part") == "test").height == 15
    assert parts.filter(pl.col("part") != "test").height == 74


def test_rows_of_all_items_fall_out_as_in_validate_events(mimic3demo):
    """The peer validates every row of three tables; we filter items first, by the same function."""
    source = detect(mimic3demo)
    stays = stays_of.select(source, compat=True).stays
    keys, ledger = events.StayKeys(stays), Ledger()
    every = recovered = 0
    for table in ("chartevents", "labevents", "outputevents"):
        columns = list(events.BASE_COLUMNS["labevents" if table == "labevents" else "chartevents"])
        frame = tables.read(tables.find(mimic3demo, table), columns)
        frame = frame.filter(pl.col("subject_id").is_in(stays["patient_id"].implode()))
        kept = events.in_kept_stays(frame, keys, table, ledger)
        every += frame.height
        recovered += kept["stay_id"].null_count() if table != "labevents" else kept.height
    dropped = {reason: sum(counts[reason] for counts in ledger.dropped.values()) for reason in ledger.dropped["chartevents"]}
    assert every == 747_793
    assert recovered == 45_336
    assert sum(counts["no admission id"] for counts in ledger.dropped.values()) == 13_184
    assert dropped["admission of no kept stay"] == 86_481
    assert dropped["another stay of the admission"] == 1_200


def _discretise(rows: list[dict], step: float, end: float) -> np.ndarray:
    """The peer's Discretizer, word for word: one loop over rows and cells, one over bins."""
    eps = 1e-6
    bins = int(end / step + 1.0 - eps)
    data, mask = [dict.fromkeys(VARIABLES, "") for _ in range(bins)], np.zeros((bins, 17))
    for row in rows:
        if row["hours"] > end + eps:
            continue
        bin_ = int(row["hours"] / step - eps)
        for channel, name in enumerate(VARIABLES):
            if row[name] is not None:
                data[bin_][name], mask[bin_, channel] = row[name], 1
    held = dict(NORMAL_TEXT)
    out = []
    for number, bin_ in enumerate(data):
        held |= {name: text for name, text in bin_.items() if text != ""}
        cells: list[float] = []
        for name in VARIABLES:
            cells += [float(text == held[name]) for text in CATEGORIES[name]] or [float(held[name])]
        out.append(cells + list(mask[number]))
    return np.array(out).astype(np.float32)


@pytest.mark.parametrize("step", [0.8, 1.0, 2.0, 5.0])
def test_every_window_at_any_step_is_what_the_peers_discretiser_makes_of_it(cohort, mimic3demo, tmp_path, step):
    """A window that ends inside a bin: its rows are the full bins before it, then the tail."""
    tasks = ("mortality", "los_remaining")
    made = (
        cohort if step == 2 else build_cohort(mimic3demo, tmp_path / "c", Options(compat="mimic3-benchmarks", step_hours=step, tasks=tasks))
    )
    rows = made.table("events.parquet")
    for task, some in (("mortality", 3), ("los_remaining", 40)):
        samples = made.table(f"samples/{task}.parquet")
        for sample in samples[:: max(1, samples.height // some)].iter_rows(named=True):
            mine = rows.filter((pl.col("stay_id") == sample["stay_id"]) & (pl.col("hours") > -1e-6)).rows(named=True)
            expected = _discretise(mine, step, sample["prediction_hours"])
            assert np.array_equal(tokens(made, task, sample["sample_id"]), expected)
