"""Which settings a tuning tries, and what comes of them on val.

Trial 0 is always the method as it stands. Draws depend on seed, trial and parameter alone: more trials begin with the same ones, another
axis leaves the others' values, and methods that share an axis get the same values of it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnifuse import config, spaces, trainings, tuning_pictures, tunings
from omnifuse.jobs import Outcome, train_all
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, NumericalError, Silent
from omnifuse.tunings import LOST, OK, Result, Trial

SEARCHES = ("random", "grid")
TRIALS = 8
PATIENCE = 200  # draws for each trial, before the settings that differ are held for exhausted


@dataclass(frozen=True)
class Asked:
    """What decides a search, beside the method: where it looks, how often, and how."""

    fold: int
    search: str
    trials: int | None  # None: TRIALS at random, or the whole grid
    seed: int


@dataclass
class Search:
    """The trials of one method: a plan each."""

    asked: Asked
    space: spaces.Space
    plans: list[trainings.Plan]
    trials: list[Trial]
    given: dict[str, config.Leaf]
    alike: int = 0  # settings that were left out, for they would repeat trial 0

    @property
    def base(self) -> trainings.Plan:
        return self.plans[0]

    @property
    def place(self) -> Path:
        return tunings.place(self.base.space, self.base.cohort, self.base.task.name, self.base.method, self.base.modalities)

    @property
    def cells(self) -> list[trainings.Cell]:
        return [plan.cell(self.asked.fold) for plan in self.plans]

    def stage_one(self) -> list[trainings.Cell]:
        """The stage-1 runs that all trials start from, each once."""
        cells = [first.cell(self.asked.fold) for plan in self.plans for first in plan.stage_one()]
        return list({cell.path: cell for cell in cells}.values())

    @property
    def about(self) -> dict[str, Any]:
        base, axes = self.base, {axis.name: axis.to_json() for axis in self.space.axes}
        return {
            "method": base.method, "task": base.task.name, "modalities": base.modalities, "encoders": base.encoders, "init": base.init,
            "fold": self.asked.fold, "seed": self.asked.seed, "search": self.asked.search, "budget": len(self.trials), "axes": axes,
            "space": store.digest(axes), "left_out": self.space.left_out, "cohort": base.cohort.fingerprint,
            "given": {name: told.text for name, told in self.given.items()},
        }  # fmt: skip

    @property
    def fingerprint(self) -> str:
        return store.digest([self.about, [trial.run for trial in self.trials]])


def settings(axes: list[spaces.Axis], present: dict[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """The values of each trial by axis, all different; those of trial 0 are `present`.

    Raises:
        ConfigError: a grid with more points than trials.
    """
    if asked.search == "grid":
        points = [dict(zip(present, values)) for values in itertools.product(*(axis.grid() for axis in axes))]
        found = [present] + [point for point in points if point != present]
        if asked.trials is not None and len(found) > asked.trials:
            hint = f"--trials {len(found)}, fewer points, or --search random"
            raise ConfigError(f"the grid has {len(found)} settings with the defaults, and {asked.trials} trials are allowed", hint=hint)
        return found
    found, budget = [present], asked.trials or TRIALS
    for draw in range(1, PATIENCE * budget):
        if len(found) == budget or not axes:
            break
        values = {axis.name: axis.at(random.Random(f"{asked.seed}:{draw}:{axis.name}").random()) for axis in axes}
        if values not in found:
            found.append(values)
    return found


def prepare(
    make_plan: Callable[..., trainings.Plan], base: trainings.Plan, space: spaces.Space, asked: Asked, given: dict[str, config.Leaf]
) -> Search:
    """The trials of a method, nothing trained yet.

    Args:
        make_plan: `trainings.plan` with all that is told for every trial, to be called with the trial's flags.
        base: the plan of trial 0.
        given: what was told on the command line for every trial.
    """
    present = {axis.name: _present(base, axis) for axis in space.axes}
    plans, trials, alike, settled = [], [], 0, _settled(base, asked.fold)
    for number, values in enumerate(settings(space.axes, present, asked)):
        layer = {key: values[axis.name] for axis in space.axes for key in axis.keys} if number else {}
        flags = {name: tunings.leaf(value, f"tune, trial {number}") for name, value in layer.items()}
        plan = make_plan(flags=flags) if number else base
        if number and settled and _settled(plan, asked.fold):
            alike += 1
            continue
        plans.append(plan)
        trials.append(Trial(number, values, layer, plan.cell(asked.fold).path.relative_to(plan.out).as_posix()))
    return Search(asked, space, plans, trials, given, alike)


def _settled(plan: trainings.Plan, fold: int) -> bool:
    """Whether a modality alone has nothing left to learn: its features came with the head of the run that tuned their encoder."""
    from omnifuse.models import registry

    ends = plan.weights_of(fold) if plan.method == trainings.STAGE_ONE else {}
    if not ends:
        return False
    ((modality, end),) = ends.items()
    encoder = {"name": plan.encoders[modality], **plan.resolved.section(f"encoder.{modality}"), "architecture": end.architecture}
    dims = {modality: plan.features.meta["modalities"][modality]["dim"]}
    method = registry.build({"name": plan.method, **plan.resolved.section("method")}, {modality: encoder}, dims, plan.task, plan.seed)
    if end.task == plan.task.name:
        method.take_head(end.head())
    return method.tuned


def _present(plan: trainings.Plan, axis: spaces.Axis) -> Any:
    """What an axis stands at without tuning; a list where its keys stand at different values."""
    found = []
    for key in axis.keys:
        scope = plan.starting if key.startswith("stage1.") else plan.resolved
        found.append(scope.values[key.removeprefix("stage1.").removeprefix("fusion.")])
    return found[0] if all(value == found[0] for value in found) else found


def run(search: Search, *, device: str, jobs: int, progress=Silent, tell: Callable[[Trial, str], None]) -> Result:
    """Trains what is missing and writes the tuning.

    Args:
        tell: called with each trial as it ends, and what was monitored.

    Raises:
        NumericalError: every trial ended in NaN or infinity.
        LockedError: another process tunes the same method here.
    """
    found = tunings.current(search.place, search.fingerprint)
    if found is not None and all(cell.state == "finished" for cell, trial in zip(search.cells, found.trials) if trial.state == OK):
        return found
    tried = tunings.earlier(search.place)
    with store.create(search.place, tunings.KIND, fingerprint=search.fingerprint) as out:
        by_path = dict(zip((cell.path for cell in search.cells), search.trials))
        monitors = {}
        for cell, outcome in _outcomes(search, device, jobs, progress):
            trial = by_path[cell.path]
            trial.state = LOST if outcome.value is None else OK
            trial.value, trial.epoch, trial.seconds, trial.reason = outcome.value, outcome.epoch, outcome.seconds, outcome.reason
            monitors[outcome.monitor] = None
            tell(trial, outcome.monitor)
        if all(trial.value is None for trial in search.trials):
            why = search.trials[0].reason
            raise NumericalError(f"all {len(search.trials)} trials of {search.base.method} were lost: {why}", hint="a milder --space")
        tried = list(dict.fromkeys([*tried, *(trial.run for trial in search.trials)]))
        result = Result(search.about, next(name for name in monitors if name), search.trials, tried)
        tunings.write(out, result, search.given)
        tuning_pictures.write(out, result)
    return result


def _outcomes(search: Search, device: str, jobs: int, progress) -> Iterator[tuple[trainings.Cell, Outcome]]:
    """Stage 1 first, each run once; then the trials. One whose stage 1 was lost is lost too."""
    broken = {cell.path: outcome for cell, outcome in train_all(search.stage_one(), device=device, jobs=jobs, progress=progress)
              if outcome.reason}  # fmt: skip
    sound = []
    for cell in search.cells:
        causes = [broken[first.cell(cell.fold).path] for first in cell.plan.stage_one() if first.cell(cell.fold).path in broken]
        if causes:
            yield cell, causes[0]
        else:
            sound.append(cell)
    yield from train_all(sound, device=device, jobs=jobs, progress=progress)
