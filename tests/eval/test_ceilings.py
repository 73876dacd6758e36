"""Reading the truth: the right probability for each sample and set, and never that of another clinic, task or window."""

import numpy as np
import polars as pl
import pytest
import simulated_truth
from simulated_truth import MORTALITY, SUBTYPING, Clinic

from omnifuse.eval import ceilings
from omnifuse.eval.ceilings import NoCeiling, read_ceilings
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, Task

LOS = Task("los", "binary", ("los > 7 d",), {"window_hours": 24})
PHENOTYPING = Task("phenotyping", "multilabel", ("a", "b"))
HISTOLOGY = Task("subtyping", "multiclass", ("adenocarcinoma", "squamous"))
SIX = Task("subtyping", "multiclass", ("AAH", "AIS", "MIA", "IA1", "IA2", "IA3"))


@pytest.fixture(scope="module")
def clinic():
    return Clinic(patients=150)


@pytest.fixture(scope="module")
def truth(clinic, tmp_path_factory):
    return clinic.write(tmp_path_factory.mktemp("truth") / "raw-truth")


@pytest.mark.parametrize("modalities", [["ehr"], ["cxr"], ["ehr", "cxr"], ["cxr", "ehr"], ["rep", "cxr", "ehr"]], ids="+".join)
def test_each_sample_gets_the_probability_of_its_set(clinic, truth, modalities):
    found = read_ceilings(truth, clinic.samples(), MORTALITY)
    wanted = np.array([str(stay) for stay in clinic.stay[::-1]])
    np.testing.assert_allclose(found.score(modalities, wanted)[:, 0], clinic.probability(modalities)[::-1], rtol=1e-12)


def test_samples_and_predictions_give_the_same(clinic, truth):
    whole, told = read_ceilings(truth, clinic.samples(), MORTALITY), read_ceilings(truth, clinic.predictions(), MORTALITY)
    some = told.sample
    assert set(some) <= set(whole.sample) and len(some) > 100
    np.testing.assert_array_equal(told.score(["ehr"], some), whole.score(["ehr"], some))


def test_what_is_unknown_has_no_number(clinic, tmp_path):
    known = clinic.stay % 3 > 0
    found = read_ceilings(clinic.write(tmp_path / "truth", known=known), clinic.samples(), MORTALITY)
    score = found.score(["ehr"], np.array([str(stay) for stay in clinic.stay]))[:, 0]
    np.testing.assert_array_equal(np.isfinite(score), known)
    assert np.isnan(found.score(["ehr"], np.array(["0", "99999999", "a"]))).all()
    assert found.score(["ehr", "dn"], score) is None and found.score(["sig"], score) is None
    assert found.modalities == ("ehr", "cxr", "rep")
    frame = found.to_frame()
    assert set(frame["modalities"]) == {"ehr", "cxr", "rep", "ehr+cxr", "ehr+rep", "cxr+rep", "ehr+cxr+rep", "cxr_last", "rep_stored"}
    assert frame.columns == ["sample_id", "modalities", "mortality"]


@pytest.mark.parametrize("task, groups", [(SUBTYPING, [[0, 1], [2, 3], [4, 5]]), (SIX, [[0], [1], [2], [3], [4], [5]])], ids=["3", "6"])
def test_grades_are_summed_to_the_classes_of_the_task(tmp_path, task, groups):
    lesions, samples = simulated_truth.write_lesions(tmp_path / "truth")
    place = {grade: number for number, group in enumerate(groups) for grade in [SIX.labels[index] for index in group]}
    samples = samples.with_columns(y=pl.concat_list(lesions["subtype"].replace_strict(place, return_dtype=pl.Float32)))
    found = read_ceilings(tmp_path / "truth", samples, task)
    score = found.score(["pet", "ct"], samples["sample_id"].to_numpy())
    chances = np.array(lesions["p_ct_pet"].to_list())
    np.testing.assert_allclose(score, np.column_stack([chances[:, group].sum(1) for group in groups]), rtol=1e-12)
    np.testing.assert_allclose(score.sum(1), 1, rtol=1e-9)


@pytest.mark.parametrize(
    "task", [LOS, PHENOTYPING, SUBTYPING, Task("mortality", "binary", ("mortality",), {"window_hours": 24.0})], ids=lambda task: task.name
)
def test_another_task_or_window_has_no_ceiling(clinic, truth, task):
    with pytest.raises(NoCeiling, match="truth is of mortality at 48 h, not of") as caught:
        read_ceilings(truth, clinic.samples(), task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [MORTALITY, HISTOLOGY], ids=["mortality", "histology"])
def test_the_lung_has_no_ceiling_of_another_task(tmp_path, task):
    _, samples = simulated_truth.write_lesions(tmp_path / "truth")
    with pytest.raises(NoCeiling, match="grades of lung lesions"):
        read_ceilings(tmp_path / "truth", samples, task)


def test_the_truth_of_another_clinic_is_refused(clinic, truth, tmp_path):
    """The same ids, other patients: a ceiling of theirs would be nonsense and look like a number."""
    other = Clinic(patients=150, seed=1)
    with pytest.raises(ArtefactError, match="not the truth of these samples: .* of 150 have another outcome"):
        read_ceilings(truth, other.samples().with_columns(stay_id=clinic.samples()["stay_id"]), MORTALITY)
    one = clinic.samples().with_columns(
        y=pl.when(pl.int_range(pl.len()) == 7).then(1 - pl.col("y").list.get(0)).otherwise(pl.col("y").list.get(0))
    )
    with pytest.raises(ArtefactError, match="1 of 150 have another outcome"):
        read_ceilings(truth, one.with_columns(y=pl.concat_list(pl.col("y").cast(pl.Float32))), MORTALITY)
    with pytest.raises(ArtefactError, match="150 of 150 are unknown to it"):
        read_ceilings(truth, clinic.samples().with_columns(stay_id=pl.col("stay_id") + 1000), MORTALITY)
    _, samples = simulated_truth.write_lesions(tmp_path / "lung")
    simulated_truth.write_lesions(tmp_path / "lung-2", seed=2)
    with pytest.raises(ArtefactError, match="another outcome"):
        read_ceilings(tmp_path / "lung-2", samples, SUBTYPING)


def test_a_refusal_tells_no_value(clinic, truth):
    with pytest.raises(ArtefactError) as caught:
        read_ceilings(truth, clinic.samples().with_columns(stay_id=pl.col("stay_id") + 1000), MORTALITY)
    assert not any(str(number) in str(caught.value) for number in (*clinic.stay, *clinic.patient))


@pytest.mark.parametrize(
    "make, told", [(lambda p: p.mkdir(), "no truth of a synthetic clinic"), (lambda p: None, "no truth of a synthetic")]
)
def test_a_folder_that_is_no_truth_is_one_line(clinic, tmp_path, make, told):
    make(tmp_path / "x")
    with pytest.raises(ArtefactError, match=told):
        read_ceilings(tmp_path / "x", clinic.samples(), MORTALITY)


def test_an_altered_truth_is_refused(clinic, tmp_path):
    folder = clinic.write(tmp_path / "truth")
    store.write_parquet(folder / "ceilings.parquet", pl.read_parquet(folder / "ceilings.parquet").with_columns(p_ehr=0.5))
    with pytest.raises(ArtefactError, match="altered"):
        read_ceilings(folder, clinic.samples(), MORTALITY)


def test_the_layout_is_that_which_the_clinic_writes(tmp_path):
    """The real generators, small: every sample of the design has a ceiling of every set, and the outcome is the one in the tables."""
    from omnifuse.preprocess.clinic.generate import TRUTH, generate
    from omnifuse.preprocess.clinic.lung import TRUTH as LUNG_TRUTH

    assert (ceilings.CLINIC, ceilings.LUNG) == (TRUTH, LUNG_TRUTH)
    summary = generate(tmp_path / "raw", patients=8, seed=3, modalities=("ehr",))
    truth = store.open(tmp_path / "raw-truth", TRUTH)
    stays = truth.table("stays.parquet").filter("design")
    samples = stays.select(
        "stay_id", sample_id=pl.col("stay_id").cast(pl.String), patient_id="subject_id", y=pl.concat_list(pl.col("died").cast(pl.Float32))
    )
    found = read_ceilings(tmp_path / "raw-truth", samples, MORTALITY)
    assert len(found.sample) == summary["design_stays"] > 0
    assert len(found.sets) == 17 and found.modalities == ("ehr", "cxr", "rep", "sig")
    for table in found.sets.values():
        assert np.isfinite(table).all() and (table > 0).all() and (table < 1).all()
    measured = dict(stays.select(pl.col("stay_id").cast(pl.String), "p_measured").iter_rows())
    np.testing.assert_allclose(found.score(["ehr"], found.sample)[:, 0], [measured[sample] for sample in found.sample], rtol=1e-9)
