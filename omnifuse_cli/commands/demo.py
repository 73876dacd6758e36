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
CHAIN = (
    "preprocess mimic --task mortality --task phenotyping --task los",
    "extract --task mortality",
    "train --task mortality --method unimodal",
    "train --task mortality --method concat",
    "eval --task mortality",
    "report --task mortality",
)


@click.command(name="demo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--raw", type=click.Path(path_type=Path), default=None, metavar="DIR", help="Only write the raw tables, here.")
@click.option("--patients", type=click.IntRange(1), default=500, show_default=True, help="Number of patients.")
@click.option("--world", default="default", show_default=True, help="The knobs of the clinic: a name, or a YAML file.")
@options.common
def command(
    folder: Path | None, raw: Path | None, patients: int, world: str, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]
) -> None:
    """Write the synthetic clinic's raw tables, or run the whole chain on it in a new workspace FOLDER.

    The clinic writes MIMIC-IV's tables with known signal, noise and missingness, and the truth beside them (DIR-truth), so that
    the same code runs as on real data. Patient 17 is the same in a clinic of 100 or of 10,000.

    \b
    Example:
      omnifuse demo my-first                                the whole chain, with a report at the end
      omnifuse demo --patients 300 --seed 1 --raw raw       only the tables
    """
    from omnifuse.preprocess.clinic.generate import generate

    if (folder is None) == (raw is None):
        raise ConfigError("give either FOLDER (the whole chain) or --raw DIR (only the tables)")
    if dry_run:
        console.say(f"would write {patients} patients of world {world} to {raw or folder / 'raw'}" + ("" if raw else ", then run:"))
        for line in () if raw else CHAIN:
            console.say(f"  omnifuse {line}")
        return
    if raw:
        summary = generate(raw, patients=patients, seed=seed or 0, world=world, progress=console.progress)
        if not as_json:
            console.say(f"raw tables: {console.place(raw)}; the truth: {console.place(summary['truth'])}")
            console.table([(name, rows) for name, rows in summary["rows"].items()], ("table", "rows"))
        console.finish(as_json, summary)
        return
    _whole_chain(folder, patients, world, seed, sets)


def _whole_chain(folder: Path, patients: int, world: str, seed: int | None, sets: tuple[str, ...]) -> None:
    seeded = "" if seed is None else f" --seed {seed}"
    started = time.monotonic()
    _run(f"init {shlex.quote(str(folder))}{seeded}" + "".join(f" --set {shlex.quote(pair)}" for pair in sets))
    with _inside(folder):
        _run(f"demo --raw raw --patients {patients} --world {shlex.quote(world)}{seeded}")
        for line in CHAIN:
            _run(line)
    page = folder / "reports/mimic/mortality/report.html"
    console.say(
        f"\nThe whole chain took {time.monotonic() - started:.0f} s. The curves: tensorboard --logdir {folder}/runs. The report: {page}"
    )


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
