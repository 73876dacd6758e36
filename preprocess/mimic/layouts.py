"""A cohort in the folders and listfiles that the code of mimic3-benchmarks and MedFuse opens.

    in-hospital-mortality/  phenotyping/  length-of-stay/
        train/  test/     SUBJECT_episodeK_timeseries.csv and listfile.csv
        train_listfile.csv  val_listfile.csv  test_listfile.csv         val episodes stay in train/
    root/all_stays.csv                  MedFuse: the stays with their times, by which it pairs films with stays
    mimic-cxr-ehr-split.csv             MedFuse: where MIMIC-CXR's list of films is given; belongs beside the films

Source: the readers and create_*.py of YerevaNN/mimic3-benchmarks and nyuad-cai/MedFuse; formats only, no code. K counts the kept stays of a
subject by intime. Their train holds our parts train, calib and probe. Their length-of-stay is our task los_remaining; our los has no
counterpart. A cohort of default rules keeps its half-open windows; their discretizer puts a value that stands exactly on the border of two
bins into the earlier one, so that their tensors equal ours only for cohorts of --compat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from omnifuse.preprocess import store, tables
from omnifuse.preprocess.mimic.episodes import header, read_episodes
from omnifuse.preprocess.schema import ConfigError, Silent, nearest

FORMATS = ("mimic3-benchmarks", "medfuse")
FOLDERS = {"mortality": "in-hospital-mortality", "phenotyping": "phenotyping", "los_remaining": "length-of-stay"}
LISTS = {"train": "train", "calib": "train", "probe": "train", "val": "val", "test": "test"}
# MedFuse opens this episode by name at start-up, to learn the header of its discretizer. No listfile names it.
PROBE = "14991576_episode3_timeseries.csv"


def export_layout(
    cohort: store.Artefact, format: str, out: Path, *, fold: int = 0, cxr_split: Path | None = None, progress: Any = Silent
) -> dict[str, Any]:
    """Writes the tasks that the format knows, as one fold parts them.

    Args:
        cxr_split: MIMIC-CXR's own split list (dicom_id, study_id, subject_id, split), from which MedFuse's is made: no film of a val or
            test patient is in train.

    Missing data:
        Samples with an unknown label, or without a row in their window (their readers fail on an empty episode), are left out and
        counted, as are cells that their discretizer refuses.

    Returns:
        files, rows (of episodes), bytes; `tasks`: by folder how many samples each list holds and how many were left out, by reason;
        `notes`: what a user should know, a sentence each.

    Raises:
        ConfigError: an unknown format, no such fold, none of the tasks in the cohort, patient ids that are no integers, or an `out` that
            holds something else than such an export.
        InputError: the list of films cannot be read.
        ResourceError: the disk is full.
    """
    tasks = _check(cohort, format, fold, cxr_split)
    stays = _stays(cohort, fold)
    films = None if cxr_split is None else _films(Path(cxr_split), stays)
    with store.create(out, "export", fingerprint=store.digest([cohort.fingerprint, format, fold]), alone=True) as target:
        windows = {task: _windows(cohort, task, stays) for task in tasks}
        rows, refused = _write_episodes(cohort, target, stays, windows, progress)
        lists = {FOLDERS[task]: _write_lists(cohort, target, task, windows[task], format) for task in tasks}
        if format == "medfuse":
            _write_extras(target, tasks, stays, films)
        summary = {"tasks": lists, "notes": _notes(cohort, format, tasks, refused, films)}
        target.meta.update(format=format, fold=fold, cohort=cohort.fingerprint, **summary)
    written = store.open(out, "export").files
    return {"files": len(written), "rows": rows, "bytes": sum(file["bytes"] for file in written.values()), **summary}


def _check(cohort: store.Artefact, format: str, fold: int, cxr_split: Path | None) -> list[str]:
    """The tasks to write."""
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", hint=nearest(format, FORMATS))
    if cxr_split is not None and format != "medfuse":
        raise ConfigError(f"{format} has no films to split", hint="a list of films goes with --format medfuse")
    if fold not in cohort.meta["splits"]["folds"]:
        raise ConfigError(f"the cohort has no fold {fold}", hint=f"its folds: {', '.join(map(str, cohort.meta['splits']['folds']))}")
    tasks = [task for task in FOLDERS if task in cohort.meta["tasks"]]
    if not tasks:
        raise ConfigError(f"the cohort has no task that {format} knows", where=cohort.folder, hint=f"it knows {', '.join(FOLDERS)}")
    if not pl.read_parquet_schema(cohort.file("stays.parquet"))["patient_id"].is_integer():
        raise ConfigError(f"{format} names its files by integer subjects, and these patients have text ids", where=cohort.folder)
    return tasks


def _stays(cohort: store.Artefact, fold: int) -> pl.DataFrame:
    """The stays with `stay` (the episode's file name), `list` (train, val or test) and `folder` (train or test)."""
    parts = cohort.table("parts.parquet").filter(fold=fold).select("patient_id", list=pl.col("part").replace_strict(LISTS))
    stays = cohort.table("stays.parquet").join(parts, on="patient_id").sort("patient_id", "intime", "outtime", "stay_id")
    episode = pl.int_range(1, pl.len() + 1).over("patient_id")
    return stays.with_columns(
        stay=pl.format("{}_episode{}_timeseries.csv", "patient_id", episode), folder=pl.col("list").replace("val", "train")
    )


# --- episodes ---------------------------------------------------------------------------------------------------------


def _windows(cohort: store.Artefact, task: str, stays: pl.DataFrame) -> pl.DataFrame:
    """The stays that have a sample, and `end`: the hour at which their window ends."""
    sampled = pl.scan_parquet(cohort.file(f"samples/{task}.parquet")).select("stay_id").unique().collect()
    end = pl.lit(float(cohort.meta["tasks"][task]["window_hours"])) if task == "mortality" else pl.col("los_hours")
    return stays.join(sampled, on="stay_id", how="semi").select("stay_id", "stay", "list", "folder", end=end)


def _write_episodes(
    cohort: store.Artefact, target: store.Builder, stays: pl.DataFrame, windows: dict[str, pl.DataFrame], progress: Any
) -> tuple[int, int]:
    """Writes each task's files, and adds the hour of a file's first row to `windows` (null: no row, no file).

    Returns:
        the rows written, and the cells that their code would have refused.
    """
    closed = cohort.meta["compat"] != "none"
    files = {task: dict(zip(window["stay_id"], window.select("folder", "stay", "end").iter_rows())) for task, window in windows.items()}
    first: dict[str, dict[int, float]] = {task: {} for task in windows}
    written = refused = 0
    for task in windows:
        for folder in ("train", "test"):
            store.make_folder(target.folder / FOLDERS[task] / folder)
    with progress("export episodes", stays.height, "stay") as bar:
        for episode in read_episodes(cohort):
            for task in (task for task in files if episode.stay_id in files[task]):
                folder, name, end = files[task][episode.stay_id]
                rows = episode.within(end, closed)
                if lines := episode.lines[rows]:
                    (target.folder / FOLDERS[task] / folder / name).write_text("\n".join([header(), *lines, ""]), encoding="utf-8")
                    first[task][episode.stay_id] = float(episode.hours[rows.start])
                    written += len(lines)
            refused += episode.refused
            bar.update()
    for task, window in windows.items():
        begins = pl.Series([first[task].get(stay) for stay in window["stay_id"]], dtype=pl.Float64)
        windows[task] = window.with_columns(begins=begins)
    return written, refused


# --- lists ------------------------------------------------------------------------------------------------------------


def _write_lists(cohort: store.Artefact, target: store.Builder, task: str, stays: pl.DataFrame, format: str) -> dict[str, Any]:
    """The five listfiles of a task; how many samples each list holds, and how many were left out."""
    labels = cohort.meta["tasks"][task]["labels"] if task == "phenotyping" else ["y_true"]
    columns = {"mimic3-benchmarks": ["period_length"] if task != "mortality" else [], "medfuse": ["period_length", "stay_id"]}
    columns = ["stay", *columns[format], *labels]
    folder = target.folder / FOLDERS[task]
    paths = {folder / f"{name}_listfile.csv": pl.col("list") == name for name in ("train", "val", "test")}
    paths |= {folder / name / "listfile.csv": pl.col("folder") == name for name in ("train", "test")}
    for path in paths:
        path.write_text(",".join(columns) + "\n", encoding="utf-8")
    counts: dict[str, Any] = {"train": 0, "val": 0, "test": 0, "left_out": {"label unknown": 0, "no row in the window": 0}}
    for batch in cohort.batches(f"samples/{task}.parquet"):
        rows = _listed(batch, task, stays, labels)
        known = rows.select(pl.all_horizontal(pl.col(labels).is_not_null())).to_series()
        seen = (rows["begins"] <= rows["until"]).fill_null(False)
        counts["left_out"]["label unknown"] += int((~known).sum())
        counts["left_out"]["no row in the window"] += int((known & ~seen).sum())
        rows = rows.filter(known & seen)
        for name, size in rows["list"].value_counts().iter_rows():
            counts[name] += size
        for path, mine in paths.items():
            listed = rows.filter(mine).select(columns)
            with path.open("a", encoding="utf-8") as file:
                file.write(listed.write_csv(include_header=False, float_precision=6, float_scientific=False, quote_style="never"))
    return counts


def _listed(batch: pl.DataFrame, task: str, stays: pl.DataFrame, labels: list[str]) -> pl.DataFrame:
    """A batch of samples with the columns of a listfile, and `list`, `folder`, `begins` and `until`: it reads rows up to that hour."""
    period = pl.col("period_length" if "period_length" in batch.columns else "prediction_hours").cast(pl.Float64)
    if task == "los_remaining":
        values = [pl.col("remaining_hours").cast(pl.Float64).alias("y_true")]
    else:
        values = [pl.col("y").list.get(i, null_on_oob=True).cast(pl.Int64).alias(name) for i, name in enumerate(labels)]
    # MedFuse writes 0 for mortality and reads it as 48.
    told = pl.lit(0, pl.Int64) if task == "mortality" else period
    until = period if task == "los_remaining" else pl.col("end")
    rows = batch.join(stays, on="stay_id", how="left", maintain_order="left")
    return rows.select("stay", "stay_id", "list", "folder", "begins", *values, until=until, period_length=told)


# --- MedFuse ----------------------------------------------------------------------------------------------------------


def _write_extras(target: store.Builder, tasks: list[str], stays: pl.DataFrame, films: pl.DataFrame | None) -> None:
    """What MedFuse reads beside the listfiles."""
    table = stays.select(pl.col("patient_id").alias("subject_id"), "hadm_id", "stay_id", "intime", "outtime")
    target.path("root/all_stays.csv").write_text(table.write_csv(datetime_format="%Y-%m-%d %H:%M:%S"), encoding="utf-8")
    for task in tasks:
        probe = target.folder / FOLDERS[task] / "train" / PROBE
        if not probe.exists():
            probe.write_text(f"{header()}\n1.0{',' * header().count(',')}\n", encoding="utf-8")
    if films is not None:
        target.path("mimic-cxr-ehr-split.csv").write_text(films.write_csv(), encoding="utf-8")


def _films(path: Path, stays: pl.DataFrame) -> pl.DataFrame:
    """MIMIC-CXR's list of films with MedFuse's split: by patient, all in train but those of val and test.

    Subjects are compared as text: read as numbers on one side only they would match nobody.
    """
    films = tables.read(path, [tables.Column(name, pl.String, nullable=False) for name in ("dicom_id", "study_id", "subject_id")])
    spelling = {"train": "train", "val": "validate", "test": "test"}
    lists = stays.select(pl.col("patient_id").cast(pl.String).alias("subject_id"), split=pl.col("list").replace(spelling)).unique()
    return films.join(lists, on="subject_id", how="left", maintain_order="left").with_columns(pl.col("split").fill_null("train"))


def _notes(cohort: store.Artefact, format: str, tasks: list[str], refused: int, films: pl.DataFrame | None) -> list[str]:
    notes = []
    for task in cohort.meta["tasks"]:
        if task not in tasks:
            notes.append(f"{format} has no counterpart of task {task}: not written")
    hours = cohort.meta["tasks"].get("mortality", {}).get("window_hours", 48)
    if hours != 48:
        notes.append(f"their readers take mortality's window for 48 hours; here it is {hours}")
    if refused:
        notes.append(f"{refused} cells hold a text that their discretizer refuses: left empty")
    if cohort.meta["compat"] == "none":
        notes.append("rules and half-open windows of the cohort; made with --compat, it equals what their own extraction writes")
    if cohort.meta.get("lookback_hours"):
        notes.append("rows before intime are left out: their discretizer begins there")
    if format == "medfuse":
        notes.append(f"train/{PROBE} is an empty episode that MedFuse opens at start-up; no list names it")
        if films is None:
            notes.append("no mimic-cxr-ehr-split.csv: no list of films was given")
        else:
            notes.append(f"mimic-cxr-ehr-split.csv: {films.height} films; put it beside them")
    return notes
