"""Folds and parts, by patient: which patients train, choose, calibrate, probe and test, fixed in the cohort before any model.

    fold  the test fold of a patient: equal slices of the patients in the order of sha256(seed, id), outcome by outcome
    part  for fold k: test where the patient's fold is k; the others are sliced again, in an order of their own for each k,
          into val 12.5%, calib 10%, probe 10%, train the rest (schema.PART_SHARES)

Each share is one of the others, not of all: of five folds, val is 10% of all patients, as in the 70/10/20 of MedFuse, and calib and
probe are 8% each. An order by hash depends neither on the order of the rows nor on a random generator's version, and a cohort that
grows moves only the patients at the borders of the slices. A patient with several rows counts once, with the highest outcome and the
latest group of them. A frozen list and a calendar split make one fold, 0, of the same table.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from omnifuse.preprocess.frozen import read_frozen
from omnifuse.preprocess.schema import FOLDS, PART_SHARES, PARTS, ConfigError, InputError, nearest

__all__ = ["Parts", "make_parts", "read_frozen", "require_trainable"]

SPLITS = ("hash", "frozen", "temporal")
NEW = ("refuse", "train", "hash")
TEST_SHARE = 0.2  # of a calendar split, and of the patients that a frozen list does not know


@dataclass(frozen=True)
class Parts:
    """`table`: fold int8, patient_id, part; sorted, one row a fold and patient. `meta`: what the manifest keeps of it."""

    table: pl.DataFrame
    meta: dict[str, Any]


def make_parts(
    patients: pl.DataFrame,
    *,
    kind: str = "hash",
    seed: int = 0,
    folds: int = FOLDS,
    frozen: pl.DataFrame | None = None,
    new: str = "refuse",
    assign_new: bool = False,
) -> Parts:
    """Gives every patient one part in every fold.

    Args:
        patients: `patient_id` (integer or text; 7 and "7" fall alike), and where known `outcome` (small integer; what is stratified by:
            0 and 1, or a class) and `group` (text that sorts by calendar, as anchor_year_group does).
        kind: `hash`, `frozen` (the lists decide) or `temporal` (the latest groups until a fifth of the patients are test).
        frozen: `patient_id, part` and perhaps `fold`, from `read_frozen`. A part of val, calib and probe that the lists do not name
            is taken from their train patients, in its share.
        new: patients in no list are a reason to stop (`refuse`), fall to `train` as in mimic3-benchmarks and MedFuse, or are split
            by `hash` as a cohort of their own.
        assign_new: the same as `new="hash"`.

    Missing data:
        Patients without an outcome are a stratum of their own; where nobody has one, outcomes are not judged. In a temporal split
        patients without a group are never test.

    Raises:
        ConfigError: an unknown kind, folds below 2, no lists for `frozen`, no calendar for `temporal`.
        InputError: no patients, a null id, patients in no list with `new="refuse"`.
    """
    _check(kind, folds, new, frozen)
    people = _one_row_each(patients)
    notes: dict[str, Any] = {}
    if kind == "hash":
        numbers = list(range(folds))
        fold_of = _sliced(people, f"{seed}:fold", dict.fromkeys(numbers, 1 / folds))
        parts = {k: _with_test(people, fold_of == k, f"{seed}:part:{k}") for k in numbers}
    elif kind == "frozen":
        parts, notes = _from_lists(people, frozen, "hash" if assign_new else new, seed)
    else:
        test, notes = _latest(people)
        parts = {0: _with_test(people, test, f"{seed}:part:0")}
    table = pl.concat([people.select(pl.lit(k, pl.Int8).alias("fold"), "patient_id", part.alias("part")) for k, part in parts.items()])
    table = table.sort("fold", "patient_id")
    return Parts(table, _describe(table, people, {"kind": kind, "seed": seed, "folds": list(parts)}, notes))


def require_trainable(meta: Mapping[str, Any], fold: int) -> None:
    """Raises where a cohort of these splits cannot be trained on, although it can be preprocessed and exported.

    Raises:
        ConfigError: the cohort has no such fold.
        InputError: the parts are too small; the text is `meta["refused"]`.
    """
    if fold not in meta["folds"]:
        raise ConfigError(f"the cohort has no fold {fold}", hint=f"its folds: {', '.join(map(str, meta['folds']))}")
    if meta["refused"]:
        raise InputError(f"this cohort cannot be trained on: {meta['refused']}", hint="it can be exported; training needs more patients")


def _check(kind: str, folds: int, new: str, frozen: pl.DataFrame | None) -> None:
    if kind not in SPLITS:
        raise ConfigError(f"unknown split {kind!r}", hint=nearest(kind, SPLITS))
    if new not in NEW:
        raise ConfigError(f"unknown way {new!r} to treat patients in no list", hint=nearest(new, NEW))
    if not 2 <= folds <= 127:
        raise ConfigError(f"{folds} folds: from 2 to 127 are possible")
    if (kind == "frozen") != (frozen is not None):
        raise ConfigError("a frozen split needs its lists, and only a frozen split takes lists", hint="--splits FILE")


def _one_row_each(patients: pl.DataFrame) -> pl.DataFrame:
    """`patient_id` as given, `key` (its text), `outcome` int16, `group`: one row a patient, by key."""
    absent = [pl.lit(None).alias(name) for name in ("outcome", "group") if name not in patients.columns]
    people = patients.with_columns(absent).select(
        "patient_id", pl.col("patient_id").cast(pl.String).alias("key"), pl.col("outcome").cast(pl.Int16), pl.col("group").cast(pl.String)
    )
    if people.is_empty():
        raise InputError("there are no patients to split")
    if unnamed := people["key"].null_count():
        raise InputError(f"{unnamed} of {people.height} rows have no patient id")
    return people.group_by("patient_id", "key").agg(pl.col("outcome").max(), pl.col("group").max()).sort("key")


def _sliced(people: pl.DataFrame, salt: str, shares: Mapping[Any, float]) -> pl.Series:
    """The name of each patient's slice: of every stratum, `shares` of it within one patient, in the order of the hash.

    The patient of rank r of n stands at (r + 1/2) / n, so that a slice holds its share rounded down or up.
    """
    digests = [int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "big") for key in people["key"]]
    ordered = people.select("outcome").with_row_index("row").with_columns(pl.Series("digest", digests, dtype=pl.UInt64))
    ordered = ordered.with_columns(pl.col("outcome").fill_null(-1000)).sort("outcome", "digest", "row")  # rows stand in the order of ids
    place = (pl.int_range(pl.len()).over("outcome") + 0.5) / pl.len().over("outcome")
    slices, end = pl.lit(list(shares)[-1]), sum(shares.values())
    for name, share in reversed(list(shares.items())):  # from the last border to the first: each `when` overrules those behind it
        slices, end = pl.when(place < end).then(pl.lit(name)).otherwise(slices), end - share
    return ordered.select("row", slices.alias("slice")).sort("row")["slice"]


def _with_test(people: pl.DataFrame, test: pl.Series, salt: str) -> pl.Series:
    """The parts of one fold: `test` where told, the others by PART_SHARES."""
    return _fill(people, pl.select(pl.when(test).then(pl.lit("test"))).to_series(), salt, ("val", "calib", "probe"))


def _fill(people: pl.DataFrame, part: pl.Series, salt: str, names: tuple[str, ...]) -> pl.Series:
    """Gives patients without a part one of `names` in its share, the rest train."""
    rest = part.is_null()
    if not rest.any():
        return part
    shares = {name: PART_SHARES[name] for name in names}
    drawn = _sliced(people.filter(rest), salt, {**shares, "train": 1 - sum(shares.values())})
    return part.scatter(rest.arg_true(), drawn)


def _latest(people: pl.DataFrame) -> tuple[pl.Series, dict[str, Any]]:
    """Who belongs to the latest groups that together hold a fifth of the patients."""
    counts = people.drop_nulls("group").group_by("group").len().sort("group", descending=True)
    if counts.is_empty():
        raise ConfigError(
            "a temporal split needs a calendar, and no patient has an anchor_year_group (MIMIC-III shifts each patient's dates by another "
            "time, so that its years cannot be compared)",
            hint="use --split hash",
        )
    before = counts["len"].cum_sum() - counts["len"]
    groups = counts.filter(before < TEST_SHARE * people.height)["group"]
    notes = {"test_groups": sorted(groups), "no_group": people["group"].null_count()}
    return people["group"].is_in(groups.to_list()).fill_null(False), notes


def _from_lists(people: pl.DataFrame, frozen: pl.DataFrame, new: str, seed: int) -> tuple[dict[int, pl.Series], dict[str, Any]]:
    """The parts that the lists name, for each of their folds."""
    frozen = frozen.with_columns(pl.col("patient_id").cast(pl.String).alias("key"))
    numbers = frozen["fold"].unique().sort().to_list() if "fold" in frozen.columns else [0]
    parts, unlisted = {}, 0
    for fold in numbers:
        listed = frozen.filter(pl.col("fold") == fold) if "fold" in frozen.columns else frozen
        part = people.select("key").join(listed.select("key", "part").unique(), on="key", how="left", maintain_order="left")["part"]
        strange = part.is_null()
        unlisted = max(unlisted, int(strange.sum()))
        if strange.any() and new == "refuse":
            raise InputError(
                f"{strange.sum()} of {people.height} patients ({strange.mean():.1%}) are in no split list",
                hint="give lists that name them, or --assign-new to split them by hash",
            )
        part = pl.select(pl.when(part != "train").then(part)).to_series()  # train is what is left when the other parts are drawn
        if new == "hash" and strange.any():
            part = part.scatter(strange.arg_true(), _as_own_cohort(people.filter(strange), seed, fold))
        missing = tuple(name for name in PART_SHARES if name not in listed["part"])
        parts[int(fold)] = _fill(people, part, f"{seed}:frozen:{fold}", missing)
    return parts, {"unlisted": unlisted, "unlisted_share": unlisted / people.height, "new": new}


def _as_own_cohort(people: pl.DataFrame, seed: int, fold: int) -> pl.Series:
    test = _sliced(people, f"{seed}:new:{fold}", {"test": TEST_SHARE, "others": 1 - TEST_SHARE}) == "test"
    return _with_test(people, test, f"{seed}:new:part:{fold}")


def _describe(table: pl.DataFrame, people: pl.DataFrame, meta: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
    """meta with the counts, the sha256 of the content and the reason to refuse training."""
    known = table.join(people.select("patient_id", "outcome"), on="patient_id", how="left")
    tally = known.group_by("fold", "part").agg(pl.len().alias("patients"), (pl.col("outcome") > 0).sum().alias("positive"))
    counts = {str(fold): {part: {"patients": 0, "positive": 0} for part in PARTS} for fold in meta["folds"]}
    for row in tally.iter_rows(named=True):
        counts[str(row["fold"])][row["part"]] = {"patients": row["patients"], "positive": int(row["positive"])}
    refused = _refusal(known, counts)
    return {**meta, "sha256": content_hash(table), "patients": people.height, "counts": counts, "refused": refused, **notes}


def content_hash(table: pl.DataFrame) -> str:
    """sha256 of who is in which part; 7 and "7" are the same patient."""
    content = table.with_columns(pl.col("patient_id").cast(pl.String)).sort("fold", "patient_id").write_csv()
    return hashlib.sha256(content.encode()).hexdigest()


def _refusal(known: pl.DataFrame, counts: dict[str, Any]) -> str | None:
    """Why nobody should train on these parts, in one sentence, or None."""
    patients = sum(part["patients"] for part in next(iter(counts.values())).values())
    if patients < len(counts):
        return f"{patients} patients are too few for {len(counts)} folds"
    for fold, parts in counts.items():
        for name, count in parts.items():
            if not count["patients"]:
                return f"the part {name} of fold {fold} is empty ({patients} patients in all)"
    held = known.drop_nulls("outcome").group_by("fold", "part", "outcome").len()
    seen = set(held.select("fold", "part", "outcome").iter_rows())
    expected = sorted({0, 1, *held["outcome"].unique()}) if seen else []
    for fold, name, outcome in itertools.product(map(int, counts), ("train", "val", "test"), expected):
        if (fold, name, outcome) not in seen:
            people = int(held.filter((pl.col("fold") == fold) & (pl.col("outcome") == outcome))["len"].sum())
            return f"the part {name} of fold {fold} has no patient with outcome {outcome} ({people} of {patients} patients have it)"
    return None
