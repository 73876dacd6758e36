"""omnifuse list: what there is."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import config, console, options, workspace
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError

KINDS = ("methods", "encoders", "worlds", "tasks", "cohorts", "features", "runs", "reports")
ARTEFACTS = {"cohorts": "cohort", "features": "features", "runs": "run", "reports": "report"}


@click.command(name="list")
@click.argument("what", type=click.Choice(KINDS))
@options.common
def command(what: str, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]) -> None:
    """List what there is: methods, encoders and worlds of this omnifuse, tasks of the cohorts, artefacts of the workspace.

    \b
    Example:
      omnifuse list methods
      omnifuse list worlds          those of the set with their place on each axis
    """
    rows = _rows(what)
    about = {}
    if what == "worlds":
        from omnifuse.preprocess.clinic import worldset

        about = {"fingerprint": worldset.fingerprint()}
    if not as_json:
        header = list(rows[0]) if rows else []
        console.table([list(row.values()) for row in rows], header, indent="")
        if not rows:
            console.say(f"no {what} yet")
        for name, value in about.items():
            console.say(f"\n{name} of the set: {value}")
    console.finish(as_json, {what: rows} | about)


def _rows(what: str) -> list[dict]:
    if what == "worlds":
        return _worlds()
    return _packaged(what) if what in ("methods", "encoders") else _tasks() if what == "tasks" else _artefacts(what)


def _worlds() -> list[dict]:
    """Named worlds, then those of the set of 32."""
    from omnifuse.preprocess.clinic import worldset
    from omnifuse.preprocess.clinic.worldfile import named_worlds

    placed = worldset.coordinates().rename({"world": "name"}).fill_null("").to_dicts()
    return [dict.fromkeys(placed[0], "") | {"name": world} for world in named_worlds()] + placed


def _packaged(what: str) -> list[dict]:
    rows = []
    for name in config.packaged_names(what):
        _, meta = config.packaged(what, name)
        row = {"name": name, "about": meta.get("about") or ""}
        rows.append(row | ({"flags": " ".join(meta.get("flags") or ())} if what == "methods" else {"reads": meta["reads"]}))
    return rows


def _finished(folder: Path, kind: str) -> list[tuple[Path, store.Artefact]]:
    found = []
    for manifest in sorted(folder.rglob(store.MANIFEST)):
        try:
            found.append((manifest.parent, store.open(manifest.parent, kind)))
        except ArtefactError as error:
            console.note(str(error))
    return found


def _tasks() -> list[dict]:
    rows = []
    for path, cohort in _finished(workspace.find().output("cohorts"), "cohort"):
        for task, told in cohort.meta["tasks"].items():
            rows.append(
                {"task": task, "kind": told["kind"], "outputs": len(told["labels"]), "samples": told["samples"], "cohort": path.name}
            )
    return rows


def _artefacts(what: str) -> list[dict]:
    space = workspace.find()
    rows = []
    for path, artefact in _finished(space.output(what), ARTEFACTS[what]):
        size = sum(file["bytes"] for file in artefact.files.values())
        rows.append({"name": str(path.relative_to(space.output(what))), "files": len(artefact.files), "size": console.size(size)})
    return rows
