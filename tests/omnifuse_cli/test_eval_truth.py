"""omnifuse eval on cohorts of the clinic: the truth is found without a flag, is the right one, or is not taken."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from command_line import run

from omnifuse import chosen, truths, workspace
from omnifuse.main import main
from omnifuse.preprocess import store
from omnifuse.preprocess.clinic.generate import generate
from omnifuse.preprocess.clinic.lung import generate_lung
from omnifuse.preprocess.schema import PREDICTION_COLUMNS, ArtefactError

MODELS = {"mimic": (("unimodal", ["ehr"]), ("concat", ["ehr", "cxr"])), "lung": (("unimodal", ["ct"]), ("concat", ["ct", "rep"]))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with raw files, truths and cohorts of both settings, and runs of random scores."""
    study = tmp_path_factory.mktemp("truths") / "study"
    with pytest.MonkeyPatch.context() as patch:
        main(["init", str(study)])
        patch.chdir(study)
        generate(study / "raw", patients=60, modalities=("ehr",))
        generate_lung(study / "raw-lung", patients=20)
        main(["preprocess", "mimic", "--task", "mortality", "--task", "los"])
        main(["preprocess", "lung", "--manifest", "raw-lung/manifest.csv", "--size", "32", "--slices", "4"])
    for name, task in (("mimic", "mortality"), ("mimic", "los"), ("lung", "subtyping")):
        write_runs(study, name, task)
    return study


def write_runs(study, name: str, task: str) -> None:
    """Runs as training leaves them, of scores that know nothing."""
    cohort = store.open(study / "cohorts" / name, "cohort")
    samples, told = cohort.table(f"samples/{task}.parquet"), cohort.meta["tasks"][task]
    labels = told["labels"]
    random = np.random.default_rng(0)
    y = np.array(samples["y"].to_list())[:, 0].astype(int)
    truth = np.eye(len(labels))[y] if told["kind"] == "multiclass" else y[:, None]
    for (method, modalities), fold in [(model, fold) for model in MODELS[name] for fold in range(5)]:
        score = random.dirichlet(np.ones(len(labels)), len(y)) if len(labels) > 1 else random.random((len(y), 1))
        frame = pl.DataFrame(
            {
                "run_id": "r", "method": method, "seed": 0, "fold": fold, "head": "final",
                "sample_id": samples["sample_id"].to_numpy().repeat(len(labels)), "label_name": labels * len(y),
                "patient_id": samples["patient_id"].cast(pl.String).to_numpy().repeat(len(labels)),
                "y_true": truth.ravel().astype(float), "y_mask": True, "y_score": score.ravel(),
            }
        )  # fmt: skip
        parts = cohort.table("parts.parquet").filter(pl.col("fold") == fold).select(pl.col("patient_id").cast(pl.String), "part")
        frame = frame.join(parts, on="patient_id").filter(pl.col("part") != "train").select(PREDICTION_COLUMNS)
        path = study / "runs" / name / task / f"{method}-{'+'.join(modalities)}" / "key" / f"fold{fold}"
        meta = {"method": method, "task": task, "modalities": modalities, "fold": fold, "seed": 0, "cohort": cohort.fingerprint}
        with store.create(path, "run", fingerprint=f"{name}{task}{method}{fold}", meta=meta) as out:
            store.write_parquet(out.path("predictions/full.parquet"), frame)


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """A copy, to be moved about in; the cohort of the lung names the raw folder of the one it was made in."""
    shutil.copytree(made, tmp_path / "study", ignore=shutil.ignore_patterns("raw-lung", "runs"))
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def look(name: str, task: str, told=None):
    """What `omnifuse eval` would take for the truth, in the working folder."""
    space = workspace.find()
    path, cohort = chosen.cohort(space, name)
    return truths.read(space, path, cohort, task, told)


@pytest.mark.parametrize("name, truth", [("mimic", "raw-truth"), ("lung", "raw-lung-truth")], ids=["mortality", "subtyping"])
def test_both_settings_show_their_ceilings_without_a_flag(made, monkeypatch, capsys, name, truth):
    monkeypatch.chdir(made)
    task = "mortality" if name == "mimic" else "subtyping"
    code, out, err = run(capsys, "eval", "--cohort", name, "--task", task, "--resamples", "100")
    results = json.loads((made / "reports" / name / task / "metrics.json").read_text())
    assert code == 0 and "no ceilings" not in err
    assert results["ceilings"]["fingerprint"] == json.loads((made / truth / "manifest.json").read_text())["fingerprint"]
    header, *rows = out.splitlines()[1 : 2 + len(results["models"])]
    assert header.index("AUROC") < header.index("CEILING") < header.index("ATTAINED") < header.index("AUPRC")
    for row, model in zip(rows, results["models"], strict=True):
        assert model["ceiling"]["value"] > 0.5 and model["ceiling"]["left_out"] == 0
        assert row[header.index("CEILING") :].startswith(f"{model['ceiling']['value']:.3f} [")
    shutil.rmtree(made / "reports")


def test_without_a_truth_nothing_is_told_of_one(study, made, capsys):
    shutil.rmtree(study / "raw-truth")
    shutil.copytree(made / "runs", study / "runs")
    code, out, err = run(capsys, "eval", "--cohort", "mimic", "--task", "mortality", "--resamples", "100")
    assert (code, "CEILING" in out, "ATTAINED" in out, "eiling" in err) == (0, False, False, False)


def test_the_truth_may_be_named_and_the_raw_files_gone(study, tmp_path, monkeypatch):
    shutil.move(study / "raw-truth", tmp_path / "elsewhere")
    shutil.rmtree(study / "raw")
    assert look("mimic", "mortality") is None
    assert look("mimic", "mortality", tmp_path / "elsewhere").folder == tmp_path / "elsewhere"
    shutil.move(tmp_path / "elsewhere", study / "any-truth")
    assert look("mimic", "mortality").folder == study / "any-truth"  # around, and of these very samples
    assert len(look("lung", "subtyping").sample) == 20
    monkeypatch.chdir(tmp_path)  # outside of the workspace
    assert look("study/cohorts/mimic", "mortality").folder == study / "any-truth"


def test_a_task_without_a_ceiling_is_one_line(study, capsys):
    assert look("mimic", "los") is None
    told = f"{study / 'raw-truth'}: there is no ceiling: the truth is of mortality at 48 h, not of los at 24 h"
    assert capsys.readouterr().err == f"omnifuse: no ceilings: {told}\n"


def test_the_truth_of_another_seed_is_not_taken(study, capsys):
    """It has the same ids. Found, it gives a note and no ceiling; told, an error."""
    for name in ("raw", "raw-truth"):
        shutil.rmtree(study / name)
    generate(study / "raw", patients=60, seed=5, modalities=("ehr",))
    assert look("mimic", "mortality") is None
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no ceilings: " in err and "is not the truth of these samples" in err
    with pytest.raises(ArtefactError, match="is not the truth of these samples"):
        look("mimic", "mortality", study / "raw-truth")


def test_a_truth_and_raw_files_of_two_makings_are_not_taken(study):
    """Even where every outcome agrees, as it may with few samples."""
    manifest = json.loads((study / "raw/manifest.json").read_text())
    for change, says in (
        ({"fingerprint": "another"}, "is not the truth of the raw files beside it"),
        (
            {"files": {"icu/icustays.csv.gz": {"bytes": 1, "sha256": "00"}}},
            "was not made from the raw files beside this truth: icu/icustays",
        ),
    ):
        (study / "raw/manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ArtefactError, match=says):
            look("mimic", "mortality", study / "raw-truth")


@pytest.mark.parametrize("told", ["nowhere", "cohorts", "raw"])
def test_what_is_no_truth_is_one_line(made, monkeypatch, capsys, told):
    monkeypatch.chdir(made)
    code, _, err = run(capsys, "eval", "--cohort", "mimic", "--task", "mortality", "--truth", told)
    assert (code, err.count("\n")) == (4, 1) and f"{told}: is no truth of a synthetic clinic" in err


def test_the_other_settings_truth_gives_no_ceiling(made, monkeypatch, capsys):
    monkeypatch.chdir(made)
    assert look("mimic", "mortality", made / "raw-lung-truth") is None
    assert "grades of lung lesions, not of mortality" in capsys.readouterr().err


def test_a_report_made_before_its_truth_came_is_made_anew(made, study, capsys):
    shutil.copytree(made / "runs/mimic/mortality", study / "runs/mimic/mortality")
    told = lambda: json.loads(run(capsys, "report", "--cohort", "mimic", "--task", "mortality", "--json")[1])["report"]
    truth = study / "raw-truth"
    truth.rename(study / "away")
    page = study / told()
    assert "ceiling" not in page.read_text().lower()
    before = page.stat().st_ino
    assert (study / told()).stat().st_ino == before  # nothing has changed
    (study / "away").rename(truth)
    assert "ceiling" in (study / told()).read_text().lower()
