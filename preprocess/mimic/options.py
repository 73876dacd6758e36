"""What can be chosen when a cohort is made from MIMIC, checked as a whole before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omnifuse.preprocess import sections, store
from omnifuse.preprocess.mimic import films, radiology, windows
from omnifuse.preprocess.schema import ConfigError, nearest

TASKS = ("mortality", "phenotyping", "los", "los_remaining")  # of the stays; radiology is asked for by name
NONE, BENCHMARKS, MEDFUSE = "none", "mimic3-benchmarks", "medfuse"
COMPATS = (NONE, BENCHMARKS, MEDFUSE)
TIMES = ("storetime", "charttime")
SPLITS = ("hash", "temporal")
ERAS = ("icd9", "icd10", "both")
EXAMS = ("chest", "all")
PICKS = ("all", "last")
REPORT_SOURCES = ("auto", "note", "tree")

_DATASET = {BENCHMARKS: "mimic-iii", MEDFUSE: "mimic-iv"}
# Rules of the default mode that a compat mode cannot take, with the value that means "off".
_DEFAULT_ONLY = {"lookback_hours": 0, "exclude_comfort_care": False, "venous_ph": False, "label_era": "both"}
_KNOWN = {
    "compat": COMPATS,
    "time": TIMES,
    "split": SPLITS,
    "label_era": ERAS,
    "pairing": tuple(films.PAIRINGS),
    "sections": sections.CHOICES,
    "exams": EXAMS,
    "report_pick": PICKS,
    "report_source": REPORT_SOURCES,
    "uncertain": radiology.UNCERTAIN,
}


@dataclass(frozen=True)
class Options:
    """Choices of `build_cohort`.

    Args:
        tasks: of TASKS.
        step_hours: width of a bin.
        compat: `none` applies every rule of docs; the others reproduce a published pipeline, faults included.
        split: `hash` or `temporal`; `splits` names frozen lists instead. mimic3-benchmarks takes its own lists where nothing is told.
        assign_new: patients in no frozen list are split by hash instead of being refused.
        time: when a value is known: at its storetime where there is one, or at its charttime.
        lookback_hours: the series begins so long before intime, 0 to 24.
        los_thresholds: days; one gives a binary task (longer or not), several a class each.
        los_window_hours: what is seen of the stay for `los`.
        phenotypes: MedFuse's definitions of the phenotypes, which are not shipped.
        on_bad_row: `error` or `skip`, at most `max_bad` rows a table.
        modalities: of cxr, rep, dn and sig; all that the folders hold where none is told, dn only with `allow_leak`.
        pairing: the views of a stay's films, of films.PAIRINGS; a sample sees the last of them. `medfuse`: AP.
        sections: of a report, of sections.CHOICES; `words` is how many of its words are kept, None all.
        exams: reports of `chest` films, or of `all` exams.
        report_pick: a sample sees `all` reports of its window, or the `last`.
        report_source: `note` (a table of notes), `tree` (MIMIC-CXR's files) or `auto`: the table where there is one.
        report_delay_hours: from the exam to the report where no storetime is told; None takes it from the notes at hand, else 12.
        uncertain: what CheXpert's -1 is to the task radiology: `zero`, or unknown (`ignore`).
        signal_tolerance_hours: how far the clock of an ECG cart may be wrong.
        allow_leak: link discharge notes although the tasks leak through them.
    """

    tasks: tuple[str, ...] = TASKS
    step_hours: float = 2.0
    compat: str = NONE
    split: str = "hash"
    splits: Path | None = None
    assign_new: bool = False
    seed: int = 0
    time: str = "storetime"
    lookback_hours: float = 0
    los_thresholds: tuple[float, ...] = (7.0,)
    los_window_hours: float = 24
    exclude_comfort_care: bool = False
    venous_ph: bool = False
    label_era: str = "both"
    phenotypes: Path | None = None
    on_bad_row: str = "error"
    max_bad: int = 0
    modalities: tuple[str, ...] = ()
    pairing: str = "medfuse"
    sections: str = sections.FINDINGS
    words: int | None = 150
    exams: str = "chest"
    report_pick: str = "all"
    report_source: str = "auto"
    report_delay_hours: float | None = None
    uncertain: str = "zero"
    signal_tolerance_hours: float = 1.0
    allow_leak: bool = False

    def __post_init__(self):
        for field, known in _KNOWN.items():
            _one_of(field, getattr(self, field), known)
        for task in self.tasks:
            _one_of("task", task, (*TASKS, radiology.NAME))
        self._check_linked()
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError("the tasks must be at least one, each once", hint=", ".join(TASKS))
        _between("step_hours", self.step_hours, 0.1, 48)
        _between("lookback_hours", self.lookback_hours, 0, 24)
        _between("los_window_hours", self.los_window_hours, 1, 240)
        days = self.los_thresholds
        if not days or list(days) != sorted(set(days)) or days[0] * 24 < self.los_window_hours:
            raise ConfigError("los_thresholds must ascend, from the end of los_window_hours on", hint="days, such as 3,7")
        if self.compat != NONE:
            for field, off in _DEFAULT_ONLY.items():
                if getattr(self, field) != off:
                    raise ConfigError(f"{field} is a rule of the default mode; --compat {self.compat} keeps the published pipeline's")
        if self.phenotypes is not None and self.compat != MEDFUSE:
            raise ConfigError("phenotype definitions belong to --compat medfuse", hint="leave --phenotypes out")

    def _check_linked(self) -> None:
        for name in self.modalities:
            _one_of("modality", name, windows.MODALITIES)
        if self.words is not None:
            if isinstance(self.words, bool) or not isinstance(self.words, int):
                raise ConfigError("words must be a whole number, or null for all")
            _between("words", self.words, 1, 100_000)
        if self.report_delay_hours is not None:
            if isinstance(self.report_delay_hours, bool) or not isinstance(self.report_delay_hours, (int, float)):
                raise ConfigError("report_delay_hours must be a number, or null to take it from the notes")
            _between("report_delay_hours", self.report_delay_hours, 0, 240)
        _between("signal_tolerance_hours", self.signal_tolerance_hours, 0, 48)
        if "dn" in self.modalities and not self.allow_leak:
            leaking = [task for task in self.tasks if windows.leaks(task, ("dn",))]
            if leaking:
                reason = windows.LEAKS[leaking[0]]["dn"]
                raise ConfigError(f"dn is refused for {', '.join(leaking)}: {reason}", hint="--allow-leak links it, marked as leaking")

    @property
    def stay_tasks(self) -> tuple[str, ...]:
        """The tasks whose samples are of stays."""
        return tuple(task for task in self.tasks if task != radiology.NAME)

    @property
    def is_compat(self) -> bool:
        return self.compat != NONE

    def fitted(self, dataset: str) -> tuple[Options, list[str]]:
        """The options as they apply to a release, and warnings.

        Raises:
            ConfigError: the published pipeline to reproduce does not work on it.
        """
        if self.compat in _DATASET and _DATASET[self.compat] != dataset:
            raise ConfigError(f"--compat {self.compat} works on {_DATASET[self.compat]}, and these are tables of {dataset}")
        if self.compat == MEDFUSE and self.phenotypes is None and self.tasks == TASKS:
            told = "phenotyping is left out: MedFuse's definitions of the phenotypes are not part of omnifuse (--phenotypes FILE)"
            return replace(self, tasks=tuple(task for task in TASKS if task != "phenotyping")), [told]
        return self, []

    def to_json(self) -> dict[str, Any]:
        """Every choice that changes the outcome; of files, their content and not their name."""
        told = asdict(self)
        for field in ("splits", "phenotypes"):
            path = told[field]
            told[field] = None if path is None else _content(Path(path))
        return told


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{field} {value!r} is unknown", hint=nearest(value, known))


def _between(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{field} is {value:g}; {low:g} to {high:g} are possible")


def _content(path: Path) -> str:
    if not path.exists():
        raise ConfigError("does not exist", where=path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return store.digest([[file.name, store.sha256(file)] for file in files if file.is_file()])
