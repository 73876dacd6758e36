"""The keys of the YAML: what each takes, and what it is where it is not given."""

from __future__ import annotations

import codecs
import re

from omnifuse.preprocess.schema import KINDS
from omnifuse.preprocess.sections import CHOICES, FULL
from omnifuse.preprocess.table.checker import Key
from omnifuse.preprocess.table.description import MAIN

UNITS = ("datetime", "days", "hours")
TAKE = ("all", "last", "first")
SEVERAL = ("refuse", "drop", "greatest")
REST = "rest"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
MODALITY_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def _encoding(text: str) -> str | None:
    try:
        "".encode(codecs.lookup(text).name)
    except LookupError:
        return "is no known encoding (utf-8, gb18030, latin-1, ...)"
    except ValueError:
        return "is no encoding of text"
    return None


def _name(text: str) -> str | None:
    return None if _NAME.fullmatch(text) else "must be letters, digits, _ or -, at most 64, a letter first"


ENCODING = Key("text", "utf-8", check=_encoding)
TOP = {
    "root": Key("text", "."),
    "table": Key("text", needed=True),
    "encoding": ENCODING,
    "patient": Key("column", needed=True),
    "sample": Key("columns", ()),
    "tables": Key("tree"),
    "task": Key("text", needed=True, check=_name),
    "label": Key("tree", needed=True),
    "time": Key("tree"),
    "group": Key("column"),
    "describe": Key("columns", ()),
    "keep": Key("tree"),
    "missing": Key("texts", ()),
    "splits": Key("tree"),
    "modalities": Key("tree", needed=True),
}
TABLE = {"file": Key("text", needed=True), "encoding": ENCODING, "patient": Key("column"), "sample": Key("columns", ())}
LABEL = {
    "kind": Key("text", "binary", choices=KINDS),
    "column": Key("column"),
    "columns": Key("columns", ()),
    "positive": Key("texts"),
    "negative": Key("texts"),
    "classes": Key("tree"),
    "unknown": Key("texts", ()),
    "separator": Key("text"),
    "several": Key("text", "refuse", choices=SEVERAL),
}
TIME = {"unit": Key("text", "datetime", choices=UNITS), "origin": Key("column"), "prediction": Key("column")}
SPLITS = {
    "kind": Key("text", choices=("hash", "temporal", "frozen")),
    "folds": Key("whole", 5, low=2, high=127),
    "file": Key("text"),
    "new": Key("text", "refuse", choices=("refuse", "train", "hash")),
}
SHARED = {
    "kind": Key("text", needed=True),
    "table": Key("text", MAIN),
    "keep": Key("tree"),
    "time": Key("column"),
    "unit": Key("text", choices=UNITS),
    "order": Key("column"),
    "take": Key("text", choices=TAKE),
}
CELLS = {"decimal": Key("text", "point", choices=("point", "comma")), "on_bad_cell": Key("text", "count", choices=("count", "error"))}
FILES = {"folder": Key("text"), "suffix": Key("text", ""), "decode": Key("tree")}
OWN = {
    "columns": {"numeric": Key("tree"), "categorical": Key("tree"), "min_patients": Key("whole", 5, low=1, high=1e6), **CELLS},
    "series": {
        "variable": Key("column"),
        "value": Key("column"),
        "numeric": Key("tree"),
        "categorical": Key("tree"),
        "step_hours": Key("number", 1.0, low=0.01, high=87_600),
        "from_hours": Key("number", 0.0, low=-1e6, high=1e6),
        "to_hours": Key("number", low=-1e6, high=1e6),
        **CELLS,
    },
    "image": {"path": Key("columns", needed=True), **FILES},
    "volume": {"path": Key("columns", needed=True), **FILES},
    "text": {"column": Key("column"), "file": Key("columns"), "folder": Key("text"), "suffix": Key("text", ""), "encoding": ENCODING,
             "sections": Key("text", FULL, choices=CHOICES), "words": Key("whole", low=1, high=1_000_000)},
    "signal": {"path": Key("columns", needed=True), **FILES},
}  # fmt: skip
DEFAULT_TAKE = {"columns": "last", "volume": "last", "signal": "last"}
