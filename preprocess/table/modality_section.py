"""One modality of the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnifuse.preprocess.schema import nearest
from omnifuse.preprocess.table import grammar
from omnifuse.preprocess.table.checker import Checker, Key, Reference, convert, place
from omnifuse.preprocess.table.description import MAIN, Clock, Modality, Table

DEFAULT_TAKE = {"columns": "last", "volume": "last", "signal": "last"}
COLUMN_KEYS = ("time", "order", "path", "column", "file", "variable", "value")


def read(check: Checker, name: str, kind: str, section: Mapping[str, Any], tables: dict[str, Table], clock: Clock) -> Modality:
    """A modality; faults go to `check`."""
    what, where = f"modality {name}", place(section)
    values = check.section(section, {**grammar.SHARED, **grammar.OWN[kind]}, what)
    table = values["table"]
    if table not in tables:
        check.fault(place(section["table"]), f"{what}: no table {table}", nearest(table, tables))
        table = MAIN
    check.refer(table, section, values, COLUMN_KEYS)
    own = {key: values[key] for key in grammar.OWN[kind]}
    unit = values["unit"] or clock.unit
    if unit == "datetime" and clock.unit != "datetime" and values["time"]:
        check.fault(where, f"{what}: date-times cannot be compared with a sample's time in {clock.unit}")
    if unit != "datetime" and clock.unit == "datetime" and values["time"] and not clock.origin:
        check.fault(where, f"{what}: a time in {unit} needs an origin of the samples", "time: origin")
    if kind in ("columns", "series"):
        own["numeric"], own["categorical"] = _variables(check, kind, section, values, table, what)
    if kind == "series":
        _require_series(check, values, unit, clock, what, where)
    if kind == "text" and bool(own["column"]) == bool(own["file"]):
        check.fault(where, f"{what} needs either column (the text) or file (its path)")
    if "decode" in own:
        own["decode"] = check.mapping(own["decode"], f"{what}: decode")
    keep = check.keep(values["keep"], table, f"{what}: keep")
    take = values["take"] or DEFAULT_TAKE.get(kind, "all")
    if kind == "columns" and take == "all":
        check.fault(where, f"{what}: a sample has one vector: take is last or first")
    if kind == "series" and values["take"]:
        check.fault(where, f"{what}: a series has every bin and takes no take")
    return Modality(name, kind, table, keep, values["time"], unit, values["order"], take, own)


def _variables(check: Checker, kind: str, section: Mapping[str, Any], values: dict[str, Any], table: str, what: str):
    """(numeric names, {categorical name: its categories, () where they are found})."""
    long = kind == "series" and bool(values["variable"])
    wanted = Key("texts" if long else "columns")
    numeric: tuple[str, ...] = ()
    categorical: dict[str, tuple[str, ...]] = {}
    try:
        if values["numeric"] is not None:
            numeric = convert(values["numeric"], wanted)
        if isinstance(given := values["categorical"], Mapping):
            categorical = {name if long else name.strip().lower(): convert(leaf, Key("texts")) for name, leaf in given.items()}
        elif given is not None:
            categorical = dict.fromkeys(convert(given, wanted), ())
    except ValueError as error:
        check.fault(place(section), f"{what}: numeric or categorical {error}")
    if not numeric and not categorical:
        check.fault(place(section), f"{what} needs numeric or categorical: the names of its {'variables' if long else 'columns'}")
    if both := set(numeric) & set(categorical):
        check.fault(place(section), f"{what}: {min(both)} is both numeric and categorical")
    if kind == "series" and not all(categorical.values()):
        check.fault(place(section), f"{what}: categories of a series are listed", "categorical: {name: [first, second]}")
    if not long:
        told = [("numeric", column) for column in numeric] + [("categorical", column) for column in categorical]
        check.references += [Reference(table, column, place(section[key])) for key, column in told]
    return numeric, categorical


def _require_series(check: Checker, values: dict[str, Any], unit: str, clock: Clock, what: str, where: str | None) -> None:
    if not values["time"]:
        check.fault(where, f"{what} needs time: the column that tells when a row was measured")
    if bool(values["variable"]) != bool(values["value"]):
        check.fault(where, f"{what}: variable and value belong together")
    if values["to_hours"] is not None and values["to_hours"] <= values["from_hours"]:
        check.fault(where, f"{what}: to_hours must lie behind from_hours")
    if unit == "datetime" and not clock.origin:
        check.fault(where, f"{what}: a series with date-times needs an origin, a column of the main table", "time: origin")
