"""omnifuse demo: the synthetic clinic, its raw tables or the whole chain on it."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import click

from omnifuse import console, options
from omnifuse.preprocess.schema import ConfigError

# What a first-time user would type, in this order, inside the workspace.
MORTALITY = (
    "preprocess mimic --task mortality --task phenotyping --task los",
    "extract mimic --task mortality",
    "train --cohort mimic --task mortality --method concat --fold 0",
    "train --cohort mimic --task mortality --method omnifuse --fold 0",
    "eval --cohort mimic --task mortality",
    "report --cohort mimic --task mortality",
)
SUBTYPING = (
    "preprocess lung --manifest raw-lung/manifest.csv --size 64 --slices 12",
    "extract lung",
    "train --cohort lung --method concat --fold 0",
    "train --cohort lung --no-tla --imp fw --fold 0",
    "eval --cohort lung",
)
# The clinic's films, slices, texts and signals are small, and their encoders learn with the rest.
ENCODERS = {"cxr": "film_conv", "rep": "small_bert", "sig": "resnet1d", "ct": "film_conv", "pet": "film_conv"}
SETTINGS = {"cxr": "raw/cxr", "notes": "raw/note", "signals": "raw/ecg"}
SETTINGS |= {f"extract.{modality}.encoder": encoder for modality, encoder in ENCODERS.items()}
SETTINGS |= {"train.epochs": "12", "train.patience": "4"}  # a first look


@click.command(name="demo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--raw", type=click.Path(path_type=Path), default=None, metavar="DIR", help="Only write the raw files, here.")
@click.option("--setting", type=click.Choice(["mortality", "subtyping"]), default="mortality", show_default=True,
              help="Of --raw: an ICU with films, notes and signals, or lung lesions with CT, PET, Chinese reports.")  # fmt: skip
@click.option("--patients", type=click.IntRange(1), default=300, show_default=True, help="Number of patients.")
@click.option("--world", default="default", show_default=True, help="The knobs of the clinic: a name, or a YAML file.")
@options.common
def command(
    folder: Path | None, raw: Path | None, setting: str, patients: int, world: str, as_json: bool, dry_run: bool, seed: int | None,
    sets: tuple[str, ...],
) -> None:  # fmt: skip
    """Write the synthetic clinic's raw files, or run the whole chain on it in a new workspace FOLDER.

    The clinic writes the published layouts (MIMIC-IV, MIMIC-CXR-JPG, MIMIC-IV-Note, WFDB, DICOM) with known signal, noise and missingness,
    and the truth beside them (DIR-truth), so that the same code runs as on real data. Patient 17 is the same in a clinic of 100 or of
    10,000.

    \b
    Example:
      omnifuse demo my-first                                both settings, with a report at the end of each
      omnifuse demo --patients 300 --seed 1 --raw raw       only the files of the ICU
      omnifuse demo --setting subtyping --patients 100 --raw raw-lung
    """
    if (folder is None) == (raw is None):
        raise ConfigError("give either FOLDER (the whole chain) or --raw DIR (only the files)")
    if setting == "subtyping" and world != "default":
        raise ConfigError("the worlds are those of the setting mortality", hint="leave --world out")
    if dry_run:
        console.say(f"would write {patients} patients of world {world} to {raw or folder / 'raw'}" + ("" if raw else ", then run:"))
        for line in () if raw else (*MORTALITY, *SUBTYPING):
            console.say(f"  omnifuse {line}")
        return
    if raw:
        _write(raw, setting, patients, world, seed or 0, as_json)
        return
    _whole_chain(folder, patients, world, seed, sets)


def _write(raw: Path, setting: str, patients: int, world: str, seed: int, as_json: bool) -> None:
    if setting == "subtyping":
        from omnifuse.preprocess.clinic.lung import generate_lung

        summary = generate_lung(raw, patients=patients, seed=seed, progress=console.progress)
    else:
        from omnifuse.preprocess.clinic.generate import generate

        summary = generate(raw, patients=patients, seed=seed, world=world, progress=console.progress)
    if not as_json:
        console.say(f"raw files: {console.place(raw)}; the truth: {console.place(summary['truth'])}")
        if rows := summary.get("rows"):
            console.table(list(rows.items()), ("table", "rows"))
    console.finish(as_json, summary)


def _whole_chain(folder: Path, patients: int, world: str, seed: int | None, sets: tuple[str, ...]) -> None:
    seeded = "" if seed is None else f" --seed {seed}"
    started = time.monotonic()
    settings = [f"{name}={value}" for name, value in SETTINGS.items()] + list(sets)
    _run(f"init {shlex.quote(str(folder))}{seeded}" + "".join(f" --set {shlex.quote(pair)}" for pair in settings))
    with _inside(folder):
        _run(f"demo --raw raw --patients {patients} --world {shlex.quote(world)}{seeded}")
        for line in MORTALITY:
            _run(line)
        _run(f"demo --setting subtyping --raw raw-lung --patients {max(patients // 5, 40)}{seeded}")
        for line in SUBTYPING:
            _run(line)
    console.say(f"\nThe whole chain took {time.monotonic() - started:.0f} s. The curves: tensorboard --logdir {folder}/runs. The reports:")
    for page in ("mimic/mortality", "lung/subtyping"):
        console.say(f"  {folder / 'reports' / page / 'report.html'}")


def _run(line: str) -> None:
    from omnifuse.main import root

    click.secho(f"\n$ omnifuse {line}", bold=True)
    root.main(args=shlex.split(line), prog_name="omnifuse", standalone_mode=False)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
