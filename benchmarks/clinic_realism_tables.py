"""Tables of the clinic beside those of the MIMIC-IV demo: quantiles, spread, memory, gaps and missing rates per variable.

The demo holds 140 stays whose text values are reconstructed, so its own figures are rough.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from clinic_realism_apart import told_apart

HOURS = 48
VARIABLES = {
    "Heart rate": (220045,),
    "Respiratory rate": (220210,),
    "SpO2": (220277,),
    "Mean BP": (220052, 220181),
    "Systolic BP": (220050, 220179),
    "Diastolic BP": (220051, 220180),
    "Temperature, F": (223761,),
    "Glucose": (220621, 225664),
    "pH, arterial": (223830,),
    "FiO2": (223835,),
    "GCS eye": (220739,),
    "GCS motor": (223901,),
    "Capillary refill": (223951,),
    "Weight": (226512, 224639),
    "Height": (226730,),
}


def read_chart(folder: Path) -> tuple[pl.DataFrame, int]:
    """Rows of the variables in the first hours of stays of that length (stay_id, variable, hours, value), and how many stays."""
    stays = pl.read_csv(folder / "icu/icustays.csv.gz", schema_overrides={"intime": pl.String, "outtime": pl.String})
    long = stays.filter(pl.col("los") * 24 >= HOURS).select("stay_id", pl.col("intime").str.to_datetime())
    known = pl.DataFrame([(name, item) for name, ids in VARIABLES.items() for item in ids], schema=["variable", "itemid"], orient="row")
    rows = (
        pl.scan_csv(folder / "icu/chartevents.csv.gz", infer_schema_length=0)
        .select(pl.col("stay_id", "itemid").cast(pl.Int64), pl.col("charttime").str.to_datetime(), pl.col("valuenum").cast(pl.Float64))
        .join(known.lazy(), on="itemid")
        .join(long.lazy(), on="stay_id")
        .with_columns(hours=(pl.col("charttime") - pl.col("intime")).dt.total_minutes() / 60)
        .filter(pl.col("hours").is_between(0, HOURS, closed="left"))
        .select("stay_id", "variable", "hours", value="valuenum")
        .sort("stay_id", "variable", "hours", "value")  # two sources of a pressure are charted at the same minute
        .collect()
    )
    return rows, len(long)


def describe(chart: pl.DataFrame, stays: int, variable: str) -> dict[str, float]:
    """One column of the table. Values outside the 1 and 99% quantiles are left out of spread and memory, so that slips do not rule."""
    rows = chart.filter(pl.col("variable") == variable)
    gaps = rows.select(gap=pl.col("hours").diff().over("stay_id"))["gap"].drop_nulls()
    found = {"missing": 1 - rows["stay_id"].n_unique() / stays, "a day": len(rows) / max(1, rows["stay_id"].n_unique()) / HOURS * 24}
    found["gap"] = gaps.median() if len(gaps) else None
    values = rows.drop_nulls("value")
    if len(values) == 0:
        return found
    low, high = values["value"].quantile(0.01), values["value"].quantile(0.99)
    values = values.filter(pl.col("value").is_between(low, high))
    found |= {f"q{int(100 * q)}": values["value"].quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    hourly = values.group_by("stay_id", pl.col("hours").floor().alias("hour")).agg(pl.col("value").last()).sort("stay_id", "hour")
    centred = hourly.with_columns(pl.col("value") - pl.col("value").mean().over("stay_id"))
    found["sd between"] = values.group_by("stay_id").agg(pl.col("value").mean())["value"].std()
    found["sd within"] = centred["value"].std()
    for lag in (1, 4):
        later = centred.with_columns(pl.col("hour") + lag)
        pairs = centred.join(later, on=["stay_id", "hour"], suffix="_before")
        found[f"r{lag}h"] = pairs.select(pl.corr("value", "value_before")).item() if len(pairs) >= 100 else None
    return found


COLUMNS = {
    "missing": "stays without",
    "a day": "a day",
    "gap": "gap h",
    "q5": "5%",
    "q25": "25%",
    "q50": "50%",
    "q75": "75%",
    "q95": "95%",
    "sd between": "sd between",
    "sd within": "sd within",
    "r1h": "r 1 h",
    "r4h": "r 4 h",
}


def cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{100 * value:.0f}%"
        if name == "missing"
        else f"{value:.2f}"
        if name.startswith(("r", "gap")) or abs(value) < 10
        else f"{value:.1f}"
    )


def tabulate(demo: tuple[pl.DataFrame, int], clinic: tuple[pl.DataFrame, int]) -> list[str]:
    rows = ["| variable | | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for variable in VARIABLES:
        for label, (chart, stays) in (("demo", demo), ("clinic", clinic)):
            found = describe(chart, stays, variable)
            rows.append(f"| {variable if label == 'demo' else ''} | {label} | " + " | ".join(cell(c, found.get(c)) for c in COLUMNS) + " |")
    return rows


def stay_features(chart: pl.DataFrame) -> pl.DataFrame:
    long = chart.group_by("stay_id", "variable").agg(
        n=pl.len().cast(pl.Float64), mean=pl.col("value").mean(), sd=pl.col("value").std(), last=pl.col("value").last()
    )
    wide = long.pivot(on="variable", index="stay_id").sort("stay_id")
    return wide.select("stay_id", *sorted(set(wide.columns) - {"stay_id"}))


def report(raw: Path, data: Path) -> list[str]:
    """The table, and how well a classifier tells stays of the two apart."""
    demo, clinic = read_chart(data / "mimic4demo"), read_chart(raw)
    real, made = stay_features(demo[0]), stay_features(clinic[0])
    made = made.head(len(real)).select(real.columns)
    apart = told_apart(real.drop("stay_id").to_numpy().astype(float), made.drop("stay_id").to_numpy().astype(float))
    told = f"Stays of {HOURS} hours or more, their first {HOURS} hours: demo {demo[1]}, clinic {clinic[1]}."
    return [told, "", *tabulate(demo, clinic), "", f"Stays of the two are told apart with AUROC {apart}."]
