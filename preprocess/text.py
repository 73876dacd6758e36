"""Clinical free text of any source: decoded as declared, folded, its de-identification marks made one token each, cut to its words.

    decode      bytes to text in the declared encoding, or Unreadable; nothing is guessed and no U+FFFD is made
    normalise   NFKC (full-width ＰＥＴ／ＣＴ is PET/CT), marks, surrogate dates and ages to MARK, blanks squeezed
    cut         the first words; a Chinese character is a word of its own

`___` (MIMIC-IV, MIMIC-CXR) and `[**2151-7-16**]` (MIMIC-III, MIMIC-II) stand for what was removed. Left as they are, one mark is a dozen
word pieces and eats the words that a report is cut to; and a shifted date tells a model the record it comes from, nothing of the patient.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter

from omnifuse.preprocess.schema import ConfigError, Unreadable

# One word piece in the vocabularies of BERT (English, Chinese, clinical), RoBERTa and ModernBERT.
MARK = "_"
MAX_CHARACTERS = 200_000  # the longest discharge notes have 60,000
CUT = f"texts cut at {MAX_CHARACTERS:,} characters"
MARKS, DATES, AGES = "de-identification marks", "surrogate dates", "ages"

# Programs of hospitals call GB18030 by the names of its two ancestors, which lack characters of names and units.
_GB = {"gbk": "gb18030", "gb2312": "gb18030", "cp936": "gb18030"}
# Every repetition is bounded or cannot begin anew inside itself: the time is linear in the length of the text.
_BRACKETS = re.compile(r"\[\*\*[^\[\]]{0,200}?\*\*\]")
_RULING = re.compile(r"_{10,}|-{5,}|={5,}|\*{5,}")
_UNDERSCORES = re.compile(r"_{2,9}")
# Years from 2050 on are no hospital's: both sources shift dates into the next century.
_DATES = re.compile(r"\b(?:20[5-9]|2[12]\d)\d[-/]\d{1,2}[-/]\d{1,2}\b|\b\d{1,2}[-/]\d{1,2}[-/](?:20[5-9]|2[12]\d)\d\b")
_AGES = re.compile(r"\b\d{1,3}[ -]?(?:years?|yrs?|y)(?:[ -]old|[ ]?/[ ]?o|\.?[ ]?o\.?)(?![a-z])", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_BLANKS = re.compile(r"\s+")
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def decode(data: bytes, encoding: str = "utf-8") -> str:
    """Text of a file.

    Args:
        encoding: as declared: utf-8, gb18030 (also by the names gbk and gb2312), latin-1 and the others that Python knows.

    Raises:
        ConfigError: an unknown encoding.
        Unreadable: the bytes are not in it.
    """
    try:
        name = codecs.lookup(encoding).name
        name = _GB.get(name, name)
        "".encode(name)
    except LookupError:
        raise ConfigError(f"unknown encoding {encoding!r}", hint="utf-8, gb18030, latin-1, ...") from None
    data = data.removeprefix(codecs.BOM_UTF8) if name in ("utf-8", "gb18030") else data
    try:
        text = data.decode(name)
    except UnicodeError:
        raise Unreadable("is not in the declared encoding") from None
    if name == "gb18030" and not data.isascii() and _is_utf8(data):
        raise Unreadable("is not in the declared encoding")  # UTF-8 read as GB18030 is legal, and nonsense
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        return bool(data.decode("utf-8"))
    except UnicodeError:
        return False


def normalise(text: str, counts: Counter[str]) -> str:
    """One line of text without marks, dates and ages; `counts` counts what was replaced or cut."""
    text = unicodedata.normalize("NFKC", _CONTROL.sub(" ", limit(text, counts)))
    text = _RULING.sub(" ", text)
    for pattern, told in ((_BRACKETS, MARKS), (_UNDERSCORES, MARKS), (_DATES, DATES)):
        text, found = pattern.subn(f" {MARK} ", text)
        counts[told] += found
    text, found = _AGES.subn(f" {MARK} year old ", text)
    counts[AGES] += found
    return _BLANKS.sub(" ", text).strip()


def limit(text: str, counts: Counter[str]) -> str:
    """At most MAX_CHARACTERS, before anything else looks at the text."""
    if len(text) <= MAX_CHARACTERS:
        return text
    counts[CUT] += 1
    return text[:MAX_CHARACTERS]


def cut(text: str, words: int | None) -> str:
    """The text up to the end of its `words`-th word; the whole where that is None."""
    if words is None:
        return text
    end = 0
    for count, word in enumerate(_WORD.finditer(text)):
        if count == words:
            return text[:end]
        end = word.end()
    return text


def count_words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))
