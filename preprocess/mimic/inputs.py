"""What a cohort is made from, as a fingerprint: the content of the tables read, the options, and the code that reads them."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from omnifuse.preprocess import store
from omnifuse.preprocess.mimic.options import Options
from omnifuse.preprocess.mimic.source import SERIES_TABLES, TASK_TABLES, Source

_READ_AHEAD = 1 << 22


def tables_read(source: Source, options: Options) -> list[str]:
    """Names of the tables that the asked tasks read, of those that are there."""
    names = [*SERIES_TABLES, *(table for task in options.tasks for table in TASK_TABLES.get(task, ()))]
    if "phenotyping" in options.tasks and options.is_compat:
        names.append("d_icd_diagnoses")
    return [name for name in dict.fromkeys(names) if name in source.files]


def hash_tables(source: Source, names: list[str], progress) -> dict[str, str]:
    """sha256 of each table, by its name relative to the folder."""
    total = sum(source.files[name].stat().st_size for name in names)
    found = {}
    with progress("check inputs", total, "B") as bar:
        for name in names:
            digest = hashlib.sha256()
            with source.files[name].open("rb") as handle:
                while block := handle.read(_READ_AHEAD):
                    digest.update(block)
                    bar.update(len(block))
            found[source.name(name)] = digest.hexdigest()
    return found


def fingerprint(hashes: dict[str, str], options: Options, linked: dict[str, str] | None = None) -> str:
    """The key of a cohort: equal keys, equal cohorts. `linked`: of what is linked to the stays (beside.Sources.hashes)."""
    return store.digest({"tables": hashes, "options": options.to_json(), "code": code_hash(), "linked": linked or {}})


def code_hash() -> str:
    """sha256 over the source and the resources that a cohort is made with: another version of a rule makes another cohort."""
    root = Path(str(resources.files("omnifuse.preprocess")))
    files = [root / name for name in ("splits.py", "frozen.py", "text.py", "sections.py", "inside.py")]
    for folder in ("tables", "mimic", "mimic/resources"):
        files += sorted(file for file in (root / folder).iterdir() if file.is_file())
    return store.digest([[file.relative_to(root).as_posix(), store.sha256(file)] for file in files])


def rows_json(source: Source, hashes: dict[str, str], rows: dict[str, int]) -> dict[str, Any]:
    """The manifest's account of the tables."""
    return {source.name(name): {"rows": rows[name], "sha256": hashes[source.name(name)]} for name in rows if source.name(name) in hashes}
