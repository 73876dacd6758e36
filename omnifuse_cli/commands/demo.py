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
from omnifuse.preprocess import store
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
ENCODERS = {"cxr": "film_conv", "rep": "ngrams", "sig": "beats", "ct": "film_conv", "pet": "film_conv"}
SETTINGS = {"cxr": "raw/cxr", "notes": "raw/note", "signals": "raw/ecg"}
SETTINGS |= {f"extract.{modality}.encoder": encoder for modality, encoder in ENCODERS.items()}
# A first look; small encoders that learn from a few hundred samples need many small steps.
SETTINGS |= {"train.lr": "0.001", "train.batch_size": "32", "train.epochs": "12", "train.patience": "6"}


@click.command(name="demo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--raw", type=click.Path(path_type=Path), default=None, metavar="DIR", help="Only write the raw files, here.")
@click.option("--setting", type=click.Choice(["mortality", "subtyping"]), default="mortality", show_default=True,
              help="Of --raw: an ICU with films, notes and signals, or lung lesions with CT, PET, Chinese reports.")  # fmt: skip
@click.option("--patients", type=click.IntRange(1), default=300, show_default=True, help="Number of patients.")
@click.option(
    "--world", default=None, metavar="NAME|FILE", help="The knobs of the clinic: a name, set32/NAME, or a YAML file.  [default: default]"
)
@click.option("--world-set", type=click.Choice(["32"]), default=None, help="Of --raw: write all worlds of the set, each in DIR/NAME.")
@options.common
def command(
    folder: Path | None, raw: Path | None, setting: str, patients: int, world: str | None, world_set: str | None, as_json: bool,
    dry_run: bool, seed: int | None, sets: tuple[str, ...],
) -> None:  # fmt: skip
    """Write the synthetic clinic's raw files, or run the whole chain on it in a new workspace FOLDER.

    The clinic writes the published layouts (MIMIC-IV, MIMIC-CXR-JPG, MIMIC-IV-Note, WFDB, DICOM) with known signal, noise and missingness,
    and the truth beside them (DIR-truth), so that the same code runs as on real data. Patient 17 is the same in a clinic of 100 or of
    10,000. An interrupted command goes on when it is given again. The worlds: omnifuse list worlds. Those of the set have seeds of their
    own, which --seed replaces.

    \b
    Example:
      omnifuse demo my-first                                both settings, with a report at the end of each
      omnifuse demo --patients 300 --seed 1 --raw raw       only the files of the ICU
      omnifuse demo --setting subtyping --patients 100 --raw raw-lung
      omnifuse demo --setting subtyping --world clean --raw raw-clean
      omnifuse demo --world set32/07 --patients 2000 --raw raw-07
      omnifuse demo --world-set 32 --patients 500 --raw worlds
    """
    if (folder is None) == (raw is None):
        raise ConfigError("give either FOLDER (the whole chain) or --raw DIR (only the files)")
    if world_set and (folder or world is not None):
        raise ConfigError("--world-set goes with --raw DIR, and without --world")
    if raw and sets:
        raise ConfigError("--set is of the workspace, and goes with FOLDER", hint="the knobs of a clinic stand in --world FILE")
    world = "default" if world is None else world
    worlds = _worlds(raw, world, world_set, seed, setting)
    if dry_run:
        for name, place, own in worlds if raw else [(world, folder / "raw", seed or 0)]:
            console.say(f"would write {patients} patients of world {name} (seed {own}) to {place}" + ("" if raw else ", then run:"))
        for line in () if raw else (*MORTALITY, *SUBTYPING):
            console.say(f"  omnifuse {line}")
        return
    if folder:
        _whole_chain(folder, patients, world, seed, sets)
        return
    summaries = [_write(place, setting, patients, name, own, as_json) for name, place, own in worlds]
    told = _set_told(summaries) if world_set else summaries[0]
    if world_set and not as_json:
        console.say(f"{len(summaries)} worlds, fingerprint of the set {told['fingerprint']}")
    console.finish(as_json, told)


def _worlds(raw: Path | None, world: str, world_set: str | None, seed: int | None, setting: str) -> list[tuple[str, Path | None, int]]:
    """Name, place and seed of each world to write; what is wrong with one is told before anything is written."""
    from omnifuse.preprocess.clinic import worldset
    from omnifuse.preprocess.clinic.outcome import find_strength
    from omnifuse.preprocess.clinic.worldfile import read_world

    if not world_set:
        knobs = read_world(world)
        if setting == "mortality":
            find_strength(knobs)
        return [(world, raw, worldset.seed_of(world) if seed is None else seed)]
    return [(one.full_name, raw / one.name, one.seed if seed is None else seed) for one in worldset.members()]


def _set_told(summaries: list[dict]) -> dict:
    from omnifuse.preprocess.clinic import worldset

    return {"fingerprint": worldset.fingerprint(), "worlds": summaries}


def _write(raw: Path, setting: str, patients: int, world: str, seed: int, as_json: bool) -> dict:
    if setting == "subtyping":
        from omnifuse.preprocess.clinic.lung import generate_lung as make
    else:
        from omnifuse.preprocess.clinic.generate import generate as make

    before = (raw / store.MANIFEST).is_file()
    summary = make(raw, patients=patients, seed=seed, world=world, progress=console.progress)
    if not as_json:
        state = (" (in place of another clinic)" if before else "") if summary["written"] else " (was there)"
        console.say(f"raw files: {console.place(raw)}; the truth: {console.place(summary['truth'])}{state}")
        if rows := summary.get("rows"):
            console.table(list(rows.items()), ("table", "rows"))
    return summary


def _whole_chain(folder: Path, patients: int, world: str, seed: int | None, sets: tuple[str, ...]) -> None:
    seeded = "" if seed is None else f" --seed {seed}"
    started = time.monotonic()
    if Path(world).suffix:
        world = str(Path(world).absolute())  # the commands run inside the folder
    settings = [f"{name}={value}" for name, value in SETTINGS.items()] + list(sets)
    _run(f"init {shlex.quote(str(folder))}{seeded}" + "".join(f" --set {shlex.quote(pair)}" for pair in settings))
    with _inside(folder):
        _run(f"demo --raw raw --patients {patients} --world {shlex.quote(world)}{seeded}")
        for line in MORTALITY:
            _run(line)
        _run(f"demo --setting subtyping --raw raw-lung --patients {max(patients // 3, 40)} --world {shlex.quote(world)}{seeded}")
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
