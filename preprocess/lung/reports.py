"""Reports of lung cancer patients, Chinese or English: which may be read, which of their sections, and how much.

- Only reports dated before the pathology: what is written afterwards knows the label. Without both dates nothing shows that a report is
  older, so it is left out, unless undated ones are asked for.
- Sections are found by their headers (病史： 【影像所见】 三、诊断依据： FINDINGS:), put in the order asked for, and each can be left out.
  The section pathology is off by default. A report without a known header is one section, `other`.
- NFKC (full-width ＰＥＴ／ＣＴ), de-identification marks and blanks as in preprocess/text.py; then cut to so many characters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from datetime import datetime
from pathlib import Path

from omnifuse.preprocess import text as texts
from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.lung.manifest import is_path
from omnifuse.preprocess.schema import ConfigError, InputError, Unreadable, nearest

MAX_BYTES = 1 << 26
# Section -> its headers.
HEADERS = {
    "exam": "检查项目|检查名称|检查部位|EXAMINATION|EXAM|STUDY",
    "history": "临床病史|简要病史|现病史|病史摘要|病史|主诉|CLINICAL HISTORY|HISTORY OF PRESENT ILLNESS|HISTORY",
    "surgical_history": "既往手术史|手术外伤史|手术史|既往史|PAST SURGICAL HISTORY|SURGICAL HISTORY|PAST MEDICAL HISTORY",
    "clinical_diagnosis": "临床诊断|入院诊断|初步诊断|术前诊断|CLINICAL DIAGNOSIS|PREOPERATIVE DIAGNOSIS",
    "technique": "检查方法|检查技术|扫描方法|扫描技术|显像方法|TECHNIQUE|PROCEDURE",
    "comparison": "对比检查|比较|COMPARISON",
    "findings": "影像学所见|影像学表现|影像所见|影像表现|检查所见|放射学表现|CT所见|PET所见|PET/CT所见|所见|FINDINGS",
    "impression": "影像学诊断|影像诊断|放射学诊断|检查诊断|诊断意见|诊断印象|诊断结论|检查结论|印象|结论|诊断|IMPRESSION|CONCLUSION",
    "basis": "诊断依据|鉴别诊断|BASIS OF DIAGNOSIS|DIAGNOSTIC BASIS",
    "indications": "手术指征|手术适应证|手术适应症|手术方式|SURGICAL INDICATIONS|INDICATIONS|INDICATION",
    "pathology": "术后病理|术中冰冻|冰冻病理|病理诊断|病理结果|病理所见|病理|PATHOLOGY|FROZEN SECTION",
    "other": "",
}
SECTIONS = tuple(HEADERS)
DEFAULT_SECTIONS = tuple(name for name in SECTIONS if name != "pathology")
_BY_HEADER = {header: name for name, headers in HEADERS.items() for header in headers.split("|") if header}
_NUMBER = r"(?:[(（]?[一二三四五六七八九十\d]{1,3}[)）]?[、.．)]?[ \t]{0,3})?"
_NAMES = "|".join(re.escape(header) for header in sorted(_BY_HEADER, key=len, reverse=True))
# A header stands at the beginning of a line, or behind the end of a sentence, and ends in a colon or brackets.
_HEADER = re.compile(
    rf"(?:^|(?<=[。;；\n]))[ \t]{{0,8}}{_NUMBER}"
    rf"(?:[【\[][ \t]{{0,3}}(?P<box>{_NAMES})[ \t]{{0,3}}[】\]][:：]?|(?P<bare>{_NAMES})[ \t]{{0,3}}[:：])",
    re.MULTILINE | re.IGNORECASE,
)

BEFORE, UNDATED, AFTER = "dated before the pathology", "report or pathology without a date", "dated on or after the pathology"
EMPTY, CUT = "empty", "cut at the longest length"


def check_sections(names: tuple[str, ...]) -> None:
    for name in names:
        if name not in SECTIONS:
            raise ConfigError(f"unknown section {name!r} of a report", hint=nearest(name, SECTIONS))


def timing(report_date: datetime | None, pathology_date: datetime | None) -> str:
    """BEFORE, AFTER or UNDATED. Dates without a time of day: the same day is not before."""
    if report_date is None or pathology_date is None:
        return UNDATED
    whole_day = not (report_date.time() > datetime.min.time() and pathology_date.time() > datetime.min.time())
    before = report_date.date() < pathology_date.date() if whole_day else report_date < pathology_date
    return BEFORE if before else AFTER


def read_report(root: Path, cell: str, encoding: str, where: str) -> str:
    """The text that a manifest's cell is or names.

    Args:
        where: file:row of the manifest, for messages.

    Raises:
        InputError: the file is not in the declared encoding (with the byte), too large, or not there.
    """
    if not is_path(cell):
        return cell
    try:
        path = inside(root, cell)
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the report is larger than {MAX_BYTES >> 20} MB", where=f"{where}:report")
        data = path.read_bytes()
    except Unreadable as error:
        raise InputError(error.reason, where=f"{where}:report") from None
    try:
        return texts.decode(data, encoding)
    except Unreadable:
        at = bad_byte(data, encoding)
        what = "the report's file is UTF-8" if at is None else f"the report's file is not {encoding} at byte {at}"
        hint = "--encoding utf-8" if at is None else "declare its encoding: --encoding gb18030 for Chinese files of older systems"
        raise InputError(what, where=f"{where}:report", hint=hint) from None


def bad_byte(data: bytes, encoding: str) -> int | None:
    """Offset of the first byte that is not in the encoding; None where all are."""
    name = "gb18030" if codecs.lookup(encoding).name in ("gbk", "gb2312") else encoding
    try:
        data.decode(name)
    except UnicodeDecodeError as error:
        return error.start
    except UnicodeError:
        return 0
    return None


def split_sections(text: str) -> list[tuple[str, str]]:
    """(section, body) in order of the text; what stands before the first header is `other`."""
    headers = list(_HEADER.finditer(text))
    ends = [*(header.start() for header in headers[1:]), len(text)]
    parts = [("other", text[: headers[0].start()] if headers else text)]
    parts += [(_BY_HEADER[_known(header)], text[header.end() : end]) for header, end in zip(headers, ends)]
    return [(name, body) for name, body in parts if body.strip()]


def _known(header: re.Match) -> str:
    told = header["box"] or header["bare"]
    return told if told in _BY_HEADER else told.upper()


def prepare(text: str, sections: tuple[str, ...], max_chars: int, counts: Counter[str]) -> str:
    """What a text encoder gets of a report: the chosen sections in the chosen order, normalised and cut; empty where nothing is left.

    `counts` counts sections taken (`section NAME`) and left out (`left out NAME`), what was replaced, and what was cut.
    """
    found: dict[str, list[str]] = {}
    for name, body in split_sections(unicodedata.normalize("NFKC", texts.limit(text, counts))):
        found.setdefault(name, []).append(body)
    for name in found:
        counts[f"section {name}" if name in sections else f"left out {name}"] += 1
    chosen = [texts.normalise(" ".join(found[name]), counts) for name in sections if name in found]
    told = " ".join(part for part in chosen if part)
    if len(told) > max_chars:
        counts[CUT] += 1
    return told[:max_chars].rstrip()
