"""A YAML tree to a Description, checked as a whole before a table is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnifuse.preprocess.schema import nearest
from omnifuse.preprocess.table import grammar, label_section, modality_section
from omnifuse.preprocess.table.checker import Checker, place
from omnifuse.preprocess.table.description import MAIN, Clock, Description, Table

RESERVED = {"sample_id", "patient_id", "y", "group", "fold", "part", "prediction_time", "prediction_hours"}


def describe(tree: Any, name: str) -> Description:
    """The description that a YAML tree holds.

    Args:
        tree: nested dicts with leaves (checker.py).
        name: of the file, for messages without a line.

    Raises:
        ConfigError: everything that is wrong, each with its line.
    """
    check = Checker(name)
    top = check.section(tree, grammar.TOP, "the file")
    tree = tree if isinstance(tree, Mapping) else {}
    tables = _tables(check, tree, top)
    check.refer(MAIN, tree, top, ("group", "describe"))
    clock = _clock(check, top["time"])
    told = Description(
        root=top["root"],
        tables=tables,
        task=top["task"] or "",
        label=label_section.read(check, top["label"], top["task"] or "label"),
        clock=clock,
        group=top["group"],
        describe=top["describe"],
        keep=check.keep(top["keep"], MAIN, "keep"),
        missing=top["missing"],
        splits=_splits(check, top),
        modalities=_modalities(check, top["modalities"], tables, clock),
        references=check.references,
    )
    _require_free_names(check, tree, told)
    check.finish()
    return told


def _tables(check: Checker, tree: Mapping[str, Any], top: dict[str, Any]) -> dict[str, Table]:
    where = place(tree["table"]) if "table" in tree else None
    tables = {MAIN: Table(MAIN, top["table"] or "", top["encoding"], top["patient"], top["sample"], where)}
    check.refer(MAIN, tree, top, ("patient", "sample"))
    for name, section in check.mapping(top["tables"], "tables").items():
        values = check.section(section, grammar.TABLE, f"table {name}")
        if name == MAIN:
            check.fault(place(section), f"{MAIN} is the name of the table under `table`", "choose another name")
            continue
        if bool(values["patient"]) == bool(values["sample"]):
            check.fault(place(section), f"table {name} needs either patient or sample: the column that tells whose a row is")
        tables[name] = Table(name, values["file"] or "", values["encoding"], values["patient"], values["sample"], place(section))
        check.refer(name, section, values, ("patient", "sample"))
    return tables


def _clock(check: Checker, section: Any) -> Clock:
    if section is None:
        return Clock()
    values = check.section(section, grammar.TIME, "time")
    check.refer(MAIN, section, values, ("origin", "prediction"))
    return Clock(**values)


def _splits(check: Checker, top: dict[str, Any]) -> dict[str, Any]:
    section = top["splits"]
    values = check.section({} if section is None else section, grammar.SPLITS, "splits")
    where = place(section) if section is not None else None
    values["kind"] = values["kind"] or ("frozen" if values["file"] else "hash")
    if (values["kind"] == "frozen") != bool(values["file"]):
        check.fault(where, "splits: a frozen split needs its file, and only a frozen split takes one")
    if values["kind"] == "temporal" and not top["group"]:
        check.fault(where, "splits: a temporal split needs group: a column that sorts by calendar")
    return values


def _modalities(check: Checker, section: Any, tables: dict[str, Table], clock: Clock) -> dict[str, Any]:
    found = {}
    for name, told in check.mapping(section, "modalities").items():
        if not grammar.MODALITY_NAME.fullmatch(name):
            check.fault(place(told), f"modality {name}: a name is small letters, digits and _, at most 32, a letter first")
        kind = told.get("kind") if isinstance(told, Mapping) else None
        text = getattr(kind, "text", None)
        if not isinstance(text, str) or text not in grammar.OWN:
            near = nearest(text if isinstance(text, str) else "", grammar.OWN)
            check.fault(place(told), f"modality {name} needs a kind", near)
            continue
        found[name] = modality_section.read(check, name, text, told, tables, clock)
    if not found and not check.faults:
        check.fault(None, "no modality is named")
    return found


def _require_free_names(check: Checker, tree: Mapping[str, Any], told: Description) -> None:
    own = {f"{name}_{end}" for name in told.modalities for end in ("start", "length", "tail")} | RESERVED
    for column in told.describe:
        if column in own:
            check.fault(place(tree["describe"]), f"describe: {column} is a name of the cohort's own", "rename the column")
