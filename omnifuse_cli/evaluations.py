"""Which runs an evaluation judges, and how often the test folds were looked at.

One configuration speaks for each method, set of modalities and seed: the one with the most finished folds, then the one that tuning
found best, then the one finished last; of a modality alone, before that, the one that was best on val. For single modalities are what
a fusion is held against, and an ablation leaves weak ones behind (stage 1 kept at its last epoch).
Others are named, not hidden: choosing among configurations by their test folds is what validation is for.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

from omnifuse import console, tunings
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError
from omnifuse.trainings import STAGE_ONE

LOOKS = "test-looks.json"


def find(folder: Path, methods: tuple[str, ...] = (), chosen: tuple[Path, ...] = ()) -> list[store.Artefact]:
    """The finished runs to judge.

    Args:
        methods: only these; empty for all.
        chosen: folders of runs or of groups of runs, instead of the rule above.

    Raises:
        ArtefactError: there are none.
        ConfigError: a chosen folder holds none.
    """
    if chosen:
        return [run for path in chosen for run in _in(path)]
    groups = defaultdict(list)
    for manifest in sorted(folder.glob(f"*/*/fold*/{store.MANIFEST}")):
        run = store.open(manifest.parent, "run")
        if not methods or run.meta["method"] in methods:
            key = run.meta["method"], "+".join(run.meta["modalities"]), run.meta["seed"], manifest.parents[1]
            groups[key].append(run)
    if not groups:
        raise ArtefactError("holds no finished run", where=folder, hint="omnifuse train makes them")
    by_model, won = defaultdict(list), tunings.winners(folder)
    for (*model, path), runs in groups.items():
        finished = max((run.folder / store.MANIFEST).stat().st_mtime_ns for run in runs)
        standing = _on_val(runs) if model[0] == STAGE_ONE else 0.0
        by_model[tuple(model)].append((len(runs), "/".join(path.parts[-2:]) in won, standing, finished, str(path), runs))
    kept = []
    for (method, modalities, seed), candidates in sorted(by_model.items()):
        *others, best = sorted(candidates, key=lambda candidate: candidate[:5])
        kept += best[5]
        if others:
            console.note(
                f"{method} {modalities} seed {seed}: {Path(best[4]).name} speaks for {len(candidates)} configurations (--runs chooses)"
            )
    return kept


def _on_val(runs: list[store.Artefact]) -> float:
    """Mean over folds of what was monitored, the more the better; minus infinity where a run does not say it."""
    told = [run.meta.get("best") or {} for run in runs]
    values = [best.get("value") for best in told]
    if not values or any(value is None for value in values):
        return -math.inf
    mean = sum(values) / len(values)
    return -mean if any(str(best.get("monitor", "")).endswith("loss") for best in told) else mean


def _in(path: Path) -> list[store.Artefact]:
    if (path / store.MANIFEST).is_file():
        return [store.open(path, "run")]
    found = [store.open(manifest.parent, "run") for manifest in sorted(path.glob(f"fold*/{store.MANIFEST}"))]
    if not found:
        raise ConfigError("is no run and holds none", where=path)
    return found


def count_look(folder: Path, runs: list[store.Artefact]) -> int:
    """How many different sets of runs have been judged on their test folds here, this one included."""
    path = folder / LOOKS
    key = store.digest(sorted(run.fingerprint for run in runs))
    with store.lock(path):
        seen = json.loads(path.read_text()) if path.is_file() else []
        if key not in seen:
            seen.append(key)
            store.write_json(path, seen)
    return len(seen)
