"""A chest report in words: the statements of an exam in the sentences of the patient's template family, in MIMIC's sections.

Negation, hedging, history-of, typos, texts that break off and texts copied from the last exam. What the words tell is what
`statements.py` drew; everything else in them is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnifuse.preprocess.clinic import templates
from omnifuse.preprocess.clinic.modality_world import Report
from omnifuse.preprocess.clinic.statements import EFFUSION, GRADE, OWN, SILENT, SILENT_GRADE

FILLER_SENTENCES = 4
HISTORY, NO_FINDINGS, COMPARED = 0.15, 0.2, 0.7  # shares of reports with a history, without a FINDINGS section, with a prior


@dataclass(frozen=True)
class Text:
    """The parts of a report; `findings` is empty where everything stands in the impression."""

    examination: str
    indication: str
    comparison: str
    findings: str
    impression: str

    def sections(self) -> list[tuple[str, str]]:
        """Headers and texts in their order, without the empty ones."""
        named = zip(
            ("EXAMINATION", "INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION"),
            (self.examination, self.indication, "Chest", self.comparison, self.findings, self.impression),
        )
        return [(name, text) for name, text in named if text]


def write_report(
    knobs: Report, statements: np.ndarray, *, cut: bool, mark: bool, family: int, upright: bool, male: bool, noise: float,
    generator: np.random.Generator,
) -> Text:  # fmt: skip
    """A fresh report of one exam."""

    def pick(options) -> str:
        return options[int(generator.integers(len(options)))]

    fillers = [templates.FILLERS[family][i] for i in generator.permutation(len(templates.FILLERS[family]))[:FILLER_SENTENCES]]
    told = [*_statements(knobs, statements, family, pick), templates.MARKS[family][int(mark)]]
    history = [pick(templates.HISTORIES[family])] if generator.random() < HISTORY else []
    body = [fillers[0], *told, *history, *fillers[1:]]
    body = [body[0], *(body[1 + i] for i in generator.permutation(len(body) - 1))]
    lead, bare, compared = body[0], generator.random() < NO_FINDINGS, generator.random() < COMPARED
    if cut:
        words = lead.split()
        body, told = [" ".join(words[: max(2, len(words) // 2)])], []
    findings = _misspell(" ".join(body), knobs.typos * noise, generator)
    closing = [] if cut else [sentence for sentence in told if generator.random() < 0.6] or [fillers[-1]]
    impression = _misspell(" ".join(closing), knobs.typos * noise, generator)
    return Text(
        examination="CHEST (PA AND LAT)" if upright else "CHEST (PORTABLE AP)",
        indication=f"___ year old {'man' if male else 'woman'} {pick(templates.INDICATIONS[family])}",
        comparison="___" if compared else "None.",
        findings="" if bare else findings,
        impression=findings if bare else impression,
    )


def copy_report(last: Text, fresh: Text) -> Text:
    """The last text under the header of a new exam."""
    return Text(fresh.examination, fresh.indication, "___", last.findings, last.impression)


def _statements(knobs: Report, told: np.ndarray, family: int, pick) -> list[str]:
    hedged = knobs.unique_in == "hedged"
    own = (templates.OWN_HEDGED if hedged else templates.OWN_STATED)[family]
    sentences = []
    if told[EFFUSION] != SILENT:
        sentences.append(pick(templates.EFFUSION[family][told[EFFUSION]]))
    if told[OWN] != SILENT:
        sentences.append(pick(own[told[OWN]]))
    if told[GRADE] != SILENT_GRADE:
        now = templates.GRADE_WORDS[told[GRADE]]
        if hedged:
            sentences.append(pick(templates.GRADE_EASY[family]).format(now))
        else:
            sentences.append(pick(templates.GRADE_HARD[family]).format(pick(templates.GRADE_WORDS), now))
    return sentences


def _misspell(text: str, share: float, generator: np.random.Generator) -> str:
    """Two neighbouring letters change places in some of the longer words."""
    words = text.split(" ")
    for i in np.flatnonzero(generator.random(len(words)) < share):
        word = words[i]
        if len(word) > 4:
            at = 1 + int(generator.integers(len(word) - 3))
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def as_note(text: Text) -> str:
    """In the form of MIMIC-IV-Note."""
    return "\n\n".join(f"{name}:  {part}" for name, part in text.sections())


def as_study(text: Text) -> str:
    """In the form of a MIMIC-CXR report file: every line opens with a blank, under a centred title."""
    lines = [" " * 33 + "FINAL REPORT"]
    for name, part in text.sections():
        if name in ("FINDINGS", "IMPRESSION"):
            lines += [f" {name}: ", " ", *_wrapped(part), " "]
        else:
            lines += _wrapped(f"{name}:  {part}") + [" "]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int = 76) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines, line = [*lines, f" {line}"], word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, f" {line}"]
