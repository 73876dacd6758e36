"""What the chain finds of a signal of known strength under real noise: the MIMIC-IV demo's stays and real films, planted dose by dose.

    python benchmarks/semi_synthetic.py --out planted

For each dose it writes raw tables and films with the truth beside them (planted*.py), runs the public commands on them
(init, preprocess, extract, train, eval), and prints dose by method: AUROC on the test folds with its interval, that of the truth on the
same stays, and (AUROC - 0.5) / (truth - 0.5). The truth knows the hidden numbers themselves and not their traces: a bound at any dose, near
at a high one. At dose 0 there is nothing to be found, although each real stay stands about eleven times among the patients, in training and
in test: an AUROC apart from 0.5 would be a leak. A dose that is finished is kept; interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from planted import designed_auroc, draw_truth
from planted_films import read_backgrounds, write_films
from planted_tables import read_demo, write_bench
from sklearn.metrics import roc_auc_score

from omnifuse.preprocess import store

MODELS = (("unimodal", "ehr"), ("unimodal", "cxr"), ("concat", "ehr,cxr"), ("omnifuse", "ehr,cxr"))
# 600 patients give a dozen steps an epoch at this batch: with the house's 128 and 2e-4 nothing would have moved after 12 epochs.
TRAIN = {"batch_size": 32, "lr": "1e-3", "tensorboard": "false"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = os.environ.get("OMNIFUSE_TEST_DATA")
    parser.add_argument("--data", type=Path, default=home, help="holds mimic4demo and cxr_hannover  [default: $OMNIFUSE_TEST_DATA]")
    parser.add_argument("--out", type=Path, required=True, help="a folder a dose is made here, and kept")
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--doses", default="0,0.5,1,2", help="of all signals alike (default 0,0.5,1,2)")
    parser.add_argument("--folds", default="0,1", help="test folds (default 0,1)")
    parser.add_argument("--epochs", type=int, default=12, help="of a stage, at most (default 12)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.data is None:
        parser.error("--data, or OMNIFUSE_TEST_DATA: the folder that holds mimic4demo (PhysioNet) and cxr_hannover (10.25835/0090041)")
    demo, films = read_demo(given.data / "mimic4demo"), read_backgrounds(given.data / "cxr_hannover")
    truth = draw_truth(given.seed, given.patients, demo.stays.height)
    folds = [int(fold) for fold in given.folds.split(",")]
    asked = {"patients": given.patients, "folds": folds, "epochs": given.epochs, "seed": given.seed, "train": TRAIN}
    found = {}
    for dose in sorted({float(text) for text in given.doses.split(",")}):
        folder = given.out.resolve() / f"dose-{dose:g}"
        if (done := finished(folder, asked)) is None:
            write_bench(demo, folder, truth, dose, given.seed, partial(draw_films, films, dose, given.seed))
            run_chain(folder, asked)
            done = {"asked": asked, "models": judged(folder, truth, folds)}
            store.write_json(folder / "result.json", done)
        found[dose] = done["models"]
        print(f"dose {dose:g} done", file=sys.stderr, flush=True)
    print(table(found, truth, demo.stays.height, asked))


def draw_films(films: list[np.ndarray], dose: float, seed: int, root: Path, truth: pl.DataFrame) -> None:
    write_films(root, films, truth, dose, seed)


def finished(folder: Path, asked: dict) -> dict | None:
    """The result of a dose, None where it is still to be found. Leaves where the folder holds a bench of other settings."""
    told, plan = folder / "result.json", folder / "asked.json"
    folder.mkdir(parents=True, exist_ok=True)
    if plan.is_file() and json.loads(plan.read_text(encoding="utf-8")) != asked:
        sys.exit(f"{folder} holds a bench of other settings: give another --out, or remove it")
    store.write_json(plan, asked)
    return json.loads(told.read_text(encoding="utf-8")) if told.is_file() else None


def commands(raw: Path, asked: dict) -> list[list[str]]:
    """What a user would type, in this order; the first one beside the workspace, the others inside it."""
    settings = {"extract.cxr.encoder": "film_conv", "cxr": raw / "cxr", **{f"train.{name}": value for name, value in TRAIN.items()}}
    settings["train.epochs"] = settings["train.patience"] = asked["epochs"]
    sets = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    folds = [text for fold in asked["folds"] for text in ("--fold", str(fold))]
    where = ["--cohort", "mimic", "--task", "mortality"]
    return [
        ["init", "study", "--ehr", str(raw), "--seed", str(asked["seed"]), *sets],
        ["preprocess", "mimic", "--task", "mortality", "--modality", "cxr", "--cxr", str(raw / "cxr")],
        ["extract", "mimic", "--task", "mortality"],
        *(["train", *where, "--method", method, "--modalities", sees, *folds] for method, sees in MODELS),
        ["eval", *where],
    ]


def run_chain(folder: Path, asked: dict) -> None:
    """Every step is one process, as a user's; what a step has finished it leaves alone when it is run again."""
    study = folder / "study"
    first, *others = commands(folder / "raw", asked)
    if not (study / "omnifuse.yaml").is_file():
        _omnifuse(first, folder)
    for command in others:
        _omnifuse(command, study)


def _omnifuse(command: list[str], where: Path) -> None:
    print("$ omnifuse", *command, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "omnifuse", *command], cwd=where, check=True, stdout=subprocess.DEVNULL)


def judged(folder: Path, truth: pl.DataFrame, folds: list[int]) -> list[dict]:
    """A row a model: its AUROC with interval as the report tells them, and that of the truth on the same stays, mean over the folds."""
    study = folder / "study"
    told = json.loads((study / "reports/mimic/mortality/metrics.json").read_text(encoding="utf-8"))
    parts = pl.read_parquet(study / "cohorts/mimic/parts.parquet").filter(pl.col("part") == "test").rename({"patient_id": "subject_id"})
    rows = []
    for method, sees in MODELS:
        seen = sees.replace(",", "+")
        model = next(model for model in told["models"] if (model["method"], model["modalities"]) == (method, seen))
        stays = truth.filter("has_film") if sees == "cxr" else truth
        score = f"p_{sees}" if method == "unimodal" else "p_present"
        tests = [stays.join(parts.filter(fold=fold), on="subject_id", how="semi") for fold in folds]
        figure = model["mean"][0]["metrics"]["auroc"]
        rows.append(
            {"method": method, "sees": seen, **{name: figure[name] for name in ("value", "low", "high")}, "stays": model["samples"],
             "truth": float(np.mean([roc_auc_score(test["died"], test[score]) for test in tests]))}
        )  # fmt: skip
        if model["samples"] != sum(test.height for test in tests):
            raise AssertionError(
                f"{method} {seen} was tested on {model['samples']} stays, the truth on {sum(test.height for test in tests)}"
            )
    return rows


def table(found: dict[float, list[dict]], truth: pl.DataFrame, real: int, asked: dict) -> str:
    """Markdown: dose by model, and what stands at dose 0."""
    lines = [
        f"{truth.height} planted patients of {real} real stays, {int(truth['died'].sum())} deaths, {int(truth['has_film'].sum())} with "
        f"a film; test folds {', '.join(map(str, asked['folds']))}, {asked['epochs']} epochs, seed {asked['seed']}.",
        "",
        "| dose | method | sees | test stays | AUROC | truth | share of what can be gained |",
        "|---|---|---|---|---|---|---|",
    ]
    for dose, rows in found.items():
        for row in rows:
            interval = "no interval" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            share = (row["value"] - 0.5) / (row["truth"] - 0.5)
            figures = f"{row['value']:.3f} ({interval}) | {row['truth']:.3f} | {share:.0%}"
            lines.append(f"| {dose:g} | {row['method']} | {row['sees'].replace('+', ' ')} | {row['stays']} | {figures} |")
    share = float(truth["has_film"].mean())
    lines += ["", f"Truth in endless data: ehr {designed_auroc(sees='ehr'):.3f}, cxr {designed_auroc(sees='cxr'):.3f}, "
              f"both where there is a film {designed_auroc(share):.3f}."]  # fmt: skip
    if 0.0 in found:
        lines.append(f"Dose 0: {null_verdict(found[0.0])}.")
    return "\n".join(lines)


def null_verdict(rows: list[dict]) -> str:
    """Whether anything was found where there is nothing. A leak lies above 0.5; one interval in twenty misses it by chance."""
    name = lambda row: f"{row['method']} {row['sees'].replace('+', ' ')}"
    above = [name(row) for row in rows if row["low"] is not None and row["low"] > 0.5]
    below = [name(row) for row in rows if row["high"] is not None and row["high"] < 0.5]
    told = [f"{', '.join(above)} above 0.5, a leak or chance"] if above else []
    told += [f"{', '.join(below)} below 0.5, which no leak explains"] if below else []
    return "; ".join(told) or "every interval holds 0.5"


if __name__ == "__main__":
    main()
