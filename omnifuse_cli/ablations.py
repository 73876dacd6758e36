"""`omnifuse eval --ablate`: a grid as cells, each an ordinary run that is found by its fingerprint, trained where it is missing.

Stage 1 is trained once a fold and shared by all cells. Rows that are trained on all modalities are tested on a column by hiding the rest.
What is predicted under a condition lies beside its run: METHOD-MODALITIES/KEY/conditions/foldK-NAME.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from omnifuse import choices, config, trainings, tunings
from omnifuse.grids import ALL, Grid
from omnifuse.jobs import each, train_all
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import Silent
from omnifuse.trainings import Cell, Plan

SINGLE = "single"


@dataclass(frozen=True)
class Entry:
    """A row on a column: the runs that speak for it (`plan`), and the modalities they are tested with."""

    row: str
    title: str
    column: tuple[str, ...]
    plan: Plan

    @property
    def subset(self) -> tuple[str, ...]:
        """What is left visible; empty where the runs were trained on just that."""
        return () if tuple(self.plan.modalities) == self.column else self.column


@dataclass(frozen=True)
class Ablation:
    """A grid on a task of a cohort."""

    grid: Grid
    modalities: list[str]
    folds: list[int]
    entries: list[Entry]
    tuned: bool = False  # with what `omnifuse tune` found

    @property
    def name(self) -> str:
        """Its tables stand beside those of the untuned one."""
        return f"{self.grid.name}-tuned" if self.tuned else self.grid.name

    @property
    def about(self) -> str:
        return f"{self.grid.about} Every method with what tuning found for it." if self.tuned else self.grid.about

    def cells(self) -> list[Cell]:
        """Every run that is needed, once, those that others start from first."""
        plans = {entry.plan.folder: entry.plan for entry in self.entries}
        first = {start.folder: start for plan in plans.values() for start in plan.stage_one()}
        rest = [plan for folder, plan in plans.items() if folder not in first]
        return [cell for plan in (*first.values(), *rest) for cell in plan.cells()]

    def first_cells(self) -> set[Path]:
        return {cell.path for entry in self.entries for plan in entry.plan.stage_one() for cell in plan.cells()}


def plan(grid: Grid, *, modalities: list[str], tuned: bool = False, **asked: Any) -> Ablation:
    """Every entry of a grid, checked before anything is trained.

    Args:
        tuned: every method runs with what `omnifuse tune` found for it; the options of a row are laid over that. A modality alone too,
            where it was tuned: else it is the very run that the rows start from.
        asked: what `trainings.plan` takes, but method, modalities and flags.
    """

    def runs(method: str, chosen: tuple[str, ...], layer: dict[str, config.Leaf], found: bool = tuned) -> Plan:
        told = dict(asked)
        if config.packaged("methods", method)[1].get("stage1", trainings.STAGE_ONE) is None:  # what is said of stage 1 is meant for others
            told["sets"] = tuple(text for text in asked["sets"] if not text.startswith(choices.STAGE1))
        return trainings.plan(method=method, modalities=",".join(chosen), flags=layer, init="stage1", tuned=found, **told)

    entries, first = [], {}
    for column in grid.columns_of(modalities):
        for row in grid.rows:
            chosen = tuple(modalities) if row.trained_on == ALL else column
            made = runs(row.method, chosen, row.layer)
            entries.append(Entry(row.name, row.title, column, made))
            if not any(name.startswith(choices.STAGE1) for name in row.layer):
                first |= {start.modalities[0]: start for start in made.stage_one()}
    for name in modalities if grid.singles else ():
        alone = first.get(name) or runs(trainings.STAGE_ONE, (name,), {}, found=False)
        if tuned and tunings.best_layer(alone.space, alone.cohort, alone.task.name, trainings.STAGE_ONE, [name]) is not None:
            alone = runs(trainings.STAGE_ONE, (name,), {})
        entries.append(Entry(SINGLE, "best single modality", (name,), alone))
    return Ablation(grid, modalities, entries[0].plan.folds, entries, tuned)


def train(ablation: Ablation, *, jobs: int, device: str, progress=Silent) -> dict[Path, str]:
    """Trains what is missing, stage 1 first; returns, by the run's place, why a run was lost to NaN or infinity."""
    missing = [cell for cell in ablation.cells() if cell.state != "finished"]
    first = ablation.first_cells()
    lost: dict[Path, str] = {}
    with progress("train", len(missing), "run") as bar:
        for batch in ([c for c in missing if c.path in first], [c for c in missing if c.path not in first]):
            for cell, outcome in train_all(batch, device=device, jobs=jobs):
                if cell.state != "finished":
                    lost[cell.path] = outcome.reason
                bar.update(1)
    return lost


def predict(ablation: Ablation, *, jobs: int, device: str, progress=Silent) -> pl.DataFrame:
    """The predictions of every entry, under every condition: PREDICTION_COLUMNS, `modalities`, `row`, `drop` and `rate`.

    `modalities` is the column; `seed` counts the draws of what is missing. Entries whose run of some fold is lost have no row of it.
    """
    cells = [(entry, cell) for entry in ablation.entries for cell in entry.plan.cells() if cell.state == "finished"]
    frames = []
    with progress("predict", len(cells), "run") as bar:
        for _, frame in each(_predictions, [(entry, cell, ablation.grid, device) for entry, cell in cells], jobs):
            frames.append(frame)
            bar.update(1)
    return pl.concat(frames).sort("row", "modalities", "drop", "rate", "seed", "fold", "sample_id", "label_name")


def _predictions(entry: Entry, cell: Cell, grid: Grid, device: str) -> pl.DataFrame:
    """Every prediction of the part val and, by condition, of the part test of one run as one entry."""
    from omnifuse.models.conditions import FULL

    run = store.open(cell.path, "run")
    full = run.table("predictions/full.parquet").filter(pl.col("head") == "final").with_columns(condition=pl.lit(FULL))
    frames, wanted = [full.filter(pl.col("part") == "val")], _conditions(entry, grid)
    if entry.subset:
        wanted[FULL] = ("", 0.0, _condition(entry))
    else:
        frames.append(full.filter(pl.col("part") == "test"))
    if wanted:
        frames.append(_under(wanted, cell, run, entry, device))
    told = {name: (drop, rate, condition.mask) for name, (drop, rate, condition) in wanted.items()}
    whole = pl.concat(frames)
    column = lambda place, kind, default: pl.col("condition").replace_strict(
        {name: value[place] for name, value in told.items()} or {"": default}, default=default, return_dtype=kind
    )
    return whole.with_columns(
        drop=column(0, pl.String, ""), rate=column(1, pl.Float64, 0.0), seed=column(2, pl.Int64, 0),
        row=pl.lit(entry.row), modalities=pl.lit("+".join(entry.column)),
    ).drop("condition")  # fmt: skip


def _condition(entry: Entry, drop: str = "", rate: float = 0.0, mask: int = 0):
    from omnifuse.models.conditions import Condition

    return Condition(entry.subset, drop, rate, mask)


def _conditions(entry: Entry, grid: Grid) -> dict[str, tuple[str, float, Any]]:
    """name -> what is dropped, rate and condition."""
    if entry.row == SINGLE:
        return {}
    made = [
        (drop, rate, _condition(entry, drop, rate, mask))
        for drop in grid.dropped(entry.column)
        for rate in grid.rates
        for mask in range(grid.masks)
    ]
    return {each[2].name: each for each in made}


def _under(wanted: dict, cell: Cell, run: store.Artefact, entry: Entry, device: str) -> pl.DataFrame:
    from omnifuse.models.conditions import FULL, predict_conditions
    from omnifuse.preprocess import dataset

    made = cell.plan
    conditions = [condition for _, _, condition in wanted.values()]
    key = store.digest(sorted(condition.name for condition in conditions))[:8]
    found = predict_conditions(
        run,
        lambda: dataset.open_samples(made.cohort, made.features, made.task.name, cell.fold, made.modalities).part("test"),
        conditions,
        cell.path.parent / "conditions" / f"fold{cell.fold}-{key}",
        device=device,
    ).table("predictions.parquet")
    subset = _condition(entry).name
    return found.with_columns(pl.col("condition").replace({subset: FULL}))


def commands(ablation: Ablation) -> list[str]:
    """One resumable command a run that is still to do, those that others start from first: for a job array."""
    return [_command(cell) for cell in ablation.cells() if cell.state != "finished"]


def _command(cell: Cell) -> str:
    plan = cell.plan
    words = ["omnifuse", "train", "--cohort", plan.cohort.folder.name, "--task", plan.task.name, "--method", plan.method,
             "--modalities", ",".join(plan.modalities), "--fold", str(cell.fold), "--seed", str(plan.seed)]  # fmt: skip
    return shlex.join([*words, *(word for name, value in _sets(plan).items() for word in ("--set", f"{name}={config.show(value)}"))])


def _sets(plan: Plan) -> dict[str, Any]:
    """What the command is told so that it makes this very run: all that differs from the defaults, or that omnifuse.yaml speaks of.

    A stage-1 run is asked for by its own command, which reads `fusion.*` of omnifuse.yaml as every method does: what it has is told anew.
    Origins do not count, so that rows and grids that share a run name it by one command.
    """
    first = plan.starting
    written = {name: leaf for layer in plan.space.layers.values() for name, leaf in layer.items()}
    spoken_of = {*choices.in_scope(written, stage_one=False), *choices.in_scope(written, stage_one=True)}
    sets = {}
    for name, field in choices.fields_of(plan.method, plan.encoders).items():
        value = plan.resolved.values[name]
        if first and not name.startswith("method.") and first.values[name] != value:
            sets |= {f"{choices.FUSION}{name}": value, f"{choices.STAGE1}{name}": first.values[name]}
        elif value != field.default or name in spoken_of:
            sets[name] = value
    if first:  # `method.*` alone never reaches stage 1; told there, even a default makes other runs (Plan._apart)
        told = [name for name in first.values if name.startswith("method.") and first.origins[name] != config.DEFAULT]
        sets |= {f"{choices.STAGE1}{name}": first.values[name] for name in told}
    return sets
