"""What `omnifuse eval --ablate` does: says what it will train and how long that takes, trains, predicts, judges, and writes the tables.

reports/COHORT/TASK-ablation/GRID/    cells.csv  questions.csv  table.md  table.png  curves.png  results.json
runs/COHORT/TASK/tensorboard/GRID/    the same numbers, tables and figures for TensorBoard
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omnifuse import ablations, choices, chosen, console, evaluations, grids, truths
from omnifuse.ablations import Ablation
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import PartialResult
from omnifuse.workspace import Workspace

KIND = "ablation"


def run(
    space: Workspace, names: list[str], *, cohort: str | None, task: str | None, modalities: str | None, folds: tuple[str, ...],
    tuned: bool, jobs: int, device: str, truth: Path | None, resamples: int, margin: float, seed: int | None, sets: tuple[str, ...],
    dry_run: bool, list_cells: bool, as_json: bool,
) -> None:  # fmt: skip
    """Every grid that is asked for, one after the other; runs that they share are trained once.

    Raises:
        ConfigError, ArtefactError: what is asked cannot be.
        PartialResult: some runs were lost to NaN or infinity; the tables are written without them.
    """
    preferred = space.settings.values["task"]
    path, opened = chosen.cohort(space, cohort, {task or preferred} - {None})
    name = chosen.task(opened, task, preferred)
    held = store.open(chosen.features_path(space, path, name), "features").meta["modalities"]
    seen = choices.modalities_of(modalities, held)
    asked = {"cohort": cohort, "task": name, "encoders": {}, "folds": folds, "config_file": None, "sets": sets, "seed": seed, "out": None}
    made = [ablations.plan(grids.read(each), space=space, modalities=seen, tuned=tuned, **asked) for each in names]
    if list_cells:
        for line in dict.fromkeys(line for each in made for line in ablations.commands(each)):
            console.say(line)
        return
    for each in made:
        announce(each, device, jobs)
    if dry_run:
        return
    ceilings, told, lost = truths.read(space, path, opened, name, truth), {}, {}
    for each in made:
        lost |= ablations.train(each, jobs=jobs, device=device, progress=console.progress)
        predictions = ablations.predict(each, jobs=jobs, device=device, progress=console.progress)
        _count_look(each)
        how = {"resamples": resamples, "margin": margin, "seed": seed if seed is not None else space.settings.values["seed"]}
        results = judge(each, predictions, ceilings=ceilings, **how)
        folder = write(each, results, space, lost)
        told[each.grid.name] = {"folder": str(folder), "results": results}
        if not as_json:
            console.say((folder / "table.md").read_text(encoding="utf-8"))
            console.say(f"{each.grid.name}: {console.place(folder)}")
    console.finish(as_json, told)
    if lost:
        raise PartialResult(f"{len(lost)} runs were lost to numbers that are not finite", hint="see the end of table.md")


def _count_look(ablation: Ablation) -> None:
    """The test folds are looked at with these runs, once more."""
    cells = [cell for cell in ablation.cells() if cell.state == "finished"]
    evaluations.count_look(ablation.entries[0].plan.out, [store.open(cell.path, "run") for cell in cells])


def announce(ablation: Ablation, device: str, jobs: int) -> None:
    """The number of runs and the time that they will take, before anything is trained."""
    cells = ablation.cells()
    missing = [cell for cell in cells if cell.state != "finished"]
    told = f"{ablation.name}: {len(cells)} runs, {len(cells) - len(missing)} of them finished"
    if missing:
        from omnifuse.pace import predicted_seconds

        told += f"; about {duration(predicted_seconds(missing, cells, device) / jobs)} for the others"
    console.say(told)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def judge(ablation: Ablation, predictions, *, ceilings, resamples: int, margin: float, seed: int) -> dict[str, Any]:
    """The numbers of a grid, and what its runs cost."""
    from omnifuse.eval import ablation as numbers
    from omnifuse.eval.tables import train_patients

    plan, grid = ablation.entries[0].plan, ablation.grid
    samples = plan.cohort.table(f"samples/{plan.task.name}.parquet")
    titles = {entry.row: entry.title for entry in ablation.entries if entry.row != ablations.SINGLE}
    layout = numbers.Layout(ablation.name, ablation.about, titles, grid.questions, ablation.modalities, _costs(ablation))
    trained = train_patients(plan.cohort.table("parts.parquet"), samples)
    how = {"resamples": resamples, "margin": margin, "seed": seed, "progress": console.progress}
    return numbers.judge(predictions, layout, task=plan.task, train_patients=trained, ceilings=ceilings, **how)


def _costs(ablation: Ablation) -> dict[tuple[str, str], dict[str, float | None]]:
    """Means over the folds of what the manifests of the runs tell."""
    found = {}
    for entry in ablation.entries:
        metas = [store.open(cell.path, "run").meta for cell in entry.plan.cells() if cell.state == "finished"]
        told = {}
        for key in ("parameters", "parameters_learnable", "seconds", "peak_memory_mb", "predict_ms_per_patient"):
            values = [meta[key] for meta in metas if meta.get(key) is not None]
            told[key] = sum(values) / len(values) if values else None
        for key in ("parameters", "parameters_learnable"):
            told[key] = None if told[key] is None else round(told[key])
        found[entry.row, "+".join(entry.column)] = told
    return found


def write(ablation: Ablation, results: dict[str, Any], space, lost: dict[Path, str]) -> Path:
    """The folder of tables and figures."""
    from omnifuse.eval import ablation_figures, ablation_page

    plan = ablation.entries[0].plan
    folder = chosen.report_path(space, plan.cohort.folder, f"{plan.task.name}-ablation") / ablation.name
    curves, table = ablation_figures.draw_curves(results), ablation_figures.draw_table(results)
    text = ablation_page.markdown(results, figure="curves.png" if curves else None) + _lost(lost)
    with store.create(folder, KIND, fingerprint=store.digest(results)) as out:
        store.write_json(out.path("results.json"), results)
        store.write_text(out.path("cells.csv"), ablation_page.cells_csv(results))
        store.write_text(out.path("questions.csv"), ablation_page.questions_csv(results))
        store.write_text(out.path("table.md"), text)
        for name, image in (("curves.png", curves), ("table.png", table.png if table else None)):
            if image is not None:
                with store.atomic(out.path(name)) as path:
                    path.write_bytes(image)
    _to_tensorboard(plan.out / "tensorboard" / ablation.name, results, text, folder)
    return folder


def _lost(lost: dict[Path, str]) -> str:
    return "".join(f"\nLost to a number that is not finite: {path.parents[1].name}, {path.name}.\n" for path in lost)


def _to_tensorboard(folder: Path, results: dict[str, Any], text: str, report: Path) -> None:
    import shutil

    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    if folder.exists():
        shutil.rmtree(folder)  # what was written before is of other numbers
    with store.disk_errors(folder), SummaryWriter(str(store.make_folder(folder))) as board:
        for cell in results["cells"]:
            if cell["auroc"] is not None:
                name = f"{cell['row']}/{cell['column']}" + (f"/{cell['drop']}" if cell["drop"] else "")
                board.add_scalar(f"ablation/{name}", cell["auroc"], round(100 * cell["rate"]))
        board.add_text("ablation", text)
        for name in ("table.png", "curves.png"):
            if (report / name).is_file():
                board.add_image(name.removesuffix(".png"), np.asarray(Image.open(report / name).convert("RGB")), dataformats="HWC")
