"""omnifuse tune: the settings of a method, searched on the val part."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from omnifuse import choices, config, console, options, workspace
from omnifuse.preprocess.schema import ConfigError, NumericalError


@click.command(name="tune")
@options.task
@click.option("--method", "methods", multiple=True, default=("omnifuse",), show_default=True, metavar="NAME", help="May be repeated.")
@click.option("--space", "space_file", type=click.Path(path_type=Path), default=None, metavar="FILE",
              help="What is varied, as YAML.  [default: rate, weight decay and dropout, and what the method's config adds]")  # fmt: skip
@click.option("--trials", type=click.IntRange(1), default=None,
              help="How many settings, the defaults among them.  [default: 8; of a grid all]")  # fmt: skip
@click.option("--search", type=click.Choice(["random", "grid"]), default="random", show_default=True, help="How settings are chosen.")
@click.option(
    "--modalities", "--modality", metavar="NAME[,NAME]", default=None, help="What the method may see.  [default: all of the cohort]"
)
@click.option(
    "--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="The encoder of a modality.  [default: by the features]"
)
@click.option("--fold", default="0", show_default=True, metavar="K", help="On whose val part; its test part is not looked at.")
@click.option("--init", type=click.Choice(["stage1", "scratch"]), default="stage1", show_default=True,
              help="Start encoders from the unimodal runs of the fold, which all trials share, or from nothing.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at once, each with one thread.")
@options.device
@options.config_file
@options.cohort_option
@options.common
def command(task, methods, space_file, trials, search, modalities, encoders, fold, init, jobs, device, config_file: Path | None, cohort,
            as_json, dry_run, seed, sets):  # fmt: skip
    """Search a method's settings on the val part of one fold: the same number of trials for every method, the first its defaults.

    Each trial is an ordinary run, found by its fingerprint: interrupted, the same command goes on, and omnifuse train --tuned finds the
    winner trained. Writes trials.csv, best.yaml, tuning.json, tuning.png and TensorBoard's HPARAMS to tunings/. With --method unimodal
    each modality is tuned by itself.

    \b
    A space:
      train.lr: {log: [1e-4, 3e-3]}
      method.dropout: {uniform: [0, 0.5]}
      train.batch_size: {choice: [64, 128]}
    \b
    Example:
      omnifuse tune --task mortality --method concat --method omnifuse
      omnifuse tune --task mortality --method concat --space space.yaml --search grid --jobs 2
      omnifuse train --task mortality --method concat --tuned
    """
    from omnifuse import searches, trainings

    space = workspace.find()
    make_plan = partial(trainings.plan, space, cohort=cohort, task=task, encoders=choices.encoders_of(encoders), folds=(fold,), init=init,
                        config_file=config_file, sets=sets, seed=seed, out=None)  # fmt: skip
    plans = [partial(make_plan, method=method, modalities=names) for method in dict.fromkeys(methods) for names in
             _alone(partial(make_plan, method=method, flags={}), modalities)]  # fmt: skip
    found = _prepare(plans, space_file, search, trials, config_file, sets)
    if not as_json:
        _announce(found)
    if dry_run:
        _show_plan(found, as_json)
        return
    tell = lambda trial, monitor: None if as_json else console.say(f"  trial {trial.number}: {_outcome(trial, monitor)}")
    rows, lost = [], []
    for one in found:
        try:
            result = searches.run(one, device=device, jobs=jobs, progress=console.progress, tell=tell)
        except NumericalError as error:  # of this method; the others may do
            lost.append(error)
            continue
        rows.append(result.to_json() | {"folder": str(one.place)})
        if not as_json:
            _show(one, result)
    console.finish(as_json, {"tunings": rows})
    if lost:
        raise NumericalError("; ".join(error.message for error in lost), hint=lost[0].hint)


def _alone(make_plan, modalities: str | None) -> list[str]:
    """What a method sees at a time: a method for one modality is tuned for each."""
    from omnifuse.trainings import STAGE_ONE

    names = make_plan(modalities=modalities).modalities
    return names if make_plan.keywords["method"] == STAGE_ONE else [",".join(names)]


def _prepare(plans: list, space_file: Path | None, search: str, trials: int | None, config_file: Path | None, sets: tuple) -> list:
    """The search of each method. Raises ConfigError with all that is wrong in the space, of any method."""
    from omnifuse import searches, spaces
    from omnifuse.models import registry

    bases = [make_plan(flags={}) for make_plan in plans]
    if len(bases[0].folds) != 1:
        raise ConfigError("--fold takes one fold: val of one chooses, and the others may judge", hint="--fold 0")
    reads = [{} if registry.find("method", base.method).blind else base.encoders for base in bases]
    found = spaces.build(space_file, [(base.method, encoders) for base, encoders in zip(bases, reads)], search == "grid")
    given = (config.read_file(config_file) if config_file else {}) | config.overrides(sets)
    asked = [searches.Asked(base.folds[0], search, trials, base.seed) for base in bases]
    return [searches.prepare(*each, given) for each in zip(plans, bases, found, asked)]


def _name(search) -> str:
    return f"{search.base.method} {'+'.join(search.base.modalities)}"


def _announce(found: list) -> None:
    for search in found:
        states = [cell.state for cell in search.cells]
        first = sum(cell.state != "finished" for cell in search.stage_one())
        trials = f"{len(states)} trial{'s' * (len(states) != 1)}"
        console.say(f"{_name(search)}: {trials}, {states.count('finished')} finished; {first} stage-1 runs to train")
        if search.space.left_out:
            console.say(f"  it has no {', '.join(search.space.left_out)}: left out")
        if search.base.init == "stage1" and len(search.stage_one()) > len(search.base.stage_one()):
            console.say("  the space varies stage 1: its trials do not share their encoders")
        if search.alike:
            (name,) = search.base.modalities
            console.say("  any other would repeat it, for the encoder was tuned together with its head")
            console.say(f"  --set encoder.{name}.start=scratch trains another")
        elif search.asked.trials and len(states) < search.asked.trials:
            console.say(f"  the space has no more settings: {len(states)} instead of {search.asked.trials} trials")
    if len({len(search.trials) for search in found if not search.alike}) > 1:
        console.note("the methods get budgets of different size: compare them with care")


def _show_plan(found: list, as_json: bool) -> None:
    for search in found if not as_json else ():
        console.say(f"would train {_name(search)} on fold {search.asked.fold} and write {search.place}:")
        rows = [[trial.number, cell.state, *_values(trial), trial.run] for trial, cell in zip(search.trials, search.cells)]
        console.table(rows, ["trial", "state", *search.trials[0].values, "run"])
    about = lambda search: search.about | {"folder": str(search.place), "trials": [vars(trial) for trial in search.trials]}
    console.finish(as_json, {"tunings": [about(search) for search in found]})


def _values(trial) -> list[str]:
    return [config.show(value) for value in trial.values.values()]


def _outcome(trial, monitor: str) -> str:
    if trial.value is None:
        return f"lost: {trial.reason}"
    return f"{monitor} {console.number(trial.value)} at epoch {trial.epoch}, {trial.seconds:.0f} s"


def _show(search, result) -> None:
    rows = [[trial.number, console.number(trial.value) if trial.value is not None else trial.state, trial.epoch, *_values(trial), trial.run]
            for trial in result.ranked()]  # fmt: skip
    console.say()
    console.table(rows, ["trial", result.monitor, "epoch", *result.trials[0].values, "run"], indent="")
    best, first = result.best, result.trials[0]
    told = f"{_name(search)}: trial {best.number} is best, {result.monitor} {console.number(best.value)}; the defaults "
    if result.default_rank is None:
        told += f"were lost ({first.reason})"
    else:
        told += f"come {result.default_rank} of {len(result.trials)}, {console.number(first.value)}: a gain of {result.gain:.3f}"
    console.say(told)
    counts = search.base.cohort.meta["splits"].get("counts", {}).get(str(search.asked.fold), {}).get("val", {})
    on = f" of {counts['patients']} patients" if counts.get("patients") else ""
    console.say(f"  chosen by {len(result.tried)} looks at one val part{on}: luck raises the best, and the gain with it; judge on test")
    console.say(f"  {console.place(search.place)}: trials.csv, best.yaml, tuning.png; omnifuse train --tuned goes on with the best")
