"""P(death | what any set of modalities shows of a stay in its first hours), exactly: the ceiling of each modality and of each fusion.

    P(obs | R, D, f) = product over the modalities of the set, each the product of
        content   tokens and statements given R, and given a finding (`readings.py`, `statements.py`)
        pattern   whether, and when, there are items (`ordering.py`): missingness informs

summed over the grid of (R, D) of `outcome.py` and the sixteen states of the findings. A set that lacks the tables does not know whether
the stay was ventilated, which is summed out; unit, site and the patient's quality are known to every set. Films are those of exams whose
reports exist, so that their pattern with the reports is not the product of the two.

What is conditioned on: all AP, PA and lateral films and all reports by exam time, all signals; which texts are copies is known. Whoever
takes the last AP film alone, or reports by the time they are stored, knows less: `cxr_last`, `rep_stored`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from omnifuse.preprocess.clinic import statements
from omnifuse.preprocess.clinic.context import ITEMS, mark_odds
from omnifuse.preprocess.clinic.findings import EFFUSION, FILM, REPORT, SIGNAL, STATES
from omnifuse.preprocess.clinic.latent import probit_share
from omnifuse.preprocess.clinic.observe import CXR, FLUID, REDUNDANT, REP, SIG, UNIQUE, Observer, Seen
from omnifuse.preprocess.clinic.outcome import AXIS, LEVEL
from omnifuse.preprocess.clinic.readings import log_likelihood

MODALITIES = ("ehr", *ITEMS)
SUBSETS = tuple(chosen for size in range(1, 5) for chosen in itertools.combinations(MODALITIES, size))
EXTRA = ("cxr_last", "rep_stored")
COLUMNS = ("_".join(("p", *chosen)) for chosen in SUBSETS)
COLUMNS = (*COLUMNS, *(f"p_{name}" for name in EXTRA))
_SIDE = len(AXIS)


@dataclass(frozen=True)
class Content:
    """Likelihood of what is shown: on the grid [G] and on the states [16], each with largest value 1."""

    grid: np.ndarray
    states: np.ndarray


def _content(on_level, *on_states) -> Content:
    """From log likelihoods along AXIS and of the states; 0 where nothing is told."""
    level = np.zeros(_SIDE) + on_level
    states = np.zeros(len(STATES)) + sum(on_states)
    return Content(np.repeat(np.exp(level - level.max()), _SIDE), np.exp(states - states.max()))


class JointCeiling:
    """The posterior of one world over all modalities; built once, asked stay by stay."""

    def __init__(self, observer: Observer, case: np.ndarray, control: np.ndarray):
        self.observer, self.model = observer, observer.model
        self.minutes = observer.exam_hours.window * 60
        self._case, self._control = case, control
        device = self.model.world.devices["ventilator"]
        self._on_air = probit_share(device.rate, device.severity, LEVEL)[:, None]  # [G, 1]

    def probabilities(self, seen: Seen, tables: np.ndarray) -> np.ndarray:
        """P(death | ...) for COLUMNS; `tables` [G] is the likelihood of the tables."""
        exams = seen.exams
        inside = (exams.minute >= 0) & (exams.minute < self.minutes)
        stored = inside & (exams.minute + exams.delay < self.minutes)
        ap = inside & ~exams.upright
        content = {"cxr": self._film(seen, inside), "rep": self._report(seen, inside), "sig": self._signal(seen)}
        patterns = self._patterns(seen, inside)
        odds = dict(zip(ITEMS, mark_odds(self.model.world, seen.around.external, seen.marks) * self._shown(seen, inside)))
        found = [self._posterior(chosen, content, patterns, odds, tables) for chosen in SUBSETS]
        last = np.zeros_like(ap)
        last[np.flatnonzero(ap)[-1:]] = True
        found.append(self._posterior(("cxr",), {"cxr": self._film(seen, last)}, patterns, odds, tables))
        found.append(self._posterior(("rep",), {"rep": self._report(seen, stored)}, patterns, odds, tables))
        return np.array(found)

    def _shown(self, seen: Seen, inside: np.ndarray) -> np.ndarray:
        """[3] whether there is an item that bears the mark."""
        signals = seen.signals.minute < self.minutes
        return np.array([inside.any() and seen.exams.archived, inside.any(), signals.any()])

    def _posterior(self, chosen: tuple, content: dict, patterns: dict, odds: dict, tables: np.ndarray) -> float:
        grid, states, told, together = np.ones(len(LEVEL)), np.ones(len(STATES)), 0.0, np.ones((1, 1))
        for name in chosen:
            if name == "ehr":
                grid = grid * tables
                continue
            grid, states, told = grid * content[name].grid, states * content[name].states, told + odds[name]
        films, reports = "cxr" in chosen, "rep" in chosen
        if films or reports:
            together = together * patterns["exams", films, reports, films and "ehr" in chosen]
        if "sig" in chosen:
            together = together * patterns["signals"]
        case, control = ((grid @ (weight * together)) @ states for weight in (self._case, self._control))
        return 1 / (1 + control / case * np.exp(-told))

    def _film(self, seen: Seen, which: np.ndarray) -> Content:
        knobs, exams = self.model.world.film, seen.exams
        clear = exams.film[which & ~exams.blurred] if exams.archived else exams.film[:0]
        spread, noise = self.observer.film_spread, seen.noise[CXR]
        return _content(
            log_likelihood(clear[:, REDUNDANT], spread, noise, knobs.redundant * AXIS),
            log_likelihood(clear[:, UNIQUE], spread, noise, knobs.unique * STATES[:, FILM]),
            log_likelihood(clear[:, FLUID], spread, noise, knobs.effusion * STATES[:, EFFUSION]),
        )

    def _report(self, seen: Seen, which: np.ndarray) -> Content:
        """A report that is not known yet leaves the chain to those that are: a copy of it counts as the first look."""
        knobs, exams, noise = self.model.world.report, seen.exams, seen.noise[REP]
        read = which & ~exams.cut
        told, copied = exams.statements[read], exams.copied[read].copy()
        copied[:1] = False
        shares = statements.told_shares(knobs, noise)
        of = [statements.log_likelihood(told[:, k], copied, knobs, shares) for k in (statements.EFFUSION, statements.OWN)]
        effusion, own = (np.zeros(2) + one for one in of)
        grade = statements.log_likelihood(told[:, statements.GRADE], copied, knobs, statements.grade_shares(knobs, noise, AXIS))
        return _content(grade, effusion[STATES[:, EFFUSION].astype(int)], own[STATES[:, REPORT].astype(int)])

    def _signal(self, seen: Seen) -> Content:
        knobs, signals, spread = self.model.world.signal, seen.signals, self.observer.signal_spread
        clear = signals.token[(signals.minute < self.minutes) & ~signals.lost]
        return _content(
            log_likelihood(clear[:, REDUNDANT], spread, seen.noise[SIG], knobs.redundant * AXIS),
            log_likelihood(clear[:, UNIQUE], spread, seen.noise[SIG], knobs.unique * STATES[:, SIGNAL]),
        )

    def _patterns(self, seen: Seen, inside: np.ndarray) -> dict:
        """Likelihood [G, 16] of the pattern of films, of reports, of both, each without and with knowledge of the ventilator."""
        watch, around, level = self.observer, seen.around, LEVEL[:, None]
        ordered = watch.exam_ordered.chance(AXIS[:, None], STATES[:, EFFUSION], around).repeat(_SIDE, 0)  # [G, 16]
        any_exam = bool(inside.any())
        quiet = np.exp(watch.exam_hours.quiet)[:, None]
        if any_exam:
            times = watch.exam_hours.log_likelihood(seen.exams.minute[inside].astype(int))
            reports = ordered * np.exp(times - times.max())[:, None]
        else:
            reports = 1 - ordered * (1 - quiet)
        archived = [
            watch.film_archived.chance(0.0, STATES[:, FILM], type(around)(air, around.unit, around.external)) for air in (False, True)
        ]
        known = archived[around.ventilated][None]
        unknown = archived[0] + self._on_air * (archived[1] - archived[0])
        out = {}
        for knows, share in ((False, unknown), (True, known)):
            film = any_exam and seen.exams.archived
            out["exams", True, True, knows] = reports * (share if film else 1 - share) if any_exam else reports
            out["exams", True, False, knows] = reports * share if film else 1 - ordered * (1 - quiet) * share
            out["exams", False, True, knows] = reports
        out["signals"] = self._signal_pattern(seen, level)
        return out

    def _signal_pattern(self, seen: Seen, level: np.ndarray) -> np.ndarray:
        watch, minute = self.observer, seen.signals.minute
        ordered = watch.signal_ordered.chance(AXIS[:, None], STATES[:, SIGNAL], seen.around).repeat(_SIDE, 0)
        if not (minute < self.minutes).any():
            return 1 - ordered * (1 - np.exp(watch.signal_hours.quiet)[:, None])
        times = watch.signal_hours.log_likelihood(minute)
        return ordered * np.exp(times - times.max())[:, None]
