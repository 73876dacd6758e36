"""The strict CSV of `omnifuse.preprocess.tables`, spelled out byte by byte: slow, plain, and the judge of the fast one.

records(text, width)  ->  (row, fields) of the sound records, (row, reason) of the bad ones
"""

from __future__ import annotations

import re

STRAY, OPEN, WIDTH, CARRIAGE, NUL, ENCODING = "stray", "open", "width", "carriage", "nul", "encoding"


class Bad(Exception):
    """A record that cannot be delimited: its first line is bad, and reading goes on behind that line."""


def records(text: bytes, width: int) -> tuple[list[tuple[int, list[bytes]]], list[tuple[int, str]]]:
    text = text.removeprefix(b"\xef\xbb\xbf")
    position = (text.find(b"\n") + 1) or len(text)
    good, bad, row = [], [], 2
    while position < len(text):
        if re.fullmatch(rb"(\r?\n)*\r?", text[position:]):
            break
        try:
            end, fields = record(text, position)
            reason = judge(text[position:end], fields, width)
        except Bad as error:
            end, reason = (text.find(b"\n", position) + 1) or len(text), str(error)
        if reason:
            bad.append((row, reason))
        else:
            good.append((row, fields))
        position, row = end, row + 1
    return good, bad


def record(text: bytes, position: int) -> tuple[int, list[bytes]]:
    """The end of the record that begins at `position`, and its fields."""
    fields: list[bytes] = []
    while True:
        field, position = quoted(text, position) if text[position : position + 1] == b'"' else bare(text, position)
        fields.append(field)
        if text[position : position + 1] != b",":
            return min(position + 1, len(text)), fields
        position += 1


def bare(text: bytes, position: int) -> tuple[bytes, int]:
    """A field up to the next separator."""
    end = re.compile(rb"[,\n]|\Z").search(text, position).start()
    field = text[position:end]
    if b'"' in field:
        raise Bad(STRAY)
    line_ends = text[end : end + 1] != b","
    return field.removesuffix(b"\r") if line_ends else field, end


def quoted(text: bytes, position: int) -> tuple[bytes, int]:
    whole = re.compile(rb'"((?:[^"]|"")*)"').match(text, position)
    if whole is None or text[whole.end() : whole.end() + 1] == b'"':
        # The pairs of a doubled quote that the file cuts in two are an opening without an end.
        raise Bad(OPEN)
    end = whole.end()
    if text[end : end + 1] == b"\r":
        rest, after = bare(text, end)
        if rest or text[after : after + 1] == b",":
            return b"\r", after  # judged below: the carriage return ends no line
        end = after
    if text[end : end + 1] not in (b",", b"\n", b""):
        raise Bad(STRAY)
    return whole[1].replace(b'""', b'"'), end


def judge(line: bytes, fields: list[bytes], width: int) -> str | None:
    if b"\0" in line:
        return NUL
    outside = re.sub(rb'"(?:[^"]|"")*"', b"", line)
    if re.search(rb"\r(?!\n|\Z)", outside):
        return CARRIAGE
    if len(fields) != width:
        return WIDTH
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return ENCODING
    return None
