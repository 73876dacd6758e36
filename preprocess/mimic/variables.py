"""The 17 variables of the MIMIC benchmarks, the item ids that chart them, and the 76 columns they become.

    17 channels    5 categories in words (capillary refill, and eye, motor, verbal and total of the Glasgow coma scale), 12 numbers
    76 columns     47 one-hot, 12 numbers, 17 masks: in the order of the channels, then "mask->" of each
    114 item ids   of CareVue, MetaVision and the laboratory

Source: resources/, from mimic3-benchmarks at commit ea0314c7 (MIT; Harutyunyan et al. 2019, doi 10.1038/s41597-019-0103-9); MedFuse and
MedPatch ship the same. The spelling of "Glascow" is theirs and part of the format.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

import polars as pl

_FOLDER = resources.files("omnifuse.preprocess.mimic") / "resources"
_CONFIG = json.loads((_FOLDER / "discretizer_config.json").read_text(encoding="utf-8"))

VARIABLES: tuple[str, ...] = tuple(_CONFIG["id_to_channel"])
CATEGORIES: dict[str, tuple[str, ...]] = {name: tuple(_CONFIG["possible_values"][name]) for name in VARIABLES}
NORMAL_TEXT: dict[str, str] = {name: _CONFIG["normal_values"][name] for name in VARIABLES}

(CRR, DBP, FIO2, EYE, MOTOR, TOTAL, VERBAL, GLUCOSE, HR, HEIGHT, MBP, SPO2, RR, SBP, TEMPERATURE, WEIGHT, PH) = range(17)

WIDTHS = tuple(len(CATEGORIES[name]) or 1 for name in VARIABLES)
STARTS = tuple(sum(WIDTHS[:channel]) for channel in range(17))
CONTINUOUS = tuple(STARTS[channel] for channel, name in enumerate(VARIABLES) if not CATEGORIES[name])
COLUMNS: tuple[str, ...] = tuple(
    column for name in VARIABLES for column in ([f"{name}->{value}" for value in CATEGORIES[name]] or [name])
) + tuple(f"mask->{name}" for name in VARIABLES)
MASKS = sum(WIDTHS)  # the first of the 17 mask columns

# What stands in a channel before its first value: a number, or the index of a category.
NORMAL: tuple[float, ...] = tuple(
    float(CATEGORIES[name].index(NORMAL_TEXT[name]) if CATEGORIES[name] else NORMAL_TEXT[name]) for name in VARIABLES
)

CODE = {name: code for code, name in enumerate(VARIABLES)}


@functools.cache
def items() -> pl.DataFrame:
    """The benchmark's 114 item ids: `variable` (index of the channel), `itemid`, `table` (chartevents or labevents), `label`."""
    with resources.as_file(_FOLDER / "itemids.csv") as path:
        table = pl.read_csv(path, schema_overrides={"itemid": pl.Int64})
    return table.select(
        pl.col("variable").replace_strict(CODE, return_dtype=pl.UInt8),
        "itemid",
        table=pl.col("linksto"),
        label=pl.col("label").str.strip_chars(),
    )


@functools.cache
def ranges() -> pl.DataFrame:
    """Bounds of plausible values, a row a channel: `outlier_low valid_low valid_high outlier_high` float64; null where there is none."""
    with resources.as_file(_FOLDER / "variable_ranges.csv") as path:
        table = pl.read_csv(path, infer_schema=False)
    table = table.filter(pl.col("LEVEL1").is_null()).select(
        pl.col("LEVEL2").str.to_lowercase().alias("name"),
        *(pl.col(name.replace("_", " ").upper()).cast(pl.Float64).alias(name) for name in _BOUNDS),
    )
    names = pl.DataFrame({"name": [name.lower() for name in VARIABLES]})
    return names.join(table, on="name", how="left", maintain_order="left").select(_BOUNDS)


_BOUNDS = ("outlier_low", "valid_low", "valid_high", "outlier_high")
