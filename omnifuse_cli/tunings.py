"""What `omnifuse tune` leaves: tunings/COHORT/TASK/METHOD-MODALITIES, an artefact of its own, and the best that it names.

    trials.csv    a row a trial: state, value on val, epoch, seconds, every tuned value, run
    best.yaml     the best trial as a configuration: omnifuse train --config best.yaml
    tuning.json   the same trials, the space, seed, budget, and how often val has been looked at
    tuning.png    value by trial, and by each axis
    tb/           a row a trial for TensorBoard's HPARAMS

Numbers of the val part alone stand here. The runs are ordinary ones, in runs/.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError
from omnifuse.workspace import Workspace

KIND = "tuning"
RESULT, BEST, TABLE, FIGURE = "tuning.json", "best.yaml", "trials.csv", "tuning.png"
OK, LOST = "ok", "lost"
TUNED = "tuned"  # how the origin of a tuned value begins


@dataclass
class Trial:
    """One setting and what it led to; number 0 is the method's defaults. `run` is below the task's runs."""

    number: int
    values: dict[str, Any]
    layer: dict[str, Any]  # the keys of the configuration that it sets
    run: str
    state: str = ""
    value: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    reason: str = ""


@dataclass
class Result:
    """A finished tuning of one method."""

    about: dict[str, Any]  # method, task, modalities, encoders, fold, seed, search, space, cohort, what was told beside
    monitor: str
    trials: list[Trial]
    tried: list[str] = field(default_factory=list)  # every run whose val was looked at, those of earlier tunings too

    @property
    def larger_is_better(self) -> bool:
        return self.monitor.rpartition("/")[2] != "loss"

    def ranked(self) -> list[Trial]:
        """The best first, then the lost; of equal ones the earlier, so that the defaults give way to what is better only."""
        sign = -1 if self.larger_is_better else 1
        return sorted(self.trials, key=lambda t: (t.value is None, sign * t.value if t.value is not None else 0.0, t.number))

    @property
    def best(self) -> Trial:
        return self.ranked()[0]

    @property
    def gain(self) -> float | None:
        """Of the best over the defaults, larger is better."""
        first = self.trials[0].value
        if first is None or self.best.value is None:
            return None
        return (self.best.value - first) * (1 if self.larger_is_better else -1)

    @property
    def default_rank(self) -> int | None:
        """From 1; None where the defaults were lost."""
        return None if self.trials[0].value is None else [trial.number for trial in self.ranked()].index(0) + 1

    def to_json(self) -> dict[str, Any]:
        best = {"trial": self.best.number} | {name: getattr(self.best, name) for name in ("value", "values", "layer", "run")}
        told = {"monitor": self.monitor, "best": best, "default_rank": self.default_rank, "gain": self.gain}
        return self.about | told | {"trials": [vars(trial) for trial in self.trials], "tried": self.tried}


def place(space: Workspace, cohort: store.Artefact, task: str, method: str, modalities: list[str]) -> Path:
    return space.output("tunings", cohort.folder.name, task, f"{method}-{'+'.join(modalities)}")


def best_layer(space: Workspace, cohort: store.Artefact, task: str, method: str, modalities: list[str]) -> dict[str, config.Leaf] | None:
    """The best trial as a layer for `trainings.plan(tuned=...)`: what every trial was told, and its tuned values; None untuned.

    Raises:
        ArtefactError: the tuning was altered, or made on another cohort of that name.
    """
    path = place(space, cohort, task, method, modalities)
    if not (path / store.MANIFEST).is_file():
        return None
    told = store.open(path, KIND).json(RESULT)
    if told["cohort"] != cohort.fingerprint:
        raise ArtefactError("was tuned on another cohort of this name", where=path, hint="omnifuse tune again")
    where = f"{TUNED}, trial {told['best']['trial']} of {len(told['trials'])}"
    given = {name: config.Leaf(text, f"told to tune: {name}") for name, text in told["given"].items()}
    return given | {name: leaf(value, where) for name, value in told["best"]["layer"].items()}


def require_best(space: Workspace, cohort: store.Artefact, task: str, method: str, modalities: list[str]) -> dict[str, config.Leaf]:
    """`best_layer`, where there is one. Raises ArtefactError where nothing was tuned."""
    layer = best_layer(space, cohort, task, method, modalities)
    if layer is None:
        command = f"omnifuse tune --task {task} --method {method} --modalities {','.join(modalities)}"
        raise ArtefactError("was not tuned", where=place(space, cohort, task, method, modalities), hint=command)
    return layer


def winners(runs: Path) -> set[str]:
    """Of runs/COHORT/TASK, the configurations that tunings found best: METHOD-MODALITIES/KEY."""
    folder = runs.absolute().parents[2] / "tunings" / runs.parent.name / runs.name
    found = (store.open(path.parent, KIND).json(RESULT)["best"]["run"] for path in folder.glob(f"*/{store.MANIFEST}"))
    return {Path(run).parent.as_posix() for run in found}


def leaf(value: Any, where: str) -> config.Leaf:
    return config.Leaf(config.show(value), where, quoted=isinstance(value, str))


def current(path: Path, fingerprint: str) -> Result | None:
    """The tuning that stands at `path`, if it was asked the same."""
    found = store.current(path, KIND, fingerprint)
    return None if found is None else _from_json(found.json(RESULT))


def earlier(path: Path) -> list[str]:
    """The runs that tunings at `path` have looked at before."""
    try:
        return store.open(path, KIND).json(RESULT)["tried"]
    except ArtefactError:
        return []


def _from_json(told: dict[str, Any]) -> Result:
    derived = ("best", "default_rank", "gain")
    about = {name: value for name, value in told.items() if name not in (*derived, "monitor", "trials", "tried")}
    return Result(about, told["monitor"], [Trial(**trial) for trial in told["trials"]], told["tried"])


def write(out: store.Builder, result: Result, given: dict[str, config.Leaf]) -> None:
    """Fills the folder of a tuning.

    Args:
        given: what was told on the command line for every trial: best.yaml repeats it.
    """
    store.write_text(out.path(TABLE), _table(result))
    store.write_text(out.path(BEST), _best(result, given))
    store.write_json(out.path(RESULT), result.to_json())
    out.meta |= {name: result.about[name] for name in ("method", "task", "modalities", "fold", "seed", "cohort")}
    out.meta |= {"trials": len(result.trials), "best": result.best.number}


def _table(result: Result) -> str:
    axes = list(result.about["axes"])
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", result.monitor, "epoch", "seconds", *axes, "run", "reason"])
    for trial in result.trials:
        values = [config.show(trial.values[axis]) for axis in axes]
        rows.writerow([trial.number, trial.state, trial.value, trial.epoch, trial.seconds, *values, trial.run, trial.reason])
    return text.getvalue()


def _best(result: Result, given: dict[str, config.Leaf]) -> str:
    about, best = result.about, result.best
    head = f"# Trial {best.number} of {len(result.trials)} (omnifuse tune, seed {about['seed']}): {result.monitor} {best.value:.4f}"
    head += f" on fold {about['fold']}{'; the defaults were best' if best.number == 0 else ''}.\n"
    names = f"--task {about['task']} --method {about['method']} --modalities {','.join(about['modalities'])}"
    head += f"# omnifuse train {names} --config {BEST}\n"
    lines = {name: _written(told.text, told.quoted) for name, told in given.items()}
    lines |= {name: _written(config.show(value), isinstance(value, str)) for name, value in best.layer.items()}
    return head + "".join(f"{name}: {text}\n" for name, text in lines.items())


def _written(text: Any, quoted: bool) -> str:
    """A value as YAML reads it back: texts that are no plain words in quotes."""
    if isinstance(text, list):
        return "[" + ", ".join(json.dumps(item, ensure_ascii=False) for item in text) + "]"
    return json.dumps(text, ensure_ascii=False) if quoted or not text.replace(".", "").replace("-", "").replace("+", "").isalnum() else text
