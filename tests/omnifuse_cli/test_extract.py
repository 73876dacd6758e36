"""Films and texts of a small table study through extract and train: frozen, tuned fold by fold, moved, broken."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from command_line import run
from PIL import Image
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from omnifuse import encodings
from omnifuse.main import main
from omnifuse.models import weights
from omnifuse.preprocess import dataset, store

MANIFEST = """table: people.csv
patient: pid
task: outcome
label: {column: y}
modalities:
  film: {kind: image, path: film}
  labs: {kind: columns, numeric: [ph]}
  note: {kind: text, column: note}
"""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "a", "clear", "large", "small", "effusion", "left", "right", "."]
QUICK = ("--set", "train.epochs=1", "--set", "train.tensorboard=false")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A workspace with the cohort of 60 people, and the weights of a small BERT."""
    folder = tmp_path_factory.mktemp("extract") / "study"
    main(["init", str(folder)])
    raw, random = folder / "raw", np.random.default_rng(0)
    raw.mkdir()
    rows = ["pid,y,film,ph,note"]
    for number in range(60):
        y = number % 2
        Image.fromarray((random.normal(100 + 30 * y, 20, (64, 64))).clip(0, 255).astype(np.uint8)).save(raw / f"f{number}.png")
        film = "" if number % 10 == 9 else f"f{number}.png"
        rows.append(f"p{number:02d},{y},{film},{7.4 - 0.1 * y},{'large effusion' if y else 'clear'} left")
    (raw / "people.csv").write_text("\n".join(rows) + "\n")
    (raw / "study.yaml").write_text(MANIFEST)
    (raw / "f3.png").write_bytes((raw / "f3.png").read_bytes()[:900])  # cut off
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["preprocess", "table", "--manifest", str(raw / "study.yaml"), "--out", "cohorts/study"])
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
    BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder / "bert")
    (folder / "bert" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def here(study, monkeypatch):
    monkeypatch.chdir(study)
    return study


def extract(capsys, *more):
    code, out, err = run(capsys, "extract", "--workers", "0", "--dtype", "float32", "--json", *more)
    return code, json.loads(out)["outcome"]["modalities"] if code == 0 else None, err


def test_absent_weights_are_one_line_with_the_place_and_the_names(here, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(here / "cache"))
    code, _, err = extract(capsys, "--modality", "film")
    assert code == 2 and err.count("\n") == 1
    assert "resnet34-b627a593.pth" in err and str(here / "cache/hub/checkpoints") in err and "--allow-download" in err
    code, _, err = extract(capsys, "--modality", "note", "--weights", "bert-base-uncased", "--model-dir", "nowhere")
    assert code == 2 and err.count("\n") == 1 and "nowhere" in err and "config.json" in err


def test_frozen_features_and_what_is_trained_on_them(here, capsys):
    code, made, err = extract(capsys, "--encoder", "film=film_conv", "--keep", "film=tokens", "--weights", "note=bert")
    assert code == 0, err
    assert "1 of 54 items of film cannot be used" in err
    assert (made["film"]["reads"], made["film"]["dim"], made["note"]["dim"]) == ("embedding", 64, 16)
    index = store.open(here / "features/study/outcome" / made["film"]["folds"]["0"]["folder"], "encoded").table("index.parquet")
    assert index["reason"].drop_nulls().len() == 1 and index.filter(index["reason"].is_not_null())["length"].item() == 0
    code, out, err = run(capsys, "train", "--fold", "0", "--json", *QUICK)
    assert code == 0, err
    run_of = store.open(json.loads(out)["runs"][0]["run"], "run")
    assert {name: told["name"] for name, told in run_of.meta["built"]["encoders"].items()} == {
        "labs": "mlp", "film": "embedding", "note": "embedding"
    }  # fmt: skip
    assert run(capsys, "train", "--encoder", "film=film_conv", *QUICK)[0] == 2


@pytest.fixture(scope="module")
def groups(study):
    """Runs that tuned the encoders of films and notes, five folds each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        main(["extract", "--workers", "0", "--raw", "--modalities", "film,note", "--encoder", "film=film_conv", "--weights", "note=bert"])
        for modality, more in (("film", ()), ("note", ("--tune-layers", "1"))):
            main(["train", "--method", "unimodal", "--modality", modality, "--tune-encoder", *QUICK, *more])
    encoder = lambda fold: store.open(fold, "run").meta["built"]["encoders"]
    found = {}
    for name, tuned in (("film", "film_conv"), ("note", "bert")):  # stage-1 runs on frozen features lie there too
        folds = (study / "runs/study/outcome").glob(f"unimodal-{name}/*/fold0")
        (found[name],) = [fold.parent for fold in folds if encoder(fold)[name]["name"] == tuned]
    return found


def test_a_tuned_encoder_reads_each_fold_with_that_folds_weights(here, groups, capsys):
    raw = store.open(here / "features/study/outcome+raw", "features").meta["modalities"]
    assert (raw["film"]["keep"], raw["note"]["keep"], raw["film"]["dim"]) == ("raw", "raw", [1, 64, 64])
    assert all(len(list(group.glob("fold*"))) == 5 for group in groups.values())
    code, made, err = extract(capsys, *(text for m, group in groups.items() for text in ("--weights", f"{m}={group}")))
    assert code == 0, err
    for modality, told in made.items():
        if modality in groups:
            assert len({fold["fingerprint"] for fold in told["folds"].values()}) == 5, modality
    code, _, err = run(capsys, "train", "--modalities", "film,note", "--fold", "3", "--json", *QUICK)
    assert code == 0, err
    code, _, err = run(capsys, "train", "--method", "concat", "--tune-encoder", *QUICK)
    assert code == 2 and "--tune-encoder belongs to --method unimodal" in err
    code, _, err = run(capsys, "train", "--method", "unimodal", "--modality", "note", "--tune-layers", "1", *QUICK)
    assert code == 2 and "--tune-layers belongs to --tune-encoder" in err


@pytest.fixture
def tuned_features(here, groups, capsys):
    """The features of the tuned encoders: what is trained on them is asked of `train`."""
    assert extract(capsys, *(text for m, group in groups.items() for text in ("--weights", f"{m}={group}")))[0] == 0

    def train(method, modalities, *more):
        code, out, err = run(capsys, "train", "--method", method, "--modalities", modalities, "--fold", "3", "--json", *QUICK, *more)
        assert code == 0, err
        return store.open(json.loads(out)["runs"][0]["run"], "run")

    return train


@pytest.mark.parametrize("modality", ["film", "note"])
def test_stage_one_on_features_of_a_tuned_encoder_is_the_run_that_tuned_it(tuned_features, groups, modality):
    run_of, tuned = tuned_features("unimodal", modality), store.open(groups[modality] / "fold3", "run")
    assert run_of.meta["best"]["epoch"] == 0 and run_of.meta["best"]["value"] is not None
    both = [made.table("predictions/full.parquet").sort("part", "sample_id") for made in (run_of, tuned)]
    assert both[0]["sample_id"].equals(both[1]["sample_id"])
    np.testing.assert_allclose(*(table["y_score"].to_numpy() for table in both), atol=5e-3)  # features have 16 bits
    assert run_of.table("history.parquet")["epoch"].unique().to_list() == [0]
    anew = tuned_features("unimodal", modality, "--set", f"encoder.{modality}.start=scratch")
    assert anew.meta["best"]["epoch"] == 1 and anew.folder != run_of.folder


def test_a_tuned_head_is_not_tuned_eight_times(tuned_features, capsys):
    asked = ("tune", "--method", "unimodal", "--modality", "film", "--trials", "3", "--dry-run", *QUICK)
    code, out, _ = run(capsys, *asked)
    assert code == 0 and "unimodal film: 1 trial," in out and "any other would repeat it" in out
    code, out, _ = run(capsys, *asked, "--set", "encoder.film.start=scratch")
    assert code == 0 and "unimodal film: 3 trials," in out and "repeat" not in out


def test_another_encoder_than_the_run_tuned_is_refused(here, groups, capsys):
    code, _, err = extract(capsys, "--modality", "film", "--encoder", "film=resnet34", "--weights", f"film={groups['film']}")
    assert code == 2 and err.count("\n") == 1 and "of film_conv, not of resnet34" in err


def test_a_size_that_the_encoder_does_not_read_is_refused(here, capsys):
    asked = ("extract", "--workers", "0", "--modality", "film", "--encoder", "film=film_conv", "--dry-run")
    code, _, err = run(capsys, *asked, "--set", "extract.film.decode.size=96")
    assert code == 2 and err.count("\n") == 1 and "reads a size of 64" in err and "--set extract.film.size=96" in err
    code, _, err = run(capsys, *asked, "--set", "extract.film.decode.size=96", "--set", "extract.film.size=96")
    assert code == 0, err


def test_the_head_of_another_task_is_left_where_it_is(tuned_features, monkeypatch):
    whole = weights.end_weights
    monkeypatch.setattr(weights, "end_weights", lambda *told: dataclasses.replace(whole(*told), task="another", digest="another"))
    run_of = tuned_features("unimodal", "film", "--set", "train.lr=1e-9", "--out", "runs/another")
    assert run_of.meta["best"]["epoch"] == 1  # its own head is trained, on the projection of that run
    end = load_file(weights_file(run_of, "film"))
    mine = load_file(run_of.file("weights.safetensors"))
    torch.testing.assert_close(mine["encoders.film.project.0.weight"], end["encoders.film.project.0.weight"], atol=1e-6, rtol=0)
    assert not torch.equal(mine["head.inner.weight"], end["head.inner.weight"])


def weights_file(run_of, modality):
    """What came with the features that a run was trained on."""
    features = store.open("features/study/outcome", "features")
    return dataset.open_encoded(features, modality, run_of.meta["fold"]).file(weights.END)


def test_a_fusion_starts_from_the_projections_of_tuned_encoders(tuned_features):
    run_of = tuned_features("concat", "film,note", "--set", "fusion.train.lr=1e-9")
    for modality in ("film", "note"):
        name = f"encoders.{modality}.project.0.weight"
        end, mine = load_file(weights_file(run_of, modality)), load_file(run_of.file("weights.safetensors"))
        torch.testing.assert_close(mine[name], end[name], atol=1e-6, rtol=0)


def test_an_encoder_tuned_on_other_folds_is_refused(here, groups, capsys):
    """Its training patients may be test patients here."""
    code, _, err = run(capsys, "preprocess", "table", "--manifest", "raw/study.yaml", "--out", "cohorts/other", "--seed", "7")
    assert code == 0, err
    asked = ("--modality", "film", "--weights", f"film={groups['film']}", "--workers", "0")
    code, _, err = run(capsys, "extract", "cohorts/other", *asked)
    shutil.rmtree(here / "cohorts/other")
    assert code == 2 and err.count("\n") == 1 and "another cohort" in err


def test_only_the_tuned_layers_of_a_text_encoder_change(here, groups):
    tuned, published = load_file(groups["note"] / "fold0/weights.safetensors"), load_file(here / "bert/model.safetensors")
    changed = set()
    for name, tensor in published.items():
        (mine,) = [value for key, value in tuned.items() if key.endswith(f".{name}")] or [tensor]
        if not torch.equal(mine, tensor):
            changed.add(re.search(r"(layer\.\d+|embeddings|pooler)", name)[1])
    assert changed == {"layer.1"}
    assert (groups["note"] / "fold0/vocabulary/note/vocab.txt").read_text().split() == WORDS


def test_every_word_piece_is_kept_once_with_its_window(here, capsys):
    code, made, err = extract(capsys, "--modality", "note", "--weights", "note=bert", "--keep", "note=tokens")
    assert code == 0, err
    assert made["note"]["window"] == 30  # 32 positions, two of them for [CLS] and [SEP]
    told = made["note"]["folds"]["0"]
    rows = store.open((here / "features/study/outcome" / told["folder"]).resolve(), "encoded")
    assert rows.table("index.parquet")["length"].to_list() == [2, 3] * 30  # "clear left", "large effusion left"


def test_moved_films_are_found_by_root(here, capsys):
    asked = ("--modality", "film", "--encoder", "film=film_conv", "--keep", "levels")
    (here / "raw").rename(here / "moved")
    try:
        code, _, err = extract(capsys, *asked)
        assert code == 3 and err.count("\n") == 1 and "--root film=DIR" in err
        code, made, err = extract(capsys, *asked, "--root", f"film={here / 'moved'}")
        assert code == 0 and made["film"]["dim"] == [64, 64, 64]
    finally:
        (here / "moved").rename(here / "raw")


@pytest.mark.parametrize(
    "encoder, options, decoded",
    [
        ("film_conv", {"size": 96, "dim": 8}, {"size": 96, "views": "all"}),
        ("beats", {"rate": 250}, {"size": 64, "views": "all", "rate": 250}),
        ("resnet1d", {"width": 16}, {"size": 64, "views": "all"}),
    ],
)
def test_items_are_decoded_to_the_size_or_rate_that_the_encoder_wants(encoder, options, decoded):
    choice = encodings.Choice("any", encoder, "none", "raw", options, {"size": 64, "views": "all"})
    assert encodings.decode_settings(choice) == decoded


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--encoder", "film=small_bert"), "reads texts, and the items of film are images"),
        (("--encoder", "flim=resnet34"), r"no modality 'flim' .* \(did you mean film\?\)"),
        (("--keep", "film=everything"), "must be one of auto, pooled, tokens, levels, raw"),
        (("--set", "extract.film.sizes=3", "--encoder", "film=film_conv"), r"extract.film.sizes \(did you mean extract.film.size\?\)"),
        (("--encoder", "film=film_conv", "--weights", "film=imagenet"), "has no weights 'imagenet'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(here, capsys, more, says):
    code, _, err = extract(capsys, "--modality", "film", *more)
    assert code == 2 and err.count("\n") == 1 and re.search(says, err), err


def test_dry_run_says_what_it_would_do_and_writes_nothing(here, capsys):
    before = sorted(here.rglob("*"))
    code, out, _ = run(capsys, "extract", "--dry-run", "--encoder", "film=film_conv")
    assert code == 0 and "would encode film with film_conv, weights none, and keep raw" in out and sorted(here.rglob("*")) == before
