"""omnifuse train: one method on one task, a run a fold."""

from __future__ import annotations

from pathlib import Path

import click

from omnifuse import choices, config, console, options, trainings, workspace
from omnifuse.preprocess.schema import ConfigError


class MethodFlags(click.Command):
    """Adds the flags that the methods declare in their configs, each with the names of its methods."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        flags = [_option(flag, owners) for flag, owners in sorted(choices.method_flags().items())]
        own = super().get_params(context)
        return [*own[:-1], *flags, own[-1]]


def _option(flag: str, owners: dict) -> click.Option:
    """A switch, or an option with a value where the methods' configs leave the value open."""
    values = choices.values_of_flag(owners)
    kind = {"is_flag": True} if values is None else {"type": click.Choice(values) if values else str, "default": None}
    return click.Option([flag, _name(flag)], help=f"Of --method {' and '.join(sorted(owners))}: {_effect(owners)}.", **kind)


def _name(flag: str) -> str:
    return "flag_" + flag.strip("-").replace("-", "_")


def _effect(owners: dict) -> str:
    parameters = next(iter(owners.values()))
    return ", ".join(f"method.{name}" + ("" if value is None else f"={config.show(value)}") for name, value in parameters.items())


@click.command(name="train", cls=MethodFlags)
@options.task
@click.option("--method", default="omnifuse", show_default=True, help="The fusion method (omnifuse list methods).")
@click.option(
    "--modalities", "--modality", metavar="NAME[,NAME]", default=None, help="What the method may see.  [default: all of the cohort]"
)
@click.option(
    "--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="The encoder of a modality.  [default: by the features]"
)
@click.option("--fold", "folds", multiple=True, default=("all",), metavar="K", help="A test fold, or all; may be repeated.  [default: all]")
@click.option("--init", type=click.Choice(["stage1", "scratch"]), default="stage1", show_default=True,
              help="Start encoders from the unimodal runs of the fold (trained first where missing), or from nothing.")  # fmt: skip
@click.option("--tuned", is_flag=True, help="With the settings that omnifuse tune found for this method and these modalities.")
@click.option("--tune-encoder", is_flag=True, help="With --method unimodal: tune the encoder itself, on the features of extract --raw.")
@click.option("--tune-layers", type=click.IntRange(-1), default=None, metavar="N",
              help="With --tune-encoder: its last N layers alone; 0 none, -1 all.")  # fmt: skip
@options.model_dir
@click.option("--resume/--no-resume", default=True, show_default=True, help="Go on with an interrupted run, or start it over.")
@options.device
@options.config_file
@options.cohort_option
@options.out
@options.common
def command(
    task,
    method,
    modalities,
    encoders,
    folds,
    init,
    tuned,
    tune_encoder,
    tune_layers,
    model_dir,
    resume,
    device,
    config_file: Path | None,
    cohort,
    out,
    as_json,
    dry_run,
    seed,
    sets,
    **flags,
):
    """Train one method on one task: a run for each fold, found by its fingerprint and left alone when finished.

    A run holds weights, predictions, history and TensorBoard events. Interrupted, the same command goes on where it stopped; on a CPU
    the result is the same to the bit.

    \b
    Example:
      omnifuse train --task mortality
      omnifuse train --task mortality --method unimodal --modality ehr --fold 0 --set train.lr=1e-3
      omnifuse train --task mortality --method concat --set fusion.train.lr=1e-3      stage 1 as it was
      omnifuse train --task mortality --method concat --tuned
      omnifuse train --task radiology --method unimodal --modality cxr --tune-encoder
      omnifuse train --task mortality --method unimodal --modality rep --tune-encoder --tune-layers 2
    """
    space = workspace.find()
    given = {flag: flags[_name(flag)] for flag in choices.method_flags() if flags.get(_name(flag))}
    plan = trainings.plan(
        space,
        cohort=cohort,
        task=task,
        method=method,
        modalities=modalities,
        encoders=choices.encoders_of(encoders),
        folds=folds,
        init=init,
        config_file=config_file,
        sets=sets,
        flags=choices.flag_layer(method, given),
        seed=seed,
        out=out,
        tuned=tuned,
        tune_encoder=tune_encoder,
        tune_layers=tune_layers,
        model_dir=options.model_folder(space, model_dir),
    )
    if dry_run:
        _show_plan(plan, as_json)
        return
    _warn_of_leaks(plan)
    runs = []
    for cell in plan.cells():
        run = cell.train(device=device, resume=resume, progress=console.progress)
        runs.append(_row(cell, run))
        if not as_json:
            console.say(_line(runs[-1]))
    group = plan.finish(runs)
    if not as_json:
        console.say(f"runs: {console.place(group)}")
    console.finish(as_json, {"group": str(group), "runs": runs})


def _warn_of_leaks(plan) -> None:
    leaks = {name: reason for name, reason in plan.task.notes.get("leaks", {}).items() if name in plan.modalities}
    if leaks:
        told = "; ".join(f"{name}: {reason}" for name, reason in leaks.items())
        console.note(f"{plan.task.name} leaks ({told}): whatever is shown of these runs carries the mark †leak")


def _row(cell, run) -> dict:
    best = run.meta["best"] or {}
    return {
        "fold": cell.fold,
        "method": run.meta["method"],
        "modalities": "+".join(run.meta["modalities"]),
        "epoch": best.get("epoch"),
        "monitor": best.get("monitor"),
        "value": best.get("value"),
        "seconds": run.meta["seconds"],
        "run": str(cell.path),
    }


def _line(row: dict) -> str:
    told = f"{row['method']} {row['modalities']} fold {row['fold']}"
    return f"{told}: {row['monitor']} {console.number(row['value'])} at epoch {row['epoch']}, {row['seconds']:.0f} s"


def _show_plan(plan, as_json: bool) -> None:
    rows = [{"fold": cell.fold, "method": cell.method, "modalities": "+".join(cell.modalities), "state": cell.state, "run": str(cell.path)}
            for cell in plan.cells()]  # fmt: skip
    if not rows:
        raise ConfigError("no fold to train")
    if not as_json:
        console.say(f"would read {plan.features_path} and write {len(rows)} runs:")
        console.table([list(row.values()) for row in rows], list(rows[0]))
    console.finish(as_json, {"runs": rows})
