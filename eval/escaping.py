"""Text from outside (run, method, label, column names, file paths) on its way into a page, a table or a terminal.

HTML is escaped by the template; what is here removes what no escaping mends: control characters (ANSI sequences, carriage returns),
direction overrides that show text in another order than it has, and formulas that a spreadsheet would run.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LONGEST = 200


def plain(text: object, longest: int = _LONGEST) -> str:
    """One line of visible text: control, format and private characters become U+FFFD, white space one blank, long text is cut."""
    line = " ".join(str(text).split())
    line = "".join("\ufffd" if unicodedata.category(character)[0] == "C" else character for character in line)
    return line if len(line) <= longest else line[: longest - 1] + "\u2026"


def csv_cell(value: object) -> object:
    """A cell for CSV: numbers as they are, None empty, text that a spreadsheet would take for a formula behind an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    text = plain(value, longest=10_000)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def csv_text(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """CSV with a header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(column) for column in columns])
    for row in rows:
        writer.writerow([csv_cell(row.get(column)) for column in columns])
    return buffer.getvalue()
