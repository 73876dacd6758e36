"""Options that several commands share, each defined once."""

from __future__ import annotations

from pathlib import Path

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
dry_run = click.option("--dry-run", is_flag=True, help="Say what would be read and written, with counts and disk, and stop.")
seed = click.option("--seed", type=click.IntRange(0, 2**31), default=None, help="Seed of everything random.  [default: the workspace's, 0]")
sets = click.option(
    "--set", "sets", multiple=True, metavar="NAME=VALUE", help="Override a value, for example train.lr=1e-4; may be repeated."
)
config_file = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=None, help="A YAML file with values to override."
)
task = click.option("--task", default=None, metavar="TASK", help="The task.  [default: the cohort's, if it has one only]")
device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute.")
cohort_option = click.option(
    "--cohort", default=None, metavar="COHORT", help="A cohort: a path, or a name in cohorts/.  [default: the only one]"
)
cohort_argument = click.argument("cohort", required=False)
out = click.option("--out", type=click.Path(path_type=Path), default=None, help="Where to write.  [default: its place in the workspace]")
model_dir = click.option(
    "--model-dir", type=click.Path(path_type=Path), default=None, metavar="DIR",
    help="Where published weights lie.  [default: the workspace's model_dir, else the caches of torch and transformers]",
)  # fmt: skip
allow_download = click.option("--allow-download", is_flag=True, help="Get published weights from their hub where they are not here.")


def model_folder(space, told: Path | None) -> Path | None:
    """The folder of published weights: the one told, or the workspace's."""
    setting = space.settings.values["model_dir"]
    return told or (space.require() / str(setting) if setting is not None else None)


def common(function):
    """--json, --dry-run, --seed, --set: what every command takes."""
    for option in (sets, seed, dry_run, as_json):
        function = option(function)
    return function
