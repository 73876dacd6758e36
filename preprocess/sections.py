"""The sections of a radiology report, and which of them stands for it.

    header      a line that begins with capitals, blanks and ()/,- up to a colon; what stands before the first is the preamble
    names       folded: misspelled findings and impressions, conclusions, and views ("CHEST, TWO VIEWS:") that head the findings
    repeated    of two sections of one name the last counts; empty findings and impressions do not count
    neither     the text behind the first blank line of the last section is the last paragraph

    findings                findings -> last paragraph -> impression -> empty
    findings+impression     both, or the one that is there -> last paragraph -> empty
    full                    all of it

Source: the rules of MIT-LCP/mimic-cxr's section parser, in our own words. It differs in what is wanted (theirs: the impression first),
takes headers at any indentation, since notes outside MIMIC-CXR have none, reads "FINDINGS AND IMPRESSION" as findings, folds views by their
words instead of a list, and has no table of single studies whose sections were cut by hand.
"""

from __future__ import annotations

import re

FINDINGS, IMPRESSION, LAST, EMPTY, FULL = "findings", "impression", "last_paragraph", "empty", "full"
BOTH = "findings+impression"
CHOICES = (FINDINGS, BOTH, FULL)

_HEADER = re.compile(r"^[ \t]*([A-Z][A-Z ()/,-]{0,80}):(?=\s|\Z)", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_LETTERS = re.compile(r"[a-z]+")
# A header of nothing but these words, one of them of the first kind, names the films, and the findings follow.
_FILM = {"chest", "portable", "lateral", "frontal", "ap", "pa", "view", "views", "cxr"}
_BESIDE = {
    "a", "an", "and", "at", "bedside", "decubitus", "erect", "exam", "examination", "film", "films", "four", "image", "images", "of", "one",
    "radiograph", "radiographs", "ray", "rays", "semi", "semierect", "semiupright", "single", "study", "supine", "the", "three", "two",
    "upright", "with", "x", "xray",
}  # fmt: skip
_WORDS_OF_FILMS = _FILM | _BESIDE
_SPELLINGS = {
    FINDINGS: {"finding", "findins", "findngs", "finidngs", "fidings", "finings", "indings", "findigns"},
    IMPRESSION: {
        "impressions", "impresson", "impresion", "impession", "imperssion", "impressoin", "imprssion", "imprression", "imoression",
        "mpression", "conclusion", "conclusions",
    },
}  # fmt: skip


def parse(text: str) -> list[tuple[str, str]]:
    """(name, body) of each section in order; a report without a header is one `full report`."""
    headers = list(_HEADER.finditer(text))
    if not headers:
        sections = [("full report", text)]
    else:
        ends = [*(header.start() for header in headers[1:]), len(text)]
        sections = [("preamble", text[: headers[0].start()])]
        sections += [(fold(header[1]), text[header.end() : end]) for header, end in zip(headers, ends)]
    sections = [(name, body) for name, body in sections if name not in (FINDINGS, IMPRESSION) or body.strip()]
    if sections and not {FINDINGS, IMPRESSION} & {name for name, _ in sections}:
        name, body = sections[-1]
        if blank := _BLANK_LINE.search(body):
            sections[-1:] = [(name, body[: blank.start()]), (LAST, body[blank.end() :])]
    return sections


def fold(header: str) -> str:
    """The name of a section by its header."""
    name = " ".join(header.lower().split())
    words = _LETTERS.findall(name)
    for told in (FINDINGS, IMPRESSION):
        if any(word == told or word in _SPELLINGS[told] for word in words):
            return told
    if _FILM.intersection(words) and _WORDS_OF_FILMS.issuperset(words):
        return FINDINGS
    return name


def choose(text: str, wanted: str = FINDINGS) -> tuple[str, str]:
    """The text that stands for a report, and which of FINDINGS, BOTH, IMPRESSION, LAST, FULL or EMPTY it is."""
    if wanted == FULL:
        return (text, FULL) if text.strip() else ("", EMPTY)
    found = {name: body for name, body in parse(text) if body.strip()}
    if wanted == BOTH and FINDINGS in found and IMPRESSION in found:
        return f"{found[FINDINGS].strip()}\n{found[IMPRESSION].strip()}", BOTH
    for name in (FINDINGS, LAST, IMPRESSION):
        if name in found:
            return found[name], name
    return "", EMPTY
