"""omnifuse preprocess: raw files to a cohort. One subcommand a kind of source."""

from __future__ import annotations

import importlib

import click

# Name -> one-line help; the module omnifuse.commands.preprocess_NAME is imported on use.
SOURCES = {
    "mimic": "MIMIC-III or MIMIC-IV tables: stays, labels, 17 variables, folds.",
    "lung": "A manifest of lung lesions: CT, PET, reports, subtypes, folds.",
    "table": "Your own tables, as a YAML describes them: columns, series, films, DICOM, texts, signals.",
}


class Sources(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(SOURCES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(f"omnifuse.commands.preprocess_{name}").command if name in SOURCES else None


@click.group(name="preprocess", cls=Sources)
def command() -> None:
    """Raw files to a cohort: stays, labels, series, folds.

    \b
    Example:
      omnifuse preprocess mimic --ehr /data/mimiciv/3.1 --out cohorts/mimic
    """
