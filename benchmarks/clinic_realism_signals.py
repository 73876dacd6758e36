"""Electrocardiograms of the clinic against what textbooks state and what was designed. No real record is compared: none is open here.

Adults at rest: 60 to 100 beats a minute, QRS below 120 ms, PR 120 to 200 ms (Surawicz et al. 2009, AHA/ACCF/HRS recommendations, part
III). The designed figures stand in preprocess/clinic/ecg.py. Times are read off the median beat of lead II at 100 Hz: right to 10 ms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from clinic_realism_apart import spread
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

STEEP, RISEN = 0.05, 0.15  # of the steepest slope: where QRS starts and ends; of the height of the P wave: where that starts
RECORDS = 300
ROWS = (  # name, statistic, form, textbook, design
    ("heart rate, beats a minute", "rate", ".0f", "60 to 100", "86 + 13 x token"),
    ("sd of the interval from beat to beat, ms", "jitter", ".0f", "", "2% of the interval"),
    ("QRS, ms", "qrs", ".0f", "below 120", "Q and S waves 35 ms from R"),
    ("PR, ms", "pr", ".0f", "120 to 200", "P wave 180 ms before R"),
    ("R wave of lead II, mV", "r", ".2f", "", "1.0, by patient"),
    ("noise of lead II, mV (sd)", "noise", ".3f", "", "0.02 x quality"),
    ("wander of the baseline of lead II, mV (sd)", "wander", ".3f", "", "0.08 x quality x a sine"),
)


def read_record(path: Path) -> tuple[np.ndarray, int]:
    """[T, 12] millivolt and the rate, of a record of format 16."""
    lines = path.with_suffix(".hea").read_text(encoding="ascii").splitlines()
    gain = float(lines[1].split()[2].split("(")[0])
    return np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12) / gain, int(lines[0].split()[2])


def measure(lead: np.ndarray, hertz: int) -> dict[str, float] | None:
    """Of lead II in millivolt; None where fewer than four beats are found."""
    wander = gaussian_filter1d(lead, 0.6 * hertz)
    flat = lead - wander
    peaks, _ = find_peaks(flat, height=0.5 * np.quantile(flat, 0.995), distance=int(0.3 * hertz))
    peaks = peaks[(peaks > 0.35 * hertz) & (peaks < len(lead) - 0.45 * hertz)]
    if len(peaks) < 4:
        return None
    gaps = np.diff(peaks) / hertz
    before = int(0.3 * hertz)
    beats = np.stack([flat[p - before : p + int(0.4 * hertz)] for p in peaks])
    beat = np.median(beats, 0)
    start, end = qrs_of(beat, before, hertz)
    fine = np.diff(lead, 2)
    return {
        "rate": 60 / np.median(gaps), "jitter": 1000 * np.std(gaps), "qrs": 1000 * (end - start) / hertz,
        "pr": 1000 * (start - p_start(beat, start, hertz)) / hertz, "r": beat[before],
        "noise": np.median(np.abs(fine)) / 0.6745 / np.sqrt(6), "wander": wander.std(),
    }  # fmt: skip


def qrs_of(beat: np.ndarray, at: int, hertz: int) -> tuple[int, int]:
    """First and last sample around the R wave where the line is steep."""
    slope = np.abs(np.gradient(beat))
    near = np.zeros(len(beat), bool)
    near[at - int(0.09 * hertz) : at + int(0.09 * hertz) + 1] = True
    steep = np.flatnonzero(near & (slope > STEEP * slope[near].max()))
    return int(steep[0]), int(steep[-1])


def p_start(beat: np.ndarray, qrs: int, hertz: int) -> int:
    """Where the highest wave of the 200 ms before QRS begins to rise."""
    first = max(0, qrs - int(0.2 * hertz))
    top = first + int(beat[first : qrs - int(0.03 * hertz)].argmax())
    foot = beat[max(0, top - int(0.08 * hertz)) : top + 1].min()
    low = np.flatnonzero(beat[: top + 1] <= foot + RISEN * (beat[top] - foot))
    return int(low[-1])


def report(raw: Path) -> list[str]:
    listed = pl.read_csv(raw / "ecg/record_list.csv")
    found, lost = [], 0
    for path in listed["path"].head(RECORDS):
        millivolt, hertz = read_record(raw / "ecg" / path)
        told = measure(millivolt[:, 1], hertz)
        found.append(told) if told else (lost := lost + 1)
    rows = ["| | textbook, at rest | designed | clinic, measured |", "|---|---|---|---|"]
    rows += [f"| {name} | {book} | {plan} | {spread([one[key] for one in found], form)} |" for name, key, form, book, plan in ROWS]
    head = f"{len(found) + lost} records, {lost} of them without four beats in lead II (lost leads). No real record was compared."
    return [head, "", *rows]
