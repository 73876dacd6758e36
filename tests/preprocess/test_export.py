"""Arrays and events for other tools: what stands in the files is what stands in the cohort, whatever its size."""

import csv
import functools
import gzip
import io
import json
import resource
import stat
import tracemalloc

import numpy as np
import polars as pl
import pytest

from omnifuse.models.extraction import extract
from omnifuse.preprocess import export, store
from omnifuse.preprocess.export import export_arrays, export_events, export_layout
from omnifuse.preprocess.normaliser import fit_normaliser
from omnifuse.preprocess.schema import ConfigError, InputError, ResourceError

TASKS = ("mortality", "phenotyping", "los", "los_remaining")


def load(path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def expected_series(cohort: store.Artefact, task: str) -> list[np.ndarray]:
    """The tokens of each sample, as docs/artefacts.md tells."""
    rows, tails = np.load(cohort.file("ehr.npy")), np.load(cohort.file("ehr_tails.npy"))
    series = []
    for start, length, tail in cohort.table(f"samples/{task}.parquet").select("ehr_start", "ehr_length", "ehr_tail").iter_rows():
        series.append(np.concatenate([rows[start : start + length], tails[[] if tail is None else [tail]]]))
    return series


def series_of(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    if "offsets" not in arrays:
        return [values[:length] for values, length in zip(arrays["X"], arrays["length"])]
    return [arrays["X"][start:end] for start, end in zip(arrays["offsets"], arrays["offsets"][1:])]


@pytest.mark.parametrize("task", TASKS)
def test_each_sample_has_its_own_values(icu, tmp_path, task):
    cohort = icu()
    summary = export_arrays(cohort, task, tmp_path / "a.npz")
    arrays = load(tmp_path / "a.npz")
    for ours, theirs in zip(series_of(arrays), expected_series(cohort, task), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert arrays["length"].tolist() == [len(values) for values in expected_series(cohort, task)]
    assert arrays["X"].dtype == np.float32 and arrays["X"].shape[-1] == 76 == len(arrays["header"])
    assert summary["rows"] == len(arrays["y"]) and summary["bins"] == arrays["length"].sum()
    assert summary["bytes"] == (tmp_path / "a.npz").stat().st_size and summary["shape"] == list(arrays["X"].shape)


def test_mortality_is_padded_to_its_window(icu, tmp_path):
    export_arrays(icu(), "mortality", tmp_path / "a.npz")
    arrays = load(tmp_path / "a.npz")
    assert arrays["X"].shape[1:] == (24, 76) and "offsets" not in arrays


def test_padding_holds_zeros(icu, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PADDED", ("phenotyping",))  # whose stays differ in length
    for normalise in (False, True):
        export_arrays(icu(), "phenotyping", tmp_path / "a.npz", normalise=normalise)
        arrays = load(tmp_path / "a.npz")
        behind = np.arange(arrays["X"].shape[1]) >= arrays["length"][:, None]
        assert behind.any() and not arrays["X"][behind].any()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fold", [0, 3])
@pytest.mark.parametrize("text_ids", [False, True])
def test_columns_stand_beside_their_samples(icu, tmp_path, task, fold, text_ids):
    cohort = icu(text_ids=text_ids)
    export_arrays(cohort, task, tmp_path / "a.npz", fold=fold)
    arrays, samples = load(tmp_path / "a.npz"), cohort.table(f"samples/{task}.parquet")
    for name in ("sample_id", "patient_id", "stay_id"):
        assert arrays[name].tolist() == samples[name].to_list()
    parts = {(k, patient): part for k, patient, part in cohort.table("parts.parquet").iter_rows()}
    assert arrays["part"].tolist() == [parts[fold, patient] for patient in samples["patient_id"]]
    assert all(parts[int(tested), patient] == "test" for tested, patient in zip(arrays["fold"], samples["patient_id"], strict=True))
    assert set(arrays["part"]) == {"train", "val", "calib", "probe", "test"}
    assert not any(array.dtype.hasobject for array in arrays.values())


@pytest.mark.parametrize(("task", "shape"), [("mortality", ()), ("phenotyping", (25,)), ("los", ()), ("los_remaining", ())])
def test_labels(icu, tmp_path, task, shape):
    cohort = icu()
    export_arrays(cohort, task, tmp_path / "a.npz")
    arrays, samples = load(tmp_path / "a.npz"), cohort.table(f"samples/{task}.parquet")
    assert arrays["y"].dtype == np.float32 and arrays["y"].shape == (samples.height, *shape)
    told = np.array([[np.nan if label is None else label for label in labels] for labels in samples["y"].to_list()], np.float32)
    np.testing.assert_array_equal(arrays["y"].reshape(told.shape), told)
    assert arrays["labels"].tolist() == cohort.meta["tasks"][task]["labels"]
    assert np.isnan(arrays["y"]).any() == (task == "mortality")  # the cohort's unknown labels
    assert ("remaining_hours" in arrays) == (task == "los_remaining")
    if task == "los_remaining":
        assert arrays["remaining_hours"].tolist() == samples["remaining_hours"].to_list()


def test_block_size_changes_no_byte_of_the_arrays(icu, tmp_path, monkeypatch):
    export_arrays(icu(), "los_remaining", tmp_path / "a.npz", normalise=True)
    monkeypatch.setattr(export, "BINS", 50)
    monkeypatch.setattr(store.Artefact, "batches", functools.partialmethod(store.Artefact.batches, rows=97))
    export_arrays(icu(), "los_remaining", tmp_path / "b.npz", normalise=True)
    one, other = load(tmp_path / "a.npz"), load(tmp_path / "b.npz")
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array)


def test_memory_does_not_grow_with_the_samples(icu, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "BINS", 2048)
    bins = sum(map(len, expected_series(icu(), "los_remaining")))
    tracemalloc.start()
    export_arrays(icu(), "los_remaining", tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bins * 304 > 20e6 and peak < 8e6


@pytest.mark.parametrize("task", TASKS)
def test_the_same_cohort_gives_the_same_bytes(icu, tmp_path, task):
    files = [tmp_path / "a.npz", tmp_path / "later" / "b.npz"]
    for file in files:
        export_arrays(icu(), task, file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert files[0].read_bytes() == files[1].read_bytes()


# --- normalised -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_normalised_by_the_training_part_of_the_fold(icu, tmp_path, task):
    cohort = icu()
    export_arrays(cohort, task, tmp_path / "raw.npz", fold=1)
    export_arrays(cohort, task, tmp_path / "z.npz", fold=1, normalise=True)
    raw, scaled = load(tmp_path / "raw.npz"), load(tmp_path / "z.npz")
    continuous = np.array(["->" not in name for name in raw["header"]])
    np.testing.assert_array_equal(scaled["X"][..., ~continuous], raw["X"][..., ~continuous])
    # Bins that several samples share count once; a tail is no bin.
    seen = {}
    for start, length, part in zip(
        *cohort.table(f"samples/{task}.parquet").select("ehr_start", "ehr_length").to_dict().values(), raw["part"]
    ):
        if part == "train":
            seen |= dict.fromkeys(range(start, start + length))
    used = np.load(cohort.file("ehr.npy"))[sorted(seen)].astype(float)
    mean, std = used.mean(0), used.std(0, ddof=1)
    for ours, theirs in zip(series_of(scaled), series_of(raw), strict=True):
        np.testing.assert_allclose(ours[:, continuous], ((theirs - mean) / std)[:, continuous], atol=1e-4)


def test_normalised_as_the_features_that_models_read(icu, tmp_path):
    cohort = icu()
    features = extract(cohort, "los_remaining", tmp_path / "features", fit_normaliser).json("normaliser.json")["ehr"]
    for fold in range(5):
        mean, std = fit_normaliser(cohort, "los_remaining", fold)
        np.testing.assert_allclose(mean, features[str(fold)]["mean"], rtol=1e-12)
        np.testing.assert_allclose(std, features[str(fold)]["std"], rtol=1e-12)


def test_a_cohort_too_small_to_train_on_is_exported_but_not_normalised(icu, tmp_path):
    cohort = icu(patients=1)
    assert cohort.meta["splits"]["refused"]
    export_arrays(cohort, "los", tmp_path / "a.npz", fold=2)
    assert load(tmp_path / "a.npz")["part"].tolist() == ["test", "test"]
    with pytest.raises(InputError, match="the part train of fold 2 holds no bin of ehr for los"):
        export_arrays(cohort, "los", tmp_path / "b.npz", fold=2, normalise=True)
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize(
    ("task", "fold", "error"),
    [("mortalty", 0, "no task mortalty .did you mean mortality"), ("los", 5, "no fold 5 .its folds: 0, 1, 2, 3, 4")],
)
def test_what_the_cohort_lacks_is_named(icu, tmp_path, task, fold, error):
    with pytest.raises(ConfigError, match=error):
        export_arrays(icu(), task, tmp_path / "a.npz", fold=fold)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["arrays", "events", "layout"])
def test_a_full_disk_is_one_line_and_leaves_nothing(icu, tmp_path, what):
    write = {
        "arrays": lambda cohort, out: export_arrays(cohort, "los_remaining", out),
        "events": export_events,
        "layout": lambda cohort, out: export_layout(cohort, "medfuse", out),
    }[what]
    cohort, before = icu(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))  # a file that grows beyond it fails as on a full disk
    try:
        with pytest.raises(ResourceError, match="the disk is full"):
            write(cohort, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [lambda cohort, out: export_arrays(cohort, "los", out), export_events])
def test_a_folder_is_no_file(icu, tmp_path, write):
    with pytest.raises(ConfigError, match="is a folder"):
        write(icu(), tmp_path)


def test_a_failed_export_leaves_the_old_file(icu, tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_bytes(b"older")
    monkeypatch.setattr(export, "_gather", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_arrays(icu(), "los", tmp_path / "a.npz")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"older"]


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [200_000, 7])
def test_events_are_those_of_the_cohort(icu, tmp_path, monkeypatch, rows):
    cohort = icu()
    monkeypatch.setattr(store.Artefact, "batches", functools.partialmethod(store.Artefact.batches, rows=rows))
    summary = export_events(cohort, tmp_path / "events.csv.gz")
    raw = (tmp_path / "events.csv.gz").read_bytes()
    table = pl.read_csv(io.BytesIO(gzip.decompress(raw)), schema=cohort.table("events.parquet").schema)
    assert table.equals(cohort.table("events.parquet"))
    assert gzip.decompress(raw).split(b"\n")[0].decode().split(",")[:4] == [
        "stay_id",
        "hours",
        "Capillary refill rate",
        "Diastolic blood pressure",
    ]
    assert summary == {"files": 1, "rows": table.height, "bytes": len(raw)}
    assert raw[3:8] == bytes(5)  # neither name nor time in the gzip header
    assert stat.S_IMODE((tmp_path / "events.csv.gz").stat().st_mode) == 0o600
    assert json.dumps(summary)


def test_events_that_need_quotes_survive(icu, tmp_path):
    awkward = ["1,000", 'say "ah"', "two\nlines", " 97 ", "None", "", None]
    table = icu().table("events.parquet").head(len(awkward)).with_columns(pl.Series("Heart Rate", awkward))
    with store.create(tmp_path / "c", "cohort", fingerprint="") as out:
        store.write_parquet(out.path("events.parquet"), table)
    export_events(store.open(tmp_path / "c", "cohort"), tmp_path / "e.csv.gz")
    text = gzip.decompress((tmp_path / "e.csv.gz").read_bytes()).decode()
    column = [row["Heart Rate"] for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    assert column == [value or "" for value in awkward]
