"""Where the truth of a cohort lies: beside the raw files of the synthetic clinic from which it was made (`raw`, `raw-truth`).

Told by --truth; else looked for beside the folders that the cohort names as the place of its films or series, then beside those that the
workspace names, then in the workspace itself. A folder found so is taken only if it is the truth of these very samples; no other cohort
gets a ceiling, and only a mismatch is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omnifuse import console
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError
from omnifuse.workspace import Workspace

SUFFIX = "-truth"
RAW_KEYS = ("ehr", "cxr", "notes", "signals", "manifest")  # of omnifuse.yaml, that name files or folders of raw data
ABOVE = 2  # folders above what is named, to the raw folder: raw/cxr, raw/note


def read(space: Workspace, path: Path, cohort: store.Artefact, task: str, told: Path | None):
    """The ceilings of a task, or None where there is no truth, or one of another task (which is told).

    Args:
        path: the cohort's folder. told: the truth's, by --truth.

    Raises:
        ArtefactError: the truth that was told is none, or that of another cohort.
    """
    from omnifuse.eval.ceilings import NoCeiling, read_ceilings
    from omnifuse.preprocess.schema import Task

    near = [told] if told else list(dict.fromkeys(_near(space, cohort)))
    around = [] if told else [folder for folder in _around(space, path) if folder not in near]
    if not near and not around:
        return None
    samples, refused = cohort.table(f"samples/{task}.parquet"), []
    for folder in (*near, *around):
        try:
            ceilings = read_ceilings(folder, samples, Task.from_json(task, cohort.meta["tasks"][task]))
            _require_raw(folder, ceilings.fingerprint, cohort)
            return ceilings
        except (NoCeiling, ArtefactError) as error:
            if told and not isinstance(error, NoCeiling):
                raise
            refused += [error] if folder in near else []  # of the others nobody said that they belong to the cohort
    if refused:
        console.note(f"no ceilings: {refused[0]}")
    return None


def _near(space: Workspace, cohort: store.Artefact) -> Iterator[Path]:
    """Truths beside the raw files that the cohort or the workspace names, the likeliest first."""
    roots = [meta.get("root") for meta in cohort.meta["modalities"].values()]
    named = [Path(root) for root in roots if root]
    if space.root:
        named += [place for key in RAW_KEYS if (place := space.place(key))]
    for place in named:
        place = place.absolute()
        for raw in (place, *place.parents[:ABOVE]):
            yield from _truth(raw.with_name(f"{raw.name}{SUFFIX}"))


def _around(space: Workspace, path: Path) -> Iterator[Path]:
    """Other truths in the workspace, or in the one that the cohort stands in (study/cohorts/NAME)."""
    for folder in sorted((space.root or path.absolute().parent.parent).glob(f"*{SUFFIX}")):
        yield from _truth(folder.absolute())


def _truth(folder: Path) -> Iterator[Path]:
    """The folder if a clinic's truth is there; raw data of patients have none, and nothing is said of them."""
    from omnifuse.eval.ceilings import open_truth

    if not (folder / store.MANIFEST).is_file():
        return
    try:
        open_truth(folder)
    except ArtefactError:
        return
    yield folder


def _require_raw(folder: Path, fingerprint: str, cohort: store.Artefact) -> None:
    """Where the raw files still lie beside the truth: both are of one making, and the cohort was made from these very tables."""
    raw = folder.absolute().with_name(folder.absolute().name.removesuffix(SUFFIX))
    if raw == folder.absolute() or not (raw / store.MANIFEST).is_file():
        return
    told = store.read_json(raw / store.MANIFEST)
    if told.get("fingerprint") != fingerprint:
        raise ArtefactError("is not the truth of the raw files beside it", where=folder, hint="omnifuse demo --raw writes both")
    files = told.get("files") or {}
    for name, table in ((cohort.meta.get("source") or {}).get("tables") or {}).items():
        if name in files and table.get("sha256") and files[name]["sha256"] != table["sha256"]:
            raise ArtefactError(f"the cohort was not made from the raw files beside this truth: {name} differs", where=folder)
