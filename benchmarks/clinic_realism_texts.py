"""Texts of the clinic against published figures. No real text is compared: there is none among the open test data.

Published: about a third of the reports of MIMIC-CXR have no FINDINGS header; Wu et al. 2025 tell of FINDINGS of 10 to 280 words.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import polars as pl
from clinic_realism_apart import spread

WORDS = 10_000  # of which the share of different ones is told: it falls with the length of a text
LEAST, MOST = 10, 280
SECTION = re.compile(r"(?:^|\n)\s*([A-Z]{4,}):\s*(.*?)(?=\n\s*[A-Z]{4,}:|\Z)", re.S)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def sections(note: str) -> dict[str, str]:
    return dict(SECTION.findall(note))


def describe(notes: list[str]) -> list[tuple[str, str, str]]:
    """Name, what is published, what the clinic has."""
    parts = [sections(note) for note in notes]
    findings = [part["FINDINGS"] for part in parts if part.get("FINDINGS", "").strip()]
    lengths = [len(words_of(text)) for text in findings]
    everything = [word for note in notes for word in words_of(note)]
    sentences = Counter(s.strip() for text in findings for s in re.split(r"(?<=\.)\s+", text) if s.strip())
    first = everything[:WORDS]
    inside = sum(LEAST <= n <= MOST for n in lengths) / max(1, len(lengths))
    return [
        ("notes without FINDINGS", "about 33%", f"{100 * (1 - len(findings) / len(notes)):.0f}%"),
        ("words of FINDINGS", "10 to 280", spread(lengths, ".0f")),
        ("FINDINGS of 10 to 280 words", "all", f"{100 * inside:.0f}%"),
        ("words of the whole note", "", spread([len(words_of(note)) for note in notes], ".0f")),
        ("different words in all notes", "", f"{len(set(everything)):,} of {len(everything):,}"),
        (f"different words in the first {WORDS:,}", "", f"{len(set(first)):,}"),
        ("sentences of FINDINGS that occur once", "", f"{100 * sum(n == 1 for n in sentences.values()) / max(1, len(sentences)):.0f}% of "
                                                      f"{len(sentences):,} different ones"),
        ("notes whose FINDINGS another note has, word by word", "", f"{100 * _twins(findings):.0f}%"),
    ]  # fmt: skip


def _twins(texts: list[str]) -> float:
    seen = Counter(texts)
    return sum(n for n in seen.values() if n > 1) / max(1, len(texts))


def chinese(lung: Path) -> tuple[str, str, str]:
    texts = [path.read_text(encoding="utf-8") for path in sorted((lung / "reports").glob("*.txt"))]
    signs = {sign for text in texts for sign in text if "\u4e00" <= sign <= "\u9fff"}
    lengths = spread([sum("\u4e00" <= sign <= "\u9fff" for sign in text) for text in texts], ".0f")
    return "Chinese reports: characters; different ones", "", f"{lengths}; {len(signs)} in {len(texts)} reports"


def report(raw: Path, lung: Path | None) -> list[str]:
    """Chest reports of the notes table, then the Chinese ones."""
    notes = pl.read_csv(raw / "note/radiology.csv.gz", infer_schema_length=0)["text"].to_list()
    chest = [note for note in notes if note.startswith("EXAMINATION:  CHEST")]
    rows = describe(chest) + ([chinese(lung)] if lung else [])
    head = f"{len(chest):,} chest reports of {len(notes):,} radiology notes. No real text was compared."
    return [head, "", "| | published | clinic |", "|---|---|---|", *(f"| {name} | {known} | {found} |" for name, known, found in rows)]
