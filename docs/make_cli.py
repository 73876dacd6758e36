"""Writes docs/cli.md from the real help texts; with --check it compares instead, and exits 1 where they differ."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

os.environ["COLUMNS"] = "100"

from omnifuse.main import root

HEAD = """# The command line

Made by `make docs` from the real help; CI checks that it is true.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug of omnifuse |
| 2 | wrong usage or configuration |
| 3 | bad input data |
| 4 | an artefact is missing, unfinished or was altered |
| 5 | disk or memory does not suffice |
| 6 | another run writes the same artefact |
| 7 | NaN or infinity in an input, an activation or a loss |
| 8 | part of the work failed; what failed is listed |
| 129, 130, 143 | stopped by a signal; training saved a checkpoint, the same command goes on |

An error is one line on stderr: `omnifuse: error: FILE:ROW: what is wrong (what to do)`.
"""


def pages(command: click.Command, name: str, parent: click.Context | None = None):
    """The help of a command and of everything below it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from pages(command.get_command(context, child), child, context)


def text() -> str:
    return HEAD + "".join(f"\n## {path}\n\n```\n{page}\n```\n" for path, page in pages(root, "omnifuse"))


if __name__ == "__main__":
    target = Path(__file__).with_name("cli.md")
    if "--check" in sys.argv:
        if not target.exists() or target.read_text(encoding="utf-8") != text():
            sys.exit("docs/cli.md differs from the real help: run make docs")
    else:
        target.write_text(text(), encoding="utf-8")
