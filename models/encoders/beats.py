"""A small network over electrocardiograms, for a few hundred of them on a CPU: its first layer is known, not learned.

    slope   = Gaussian of 40 ms over sum_leads |x_t+1 - x_t|;  reference = median over t of its maximum within 0.75 s
    beats   = maxima of the slope within 0.2 s, of 0.4 to 3 times the reference;  each lead less its level before the beat
    beat    = mean of all of them, from 0.3 s before to 0.5 s after, every beat weighed by its likeness to the plain mean
    rhythm  = [rate, spread of the intervals, likeness, noise, height of the slope]
    level l = ReLU(conv(level l-1)), from asinh(beat / 0.1);  pooled = LayerNorm(Linear([dropout(level L), rhythm]))

What tells patients apart is the rate and some hundredths of a millivolt of an averaged beat, which a network of learned filters has to
find below waves of a millivolt and noise. Electrocardiographs measure just that: intervals, and levels of a median beat (Marquette 12SL
of GE Healthcare; MIMIC-IV-ECG lists its carts' measurements). R waves by the energy of the slope: Pan and Tompkins 1985.

Differs: the slope's magnitude, summed over leads, in place of its band-passed square; one threshold for a record in place of one that
adapts; a weighted mean in place of 12SL's median of one class of beats. Nothing here is a diagnosis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnifuse.models.encoding import MAX_LEVELS, Encoded, Encoder
from omnifuse.models.parts.keyed import Dropout
from omnifuse.models.parts.pooling import projection
from omnifuse.preprocess.schema import ConfigError

HERTZ = 100  # signals of a higher rate are averaged to about this
POINTS, STEP = 80, 0.01  # of the averaged beat, and seconds between them
FIRST = -0.3  # seconds, from the steepest moment
LEVEL = (-0.11, -0.07)  # seconds in which a lead is at rest, between P wave and QRS complex
SMOOTH, APART, AROUND = 0.04, 0.2, 0.75  # seconds; with less smoothing the two flanks of an R wave are two maxima
LEAST, MOST = 0.4, 3.0  # of a beat's slope, times the reference
USUAL = (0.6, 1.5)  # of an interval, times the median: longer and shorter ones are missed or early beats
UNIT = 0.1  # mV: below it the scale is linear, above it logarithmic
FAINT = 0.005  # mV: what lies below is no noise
RHYTHM = 6
EPS = 1e-5


class Beats(Encoder):
    """Signals [B, T, input_dim] to an embedding [B, dim]. Tokens are the last level's moments of the averaged beat.

    Missing data: a record without a beat has a beat of zeros and a rhythm that says so.

    Args:
        rate: Hz that signals are brought to when they are decoded.
        width: channels of each level.
    """

    reads = "signal"

    def __init__(self, input_dim: int, rate: int = HERTZ, width: int = 16, levels: int = 2, dim: int = 128, dropout: float = 0.3):
        super().__init__()
        if not 1 <= levels <= MAX_LEVELS:
            raise ConfigError(f"a beats encoder has 1 to {MAX_LEVELS} levels")
        self.input_dim, self.dim, self.token_dim, self.level_dims = input_dim, dim, width, (width,) * levels
        self.rate = rate
        below = [input_dim] + [width] * (levels - 1)
        self.levels = nn.ModuleList(nn.Conv1d(channels, width, 5, 2, padding=2) for channels in below)
        self.dropout, self.project = Dropout(dropout), projection(width * -(-POINTS // 2**levels) + RHYTHM, dim)

    def forward(self, values: Tensor, mask: Tensor, key: Tensor | None = None) -> Encoded:
        beat, rhythm = averaged_beat(values, mask, self.rate)
        x, levels = torch.asinh(beat / UNIT), []
        for level in self.levels:
            x = torch.relu(level(x))
            real = mask.any(1, keepdim=True).expand(-1, x.shape[2])
            levels.append((x.transpose(1, 2), real))
        pooled = torch.cat([self.dropout(x.flatten(1), key), rhythm.to(x.dtype)], 1)
        return Encoded(self.project(pooled), *levels[-1], levels)


def averaged_beat(values: Tensor, mask: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """The averaged beat [B, L, POINTS] in the unit of the signal, and the rhythm [B, RHYTHM], of order 1.

    float32 whatever autocast says: hundredths of a millivolt count. Gradients pass through the averaging, not through the search.

    Shapes: values [B, T, L], mask [B, T].

    Missing data: what is masked is no part of a beat; zeros where there is no beat, or no two for an interval.
    """
    with torch.autocast(values.device.type, enabled=False):
        x, real, rate = _reduced(values.float().masked_fill(~mask[..., None], 0.0), mask, rate)
        with torch.no_grad():
            slope = _slope(x, real, rate)
            place, found, reference = _places(slope, real, rate)
        beat, likeness = _average(x, real, place, found, rate)
        noise, height = _noise(x, real), (reference + FAINT).log()
        rhythm = [*_intervals(place, found, rate), likeness - 1, (noise + 7) / 2, height + 1]
        return beat, torch.stack(rhythm, 1)


def _reduced(x: Tensor, real: Tensor, rate: float) -> tuple[Tensor, Tensor, float]:
    """x [B, T, L], real [B, T] -> about HERTZ, with one moment behind the end that is not real."""
    step = max(1, round(rate / HERTZ))
    x, real = F.pad(x, (0, 0, 0, step + -x.shape[1] % step)), F.pad(real, (0, step + -real.shape[1] % step))
    if step == 1:
        return x, real, rate
    grouped, parts = x.unflatten(1, (-1, step)), real.unflatten(1, (-1, step))
    return grouped.sum(2) / parts.sum(2).clamp(min=1)[..., None], parts.any(2), rate / step


def _slope(x: Tensor, real: Tensor, rate: float) -> Tensor:
    """[B, T - 1]: smoothed, of all leads; entry t stands between the moments t and t + 1."""
    slope = (x[:, 1:] - x[:, :-1]).abs().sum(2).masked_fill(~(real[:, 1:] & real[:, :-1]), 0.0)
    reach = max(1, round(3 * SMOOTH * rate))
    at = torch.arange(-reach, reach + 1, device=x.device) / rate
    kernel = torch.exp(-0.5 * (at / SMOOTH) ** 2)
    return F.conv1d(slope[:, None], (kernel / kernel.sum())[None, None], padding=reach)[:, 0]


def _places(slope: Tensor, real: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Moments [B, K] of the beats, ascending and between samples, which of them are there [B, K], the reference [B]."""
    wide, apart = max(1, round(AROUND * rate)), max(1, round(APART * rate))
    known = real[:, 1:] & real[:, :-1]
    reference = _median(F.max_pool1d(slope[:, None], 2 * wide + 1, 1, wide)[:, 0], known)
    highest = F.max_pool1d(F.pad(slope, (apart, apart), value=-1.0)[:, None], apart, 1)[:, 0]  # [B, T + apart]: of `apart` from each
    before, after = highest[:, : slope.shape[1]], highest[:, apart + 1 :]
    strong = (slope >= LEAST * reference[:, None]) & (slope <= MOST * reference[:, None]) & (slope > 0)
    peak = strong & (slope > before) & (slope >= after) & known
    at = torch.arange(slope.shape[1], device=slope.device)
    most = max(1, int(peak.sum(1).max()))
    place = torch.where(peak, at, slope.shape[1]).topk(min(most, len(at)), 1, largest=False).values.sort(1).values
    found = place < slope.shape[1]
    place = place.clamp(max=slope.shape[1] - 1)
    left, here, right = (F.pad(slope, (1, 1)).gather(1, place + shift) for shift in (0, 1, 2))
    vertex = 0.5 * (left - right) / (left - 2 * here + right).clamp(max=-1e-12)
    return place + 0.5 + vertex.clamp(-0.5, 0.5), found, reference


def _average(x: Tensor, real: Tensor, place: Tensor, found: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """[B, L, POINTS], and how alike the beats are [B]: 1, where one is as another."""
    offset = FIRST + STEP * torch.arange(POINTS, device=x.device)
    moment = place[..., None] + offset * rate  # [B, K, P]
    first = moment.floor().long()
    part, row = (moment - first)[..., None], torch.arange(len(x), device=x.device)[:, None, None]
    inside = (first >= 0) & (first < x.shape[1] - 1) & found[..., None]
    first = first.clamp(0, x.shape[1] - 2)
    seen = (inside & real[row, first] & real[row, first + 1]).float()[..., None]  # [B, K, P, 1]
    each = x[row, first] * (1 - part) + x[row, first + 1] * part  # [B, K, P, L]
    rest = ((offset >= LEVEL[0]) & (offset <= LEVEL[1])).float()[:, None] + EPS  # a beat whose level is not seen has its mean
    each = (each - _mean(each, seen * rest, 2)) * seen
    whole = seen.mean((2, 3), keepdim=True).floor() + EPS  # one that is cut off counts where there is no other
    plain = _mean(each, seen * whole, 1)
    alike = F.cosine_similarity(each.flatten(2), (plain * seen).flatten(2), 2).clamp(min=0)  # [B, K]
    beat = _mean(each, seen * whole * alike[..., None, None].square(), 1)[:, 0]
    return beat.transpose(1, 2), _mean(alike, found.float(), 1)[:, 0]


def _intervals(place: Tensor, found: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Beats a minute, spread of the intervals, and whether there is one: [B] each, of order 1."""
    gap, known = place.diff(dim=1) / rate, found[:, 1:]
    if not gap.shape[1]:
        return (torch.zeros(len(place), device=place.device),) * 3
    middle = _median(gap, known)[:, None]
    usual = (known & (gap >= USUAL[0] * middle) & (gap <= USUAL[1] * middle)).float()
    usual_gap, some = _mean(gap, usual, 1)[:, 0], known.any(1)
    spread = _mean((gap - middle).abs(), known.float(), 1)[:, 0] / usual_gap.clamp(min=EPS)
    told = (60 / usual_gap.clamp(min=APART) - 80) / 20, (spread + 0.01).log() + 3.5
    return *(torch.where(some, one, 0.0) for one in told), some.float()


def _noise(x: Tensor, real: Tensor) -> Tensor:
    """[B]: the mean log energy of what neighbours do not tell: few waves are as steep as noise, and a logarithm hardly sees them."""
    bend = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
    known = (real[:, 2:] & real[:, 1:-1] & real[:, :-2]).float()
    return _mean((bend.square() + FAINT**2).log().mean(2), known, 1)[:, 0]


def _mean(x: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Weighted, kept dimension; zero where nothing has a weight."""
    return (x * weight).sum(dim, keepdim=True) / weight.expand_as(x).sum(dim, keepdim=True).clamp(min=1e-12)


def _median(x: Tensor, known: Tensor) -> Tensor:
    """[B, N], [B, N] -> [B]: of those that are known; zero where none is."""
    ordered, count = x.masked_fill(~known, math.inf).sort(1).values, known.sum(1, keepdim=True)
    low, high = ((count - 1).clamp(min=0) // 2), (count // 2).clamp(max=x.shape[1] - 1)
    middle = (ordered.gather(1, low) + ordered.gather(1, high)) / 2
    return middle.masked_fill(count == 0, 0.0)[:, 0]
