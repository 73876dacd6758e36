"""Whether the clinic's renderers keep the signal: simple probes on the rendered files against the ceilings of what they were drawn from.

    python benchmarks/clinic_probes.py --raw RAW        RAW from `omnifuse demo --raw RAW`, its truth beside it

prints, for films, reports and signals, the cross-validated AUROC of logistic regression on known statistics of the pixels, words and
samples, and the ceiling on the same stays. Both are expected over the coin of the outcome, standard error by patient.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter1d
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omnifuse.preprocess.clinic import templates
from omnifuse.preprocess.clinic.generate import truth_path
from omnifuse.preprocess.clinic.outcome import auroc_with_error

FOLDS = 10
HOURS = 48


def film_statistics(path: Path) -> np.ndarray:
    """Width of the heart between its edges, extent of fine lines in the upper lungs, fluid at either base, noise."""
    with Image.open(path) as image:
        grey = np.asarray(image.resize((96, 96)), float)
    smooth = gaussian_filter(grey, 1)
    row = smooth[50:66].mean(0)
    edges = []
    for columns in (range(46, 5, -1), range(53, 91)):
        half = 0.5 * (row[46:54].max() + row[list(columns)[6:30]].min())
        edges.append(next((c for c in columns if row[c] <= half), columns[-1]))
    fine = (gaussian_filter(grey, 0.8) - gaussian_filter(grey, 2.5)) / grey[:, 20:-20].std()
    energy = np.sqrt(gaussian_filter(fine**2, 2.0))[16:56]
    energy = np.concatenate([energy[:, 15:37], energy[:, 59:81]])
    extent = [(energy > limit).mean() for limit in (0.1, 0.13, 0.16, 0.2, 0.25)]
    belly = smooth[88:94, 30:66].mean()
    base = sorted(smooth[55:78, a:b].mean() - belly for a, b in ((14, 22), (-22, -14)))
    contrast = smooth[50:66, 46:54].mean() - smooth[20:40, 20:30].mean()
    noise = np.log((grey - gaussian_filter(grey, 0.7)).var())
    main = np.array([edges[1] - edges[0], extent[2], extent[3], base[1], base[1] - base[0]])
    return np.array([*main, *(main * noise), *extent, np.median(energy), *base, contrast, noise])


def signal_statistics(path: Path) -> np.ndarray:
    """Beats in ten seconds, and level of the ST segment against the line before the P wave, by lead."""
    hertz = int((path.with_suffix(".hea")).read_text().split()[2])
    millivolt = np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12) / 200
    millivolt = millivolt - uniform_filter1d(millivolt, 2 * hertz, axis=0)
    slope = np.abs(np.diff(millivolt, axis=0)).sum(1)
    slope = gaussian_filter(slope, 0.02 * hertz)
    peaks = [
        i
        for i in range(hertz // 4, len(slope) - hertz // 2)
        if slope[i] == slope[i - hertz // 5 : i + hertz // 5].max() and slope[i] > 0.4 * slope.max()
    ]
    if len(peaks) < 4:
        return np.zeros(2 + 12)
    gap = np.median(np.diff(peaks)) / hertz
    beats = np.stack([millivolt[i - hertz // 4 : i + hertz // 2] for i in peaks])
    start = hertz // 4
    level = beats[:, start + round(0.10 * hertz) : start + round(0.17 * hertz)].mean((0, 1)) - beats[
        :, start - round(0.10 * hertz) : start - round(0.06 * hertz)
    ].mean((0, 1))
    return np.array([60 / gap, np.log(np.diff(millivolt, axis=0).var()), *level])


def statement_patterns() -> list[list[str]]:
    """Sentences of the three families by what they state: effusion yes, no, possible; the report's finding likewise; four grades."""
    pools = (templates.EFFUSION, templates.OWN_HEDGED, templates.OWN_STATED)
    found = [[line for family in pool for line in family[answer]] for pool in pools for answer in range(3)]
    for now in templates.GRADE_WORDS:
        easy = [line.format(now) for family in templates.GRADE_EASY for line in family]
        hard = [line.format(old, now) for family in templates.GRADE_HARD for line in family for old in templates.GRADE_WORDS]
        found.append(easy + hard)
    return found


def report_statistics(texts: list[str], patterns: list[list[str]]) -> np.ndarray:
    """Share of a stay's reports that state each thing, what the last one states, and how many there are."""
    plain = [" ".join(text.split()) for text in texts]
    said = np.array([[any(line in text for line in lines) for lines in patterns] for text in plain], float)
    return np.array([*said.mean(0), *said[-1], np.log(len(texts))])


def scored(features, known: pl.DataFrame, probe) -> tuple[float, float]:
    """Cross-validated AUROC of a probe, by patient."""
    guess = cross_val_predict(
        probe, features, known["died"].to_numpy(), groups=known["patient"].to_numpy(), cv=GroupKFold(FOLDS), method="predict_proba"
    )
    return auroc_with_error(guess[:, 1], known["p_latent"].to_numpy(), known["patient"].to_numpy())


def last_films(raw: Path, icu: pl.DataFrame) -> pl.DataFrame:
    """stay_id and file of the last AP film of each stay."""
    clock = pl.col("StudyTime").cast(pl.Int64).cast(pl.String).str.zfill(6)
    films = pl.read_csv(raw / "cxr/mimic-cxr-2.0.0-metadata.csv.gz").filter(pl.col("ViewPosition") == "AP")
    films = films.with_columns(time=(pl.col("StudyDate").cast(pl.String) + clock).str.to_datetime("%Y%m%d%H%M%S"))
    return within(films, icu).sort("time").group_by("stay_id").last()


def within(rows: pl.DataFrame, icu: pl.DataFrame) -> pl.DataFrame:
    joined = rows.join(icu, on="subject_id")
    return joined.filter((pl.col("time") >= pl.col("intime")) & (pl.col("time") < pl.col("intime") + pl.duration(hours=HOURS)))


def times(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame.with_columns(time=pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--raw", type=Path, required=True)
    raw = parser.parse_args().raw
    truth = truth_path(raw)
    oracle = pl.read_parquet(truth / "stays.parquet").select("stay_id", "p_latent")
    known = pl.read_parquet(truth / "ceilings.parquet").join(oracle, on="stay_id")
    icu = (
        times(pl.read_csv(raw / "icu/icustays.csv.gz").select("subject_id", "stay_id", "intime"), "intime")
        .drop("time")
        .with_columns(pl.col("intime").str.to_datetime("%Y-%m-%d %H:%M:%S"))
    )
    icu = icu.filter(pl.col("stay_id").is_in(known["stay_id"].implode()))
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    print("| modality | stays | probe | ceiling |\n|---|---|---|---|")

    films = known.join(last_films(raw, icu).select("stay_id", "subject_id", "study_id", "dicom_id"), on="stay_id")
    paths = [raw / f"cxr/files/p{str(p)[:2]}/p{p}/s{s}/{d}.jpg" for p, s, d in films.select("subject_id", "study_id", "dicom_id").rows()]
    report("film, last AP", films, np.array([film_statistics(path) for path in paths]), linear, "p_cxr_last")

    notes = pl.read_csv(raw / "note/radiology.csv.gz").filter(pl.col("text").str.contains("CHEST"))
    notes = within(times(notes, "charttime"), icu).sort("time").group_by("stay_id").agg(pl.col("text"))
    texts = known.join(notes, on="stay_id")
    documents = [" ".join(one) for one in texts["text"].to_list()]
    counts = CountVectorizer(min_df=5).fit_transform(documents).tocsr()
    report("reports, bag of words", texts, counts, LogisticRegression(C=0.05, max_iter=3000), "p_rep")
    patterns = statement_patterns()
    stated = np.array([report_statistics(one, patterns) for one in texts["text"].to_list()])
    report("reports, sentences", texts, stated, linear, "p_rep")

    records = within(times(pl.read_csv(raw / "ecg/record_list.csv"), "ecg_time"), icu).sort("time")
    statistics = np.array([signal_statistics(raw / "ecg" / path) for path in records["path"]])
    means = pl.DataFrame(statistics, schema=[f"s{i}" for i in range(statistics.shape[1])]).with_columns(stay_id=records["stay_id"])
    means = means.group_by("stay_id").mean()
    signals = known.join(means, on="stay_id")
    report(
        "signals",
        signals,
        signals.select(pl.selectors.starts_with("s") & ~pl.selectors.by_name("stay_id", "subject_id")).to_numpy(),
        linear,
        "p_sig",
    )


def report(name: str, known: pl.DataFrame, features, probe, ceiling: str) -> None:
    found, top = scored(features, known, probe), auroc_with_error(*(known[c].to_numpy() for c in (ceiling, "p_latent", "patient")))
    print(f"| {name} | {len(known)} | {found[0]:.3f} +- {found[1]:.3f} | {top[0]:.3f} +- {top[1]:.3f} |")


if __name__ == "__main__":
    main()
