"""Folds and parts: every patient exactly one part a fold, by hash, outcome by outcome; and when training on them is refused."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnifuse.preprocess.schema import PART_SHARES, PARTS, ConfigError, InputError
from omnifuse.preprocess.splits import make_parts, require_trainable

quick = settings(max_examples=25, deadline=None)


def cohort(n: int, every: int = 4, start: int = 0) -> pl.DataFrame:
    """n patients, every 4th with outcome 1."""
    ids = range(start, start + n)
    return pl.DataFrame({"patient_id": ids, "outcome": [int(i % every == 0) for i in ids]}, schema_overrides={"outcome": pl.Int8})


def as_dict(parts) -> dict:
    return {(fold, str(patient)): part for fold, patient, part in parts.table.iter_rows()}


def as_frame(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"patient_id": pl.Int64, "outcome": pl.Int8}, orient="row")


rows = st.tuples(st.integers(0, 10**8), st.sampled_from([0, 0, 1, None]))
any_cohort = st.lists(rows, min_size=1, max_size=300, unique_by=lambda row: row[0]).map(as_frame)


@quick
@given(patients=any_cohort, seed=st.integers(0, 99), folds=st.integers(2, 7))
def test_each_patient_has_one_part_a_fold_and_is_tested_once(patients, seed, folds):
    table = make_parts(patients, seed=seed, folds=folds).table
    assert table.schema == {"fold": pl.Int8, "patient_id": pl.Int64, "part": pl.String}
    assert table.select("fold", "patient_id").is_unique().all() and table.height == folds * patients.height
    assert set(table["part"]) <= set(PARTS)
    tested = table.filter(part="test")
    assert sorted(tested["patient_id"]) == sorted(patients["patient_id"])


@quick
@given(patients=any_cohort, seed=st.integers(0, 99))
def test_each_outcome_is_spread_within_one_patient_of_its_share(patients, seed):
    table = make_parts(patients, seed=seed).table.join(patients, on="patient_id")
    for outcome, fold in ((o, k) for o in (0, 1, None) for k in range(5)):
        of_outcome = table.filter(pl.col("outcome").eq_missing(outcome) & (pl.col("fold") == fold))
        others = of_outcome.filter(pl.col("part") != "test").height
        expected = {"test": of_outcome.height / 5, **{part: share * others for part, share in PART_SHARES.items()}}
        expected["train"] = (1 - sum(PART_SHARES.values())) * others
        for part, share in expected.items():
            assert abs(of_outcome.filter(part=part).height - share) <= 1


@quick
@given(patients=any_cohort, shuffle=st.randoms())
def test_order_and_repetition_of_the_rows_change_nothing(patients, shuffle):
    order = [*range(patients.height), *range(0, patients.height, 2)]
    shuffle.shuffle(order)
    plain, mixed = make_parts(patients), make_parts(patients[order])
    assert mixed.table.equals(plain.table) and mixed.meta == plain.meta


def test_ids_as_text_and_as_integers_fall_alike():
    patients = cohort(120)
    as_text = make_parts(patients.with_columns(pl.col("patient_id").cast(pl.String)))
    assert as_text.table.schema["patient_id"] == pl.String
    assert as_dict(as_text) == as_dict(make_parts(patients))
    assert as_text.meta == make_parts(patients).meta


def test_shares_are_of_the_patients_outside_the_test_fold():
    counts = make_parts(cohort(1000)).meta["counts"]["3"]
    assert {part: count["patients"] for part, count in counts.items()} == {"train": 540, "val": 100, "calib": 80, "probe": 80, "test": 200}
    assert {part: count["positive"] for part, count in counts.items()} == {"train": 135, "val": 25, "calib": 20, "probe": 20, "test": 50}


def test_the_seed_decides_and_is_part_of_the_content():
    first, second = make_parts(cohort(400), seed=1), make_parts(cohort(400), seed=2)
    others = as_dict(second)
    moved = sum(part != others[key] for key, part in as_dict(first).items())
    assert moved > 0.3 * len(as_dict(first))
    assert first.meta["sha256"] != second.meta["sha256"] == make_parts(cohort(400), seed=2).meta["sha256"]


def test_a_pinned_cohort_keeps_its_parts():
    # What was published with seed 0 must come out of every later version: this digest may only change with the cohort format.
    assert make_parts(cohort(100)).meta["sha256"] == "6ecdb8948a4b1032ac63da93ea69f5f8a1adf97d71a939e44ebcd2c268842497"


def test_growth_moves_only_patients_at_the_borders():
    before, after = as_dict(make_parts(cohort(1000))), as_dict(make_parts(cohort(1010)))
    moved = {key for key, part in before.items() if after[key] != part}
    assert len(moved) < 0.05 * len(before)


def test_parts_of_different_folds_are_drawn_independently():
    # Were one order used for all folds, the val patients of fold 0 that are not tested in fold 1 would all be val there again.
    table = make_parts(cohort(2000)).table
    val = {fold: set(table.filter(fold=fold, part="val")["patient_id"]) for fold in range(5)}
    tested = set(table.filter(fold=1, part="test")["patient_id"])
    again = len(val[0] & val[1]) / len(val[0] - tested)
    assert 0.05 < again < 0.22  # 0.125 by chance


def test_a_patient_of_several_stays_counts_once_with_the_highest_outcome():
    stays = pl.DataFrame({"patient_id": [1, 1, 2, 3], "outcome": [1, 0, 0, None]}, schema_overrides={"outcome": pl.Int8})
    meta = make_parts(stays, folds=2).meta
    assert meta["patients"] == 3
    assert [sum(count["positive"] for count in meta["counts"][fold].values()) for fold in ("0", "1")] == [1, 1]


@pytest.mark.parametrize(
    ("patients", "reason"),
    [
        (cohort(1), "1 patients are too few for 5 folds"),
        (cohort(3), "3 patients are too few for 5 folds"),
        (cohort(6), "is empty (6 patients in all)"),
        (cohort(300, every=1), "has no patient with outcome 0 (0 of 300 patients have it)"),
        (cohort(300, every=10**6, start=1), "has no patient with outcome 1 (0 of 300 patients have it)"),
        (cohort(300, every=75), "has no patient with outcome 1 (4 of 300 patients have it)"),
        (pl.DataFrame({"patient_id": range(300), "outcome": [2 if i == 7 else i % 2 for i in range(300)]}), "no patient with outcome 2"),
    ],
)
def test_a_cohort_too_small_to_train_on_still_gets_its_parts(patients, reason):
    parts = make_parts(patients)
    assert reason in parts.meta["refused"]
    assert parts.table.height == 5 * patients.height
    with pytest.raises(InputError, match="cannot be trained on") as raised:
        require_trainable(parts.meta, 0)
    assert reason in str(raised.value)


@pytest.mark.parametrize("outcomes", [[i % 4 == 0 for i in range(100)], [None] * 100, [i % 3 for i in range(100)]])
def test_a_sufficient_cohort_is_not_refused(outcomes):
    meta = make_parts(pl.DataFrame({"patient_id": range(100), "outcome": pl.Series(outcomes).cast(pl.Int8)})).meta
    assert meta["refused"] is None
    require_trainable(meta, 4)
    with pytest.raises(ConfigError, match="no fold 5"):
        require_trainable(meta, 5)


# --- temporal ---------------------------------------------------------------------------------------------------------

YEARS = ["2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019"]


@pytest.mark.parametrize(
    ("sizes", "latest"),
    [
        ([40, 30, 20, 10], ["2014 - 2016", "2017 - 2019"]),  # the last group alone holds 10%
        ([40, 20, 20, 20], ["2017 - 2019"]),  # exactly 20% suffice
        ([10, 10, 10, 70], ["2017 - 2019"]),
    ],
)
def test_temporal_tests_on_the_latest_groups_that_hold_a_fifth(sizes, latest):
    groups = [year for year, size in zip(YEARS, sizes) for _ in range(size)]
    random.Random(3).shuffle(groups)
    patients = cohort(100).with_columns(group=pl.Series(groups))
    parts = make_parts(patients, kind="temporal")
    assert parts.meta["folds"] == [0] and parts.meta["test_groups"] == latest
    tested = parts.table.join(patients, on="patient_id").with_columns(late=pl.col("group").is_in(latest))
    assert tested.filter((pl.col("part") == "test") != pl.col("late")).is_empty()


def test_temporal_without_a_calendar_says_why():
    with pytest.raises(ConfigError, match="MIMIC-III shifts"):
        make_parts(cohort(50).with_columns(group=pl.lit(None, pl.String)), kind="temporal")


def test_temporal_never_tests_on_patients_without_a_group():
    groups = [None if i < 50 else "2011 - 2013" if i < 70 else "2014 - 2016" for i in range(100)]
    parts = make_parts(cohort(100).with_columns(group=pl.Series(groups)), kind="temporal")
    assert parts.meta["no_group"] == 50
    assert sorted(parts.table.filter(part="test")["patient_id"]) == list(range(70, 100))


# --- frozen -----------------------------------------------------------------------------------------------------------


def listed(n: int, parts=("train", "train", "train", "val", "test")) -> pl.DataFrame:
    return pl.DataFrame({"patient_id": [str(i) for i in range(n)], "part": [parts[i % len(parts)] for i in range(n)]})


def test_frozen_parts_stand_and_the_missing_ones_come_from_train():
    lists = listed(500)
    parts = make_parts(cohort(500), kind="frozen", frozen=lists)
    assert parts.meta["folds"] == [0] and parts.meta["unlisted"] == 0
    joined = parts.table.with_columns(pl.col("patient_id").cast(pl.String)).join(lists, on="patient_id", suffix="_listed")
    for part in ("val", "test"):
        assert joined.filter((pl.col("part") == part) != (pl.col("part_listed") == part)).is_empty()
    taken = {part: count["patients"] for part, count in parts.meta["counts"]["0"].items()}
    assert taken["val"] == taken["test"] == 100
    assert abs(taken["calib"] - 30) <= 2 and abs(taken["probe"] - 30) <= 2  # 10% of 300 train patients each, one more or less an outcome
    assert parts.meta["counts"]["0"]["calib"]["positive"] == pytest.approx(7.5, abs=1)


def test_a_complete_list_is_taken_as_it_is():
    lists = listed(100, PARTS)
    table = make_parts(cohort(100), kind="frozen", frozen=lists).table
    assert table["part"].to_list() == lists["part"].to_list()


def test_a_list_of_folds_makes_its_folds():
    ours = make_parts(cohort(200))
    again = make_parts(cohort(200), kind="frozen", frozen=ours.table.with_columns(pl.col("patient_id").cast(pl.String)))
    assert again.table.equals(ours.table) and again.meta["folds"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"new": "train"}, {"train": 100}),
        ({"new": "hash"}, {"train": 54, "val": 10, "calib": 8, "probe": 8, "test": 20}),
        ({"assign_new": True}, {"train": 54, "val": 10, "calib": 8, "probe": 8, "test": 20}),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_patients_in_no_list(options, expected, complete):
    lists = listed(400, PARTS if complete else ("train", "val", "test"))
    parts = make_parts(cohort(500).drop("outcome"), kind="frozen", frozen=lists, **options)
    assert (parts.meta["unlisted"], parts.meta["unlisted_share"]) == (100, 0.2)
    new = dict(parts.table.filter(pl.col("patient_id") >= 400)["part"].value_counts().iter_rows())
    if complete or parts.meta["new"] == "hash":
        assert new == expected
    else:  # as train patients they may be drawn for calib and probe
        assert sum(new.values()) == 100 and set(new) <= {"train", "calib", "probe"}


def test_patients_in_no_list_are_refused_unless_told_otherwise():
    with pytest.raises(InputError, match=r"100 of 500 patients \(20.0%\) are in no split list"):
        make_parts(cohort(500), kind="frozen", frozen=listed(400))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kind": "random"}, "unknown split"),
        ({"kind": "frozen"}, "needs its lists"),
        ({"frozen": listed(3)}, "needs its lists"),
        ({"folds": 1}, "1 folds"),
        ({"new": "maybe"}, "unknown way"),
    ],
)
def test_wrong_options_are_named(options, error):
    with pytest.raises(ConfigError, match=error):
        make_parts(cohort(10), **options)


@pytest.mark.parametrize(
    ("patients", "error"),
    [(cohort(0), "no patients"), (pl.DataFrame({"patient_id": [1, None, 3]}), "1 of 3 rows have no patient id")],
)
def test_patients_that_cannot_be_split(patients, error):
    with pytest.raises(InputError, match=error):
        make_parts(patients)
