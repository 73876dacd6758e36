"""What a person sees: tables and lines on stdout, progress on stderr, one JSON value with --json.

Text that comes from files (names of tables, runs, methods) is stripped of control characters, so that it cannot drive a terminal.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from omnifuse.preprocess.schema import Silent


def progress(description: str, total: int | None = None, unit: str = "it"):
    """A tqdm on stderr; silent where stderr is no terminal, and on every rank but the first."""
    if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        return Silent(description, total, unit)
    from tqdm import tqdm

    return tqdm(total=total, desc=description, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)


def clean(text: Any) -> str:
    return "".join(character if character.isprintable() else " " for character in str(text))


def say(text: str = "") -> None:
    for line in text.split("\n"):
        click.echo(clean(line))


def note(text: str) -> None:
    """One line on stderr: a warning or a hint."""
    click.echo(f"omnifuse: {clean(text)}", err=True)


def place(path: Path | str) -> str:
    """A path as a person below it would type it."""
    path = Path(path).absolute()
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else (f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}")
    return f"{value:,}" if isinstance(value, int) else clean(value)


def table(rows: Iterable[Sequence[Any]], header: Sequence[str] = (), indent: str = "  ") -> None:
    """Columns padded to their widest cell; numbers to the right."""
    rows = [list(row) for row in rows]
    texts = [[number(cell) for cell in row] for row in rows]
    lines = ([list(header)] if header else []) + texts
    if not lines:
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [bool(rows) and all(isinstance(row[column], (int, float, type(None))) for row in rows) for column in range(len(widths))]
    for line in lines:
        cells = [cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(line, widths, right)]
        click.echo((indent + "  ".join(cells)).rstrip())


def finish(as_json: bool, result: dict[str, Any]) -> None:
    """With --json the one value on stdout."""
    if as_json:
        click.echo(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
