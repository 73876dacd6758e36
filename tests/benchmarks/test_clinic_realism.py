"""What the realism tables measure: known spectra, noises, beats and texts are recovered, and the classifier is neither blind nor leaky."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import clinic_realism_films as films
import clinic_realism_signals as signals
import clinic_realism_texts as texts
import clinic_realism_volumes as volumes
from clinic_realism_apart import compare, spread, told_apart

from omnifuse.preprocess.clinic.ecg import SignalTokens, draw_signal


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr("clinic_realism_apart.TREES", 30)
    monkeypatch.setattr("clinic_realism_apart.DRAWS", 100)


@pytest.mark.parametrize("shift, low, high", [(0.0, 0.3, 0.7), (5.0, 0.99, 1.0)])
def test_a_classifier_sees_a_difference_only_where_there_is_one(shift, low, high):
    generator = np.random.default_rng(0)
    apart = told_apart(generator.standard_normal((60, 3)) + shift, generator.standard_normal((60, 3)))
    assert low <= apart.low <= apart.auroc <= apart.high and apart.auroc <= high
    assert (apart.real, apart.made) == (60, 60)


def test_a_patients_items_stay_in_one_fold():
    """Items of a patient are alike, patients of the two kinds are not: only a leak would tell them apart."""
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), 10)
    items = [generator.standard_normal((12, 4))[groups] + 0.01 * generator.standard_normal((120, 4)) for _ in range(2)]
    assert told_apart(*items).auroc > 0.9
    assert told_apart(*items, groups, groups).auroc < 0.75


def test_spread_tells_the_middle_and_passes_over_what_is_missing():
    assert spread(np.arange(101.0), ".0f") == "50 (5 to 95)"
    assert spread([np.nan, 2.0], ".0f") == "2 (2 to 2)" and spread([np.nan]) == "none"
    assert compare(["a"], np.ones((2, 1)), np.zeros((2, 1)))[-1] == "| a | 1.00 (1.00 to 1.00) | 0.00 (0.00 to 0.00) |"


@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.5])
def test_slope_of_the_spectrum_is_recovered(exponent):
    size = films.SIZE
    cycles = np.fft.fftfreq(size) * size
    distance = np.hypot(cycles[:, None], cycles[None])
    distance[0, 0] = np.inf
    noise = np.fft.fft2(np.random.default_rng(0).standard_normal((size, size)))
    film = np.fft.ifft2(noise * distance ** (exponent / 2)).real
    found = films.statistics(128 + 40 * film / film.std())
    assert found[films.NAMES.index("slope of the spectrum's power, 2 to 45 cycles a film (log-log)")] == pytest.approx(exponent, abs=0.25)


def test_mirror_image_and_quantiles_of_a_film():
    film = np.tile(np.abs(np.linspace(-100, 100, films.SIZE)), (films.SIZE, 1))
    found = dict(zip(films.NAMES, films.statistics(film)))
    assert found["correlation with its mirror image"] == pytest.approx(1)
    assert found["grey level, 50% of the pixels"] == pytest.approx(50, abs=1.5)
    assert len(films.FORMS) == len(films.NAMES)


@pytest.mark.parametrize("beats, noise", [(60, 0.02), (86, 0.02), (110, 0.05)])
def test_rate_noise_and_intervals_of_a_drawn_record(beats, noise):
    tokens = SignalTokens(rate=(beats - 86) / 13, st=0.0, noise=noise / 0.02, lost=False, mark=False)
    record = draw_signal(tokens, np.random.default_rng(0), np.random.default_rng(1), 100)
    found = signals.measure(record[:, 1], 100)
    assert found["rate"] == pytest.approx(beats, rel=0.04)
    assert found["noise"] == pytest.approx(noise, rel=0.45), "waves are left in it"
    assert 80 <= found["qrs"] <= 180 and 130 <= found["pr"] <= 260
    assert signals.measure(np.zeros(1000), 100) is None, "lost leads have no beats"


NOTE = "EXAMINATION:  CHEST (PORTABLE AP)\n\nCOMPARISON:  ___\n\nFINDINGS:  The heart is large. No fluid.\n\nIMPRESSION:  Large heart."


def test_sections_of_notes_are_told_apart():
    assert texts.sections(NOTE)["FINDINGS"] == "The heart is large. No fluid."
    without = NOTE.replace("FINDINGS:  The heart is large. No fluid.\n\n", "")
    told = {name: found for name, _, found in texts.describe([NOTE, NOTE, without])}
    assert told["notes without FINDINGS"] == "33%" and told["words of FINDINGS"] == "6 (6 to 6)"
    assert told["FINDINGS of 10 to 280 words"] == "0%" and told["notes whose FINDINGS another note has, word by word"] == "100%"
    assert told["sentences of FINDINGS that occur once"] == "0% of 2 different ones"


def test_grain_is_the_noise_and_not_the_shape():
    generator = np.random.default_rng(0)
    plane = gaussian_filter(generator.standard_normal((80, 80)), 12) * 3000 + 25 * generator.standard_normal((80, 80))
    assert volumes.grain(plane, np.ones(plane.shape, bool)) == pytest.approx(25, rel=0.08)
    assert np.isnan(volumes.grain(plane, np.zeros(plane.shape, bool)))


def test_air_around_a_body_is_not_lung():
    plane = np.full((60, 60), -1000.0)
    plane[10:50, 10:50] = 40
    plane[20:40, 20:40] = -850
    found = dict(zip(volumes.CT_NAMES, volumes.ct_statistics(plane)))
    assert found["lung, HU, 50% of the voxels"] == -850 and found["soft tissue, HU, 50%"] == 40
    assert found["air around the body, % of the slice"] == pytest.approx(100 * (1 - 1600 / 3600))


def test_finer_voxels_are_averaged_and_coarser_ones_left():
    plane = np.random.default_rng(0).normal(100, 30, (200, 200))
    coarse = volumes.shrink(plane, 0.8, 2.5)
    assert coarse.shape == (64, 64) and coarse.mean() == pytest.approx(100, abs=1) and coarse.std() < 30 / 2
    assert volumes.shrink(plane, 2.5, 2.5) is plane
