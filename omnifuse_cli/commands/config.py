"""omnifuse config: the resolved configuration and the origin of each value."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import choices, console, options, workspace


@click.command(name="config")
@click.option("--method", default="omnifuse", show_default=True, help="The fusion method.")
@click.option("--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="The encoder of a modality.  [default: ehr=lstm]")
@options.config_file
@options.common
def command(method, encoders, config_file: Path | None, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]) -> None:
    """Show every key of the resolved configuration, its value, and where it comes from.

    Later wins: packaged YAML, omnifuse.yaml of the workspace, --config FILE, --set NAME=VALUE.

    \b
    Example:
      omnifuse config --method concat --set train.lr=1e-4
    """
    space = workspace.find()
    resolved = choices.resolve(space, method, {"ehr": choices.FOR_SERIES} | choices.encoders_of(encoders), config_file, sets, seed=seed)
    if not as_json:
        console.table([(name, f"= {_show(value)}", resolved.origins[name]) for name, value in sorted(resolved.values.items())], indent="")
    console.finish(as_json, {name: {"value": value, "from": resolved.origins[name]} for name, value in sorted(resolved.values.items())})


def _show(value) -> str:
    from omnifuse.config import show

    return show(value)
