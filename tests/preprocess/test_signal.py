"""Windows of WFDB records: at their times, in their units, of the leads that are asked for, or refused."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from omnifuse.preprocess import signal
from omnifuse.preprocess.schema import ConfigError, Unreadable

wfdb = pytest.importorskip("wfdb", reason='needs pip install "omnifuse[wfdb]"')

STORED = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]  # the order of MIMIC-IV-ECG
MONITOR = {"rate": 100, "seconds": 10, "leads": ["II", "V", "Pleth", "ABP"]}


def wave(hertz: float, rate: float, seconds: float = 10, start: float = 0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * (start + np.arange(round(rate * seconds)) / rate))


def record(folder, name="record", leads=("II",), rate=500, units=None, fmt="16", **options):
    """A record of one sine a lead: 1 Hz for the first, 2 Hz for the second ..., or of `signals`."""
    signals = options.pop("signals", None)
    values = {"p_signal": signals}
    if signals is None:
        values["p_signal"] = np.stack([wave(number + 1, rate) for number in range(len(leads))], axis=1)
    elif np.isnan(signals).all(0).any():  # wfdb finds no gain for what is never there
        digits = np.where(np.isnan(signals), -32768, np.nan_to_num(signals) * 200).astype(np.int64)
        values = {"d_signal": digits, "adc_gain": [200.0] * len(leads), "baseline": [0] * len(leads)}
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    home, _, base = str(folder / name).rpartition("/")
    described = {"units": list(units or ["mV"] * len(leads)), "sig_name": list(leads), "fmt": [fmt] * len(leads)}
    wfdb.wrsamp(base, fs=rate, **values, write_dir=home, **described, **options)
    return folder


def decode(folder, path="record", start=None, length=None, **options) -> np.ndarray:
    told = {**signal.DEFAULTS, **options}
    values = signal.decode(folder, {"path": path, "start_s": start, "length_s": length}, told)
    assert values.dtype == signal.dtype(told) == np.float32
    assert values.shape[1:] == signal.shape(told) and len(values) <= told["rate"] * told["seconds"]
    assert np.isfinite(values).all()
    return values


def refused(folder, path="record", **options) -> str:
    with pytest.raises(Unreadable) as caught:
        decode(folder, path, **options)
    return caught.value.reason


def inner(values: np.ndarray) -> np.ndarray:
    """Without the tenth of a second at either end, where a filter sees less."""
    return values[10:-10]


@pytest.mark.parametrize("path", ["files/p10/s4/4", "files/p10/s4/4.hea"])
def test_leads_come_in_the_order_asked_for(tmp_path, path):
    values = decode(record(tmp_path, "files/p10/s4/4", STORED), path)
    assert values.shape == (1000, 12)
    for at, lead in enumerate(signal.STANDARD_LEADS):
        np.testing.assert_allclose(inner(values[:, at]), inner(wave(STORED.index(lead) + 1, 100)), atol=0.01)


def test_names_of_leads_know_no_case(tmp_path):
    values = decode(record(tmp_path, leads=("avr", "PLETH")), leads=["aVR", "Pleth", "V"])
    assert (np.abs(values).max(0) > 0.9).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "start, length, seconds", [(None, None, 10), (2.5, None, 7.5), (0, 4, 4), (3.3, 4.2, 4.2), (0, 100, 10), (9, None, 1)]
)
def test_a_window_is_where_it_should_be(tmp_path, start, length, seconds):
    values = decode(record(tmp_path, rate=250), start=start, length=length, leads=["II"])
    assert len(values) == round(seconds * 100)
    np.testing.assert_allclose(inner(values[:, 0]), inner(wave(1, 100, seconds, start or 0)), atol=0.02)


def test_a_window_has_no_more_than_its_seconds(tmp_path):
    record(tmp_path, signals=wave(1, 500, 30)[:, None])
    assert decode(tmp_path, leads=["II"]).shape == (1000, 1)
    assert decode(tmp_path, leads=["II"], seconds=2.5, rate=250).shape == (625, 1)


@pytest.mark.parametrize("start", [0, 1.0, 3.21])
@pytest.mark.parametrize("frame_rate", [62.5, 62.4725])
def test_leads_of_different_rates(tmp_path, start, frame_rate):
    """As in MIMIC-IV's waveforms: an ECG with 4 samples a frame beside a pressure with 2, at frames of no whole number of Hz."""
    ecg, pressure = (wave(2, 4 * frame_rate, 20), 90 + 10 * wave(1, 2 * frame_rate, 20))
    frames = len(pressure) // 2
    wfdb.wrsamp(
        *("record", frame_rate, ["mV", "mmHg"], ["II", "ABP"]),
        e_p_signal=[ecg[: 4 * frames], pressure[: 2 * frames]],
        samps_per_frame=[4, 2],
        fmt=["16", "16"],
        write_dir=str(tmp_path),
    )
    values = decode(tmp_path, start=start, **MONITOR)
    assert values.shape == (1000, 4)
    np.testing.assert_allclose(inner(values[:, 0]), inner(wave(2, 100, 10, start)), atol=0.06)  # half a sample of 4 ms at most
    np.testing.assert_allclose(inner(values[:, 3]), inner(90 + 10 * wave(1, 100, 10, start)), atol=0.4)
    assert not values[:, 1:3].any()


def test_what_is_faster_than_the_rate_is_filtered_and_not_folded(tmp_path):
    """80 Hz, taken at 100 Hz, would look like 20 Hz."""
    record(tmp_path, signals=(wave(5, 500) + wave(80, 500))[:, None])
    np.testing.assert_allclose(inner(decode(tmp_path, leads=["II"])[:, 0]), inner(wave(5, 100)), atol=0.05)


@pytest.mark.parametrize("unit, scale", [("mV", 1), ("uV", 1e-3), ("V", 1e3), ("mmHg", 1), ("NU", 1)])
def test_voltages_are_in_millivolts_and_the_rest_as_it_is(tmp_path, unit, scale):
    values = decode(record(tmp_path, units=[unit]), leads=["II"])
    np.testing.assert_allclose(inner(values[:, 0]) / scale, inner(wave(1, 100)), atol=0.01)


def test_a_pressure_has_no_steps_at_its_ends(tmp_path):
    record(tmp_path, signals=np.stack([120 + wave(1, 125), wave(1, 125)], axis=1), rate=125, leads=("ABP", "II"))
    values = decode(tmp_path, leads=["ABP"])[:, 0]
    assert values.min() > 118.5 and values.max() < 121.5


def test_moments_at_which_a_lead_was_off_are_zeros_and_leave_the_rest_alone(tmp_path):
    pressure = 100 + wave(1, 500)
    pressure[2000:3000] = np.nan
    pressure[:50] = np.nan
    values = decode(record(tmp_path, signals=np.stack([pressure, np.full(5000, np.nan)], axis=1), leads=("ABP", "V")), **MONITOR)
    off = values[:, 3] == 0
    assert off.sum() == 200 + 10 and off[400:600].all() and off[:10].all()
    np.testing.assert_allclose(values[15:385, 3], (100 + wave(1, 100))[15:385], atol=0.05)
    assert not values[:, 1].any()


def segments(folder, layout: str) -> None:
    """10 s of II, a gap of 10 s, 10 s of II and V; with a layout header ("variable") or all of II ("fixed")."""
    for number, leads in ((1, ("II",)), (2, ("II", "V") if layout == "variable" else ("II",))):
        record(folder, f"m_000{number}", leads, rate=125, signals=np.stack([number * wave(1, 125)] * len(leads), axis=1))
    if layout == "variable":
        (folder / "m_layout.hea").write_text("m_layout 2 125 0\n~ 0 200/mV 12 0 0 0 0 II\n~ 0 200/mV 12 0 0 0 0 V\n")
        (folder / "m.hea").write_text("m/4 2 125 3750\nm_layout 0\nm_0001 1250\n~ 1250\nm_0002 1250\n")
    else:
        (folder / "m.hea").write_text("m/2 1 125 2500\nm_0001 1250\nm_0002 1250\n")


@pytest.mark.parametrize(
    "start, leads, peaks, off",
    [
        (0, ["II"], [1], [0]),
        (5, ["II"], [1], [0.5]),
        (15, ["II", "V"], [2, 2], [0.5, 0.5]),
        (20, ["V", "II"], [2, 2], [0, 0]),
        (5, ["V", "II"], [0, 1], [1, 0.5]),
    ],
)
def test_a_record_in_segments(tmp_path, start, leads, peaks, off):
    segments(tmp_path, "variable")
    values = decode(tmp_path, "m", start=start, leads=leads)
    np.testing.assert_allclose(np.abs(values).max(0), peaks, atol=0.02)
    np.testing.assert_allclose((values == 0).mean(0), off, atol=0.011)


def test_a_record_in_segments_of_one_layout(tmp_path):
    segments(tmp_path, "fixed")
    values = decode(tmp_path, "m", start=5, leads=["II"])[:, 0]
    np.testing.assert_allclose([np.abs(values[:480]).max(), np.abs(values[520:]).max()], [1, 2], atol=0.02)


def test_a_window_without_a_lead_of_its_segments_is_refused(tmp_path):
    segments(tmp_path, "variable")
    assert refused(tmp_path, "m", start=10, leads=["II"]) == "flat or off throughout"
    assert refused(tmp_path, "m", start=0, length=10, leads=["V"]) == "flat or off throughout"


@pytest.mark.parametrize(
    "leads, signals, window, expected",
    [
        (("EEG",), None, {}, "none of the leads"),
        (("II",), np.zeros((5000, 1)), {}, "flat or off throughout"),
        (("II",), np.full((5000, 1), 3.0), {}, "flat or off throughout"),
        (("II",), np.full((5000, 1), np.nan), {}, "flat or off throughout"),
        (("II",), None, {"start": 10}, "the window is outside of the record"),
        (("II",), None, {"start": -1}, "the window is outside of the record"),
        (("II",), None, {"start": 9.5}, "shorter than one second"),
        (("II",), None, {"length": 0.5}, "shorter than one second"),
    ],
)
def test_what_holds_no_signal_is_refused(tmp_path, leads, signals, window, expected):
    options = {} if signals is None else {"signals": signals}
    assert refused(record(tmp_path, leads=leads, **options), **window) == expected


def test_one_flat_lead_does_not_cost_the_record(tmp_path):
    record(tmp_path, leads=("I", "II"), signals=np.stack([np.zeros(5000), wave(1, 500)], axis=1))
    assert (np.abs(decode(tmp_path)).max(0) > 0.5).sum() == 1


@pytest.mark.parametrize(
    "header, expected",
    [
        ("record 1 500 5000\n../outside.dat 16 200/mV 16 0 0 0 0 II\n", "cannot be decoded"),
        ("record 1 500 5000\n/etc/passwd 16 200/mV 16 0 0 0 0 II\n", "cannot be decoded"),
        ("record 1 500 5000\nlink.dat 16 200/mV 16 0 0 0 0 II\n", "the path leaves the data folder through a link"),
        ("record 1 500 5000\nnone.dat 16 200/mV 16 0 0 0 0 II\n", "no such file"),
        ("record/2 1 500 5000\n../outside 2500\n../outside 2500\n", "cannot be decoded"),
        ("record/1 1 500 5000\nx::https://example.org/a 5000\n", "cannot be decoded"),
        ("record/1 1 500 5000\nrecord 5000\n", "segments within segments"),
        ("record 1 500 500000000000\nrecord.dat 16 200/mV 16 0 0 0 0 II\n", "cannot be decoded"),
        ("record 1 90000000000000 5000000000000000\nrecord.dat 16 200/mV 16 0 0 0 0 II\n", "more samples than a window can have"),
        ("record 1 500\nrecord.dat 16 200/mV 16 0 0 0 0 II\n", "the header tells no length or no sampling rate"),
        ("record 1 0 5000\nrecord.dat 16 200/mV 16 0 0 0 0 II\n", "the header tells no length or no sampling rate"),
        ("", "cannot be decoded"),
        ("# only a comment\n", "cannot be decoded"),
        ("x" * 2**23, "the header is too large"),
    ],
)
def test_a_header_is_not_trusted(tmp_path, header, expected):
    record(tmp_path, "outside")
    record(tmp_path, "root/record")
    (tmp_path / "root/link.dat").symlink_to(tmp_path / "outside.dat")
    (tmp_path / "root/record.hea").write_text(header)
    window = {"start": 9.99e8} if "500000000000\n" in header else {}
    assert refused(tmp_path / "root", **window) == expected


@pytest.mark.parametrize("path", ["../record", "/record", "https://example.org/record", "a::b", "none", ""])
def test_a_path_is_not_trusted(tmp_path, path):
    (tmp_path / "root").mkdir()
    record(tmp_path)
    assert refused(tmp_path / "root", path) in {"the path leaves the data folder", "no such file"}


def test_a_cut_record_is_refused(tmp_path):
    record(tmp_path)
    (tmp_path / "record.dat").write_bytes((tmp_path / "record.dat").read_bytes()[:4000])
    assert refused(tmp_path) == "cannot be decoded"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": 99.5},
        {"seconds": 0.5},
        {"seconds": "10"},
        {"leads": []},
        {"leads": "II"},
        {"leads": ["II", "ii"]},
        {"seconds": 86000, "rate": 999},
    ],
)
def test_a_setting_that_cannot_be_is_no_fault_of_a_record(tmp_path, wrong):
    with pytest.raises(ConfigError):
        decode(record(tmp_path), **wrong)


def test_without_wfdb_the_fix_is_told(tmp_path):
    code = (
        "import sys; sys.modules['wfdb'] = None\n"
        "from omnifuse.preprocess import signal\n"
        "try: signal.decode('.', {'path': 'a'}, signal.DEFAULTS)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert told == 'ConfigError signals need wfdb (pip install "omnifuse[wfdb]")\n'


@settings(max_examples=80, deadline=5000, suppress_health_check=list(HealthCheck))
@given(strategies.data())
def test_bytes_at_random_never_raise_anything_else(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    if not folder.exists():
        record(folder, "whole", STORED)
    header = bytearray((folder / "whole.hea").read_bytes())
    for _ in range(data.draw(strategies.integers(0, 6))):
        header[data.draw(strategies.integers(0, len(header) - 1))] = data.draw(strategies.sampled_from(b"0123456789./-~ \n#ax\xff"))
    (folder / "record.hea").write_bytes(header[: data.draw(strategies.integers(0, len(header)) | strategies.just(len(header)))])
    try:
        decode(folder)
    except Unreadable as error:
        assert len(error.reason) < 60
