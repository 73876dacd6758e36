"""omnifuse preprocess table: any tables that a YAML describes to a cohort."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import config, console, options, workspace
from omnifuse.preprocess.schema import ConfigError

path = click.Path(path_type=Path)


@click.command(name="table")
@click.option(
    "--manifest", type=path, default=None, metavar="FILE.yaml",
    help="What the tables hold (docs/tables.md has its grammar).  [default: the workspace's]",
)  # fmt: skip
@options.out
@options.common
def command(manifest: Path | None, out: Path | None, as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]) -> None:
    """Your own tables to a cohort: ids, a label, columns, time series, films, DICOM series, texts, signals.

    The YAML names tables and columns; a cell that cannot be used is counted by its reason, never set to zero. Missing cells are missing
    modalities. Patients are split, not samples. A second call with the same input does nothing but check.

    \b
    Example:
      omnifuse preprocess table --manifest covid/films.yaml --out cohorts/covid
    """
    from omnifuse.preprocess.table.build import build_cohort, plan

    space = workspace.find()
    manifest = manifest or space.place("manifest")
    if manifest is None:
        raise ConfigError("no manifest given", hint="--manifest FILE.yaml, or manifest: in omnifuse.yaml")
    if sets:
        raise ConfigError("preprocess table takes no --set: what it does stands in the manifest", where=manifest)
    tree = _read(manifest)
    target = out or space.output("cohorts", manifest.stem)
    if dry_run:
        _show_plan(plan(tree, manifest.name, manifest.parent), target, as_json)
        return
    chosen = seed if seed is not None else space.settings.values["seed"]
    cohort = build_cohort(tree, manifest.name, manifest.parent, target, seed=chosen, progress=console.progress)
    audit = cohort.json("audit.json")
    if not as_json:
        _show(cohort.meta, audit)
        console.say(f"\ncohort: {console.place(target)}")
    console.finish(as_json, {"cohort": str(target), "meta": cohort.meta, "audit": audit})


def _read(manifest: Path) -> dict:
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", where=manifest) from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=manifest) from None
    return config.read_yaml(text, manifest.name)


def _show_plan(told: dict, target: Path, as_json: bool) -> None:
    if not as_json:
        console.say(f"would read, for the task {told['task']}:")
        console.table([(table["name"], console.size(table["bytes"])) for table in told["tables"]], ("table", "size"))
        console.table(list(told["modalities"].items()), ("modality", "kind"))
        console.say(f"would write {target}")
    console.finish(as_json, {**told, "out": str(target)})


def _show(meta: dict, audit: dict) -> None:
    console.say("samples")
    console.table(
        [(step["step"], step["samples"], step["patients"], _reasons(step["left_out"])) for step in audit["attrition"]],
        ("step", "samples", "patients", "left out"),
    )
    console.say("\nrows")
    for table in audit["rows"]:
        left = sum(table["dropped"].values())
        told = f"{left:,} left out ({_reasons(table['dropped'])})" if left else "0 left out"
        console.say(f"  {table['table']}: {table['in']:,} in = {table['used']:,} used + {told}")
    if audit["columns"]:
        console.say("\ncolumns")
        names = ("present", "missing", "not_a_number", "infinite", "unknown_category", "samples")
        rows = [(row["modality"], row["column"], *(row.get(name, 0) for name in names)) for row in audit["columns"]]
        console.table(rows, ("modality", "column", "cells", "missing", "no number", "infinite", "other", "samples"))
    for link in audit["links"]:
        left = _reasons(link["left_out"])
        console.say(
            f"\n{link['modality']}: {link['items']:,} items of {link['samples']:,} samples" + (f"; left out: {left}" if left else "")
        )
    console.say("\nlabels")
    console.table(
        [(row["task"], row["label"], row["n"], row["positive"]) for row in audit["labels"]], ("task", "label", "known", "positive")
    )
    if meta["splits"].get("refused"):
        console.note(f"training on this cohort is refused: {meta['splits']['refused']}")
    for warning in audit["warnings"]:
        console.note(warning)


def _reasons(counts: dict) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
