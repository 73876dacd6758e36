"""The encoder of averaged beats: what it measures on signals whose beats are known, and that it learns from few of them."""

import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from torch import nn

from omnifuse.models.encoders import beats
from omnifuse.models.encoders.beats import FIRST, LEVEL, POINTS, RHYTHM, STEP, Beats, averaged_beat

OFFSETS = FIRST + STEP * torch.arange(POINTS)
LEADS = torch.tensor([1.0, 0.6, -0.8])


def wave(time, st=0.0):
    """[..., 3] mV at so many seconds from the R wave: P, R, a lifted ST segment in the second lead, T."""
    bump = lambda middle, width: torch.exp(-0.5 * ((time - middle) / width) ** 2)
    shape = (0.1 * bump(-0.18, 0.025) + bump(0.0, 0.02) + 0.3 * bump(0.28, 0.05))[..., None] * LEADS
    lifted = torch.sigmoid((time - 0.07) / 0.008) - torch.sigmoid((time - 0.2) / 0.02)
    return shape + st * lifted[..., None] * torch.tensor([0.0, 1.0, 0.0])


def record(bpm=75.0, hertz=100, seconds=10.0, st=0.0, noise=0.02, jitter=0.02, seed=0):
    """[T, 3] mV."""
    draw = torch.Generator().manual_seed(seed)
    gaps = 60 / bpm * (1 + jitter * torch.randn(int(seconds * bpm / 60) + 6, generator=draw))
    places = torch.rand((), generator=draw) * 60 / bpm - 120 / bpm + gaps.cumsum(0)
    time = torch.arange(round(seconds * hertz)) / hertz
    signal = wave(time[:, None] - places, st).sum(1)
    return signal + noise * torch.randn(signal.shape, generator=draw)


def expected(bpm, st=0.0):
    """[3, POINTS]: of one beat with its neighbours, less its level."""
    beat = wave(OFFSETS[:, None] - torch.arange(-3, 4) * 60 / bpm, st).sum(1)
    time, (first, last) = OFFSETS, LEVEL
    return (beat - beat[(time >= first) & (time <= last)].mean(0)).T


def measured(signal, hertz=100, mask=None):
    """The averaged beat [L, POINTS] and the rhythm [RHYTHM] of one record."""
    mask = torch.ones(len(signal), dtype=torch.bool) if mask is None else mask
    beat, rhythm = averaged_beat(signal[None], mask[None], hertz)
    return beat[0], rhythm[0]


def bpm_of(rhythm):
    return float(rhythm[..., 0] * 20 + 80)


@pytest.mark.parametrize("hertz", [80, 100, 250, 500])
@pytest.mark.parametrize("bpm", [41, 73, 110, 160])
def test_the_beat_and_the_rate_of_a_known_train_are_recovered(hertz, bpm):
    beat, rhythm = measured(record(bpm, hertz, st=-0.1, jitter=0.005), hertz)
    away, gap = (beat - expected(bpm, -0.1)).abs(), 60 / bpm
    steep = ((OFFSETS + gap / 2) % gap - gap / 2).abs() < 0.08  # R waves, of neighbours too: of 30 mV a second
    assert away[:, ~steep].max() < 0.05 and away[:, OFFSETS.abs() < 0.06].max() < (0.06 if bpm < 160 else 0.2)
    assert away[:, (OFFSETS > 0.09) & (OFFSETS < 0.16)].mean() < 0.015  # of the segment, whose tenth of a millivolt matters
    assert abs(bpm_of(rhythm) - bpm) < 0.01 * bpm and rhythm[2] == 1


def test_the_rate_of_a_patients_record_is_what_the_electrocardiograph_says():
    """Ten seconds of twelve leads at 1000 Hz that come with pydicom, and the RR interval that the machine wrote beside them."""
    told = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    millivolt = torch.from_numpy(told.waveform_array(0)).float() / 1000
    written = [one for one in told.WaveformAnnotationSequence if "NumericValue" in one]
    interval = next(float(one.NumericValue) for one in written if one.ConceptNameCodeSequence[0].CodeMeaning == "RR Interval")
    assert abs(bpm_of(measured(millivolt, 1000)[1]) - 60_000 / interval) < 0.3


def test_what_the_rhythm_tells_rises_with_what_it_names():
    spread, likeness, noise, height = ([measured(one)[1][at] for one in records] for at, records in (
        (1, [record(jitter=jitter) for jitter in (0.0, 0.05, 0.2)]),
        (3, [record(noise=level) for level in (0.3, 0.1, 0.02)]),
        (4, [record(noise=level) for level in (0.005, 0.02, 0.1)]),
        (5, [record(noise=0.0) * size for size in (0.3, 1.0, 2.0)]),
    ))  # fmt: skip
    for told in (spread, likeness, noise, height):
        assert told[0] + 0.02 < told[1] and told[1] + 0.02 < told[2]


def test_a_pulse_and_an_early_beat_change_little():
    signal = record(st=-0.1)
    plain, rhythm = measured(signal)
    pulse = signal.clone()
    pulse[:20] = 3.0
    broad = torch.exp(-0.5 * ((torch.arange(1000) - 520) / 5.0) ** 2)[:, None] * torch.tensor([-1.5, 1.0, 1.5])
    for spoilt in (pulse, signal + broad):
        beat, other = measured(spoilt)
        assert (beat - plain).abs().max() < 0.1 and (beat - plain)[:, 39:46].abs().mean() < 0.02
        assert abs(bpm_of(other) - bpm_of(rhythm)) < 3


def test_a_pulse_between_beats_is_none():
    signal = record()
    _, rhythm = measured(signal)
    between = 300 + int(signal[300:500, 0].argmax()) + 42
    signal[between : between + 5] = 10.0
    _, other = measured(signal)
    assert abs(other[1] - rhythm[1]) < 0.3 and abs(bpm_of(other) - bpm_of(rhythm)) < 1


def test_a_split_beat_is_one():
    signal = record()
    _, rhythm = measured(signal)
    _, other = measured(signal + 0.6 * signal.roll(16, 0))
    assert abs(other[1] - rhythm[1]) < 0.3 and abs(bpm_of(other) - bpm_of(rhythm)) < 1


def test_a_level_of_a_lead_and_a_later_start_change_nothing():
    signal = record()
    plain, rhythm = measured(signal)
    beat, other = measured(signal + torch.tensor([0.5, -2.0, 1.0]))
    torch.testing.assert_close(beat, plain, atol=1e-3, rtol=0)
    torch.testing.assert_close(other, rhythm, atol=1e-2, rtol=0)
    assert (measured(signal[137:])[0] - plain).abs().max() < 0.02


def test_what_is_missing_in_the_middle_is_no_part_of_a_beat():
    signal, mask = record(seconds=20, st=-0.1), torch.ones(2000, dtype=torch.bool)
    mask[600:970] = False
    spoilt = signal.masked_fill(~mask[:, None], float("nan"))
    beat, rhythm = measured(spoilt, mask=mask)
    whole, plain = measured(signal)
    assert (beat - whole).abs().max() < 0.03 and abs(bpm_of(rhythm) - bpm_of(plain)) < 2


@pytest.mark.parametrize("low", [False, True])
def test_neither_padding_nor_company_nor_sixteen_bits_change_what_is_measured(low):
    one, other = record(seconds=5, seed=1), record(bpm=130, seconds=9, seed=2)
    values = torch.full((3, 1100, 3), float("nan"))
    mask = torch.zeros(3, 1100, dtype=torch.bool)
    for at, signal in ((0, one), (2, other)):
        values[at, : len(signal)], mask[at, : len(signal)] = signal, True
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        beat, rhythm = averaged_beat(values, mask, 100)
    for at, signal in ((0, one), (2, other)):
        alone = measured(signal)
        torch.testing.assert_close(beat[at], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rhythm[at], alone[1], atol=1e-4, rtol=1e-4)
    assert not beat[1].any() and rhythm[1, 2] == 0


def nothing():
    draw = torch.Generator().manual_seed(0)
    return {
        "zeros": torch.zeros(1000, 3),
        "a level": torch.full((1000, 3), 1.2),
        "noise": torch.randn(1000, 3, generator=draw),
        "a slow wave in other units": 80 + 40 * torch.sin(torch.arange(1000.0) / 20)[:, None].expand(-1, 3),
        "a steep step": torch.cat([torch.zeros(500, 3), torch.full((500, 3), 1e4)]),
        "one moment": torch.ones(1, 3),
        "two moments": torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
        "a fifth of a second": torch.randn(20, 3, generator=draw),
    }


@pytest.mark.parametrize("name", nothing())
@pytest.mark.parametrize("masked", [False, True])
def test_a_record_without_beats_has_a_finite_embedding_and_gradient(name, masked):
    values = nothing()[name][None].requires_grad_()
    mask = torch.full(values.shape[:2], not masked)
    encoder = Beats(3).train()
    encoded = encoder(values, mask, torch.tensor([3]))
    assert torch.isfinite(encoded.pooled).all() and torch.isfinite(encoded.tokens).all()
    encoded.pooled.square().sum().backward()
    assert torch.isfinite(values.grad).all() and all(torch.isfinite(p.grad).all() for p in encoder.parameters())
    beat, rhythm = averaged_beat(values.detach(), mask, 100)
    if masked or name in ("zeros", "a level", "one moment"):
        assert not beat.any() and not rhythm[0, :3].any() and rhythm[0, 3] == -1


def test_tokens_are_moments_of_the_averaged_beat():
    encoder = Beats(3, width=8, levels=3).eval()
    encoded = encoder(record()[None], torch.ones(1, 1000, dtype=torch.bool))
    assert [level.shape for level, _ in encoded.levels] == [(1, 40, 8), (1, 20, 8), (1, 10, 8)]
    assert torch.equal(encoded.tokens, encoded.levels[-1][0]) and encoded.mask.all()
    assert encoder.bare().dim == 80 + RHYTHM


@pytest.mark.parametrize("told", ["segment", "rate"])
def test_it_learns_from_a_hundred_records(told):
    """A tenth of a millivolt of one lead's ST segment, or ten beats a minute; size and noise vary without meaning."""
    torch.manual_seed(0)
    draw, label = torch.Generator().manual_seed(1), torch.arange(160) % 2
    spread = torch.randn(160, 2, generator=draw)
    x = torch.stack([
        (1 + 0.2 * float(size)) * record(75 + 8 * float(bpm) * (told != "rate") + 10 * high * (told == "rate"), seconds=6, seed=number,
                                         st=-0.1 * high * (told == "segment"))
        for number, (high, (size, bpm)) in enumerate(zip(label.tolist(), spread))
    ])  # fmt: skip
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    encoder, head = Beats(3, width=8, dim=16), nn.Linear(16, 1)
    learning = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(40):
        at = torch.arange(25) + step % 4 * 25
        score = head(encoder(x[at], mask[at], at).pooled)[:, 0]
        nn.functional.binary_cross_entropy_with_logits(score, label[at].float()).backward()
        learning.step()
        learning.zero_grad()
    with torch.no_grad():
        score = head(encoder.eval()(x[100:], mask[100:]).pooled)[:, 0]
    assert (score[1::2, None] > score[None, ::2]).float().mean() > 0.95


def test_a_rate_that_is_told_wrong_is_measured_wrong():
    """Why `rate` must be that of the signals: nothing in them tells it."""
    assert abs(bpm_of(measured(record(60, 200), 100)[1]) - 30) < 2
    assert beats.Beats(3, rate=200).rate == 200
