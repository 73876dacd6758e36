"""The claims of OmniFuse over the 32 worlds of the synthetic clinic: trains, judges, and says in how many of them each claim holds.

    python benchmarks/worlds.py run --out DIR --setting mortality --patients 400 --jobs 2
    python benchmarks/worlds.py run --out DIR --setting subtyping --patients 200 --jobs 2
    python benchmarks/worlds.py tell --out DIR                     the tables, as Markdown, and the figure

Each world is one clinic, and goes through the public commands: raw files, cohort, encoders of films, slices and texts that are trained
alone on each fold's training patients and then kept as they are (as the paper keeps its own), and `omnifuse eval --ablate --grid claims`
over five folds. With --tune, concatenation and OmniFuse first choose among the same rates, by the val part of fold 0. What is finished
stays: the same command goes on. Raw files and cohorts are removed when a world is told.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import worlds_page

SETTINGS = {
    "mortality": {
        "raw": "demo --raw raw --patients {patients} --world {world} --seed {seed}",
        "cohort": "preprocess mimic --task mortality",
        "name": "mimic",
        "modalities": "ehr,cxr,rep",
        "encoders": {"cxr": "film_conv", "rep": "ngrams"},
        "init": ["cxr=raw/cxr", "notes=raw/note"],
    },
    "subtyping": {
        "raw": "demo --setting subtyping --raw raw --patients {patients} --world {world} --seed {seed}",
        "cohort": "preprocess lung --manifest raw/manifest.csv --size 48 --slices 8",
        "name": "lung",
        "modalities": "ct,pet,rep",
        "encoders": {"ct": "film_conv", "pet": "film_conv", "rep": "ngrams"},
        "init": [],
    },
}
TASKS = {"mortality": "mortality", "subtyping": "subtyping"}
# What the encoders are trained with, from nothing, and what the fusions are: few samples, so small steps. Each keeps its best epoch (A25).
ENCODERS = ["train.lr=1e-3", "train.batch_size=32", "train.epochs=30", "train.patience=8", "train.tensorboard=false"]
FUSIONS = ["{rate}=1e-3", "train.batch_size=64", "train.epochs=15", "train.patience=3", "train.tensorboard=false"]
RATES = "train.lr: {choice: [1e-3, 2e-4, 5e-5]}\n"  # the rate of a stage 1 is not tuned: all trials share it
SMALL = ["encoder.ehr.hidden=64", "encoder.ehr.layers=1"]


def omnifuse(line: str) -> str:
    """Runs `omnifuse LINE` in this process and gives what it printed."""
    from omnifuse.main import root

    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        root.main(args=shlex.split(line), prog_name="omnifuse", standalone_mode=False)
    return told.getvalue()


def chain(folder: Path, world: str, seed: int, setting: str, patients: int, jobs: int, grid: str, tune: bool, keep: bool) -> float:
    """One world to its results.json; seconds."""
    how, task, started = SETTINGS[setting], TASKS[setting], time.monotonic()
    sets = lambda pairs: "".join(f" --set {pair}" for pair in pairs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / "omnifuse.yaml").exists():
        omnifuse(f"init {folder}{sets(how['init'])}")
    here = Path.cwd()
    os.chdir(folder)
    try:
        omnifuse(how["raw"].format(patients=patients, world=world, seed=seed))
        omnifuse(how["cohort"])
        chosen = "".join(f" --encoder {modality}={name}" for modality, name in how["encoders"].items())
        names = ",".join(how["encoders"])
        omnifuse(f"extract --raw --task {task} --modalities {names}{chosen}")
        for modality in how["encoders"]:
            omnifuse(f"train --task {task} --method unimodal --modality {modality} --tune-encoder{sets(ENCODERS)}")
        tuned = "".join(f" --weights {modality}={_group(how['name'], task, modality)}" for modality in how["encoders"])
        omnifuse(f"extract --task {task} --modalities {how['modalities']}{chosen}{tuned}")
        rate = "stage1.train.lr" if tune else "train.lr"
        fusions = sets([pair.format(rate=rate) for pair in FUSIONS] + (SMALL if setting == "mortality" else []))
        same = f"--task {task} --modalities {how['modalities']} --jobs {jobs}{fusions}"
        if tune:
            Path("rates.yaml").write_text(RATES)
            omnifuse(f"tune --method concat --method omnifuse --space rates.yaml --search grid {same}")
        omnifuse(f"eval --ablate{' --tuned' if tune else ''} --grid {shlex.quote(grid)} {same} --resamples 500")
        if not keep:
            for name in ("raw", "cohorts", "features", "runs"):
                shutil.rmtree(name, ignore_errors=True)
    finally:
        os.chdir(here)
    return time.monotonic() - started


def _group(cohort: str, task: str, modality: str) -> Path:
    """The runs of the encoder that was just trained."""
    groups = [path.parent for path in Path("runs", cohort, task, f"unimodal-{modality}").glob("*/group.json")]
    return max(groups, key=lambda path: (path / "group.json").stat().st_mtime_ns)


def results_of(folder: Path, setting: str, grid: str, tune: bool) -> Path:
    name = f"{grid}-tuned" if tune else grid
    return folder / "reports" / SETTINGS[setting]["name"] / f"{TASKS[setting]}-ablation" / name / "results.json"


def run(asked) -> None:
    from omnifuse.preprocess.clinic import worldset

    members = [worldset.find(name) for name in asked.worlds] if asked.worlds else worldset.members()
    for member in members:
        folder = Path(asked.out).absolute() / asked.setting / member.name
        if results_of(folder, asked.setting, asked.grid, asked.tune).is_file():
            continue
        clinic = (member.full_name, member.seed, asked.setting, asked.patients)
        seconds = chain(folder, *clinic, asked.jobs, asked.grid, asked.tune, asked.keep)
        about = {"world": member.full_name, "patients": asked.patients, "seconds": round(seconds, 1), "set": worldset.fingerprint()}
        (folder / "world.json").write_text(json.dumps(about))
        print(f"{asked.setting} {member.full_name}: {seconds:.0f} s", file=sys.stderr, flush=True)


def tell(asked) -> None:
    from omnifuse.preprocess.clinic import worldset

    found = {}
    for setting in SETTINGS:
        for member in worldset.members():
            folder = Path(asked.out) / setting / member.name
            path = results_of(folder, setting, asked.grid, asked.tune)
            if path.is_file():
                found.setdefault(setting, {})[member.full_name] = json.loads(path.read_text()) | json.loads(
                    (folder / "world.json").read_text()
                )
    print(worlds_page.markdown(found, worldset.coordinates(), worldset.fingerprint(), Path(asked.figures) if asked.figures else None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("run", run), ("tell", tell)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--out", required=True)
        command.add_argument("--grid", default="claims")
        command.add_argument("--tune", action="store_true", help="rates chosen on val; tables of what was so chosen")
        if name == "tell":
            command.add_argument("--figures", help="a folder for the figure")
            continue
        command.add_argument("--setting", choices=SETTINGS, default="mortality")
        command.add_argument("--patients", type=int, default=400)
        command.add_argument("--worlds", nargs="*", help="only these: 01 02 null ..., in this order")
        command.add_argument("--jobs", type=int, default=1)
        command.add_argument("--keep", action="store_true", help="keep raw files, cohorts and runs")
    asked = parser.parse_args()
    asked.function(asked)


if __name__ == "__main__":
    main()
