"""A manifest of lesions to a cohort: `build_cohort` composes what the other files of this folder hold.

    manifest -> paths judged -> fingerprint -> headers, series, places, patient by patient -> reports -> parts -> audit

No pixel is decoded here but for the lung field of CTs without a placed lesion. Two DICOM trees are the same for the fingerprint where
names, sizes and times of change are: hashing every byte of a hundred gigabytes would take longer than all else.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess import assembly, splits, store
from omnifuse.preprocess.lung import audit, reports
from omnifuse.preprocess.lung.imaging import Found, Imaging, Tally
from omnifuse.preprocess.lung.manifest import is_path, read_manifest, require_below
from omnifuse.preprocess.lung.options import Options
from omnifuse.preprocess.lung.series import list_files, scan
from omnifuse.preprocess.schema import ConfigError, InputError, Silent, Task

TASK = "subtyping"
SHARED_CODE = ("splits.py", "frozen.py", "assembly.py", "inside.py", "text.py")
ITEM_SCHEMA = {
    "names": pl.List(pl.String), "origins": pl.List(pl.Float64), "slopes": pl.List(pl.Float64), "intercepts": pl.List(pl.Float64),
    "padding": pl.Float64, "padding_limit": pl.Float64, "axes": pl.List(pl.Float64), "spacing": pl.List(pl.Float64), "rows": pl.Int64,
    "columns": pl.Int64, "centre": pl.List(pl.Float64), "grid": pl.List(pl.Float64), "extent": pl.List(pl.Float64),
}  # fmt: skip


def build_cohort(manifest: Path, root: Path, out: Path, options: Options = Options(), progress=Silent) -> store.Artefact:  # noqa: B008
    """Makes the cohort artefact at `out` from a manifest and the folders that it names below `root`.

    Raises:
        InputError: the manifest, a path in it or a report's encoding is bad, nothing is left, or, with on_bad_series="error", a series
            cannot be used.
        ConfigError: the classes asked for are not those of the manifest.
    """
    rows = read_manifest(manifest, options.encoding)
    require_below(root, rows, manifest)
    files = list_rows(root, rows)
    inputs = files_digest(root, rows, files)
    key = fingerprint(manifest, root, inputs, options)
    if (artefact := store.current(out, "cohort", key)) is not None:
        return artefact
    with store.create(out, "cohort", fingerprint=key, alone=True) as builder:
        _build(manifest, root, rows, files, builder, options, progress)
        for about in builder.meta["modalities"].values():
            about["files"] = inputs
    return store.open(out, "cohort")


def list_rows(root: Path, rows: pl.DataFrame) -> dict[str, list[str]]:
    """Files of every folder that a manifest names: what may be slices, or place a lesion; relative to the root."""
    listed = {name: list_files(root, name) for column in ("ct_series", "pet_series") for name in rows[column].drop_nulls().unique().sort()}
    for name in rows["lesion_file"].drop_nulls().unique().sort():
        base = root / name
        found = sorted(base.rglob("*")) if base.is_dir() else [base]
        listed[name] = [path.relative_to(root).as_posix() for path in found if not path.is_dir() and not path.name.startswith(".")]
    return listed


def files_digest(root: Path, rows: pl.DataFrame, files: dict[str, list[str]]) -> str:
    """sha256 of names, sizes and times of change of everything that a manifest names."""
    names = {name for listed in files.values() for name in listed} | {cell for cell in rows["report"].drop_nulls() if is_path(cell)}
    return store.digest([(name, (told := (root / name).lstat()).st_size, told.st_mtime_ns) for name in sorted(names)])


def fingerprint(manifest: Path, root: Path, files: str, options: Options) -> str:
    """The key of a cohort: equal keys, equal cohorts."""
    here = Path(__file__).parent
    shared = [*(here.parent / name for name in SHARED_CODE), *sorted(here.parent.glob("dicom/*.py"))]
    code = [store.sha256(file) for file in (*shared, *sorted(here.glob("*.py")))]
    told = {"manifest": store.sha256(manifest), "root": str(root.resolve()), "files": files, "options": options.to_json(), "code": code}
    return store.digest(told)


def _build(
    manifest: Path, root: Path, rows: pl.DataFrame, files: dict[str, list[str]], builder: store.Builder, options: Options, progress
) -> None:
    steps = [audit.step("lesions in the manifest", rows)]
    labelled = _labelled(rows, options, manifest)
    steps.append(audit.step(f"with a {_label_column(options)}", labelled, "no label", rows))
    tally = Tally()
    found = _find_images(root, labelled, files, options, tally, progress)
    texts, text_audit = _read_reports(root, labelled, manifest, options)
    _require_series(tally, manifest, options)
    kept = labelled.filter(
        pl.Series(
            [one.ct is not None or one.pet is not None or name in texts for one, name in zip(found, labelled["sample_id"])],
            dtype=pl.Boolean,
        )
    )
    steps.append(audit.step("with CT, PET or report", kept, "no modality can be used", labelled))
    if kept.is_empty():
        raise InputError(
            f"no sample is left for the task {TASK}", where=manifest, hint=audit.reasons(tally) or "every label or modality is empty"
        )
    keep = set(kept["sample_id"])
    found = [one for one, name in zip(found, labelled["sample_id"]) if name in keep]
    samples, modalities = _modalities(kept, found, texts, root, options)
    parts = _parts(kept, options)
    scanners = pl.DataFrame([{"sample_id": name, **one.scanner} for name, one in zip(kept["sample_id"], found)], infer_schema_length=None)
    told = audit.make(steps, tally, samples, kept, texts, text_audit, scanners, parts, tuple(options.labels))
    assembly.assemble(
        builder,
        assembly.Assembly(
            tasks={TASK: Task(TASK, "multiclass", tuple(options.labels), {"classes": options.classes})},
            samples={TASK: samples},
            modalities=modalities,
            source={
                "dataset": "lung",
                "version": None,
                "tables": {manifest.name: {"rows": rows.height, "sha256": store.sha256(manifest)}},
            },
            audit=told,
            parts=parts,
            meta={
                "lung": {name: value for name, value in options.to_json().items() if name not in ("splits", "seed", "split", "assign_new")}
            },
        ),
    )


def _label_column(options: Options) -> str:
    return "histology" if options.classes == "histology" else "subtype"


def _labelled(rows: pl.DataFrame, options: Options, manifest: Path) -> pl.DataFrame:
    """Rows with a label, with `class` (its number) and `sample_id`."""
    column = _label_column(options)
    number = {cell: place for place, cells in enumerate(options.labels.values()) for cell in cells}
    told = rows.with_columns(
        pl.col(column).replace_strict(number, default=None, return_dtype=pl.Int16).alias("class"),
        pl.concat_str("patient_id", "lesion_id", separator="/").alias("sample_id"),
    ).filter(pl.col("class").is_not_null())
    if told.is_empty():
        other = "--classes histology" if column == "subtype" else "--classes 3 or 6"
        raise ConfigError(f"the manifest has no {column}", where=manifest, hint=f"fill the column, or {other}")
    return told


def _find_images(root: Path, rows: pl.DataFrame, files: dict[str, list[str]], options: Options, tally: Tally, progress) -> list[Found]:
    """What there is of CT and PET for every row; folders are read once a patient."""
    found: list[Found] = []
    total = sum(len(files[name]) for name in {*rows["ct_series"].drop_nulls(), *rows["pet_series"].drop_nulls()})
    with progress("read headers", total, "file") as bar:
        for group in rows.partition_by("patient_id", maintain_order=True):
            folders = sorted({*group["ct_series"].drop_nulls(), *group["pet_series"].drop_nulls()})
            imaging = Imaging(root, options, tally, {name: scan(root, files[name], bar.update) for name in folders}, files)
            found += [imaging.find(row) for row in group.iter_rows(named=True)]
    return found


def _read_reports(root: Path, rows: pl.DataFrame, manifest: Path, options: Options) -> tuple[dict[str, str], Counter[str]]:
    """Prepared texts by sample_id, and counts of what happened to reports."""
    texts, counts = {}, Counter()
    for row in rows.iter_rows(named=True):
        if row["report"] is None:
            continue
        counts["reports"] += 1
        when = reports.timing(row["report_date"], row["pathology_date"])
        counts[when] += 1
        if when == reports.AFTER or (when == reports.UNDATED and options.undated_reports == "drop"):
            continue
        raw = reports.read_report(root, row["report"], options.encoding, f"{manifest}:{row['row']}")
        text = reports.prepare(raw, options.sections, options.max_chars, counts)
        if text:
            texts[row["sample_id"]] = text
        else:
            counts[reports.EMPTY] += 1
    return texts, counts


def _require_series(tally: Tally, manifest: Path, options: Options) -> None:
    if options.on_bad_series == "error" and tally.listed:
        first = tally.listed[0]
        told = f"{len(tally.listed)} series or lesion files cannot be used: {audit.reasons(tally)}"
        raise InputError(told, where=f"{manifest}:{first['row']}:{first['column']}", hint="--on-bad-series skip leaves them out")


def _modalities(
    rows: pl.DataFrame, found: list[Found], texts: dict[str, str], root: Path, options: Options
) -> tuple[pl.DataFrame, dict[str, assembly.Modality]]:
    """The samples table, and the modalities that anybody has; a sample has one item of each at most."""
    samples = rows.select("sample_id", "patient_id", "class", y=pl.concat_list(pl.col("class").cast(pl.Float32)))
    samples = samples.with_columns(pl.Series("input", [one.cut for one in found], dtype=pl.String))
    samples = samples.with_columns(rows["exam_date"].dt.strftime("%Y").alias("group"))
    items = {"ct": [one.ct for one in found], "pet": [one.pet for one in found]}
    modalities = {}
    for name, told in items.items():
        present = [one for one in told if one is not None]
        if present:
            table = pl.DataFrame(present, schema=ITEM_SCHEMA, orient="row")
            meta = {"kind": "items", "reads": "volume", "root": str(root.resolve()), "decode": options.decode(name)}
            modalities[name] = assembly.Modality(meta, items=table)
            samples = _placed(samples, name, [one is not None for one in told])
    if texts:
        there = [name in texts for name in rows["sample_id"]]
        table = pl.DataFrame({"text": [texts[name] for name in rows["sample_id"] if name in texts]}, schema={"text": pl.String})
        meta = {"kind": "items", "reads": "text", "root": None, "sections": list(options.sections), "max_chars": options.max_chars}
        modalities["rep"] = assembly.Modality(meta, items=table)
        samples = _placed(samples, "rep", there)
    return samples.drop("group") if samples["group"].null_count() == samples.height else samples, modalities


def _placed(samples: pl.DataFrame, name: str, there: list[bool]) -> pl.DataFrame:
    present = pl.Series(there, dtype=pl.Boolean)
    start = (present.cast(pl.Int64).cum_sum() - 1).clip(0)
    return samples.with_columns(start.alias(f"{name}_start"), present.cast(pl.Int32).alias(f"{name}_length"))


def _parts(rows: pl.DataFrame, options: Options) -> splits.Parts:
    """Folds by patient, stratified by the highest risk of the patient's lesions, numbered without holes for classes that nobody has.

    The calendar of a temporal split is the year of the exam.
    """
    people = rows.group_by("patient_id").agg(pl.col("class").max(), group=pl.col("exam_date").max().dt.strftime("%Y"))
    people = people.select("patient_id", "group", outcome=pl.col("class").rank("dense").cast(pl.Int16) - 1)
    if options.splits is None:
        return splits.make_parts(people, kind=options.split, seed=options.seed)
    frozen = splits.read_frozen([Path(options.splits)])
    return splits.make_parts(people, kind="frozen", seed=options.seed, frozen=frozen, new="hash" if options.assign_new else "refuse")


def describe_plan(manifest: Path, root: Path, options: Options) -> dict[str, Any]:
    """What a run would read, without a look into any file of a patient: for --dry-run."""
    rows = read_manifest(manifest, options.encoding)
    require_below(root, rows, manifest)
    files = list_rows(root, rows)
    names = {name for listed in files.values() for name in listed}
    present = {column: rows[column].count() for column in ("ct_series", "pet_series", "report")}
    placed = rows.filter(pl.col("lesion_xyz_mm").is_not_null() | pl.col("lesion_file").is_not_null()).height
    size = sum((root / name).lstat().st_size for name in names)
    return {
        "manifest": str(manifest), "root": str(root), "lesions": rows.height, "patients": rows["patient_id"].n_unique(), **present,
        "placed": placed, "files": len(names), "bytes": size,
    }  # fmt: skip
