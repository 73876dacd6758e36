"""omnifuse init: make a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import console, options, workspace


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--ehr", default=None, metavar="DIR", help="The folder with MIMIC's tables.  [default: raw]")
@options.common
def command(folder: Path, ehr: str | None, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]) -> None:
    """Make a workspace: FOLDER with omnifuse.yaml and a place for each artefact.

    Inside it the short forms work: omnifuse preprocess mimic, omnifuse train --task mortality, omnifuse eval.

    \b
    Example:
      omnifuse init study --ehr /data/mimiciv/3.1
    """
    if ehr is not None:
        ehr = str(Path(ehr).expanduser().absolute())
    if dry_run:
        console.say(f"would make {folder}/ with {workspace.FILE}, " + ", ".join(f"{name}/" for name in workspace.FOLDERS))
        return
    made = workspace.make(folder, ehr, seed=seed, sets=sets)
    if not as_json:
        console.say(f"made the workspace {folder}")
        console.say(f"next: cd {folder}; " + ("omnifuse preprocess mimic" if ehr else "omnifuse demo --raw raw; omnifuse preprocess mimic"))
    console.finish(as_json, {"workspace": str(made.root)})
