"""Signals: a window of a WFDB record (ECG, or the waveforms of a bedside monitor) to [T, leads].

- Each lead is read at its own sampling rate and resampled to `rate` by scipy's polyphase filter. A window has `seconds`, or what the item
  or the record has of it, at least one second.
- Units stay physical, voltages in mV: a normalisation per record would take away what voltages tell (hypertrophy, low voltage, paced
  beats), and blood pressures in mmHg are features by themselves. Encoders scale.
- Leads are found by name, in upper or lower case. An absent lead is zeros; so are the moments at which a lead was off (WFDB's invalid
  samples), which are bridged before the filter, or it would smear them. A record that is flat, or off, in every lead is Unreadable.

Works for MIMIC-IV-ECG (10 s, 500 Hz, 12 leads) and, with `leads` such as II, V, Pleth, ABP, for the segmented records of the MIMIC-III and
MIMIC-IV waveform databases. Needs wfdb: `pip install "omnifuse[wfdb]"`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from omnifuse.preprocess.inside import inside
from omnifuse.preprocess.schema import ConfigError, OmnifuseError, Unreadable

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
DEFAULTS: dict[str, Any] = {"rate": 100, "seconds": 10, "leads": list(STANDARD_LEADS)}
MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6}
HEADER_BYTES = 2**22
SAMPLES = 2**26
NO_FILE = "~"


def shape(settings: dict[str, Any]) -> tuple[int]:
    """[leads] of a moment.

    Raises:
        ConfigError: a setting that no signal can have.
    """
    rate, seconds, leads = settings["rate"], settings["seconds"], settings["leads"]
    if type(rate) is not int or not 1 <= rate <= 10_000:
        raise ConfigError("rate of a signal must be a whole number of Hz, from 1 to 10000")
    if type(seconds) not in (int, float) or not 1 <= seconds <= 86_400:
        raise ConfigError("seconds of a signal must be from 1 to 86400")
    if not leads or isinstance(leads, str) or len({str(lead).lower() for lead in leads}) < len(leads):
        raise ConfigError("leads of a signal must be a list of different names")
    if rate * seconds * len(leads) > SAMPLES:
        raise ConfigError("a signal cannot have more than 67 million samples", hint="lower its rate or its seconds")
    return (len(leads),)


def dtype(settings: dict[str, Any]) -> np.dtype:
    return np.dtype(np.float32)


def decode(root: Path, item: dict[str, Any], settings: dict[str, Any]) -> np.ndarray:
    """One window of a record.

    Args:
        item: `path` of the record below root, with or without `.hea`; `start_s` and `length_s`, null for the begin and the end.
        settings: see DEFAULTS.

    Shapes: [T, leads] float32, T = rate * seconds or less.

    Missing data: zeros where a lead is absent or off.

    Raises:
        ConfigError: wfdb is not installed, or a setting cannot be.
        Unreadable: see inside.py; no lead that is asked for, a window outside of the record or below one second, flat or off throughout.
    """
    shape(settings)
    try:
        import wfdb  # noqa: F401
    except ImportError:
        raise ConfigError("signals need wfdb", hint='pip install "omnifuse[wfdb]"') from None
    try:
        return _window(Path(root), item, settings)
    except (Unreadable, OmnifuseError, MemoryError):
        raise
    except Exception:  # wfdb's parsers raise whatever a broken header leads them to
        raise Unreadable("cannot be decoded") from None


def _window(root: Path, item: dict[str, Any], settings: dict[str, Any]) -> np.ndarray:
    import wfdb

    name = item["path"].removesuffix(".hea")
    header = _header(root, name)
    start, seconds = _span(header, item, settings["seconds"])
    first, last = int(start * header.fs), min(math.ceil((start + seconds) * header.fs), header.sig_len)
    names = _check_files(root, name, header, first, last)
    found = {lead.lower(): lead for lead in reversed(names) if lead}
    wanted = [found[lead.lower()] for lead in settings["leads"] if lead.lower() in found]
    if not wanted:
        raise Unreadable("none of the leads")
    record = wfdb.rdrecord(str(root.resolve() / name), sampfrom=first, sampto=last, channel_names=wanted, smooth_frames=False)
    signal = np.zeros((round(seconds * settings["rate"]), len(settings["leads"])), dtype=np.float32)
    alive = False
    for at, lead in enumerate(settings["leads"]):
        if (stored := found.get(lead.lower())) not in (record.sig_name or ()):
            continue
        channel = record.sig_name.index(stored)
        frame = record.samps_per_frame[channel]
        values = record.e_p_signal[channel][round((start * header.fs - first) * frame) :]
        values = values * MILLIVOLTS.get((record.units[channel] or "").lower(), 1.0)
        signal[:, at] = _resampled(values, header.fs * frame, settings["rate"], len(signal))
        alive |= np.unique(values[np.isfinite(values)]).size > 1
    if not alive:
        raise Unreadable("flat or off throughout")
    if not np.isfinite(signal).all():
        raise Unreadable("values that are not finite")
    return signal


def _header(root: Path, name: str) -> Any:
    """A header below root, of a record or of its segments."""
    import wfdb

    # wfdb opens what looks like a web address, or a chain of them, over the network.
    if "::" in name or "://" in name:
        raise Unreadable("the path leaves the data folder")
    if inside(root, f"{name}.hea").stat().st_size > HEADER_BYTES:
        raise Unreadable("the header is too large")
    return wfdb.rdheader(str(root.resolve() / name))


def _span(header: Any, item: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Begin and length of the window, in seconds."""
    if not header.sig_len or not header.fs or header.fs <= 0:
        raise Unreadable("the header tells no length or no sampling rate")
    whole = header.sig_len / header.fs
    start, length = item.get("start_s") or 0.0, item.get("length_s")
    if not 0 <= start < whole:
        raise Unreadable("the window is outside of the record")
    seconds = min(seconds, whole - start, seconds if length is None else length)
    if seconds < 1:
        raise Unreadable("shorter than one second")
    return start, seconds


def _check_files(root: Path, name: str, header: Any, first: int, last: int) -> list[str]:
    """The names of the leads, once every file that holds a part of the window was found to be below root."""
    folder = name.rpartition("/")[0]
    folder = f"{folder}/" if folder else ""
    if not hasattr(header, "seg_name"):
        for file in {file for file in header.file_name or () if file != NO_FILE}:
            inside(root, folder + file)
        if (last - first) * sum(header.samps_per_frame or ()) > SAMPLES:
            raise Unreadable("more samples than a window can have")
        return header.sig_name or []
    names, start = [], 0
    for segment, length in zip(header.seg_name, header.seg_len):
        # The first segment of a record of variable layout has no length: it lists the leads.
        if segment != NO_FILE and (not length or (start < last and start + length > first)):
            part = _header(root, folder + segment)
            if hasattr(part, "seg_name"):
                raise Unreadable("segments within segments")
            names += _check_files(root, folder + segment, part, max(first, start), min(last, start + length))
        start += length
    return list(dict.fromkeys(names))


def _resampled(values: np.ndarray, stored_rate: float, rate: int, rows: int) -> np.ndarray:
    """[rows] at `rate`; 0 where nothing was stored."""
    from scipy.signal import resample_poly

    there = np.isfinite(values)
    if not there.any():
        return np.zeros(rows)
    if not there.all():
        places = np.arange(len(values))
        values = np.interp(places, places[there], values[there])
    ratio = Fraction(rate / stored_rate).limit_denominator(1000)
    if ratio != 1:
        # "line": the filter sees no step at the ends, though a pressure does not start at 0.
        values = resample_poly(values, ratio.numerator, ratio.denominator, padtype="line")
    values = np.pad(values[:rows], (0, max(rows - len(values), 0)), mode="edge")
    nearest = np.minimum(np.rint(np.arange(rows) * stored_rate / rate).astype(np.int64), len(there) - 1)
    return np.where(there[nearest], values, 0.0)
