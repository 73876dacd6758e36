"""Trained encoders of the synthetic clinic against the ceilings of what they read, one modality at a time.

    python benchmarks/clinic_encoders.py --out DIR --patients 2000
    python benchmarks/clinic_encoders.py --out DIR --patients 4000 --world dense.yaml --modalities cxr --folds 0 1
    python benchmarks/clinic_encoders.py --out DIR --setting subtyping --patients 1000

Makes a clinic and goes through the public commands: raw files, cohort, extract --raw, and `train --method unimodal --tune-encoder` for
every modality and fold; prints a Markdown table. What is finished stays: the same command goes on. AUROC of method and ceiling are of the
same test samples, a mean over folds, macro over classes; intervals are of 95%, by a bootstrap of patients within folds, the gap's paired.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

SETTINGS = {
    "mortality": {
        "raw": "demo --raw raw --patients {patients} --world {world} --seed {seed}",
        "cohort": "preprocess mimic --task mortality",
        "name": "mimic",
        "encoders": {"ehr": "lstm", "cxr": "film_conv", "rep": "ngrams", "sig": "beats"},
        "init": ["cxr=raw/cxr", "notes=raw/note", "signals=raw/ecg"],
        "truth": "raw-truth",
    },
    "subtyping": {
        "raw": "demo --setting subtyping --raw raw --patients {patients} --seed {seed}",
        "cohort": "preprocess lung --manifest raw/manifest.csv --size 64 --slices 12",
        "name": "lung",
        "encoders": {"ct": "film_conv", "pet": "film_conv", "rep": "ngrams"},
        "init": [],
        "truth": "raw-truth",
    },
}
SERIES = ("ehr",)  # read from the cohort: there is no encoder to tune
# What encoders learn well with from some hundred samples: many small steps at a higher rate than the default's.
SETS = ("train.lr=1e-3", "train.batch_size=32", "train.epochs=30", "train.patience=8", "train.tensorboard=false")
REPLICATES = 1000


def omnifuse(line: str) -> str:
    """Runs `omnifuse LINE` in this process and gives what it printed."""
    from omnifuse.main import root

    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        root.main(args=shlex.split(line), prog_name="omnifuse", standalone_mode=False)
    return told.getvalue()


def prepare(out: Path, setting: str, patients: int, world: str, seed: int) -> None:
    """The clinic, its cohort and what encoders read of it, in a workspace that becomes the current folder."""
    how = SETTINGS[setting]
    world = str(Path(world).absolute()) if world.endswith((".yaml", ".yml")) else world
    if not (out / "omnifuse.yaml").exists():
        omnifuse(f"init {shlex.quote(str(out))}" + "".join(f" --set {pair}" for pair in how["init"]))
    os.chdir(out)
    omnifuse(how["raw"].format(patients=patients, world=shlex.quote(world), seed=seed))
    omnifuse(how["cohort"])
    learned = {name: encoder for name, encoder in how["encoders"].items() if name not in SERIES}
    chosen = "".join(f" --encoder {name}={encoder}" for name, encoder in learned.items())
    omnifuse(f"extract --raw --task {setting} --modalities {','.join(learned)}{chosen}")
    if series := [name for name in SERIES if name in how["encoders"]]:
        omnifuse(f"extract --task {setting} --modalities {','.join(series)}")


def trained(setting: str, modality: str, folds: list[int], seed: int, sets: list[str]) -> list[dict]:
    """The runs of one modality, a row a fold."""
    line = f"train --task {setting} --method unimodal --modality {modality} --seed {seed} --json"
    line += "" if modality in SERIES else " --tune-encoder"
    line += "".join(f" --fold {fold}" for fold in folds) + "".join(f" --set {pair}" for pair in sets)
    return json.loads(omnifuse(line))["runs"]


def weighted_auroc(score: np.ndarray, true: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[R] AUROC of scores [n] under weights [R, n]; ties count half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    weight, true = weight[:, order], true[order]
    cases, controls = (np.add.reduceat(weight * chosen, starts, axis=1) for chosen in (true, ~true))
    below = np.cumsum(controls, 1) - controls / 2
    with np.errstate(invalid="ignore"):
        return (cases * below).sum(1) / (cases.sum(1) * controls.sum(1))


def fold_aurocs(run: dict, ceilings, modality: str, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, int]:
    """[1 + REPLICATES] AUROC of the run and of the ceiling on its test samples, the first on the samples themselves; how many samples."""
    table = pl.read_parquet(Path(run["run"]) / "predictions/full.parquet")
    table = table.filter((pl.col("head") == "final") & pl.col("y_mask"))
    part = table.filter(pl.col("part") == "test")
    told = ceilings.score([modality], part["sample_id"].to_numpy())
    labels = list(ceilings.task.labels)
    column = np.array([labels.index(name) for name in part["label_name"]])
    best = told[np.arange(len(part)), column]
    patients, owner = np.unique(part["patient_id"].to_numpy(), return_inverse=True)
    counts = np.vstack([np.ones(len(patients)), draw.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), REPLICATES)])
    weight, both = counts[:, owner], []
    for score in (part["y_score"].to_numpy(), best):
        each = []
        for label in np.unique(column):
            rows = (column == label) & np.isfinite(best)
            each.append(weighted_auroc(score[rows], part["y_true"].to_numpy()[rows] == 1, weight[:, rows]))
        both.append(np.nanmean(each, 0))
    return both[0], both[1], table.filter(pl.col("part") == "val")["sample_id"].n_unique(), part["sample_id"].n_unique()


@dataclass(frozen=True)
class Judged:
    """A modality's encoders beside its ceiling: means over folds, of the samples themselves and then of the bootstrap's, [1 + R] each."""

    own: np.ndarray
    best: np.ndarray
    train: float  # samples a fold learns from, about
    tested: int  # of all folds

    @property
    def gap(self) -> np.ndarray:
        return self.best - self.own

    def within(self, margin: float = 0.03, errors: float = 3.0) -> bool:
        """Whether the gap is at most the margin and so many of its standard errors: what n samples can tell."""
        return bool(self.gap[0] <= margin + errors * np.nanstd(self.gap[1:]))


def judge(runs: list[dict], ceilings, modality: str, seed: int) -> Judged:
    """Of the runs of one modality, a fold each."""
    draw = np.random.default_rng(seed)
    found = [fold_aurocs(run, ceilings, modality, draw) for run in runs]
    own, best = (np.nanmean([fold[k] for fold in found], 0) for k in (0, 1))
    return Judged(own, best, float(np.mean([fold[2] for fold in found])) * 0.675 / 0.125, sum(fold[3] for fold in found))


def row(modality: str, runs: list[dict], judged: Judged) -> str:
    between = lambda values: "{:.3f} ({:.3f} to {:.3f})".format(values[0], *np.nanquantile(values[1:], (0.025, 0.975)))
    seconds, epochs = np.mean([run["seconds"] for run in runs]), ", ".join(str(run["epoch"]) for run in runs)
    told = (f"{judged.train:.0f} / {judged.tested}", *map(between, (judged.own, judged.best, judged.gap)), f"{seconds:.0f}", epochs)
    return f"| {modality} | " + " | ".join(told) + " |"


def truth(how: dict, setting: str):
    """The ceilings of the workspace that is the current folder."""
    from omnifuse.eval.ceilings import read_ceilings
    from omnifuse.preprocess import store
    from omnifuse.preprocess.schema import Task

    cohort = store.open(Path("cohorts") / how["name"], "cohort")
    task = Task.from_json(setting, cohort.meta["tasks"][setting])
    return read_ceilings(Path(how["truth"]), cohort.table(f"samples/{setting}.parquet"), task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or that of the same call before")
    parser.add_argument("--setting", choices=SETTINGS, default="mortality")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--world", default="default")
    parser.add_argument("--modalities", nargs="*")
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="over the settings of SETS, as of omnifuse train")
    asked = parser.parse_args()
    how = SETTINGS[asked.setting]
    modalities = asked.modalities or list(how["encoders"])
    prepare(asked.out.absolute(), asked.setting, asked.patients, asked.world, asked.seed)
    ceilings = truth(how, asked.setting)
    print("| modality | samples: train (about) / test | AUROC | ceiling | gap | seconds a fold | epochs chosen |")
    print("|---|---|---|---|---|---|---|")
    for modality in modalities:
        runs = trained(asked.setting, modality, asked.folds, asked.seed, [*SETS, *asked.set])
        print(row(modality, runs, judge(runs, ceilings, modality, asked.seed)), flush=True)


if __name__ == "__main__":
    main()
