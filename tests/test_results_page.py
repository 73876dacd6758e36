"""docs/results.md: every figure and table that it names is there, and none is there that it does not name."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_and_the_folder_hold_the_same_figures():
    named = set(re.findall(r"\]\(results/([^)]+\.png)\)", (DOCS / "results.md").read_text(encoding="utf-8")))
    assert named and named == {path.name for path in (DOCS / "results").glob("*.png")}


def test_the_page_and_the_folder_hold_the_same_tables():
    named = set(re.findall(r"\]\(results/([^)]+\.md)\)", (DOCS / "results.md").read_text(encoding="utf-8")))
    assert named and named == {path.name for path in (DOCS / "results").glob("*.md")} - {"head.md"}


def test_every_figure_of_a_table_is_there():
    for path in (DOCS / "results").glob("*.md"):
        if path.name != "head.md":
            named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
            assert all((DOCS / "results" / name).is_file() for name in named), path.name


def test_the_page_begins_with_its_head():
    assert (DOCS / "results.md").read_text(encoding="utf-8").startswith((DOCS / "results" / "head.md").read_text(encoding="utf-8").rstrip())
