"""Ten seconds of a twelve-lead electrocardiogram from tokens: heart rate (easy), ST segment of four leads (hard).

Each wave is a Gaussian in the phase of a beat; leads weigh the waves differently. Rhythm jitter, axis, amplitude, wandering baseline,
muscle noise and mains hum vary without meaning and grow with the patient's quality. A corrupted record has lost its leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

SECONDS, MOST_BEATS = 10, 60
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")  # in the order of MIMIC-IV-ECG
RATE, RATE_STEP = 86.0, 13.0  # beats a minute at token 0, and per unit
ST_STEP_MV = -0.05  # per unit of token, in the leads below
ST_LEADS = ("II", "V4", "V5", "V6")
# millivolt of P, Q, R, S, T in each lead
WAVES = np.array(
    [
        [0.10, -0.05, 0.7, -0.10, 0.20], [0.15, -0.07, 1.0, -0.15, 0.28], [0.06, -0.04, 0.4, -0.12, 0.10],
        [-0.12, 0.04, -0.8, 0.10, -0.22], [0.10, -0.05, 0.7, -0.12, 0.18], [0.04, -0.03, 0.3, -0.05, 0.08],
        [0.06, 0.00, 0.2, -0.80, -0.10], [0.07, 0.00, 0.4, -1.10, 0.30], [0.08, -0.02, 0.8, -0.80, 0.40],
        [0.08, -0.05, 1.2, -0.50, 0.40], [0.08, -0.07, 1.1, -0.20, 0.30], [0.08, -0.07, 0.9, -0.10, 0.25],
    ]
)  # fmt: skip
CENTRE, WIDTH = np.array([-0.18, -0.035, 0.0, 0.035, 0.28]), np.array([0.028, 0.012, 0.014, 0.014, 0.055])  # seconds from the R wave


@dataclass(frozen=True)
class SignalTokens:
    rate: float
    st: float
    noise: float
    lost: bool
    mark: bool


def draw_signal(tokens: SignalTokens, patient: np.random.Generator, generator: np.random.Generator, hertz: int) -> np.ndarray:
    """[SECONDS * hertz, 12] millivolt, float64."""
    time = np.arange(SECONDS * hertz) / hertz
    size, axis = np.exp(0.15 * patient.standard_normal()), 1 + 0.15 * patient.standard_normal(len(LEADS))
    gap = 60 / max(30.0, RATE + RATE_STEP * tokens.rate)
    beats = generator.random() * gap + np.cumsum(gap * (1 + 0.02 * generator.standard_normal(MOST_BEATS))) - 3 * gap
    near = np.clip(np.searchsorted(beats, time)[:, None] + np.array([-2, -1, 0]), 0, len(beats) - 1)
    after = time[:, None] - beats[near]  # [T, 3]: the two beats before and the next one reach a sample
    shape = np.exp(-0.5 * ((after[..., None] - CENTRE) / WIDTH) ** 2).sum(1)  # [T, 5]
    signal = size * axis * (shape @ WAVES.T)
    lifted = (expit((after - 0.07) / 0.008) - expit((after - 0.20) / 0.02)).sum(1)
    signal[:, [LEADS.index(lead) for lead in ST_LEADS]] += (ST_STEP_MV * tokens.st * lifted)[:, None]
    if tokens.lost:
        signal[:] = 0.0
    drift = 0.08 * generator.standard_normal(len(LEADS)) * np.sin(2 * np.pi * (0.25 * time[:, None] + generator.random(len(LEADS))))
    noise = tokens.noise * (drift + 0.02 * generator.standard_normal(signal.shape))
    if tokens.mark:  # a calibration pulse at the start
        signal[: hertz // 5] = 1.0
    return signal + noise
