"""The section `label` of the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnifuse.preprocess.table import grammar
from omnifuse.preprocess.table.checker import Checker, Key, convert, place
from omnifuse.preprocess.table.description import MAIN, Label
from omnifuse.preprocess.table.grammar import REST

Meanings = tuple[tuple[str, ...], ...]


def read(check: Checker, section: Any, task: str) -> Label:
    """What is labelled how; faults go to `check`."""
    values = check.section({} if section is None else section, grammar.LABEL, "label")
    where = place(section) if section is not None else None
    check.refer(MAIN, section, values, ("column", "columns"))
    columns = values["columns"] or ((values["column"],) if values["column"] else ())
    if bool(values["column"]) == bool(values["columns"]):
        check.fault(where, "label needs column, or of a multilabel task columns")
    elif len(columns) > 1 and values["kind"] != "multilabel":
        check.fault(where, f"label: a {values['kind']} label stands in one column", "kind: multilabel")
    if values["separator"] and (values["kind"] != "multilabel" or len(columns) > 1):
        check.fault(where, "label: separator belongs to a multilabel task in one column")
    by_class = values["kind"] == "multiclass" or bool(values["separator"])
    if by_class:
        names, meanings = _classes(check, values, where)
        negative: tuple[str, ...] | None = ()
    else:
        names = columns if values["kind"] == "multilabel" else (task,)
        positive, negative = _sides(check, values, where)
        meanings = (positive,) * len(names)
    told = [text for texts in ((*meanings,) if by_class else (meanings[:1] or ((),))) for text in texts]
    told += [*(negative or ()), *values["unknown"]]
    if len(set(told)) < len(told):
        check.fault(where, "label: one value has two meanings")
    return Label(values["kind"], names, columns, meanings, negative, values["unknown"], values["separator"], values["several"])


def _classes(check: Checker, values: dict[str, Any], where: str | None) -> tuple[tuple[str, ...], Meanings]:
    """Names in order, and the values of each: itself, or a mapping's."""
    if values["positive"] is not None or values["negative"] is not None:
        check.fault(where, "label: positive and negative belong to a label of yes and no", "classes")
    tree, found = values["classes"], {}
    try:
        if isinstance(tree, Mapping):
            found = {name: convert(leaf, Key("texts")) for name, leaf in tree.items()}
        elif tree is not None:
            found = {name: (name,) for name in convert(tree, Key("texts"))}
    except ValueError as error:
        check.fault(where, f"label: classes {error}")
    if len(found) < 2:
        check.fault(where, "label needs classes: their names in order, or names to values")
    return tuple(found), tuple(found.values())


def _sides(check: Checker, values: dict[str, Any], where: str | None) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """(positive, negative) values; negative None is every other one."""
    positive, negative = values["positive"], values["negative"]
    if values["classes"] is not None:
        check.fault(where, "label: classes belong to a multiclass task, or to one column of several labels", "separator")
    if (positive is None) != (negative is None):
        check.fault(where, "label needs positive and negative together", "negative: [values], or rest for every other value")
    if positive is None or negative is None:
        return ("1", "true"), ("0", "false")
    if REST in negative and len(negative) > 1:
        check.fault(where, "label: negative is a list of values or the one word rest")
    return positive, None if negative == (REST,) else negative
