"""Samples and batches: the rows the docs tell, normalised, in an order that is a function of seed, epoch and sample."""

import itertools

import cohorts
import numpy as np
import polars as pl
import pytest
import torch

from omnifuse.models.extraction import extract
from omnifuse.preprocess import ordering, store
from omnifuse.preprocess.dataset import open_samples
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.schema import PARTS, ArtefactError, ConfigError, InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    cohort = cohorts.make(
        path / "cohort", kind="multilabel", modalities=("ehr", "rep"), patients=200, steps=(1, 12), tails=True, absent=0.4, unknown=0.2
    )
    return cohort, extract(cohort, "multilabel", path / "features", fit_normaliser)


@pytest.fixture(scope="module")
def samples(made):
    return open_samples(*made, "multilabel", 1, ("ehr", "rep"))


def by_hand(cohort, features, fold, name, sample) -> np.ndarray:
    """The tokens of one sample, read one row after the other."""
    row = cohort.table("samples/multilabel.parquet").row(by_predicate=pl.col("sample_id") == sample, named=True)
    start, length, tail = row[f"{name}_start"], row[f"{name}_length"], row[f"{name}_tail"]
    rows = list(np.load(cohort.file(f"{name}.npy"))[start : start + length])
    rows += [] if tail is None else [np.load(cohort.file(f"{name}_tails.npy"))[tail]]
    fitted = features.json("normaliser.json")[name][str(fold)]
    return (np.array(rows).reshape(-1, 76) - np.float32(fitted["mean"])) / np.float32(fitted["std"])


def test_a_batch_holds_what_stands_on_disk(made, samples):
    seen = 0
    for batch in samples.part("train").batches(16, seed=4, epoch=2):
        for place, sample in enumerate(batch.sample_id):
            for column, name in enumerate(("ehr", "rep")):
                expected = by_hand(*made, 1, name, sample)
                real = batch.mask[name][place]
                assert real.sum() == len(expected) and real[: len(expected)].all()
                np.testing.assert_allclose(batch.values[name][place, : len(expected)], expected, rtol=1e-5, atol=1e-5)
                assert (batch.values[name][place, len(expected) :] == 0).all()
                assert batch.present[place, column] == (len(expected) > 0)
            seen += 1
    assert seen == len(samples.part("train"))


def test_labels_and_masks(made, samples):
    told = {row["sample_id"]: row["y"] for row in made[0].table("samples/multilabel.parquet").iter_rows(named=True)}
    for batch in samples.part("val").batches(16):
        for place, sample in enumerate(batch.sample_id):
            known = [not np.isnan(value) for value in told[sample]]
            assert batch.label_mask[place].tolist() == known
            assert batch.label[place].tolist() == [value if there else 0 for value, there in zip(told[sample], known)]
    assert not batch.label_mask.all()


def test_parts_are_the_cohorts_and_share_no_patient(made, samples):
    parts = made[0].table("parts.parquet").filter(fold=1)
    for name in PARTS:
        assert set(samples.part(name).patient_id) == set(parts.filter(part=name)["patient_id"].cast(pl.String))
    rows = made[0].table("samples/multilabel.parquet")["sample_id"]
    assert all(rows[int(row) - 1] == sample for row, sample in zip(samples.part("test").row, samples.part("test").sample_id))


def test_samples_with_none_of_the_modalities_are_counted_out(made, samples):
    only = open_samples(*made, "multilabel", 1, ("rep",))
    for name in PARTS:
        absent = int((~samples.part(name).present[:, 1]).sum())
        assert only.excluded[name] == absent and len(only.part(name)) == len(samples.part(name)) - absent
    assert only.excluded["train"] > 0 and only.part("train").present.all()


def test_the_normaliser_is_of_the_fold(made):
    """Over the bins that the training samples hold, the continuous columns have mean 0 and deviation 1; another fold's differ."""
    values = []
    for fold in (0, 1):
        (batch,) = open_samples(*made, "multilabel", fold, ("ehr",)).part("train").batches(1000)
        real = batch.mask["ehr"].clone()
        has_tail = torch.from_numpy(~made[0].table("samples/multilabel.parquet")["ehr_tail"].is_null().to_numpy())
        order = made[0].table("samples/multilabel.parquet")["sample_id"].to_list()
        for place, sample in enumerate(batch.sample_id):
            if has_tail[order.index(sample)]:
                real[place, real[place].sum() - 1] = False
        values.append(batch.values["ehr"][real])
    for rows in values:
        np.testing.assert_allclose(rows[:, :12].mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(rows[:, :12].std(0), 1, atol=1e-4)
        assert rows[:, 12:].mean() == pytest.approx(5, abs=0.2)  # what is not continuous is left alone


def batch_ids(part, **how):
    return [batch.sample_id for batch in part.batches(16, **how)]


def test_an_epoch_holds_every_sample_once_in_batches_of_like_size(samples):
    part = samples.part("train")
    batches = batch_ids(part, seed=0, epoch=1)
    assert sorted(itertools.chain(*batches)) == sorted(part.sample_id)
    assert {len(batch) for batch in batches} <= {15, 16}


def test_the_order_is_a_function_of_seed_and_epoch(samples):
    part = samples.part("train")
    first = batch_ids(part, seed=0, epoch=1)
    assert batch_ids(part, seed=0, epoch=1) == first
    assert batch_ids(part, seed=0, epoch=2) != first != batch_ids(part, seed=1, epoch=1)
    assert batch_ids(part, seed=0, epoch=1, start=3) == first[3:]


def test_the_order_of_the_table_has_no_part_in_it(samples):
    part = samples.part("train")
    turned = part._rows(np.arange(len(part))[::-1])
    sets = lambda batches: [set(batch) for batch in batches]
    assert sets(batch_ids(turned, seed=0, epoch=1)) == sets(batch_ids(part, seed=0, epoch=1))
    keys = [dict(zip(b.sample_id, b.key.tolist())) for p in (part, turned) for b in p.batches(1000, seed=0, epoch=1)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_one(samples, world):
    part = samples.part("train")
    whole = [sorted(ids) for ids in (b.sample_id for b in part.batches(12 * world, seed=0, epoch=1))]
    shares = [batch_ids_of(part, 12, rank, world) for rank in range(world)]
    assert [sorted(itertools.chain(*batch)) for batch in zip(*shares)] == whole


def batch_ids_of(part, size, rank, world):
    return [batch.sample_id for batch in part.batches(size, seed=0, epoch=1, rank=rank, world=world)]


def test_samples_of_like_length_share_a_batch(samples):
    """Padding is a small share, although lengths run from 1 to 13."""
    part = samples.part("train")
    real, padded = 0, 0
    for batch in part.batches(16, seed=0, epoch=1):
        real, padded = real + int(batch.mask["ehr"].sum()), padded + batch.mask["ehr"].numel()
    assert real / padded > 0.85


@pytest.mark.parametrize("key", [None, np.arange(50, dtype=np.uint64) * np.uint64(977)])
def test_long_samples_share_smaller_batches(key):
    longest = np.r_[np.full(40, 10), np.full(10, 400)]
    plan = ordering.plan_batches(longest, 25, key=key, max_tokens=1000)
    assert sorted(np.concatenate(plan)) == list(range(50))
    assert all(longest[index].max() * len(index) <= 1000 for index in plan)


def test_the_hash_of_an_id_is_a_function_of_its_text():
    alone, among = (ordering.hash_ids(pl.Series(texts)) for texts in (["ab", "é"], ["something longer", "ab", "é", "a", ""]))
    assert (alone == among[1:3]).all() and len(set(among)) == 5
    assert ordering.hash_ids(pl.Series([], dtype=pl.String)).shape == (0,)


def test_hidden_modalities_are_not_there(samples):
    part = samples.part("train")
    one = part.having(["rep"])
    assert len(one) == part.present[:, 1].sum()
    batch = next(one.batches(8))
    assert not batch.present[:, 0].any() and not batch.mask["ehr"].any() and not batch.values["ehr"].any()
    assert batch.values["rep"].any()
    shown = next(part.batches(8)).hide(torch.tensor([True, False]))
    assert shown.present.tolist() == [[True, False]] * len(shown)


def test_a_batch_is_cut_and_keeps_its_samples_apart(samples):
    batch = next(samples.part("train").batches(8, seed=0))
    cut = batch.take(torch.tensor([5, 2]))
    assert cut.sample_id == [batch.sample_id[5], batch.sample_id[2]] and len(cut) == 2
    assert torch.equal(cut.values["ehr"], batch.values["ehr"][[5, 2]]) and torch.equal(cut.key, batch.key[[5, 2]])


def open_encoded(made, tmp_path, known: int, lengths: np.ndarray):
    """Samples that have two neighbouring items of `rep` each, in the order of the table, encoded in `lengths` rows of three numbers."""
    cohort, features = made
    samples = cohort.table("samples/multilabel.parquet").with_row_index("at")
    place = pl.col("at").cast(pl.Int64)
    samples = samples.with_columns(rep_start=2 * place, rep_length=pl.when(place < known).then(2).otherwise(0)).drop("at")
    with store.create(tmp_path / "c", "cohort", fingerprint=cohort.fingerprint, meta=dict(cohort.meta)) as out:
        for name in cohort.files:
            out.path(name).write_bytes(cohort.file(name).read_bytes())
        store.write_parquet(out.path("samples/multilabel.parquet"), samples)
    with store.create(tmp_path / "encoded", "encoded", fingerprint="e", meta={"items": 2 * len(samples)}) as out:
        store.write_npy(out.path("rows.npy"), np.arange(3 * lengths.sum(), dtype=np.float16).reshape(-1, 3))
        index = pl.DataFrame({"item": np.arange(len(lengths)), "length": lengths}, schema={"item": pl.Int64, "length": pl.Int32})
        store.write_parquet(out.path("index.parquet"), index)
    folds = {str(fold): {"folder": "../encoded", "fingerprint": "e"} for fold in range(5)}
    with store.create(tmp_path / "f", "features", fingerprint="f", meta=dict(features.meta)) as out:
        store.write_json(out.path("normaliser.json"), {"ehr": features.json("normaliser.json")["ehr"]})
        out.meta["modalities"] = {**features.meta["modalities"], "rep": {"from": "encoded", "dim": 3, "kind": "series", "folds": folds}}
    return open_samples(store.open(tmp_path / "c", "cohort"), store.open(tmp_path / "f", "features"), "multilabel", 0, ("ehr", "rep"))


def test_rows_of_neighbouring_items_are_a_samples_tokens(made, tmp_path):
    """Items of 0 to 2 rows; a sample none of whose items could be used lacks the modality."""
    lengths = np.random.default_rng(0).integers(0, 3, 380)
    opened = open_encoded(made, tmp_path, 190, lengths)
    order = made[0].table("samples/multilabel.parquet")["sample_id"].to_list()
    begin = np.cumsum(lengths) - lengths
    assert opened.dims == {"ehr": 76, "rep": 3}
    seen = 0
    for batch in opened.part("train").batches(16):
        for sample, values, mask, there in zip(batch.sample_id, batch.values["rep"], batch.mask["rep"], batch.present[:, 1]):
            at = order.index(sample)
            rows = np.r_[0:0] if at >= 190 else np.arange(begin[2 * at], begin[2 * at] + lengths[2 * at] + lengths[2 * at + 1])
            assert there == (len(rows) > 0) and mask.sum() == len(rows)
            assert values[mask].tolist() == [[3 * row, 3 * row + 1, 3 * row + 2] for row in rows]
            assert not values[~mask].any()
            seen += len(rows)
    assert seen > 100


def test_items_that_were_not_encoded_are_told(made, tmp_path):
    with pytest.raises(ArtefactError, match="lacks items of these samples"):
        open_encoded(made, tmp_path, 190, np.ones(379, int))


def test_what_cannot_be_opened(made, tmp_path):
    cohort, features = made
    wrong = [
        (("multilable", 0, ("ehr",)), ConfigError, r"no task 'multilable' \(did you mean multilabel\?\)"),
        (("multilabel", 7, ("ehr",)), ConfigError, r"no fold 7 \(its folds: 0, 1, 2, 3, 4\)"),
        (("multilabel", 0, ("her",)), ConfigError, r"no modality 'her' \(did you mean ehr\?\)"),
        (("multilabel", 0, ()), ConfigError, "no modality is named"),
    ]
    for arguments, error, message in wrong:
        with pytest.raises(error, match=message):
            open_samples(cohort, features, *arguments)
    other = cohorts.make(tmp_path / "other", kind="multilabel", patients=100, dim=4)
    with pytest.raises(ArtefactError, match="not of this cohort's task multilabel"):
        open_samples(other, features, "multilabel", 0, ("ehr",))
    small = cohorts.make(tmp_path / "small", patients=6, dim=4)
    with pytest.raises(InputError, match="cannot be trained on"):
        extract(small, "binary", tmp_path / "f", fit_normaliser)


def test_a_modality_that_nobody_has_is_named(made, tmp_path):
    with pytest.raises(InputError, match="modality rep is absent in every training sample of multilabel, fold 0"):
        open_encoded(made, tmp_path, 0, np.ones(380, int))


def test_extraction_is_done_once(made):
    cohort, features = made
    stamp = (features.folder / "manifest.json").stat().st_mtime_ns
    again = extract(cohort, "multilabel", features.folder, fit=None)
    assert (again.folder / "manifest.json").stat().st_mtime_ns == stamp
