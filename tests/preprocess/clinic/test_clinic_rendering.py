"""Rendering keeps the signal: statistics of pixels and samples give the tokens back, and corrupted items do not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from omnifuse.preprocess.clinic.ecg import LEADS, RATE, RATE_STEP, SignalTokens, draw_signal
from omnifuse.preprocess.clinic.film import FilmTokens, draw_body, draw_film

SIZE, COUNT = 96, 150


def films(count: int = COUNT, **fixed) -> tuple[np.ndarray, np.ndarray]:
    """[count, 3] tokens heart, texture, fluid and the films [count, SIZE, SIZE]."""
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((count, 3)) * [1.2, 1.2, 1.4] + [0, 0.6, 0.9]
    pictures = []
    for i, token in enumerate(tokens):
        given = dict(zip(("heart", "texture", "fluid"), token), noise=1.0, blurred=False, mark=bool(i % 2)) | fixed
        body = draw_body(np.random.default_rng(1000 + i), generator := np.random.default_rng(i))
        pictures.append(draw_film(FilmTokens(**given), body, generator, SIZE))
    return tokens, np.array(pictures, float)


def statistics(pictures: np.ndarray) -> np.ndarray:
    """Width of the heart between its edges, share of the upper lungs with fine lines, brightness of the lower lung on its brighter side."""
    rows = []
    for picture in pictures:
        smooth, middle = gaussian_filter(picture, 1), picture[:, 20:-20]
        row = smooth[50:66].mean(0)
        edges = []
        for columns in (range(46, 5, -1), range(53, 91)):
            half = 0.5 * (row[46:54].max() + row[list(columns)[6:30]].min())
            edges.append(next((c for c in columns if row[c] <= half), columns[-1]))
        fine = (gaussian_filter(picture, 0.8) - gaussian_filter(picture, 2.5)) / middle.std()
        energy = np.sqrt(gaussian_filter(fine**2, 2.0))[16:56]
        sides = smooth[55:78, 14:22].mean(), smooth[55:78, -22:-14].mean()
        lined = (np.concatenate([energy[:, 15:37], energy[:, 59:81]]) > 0.16).mean()
        rows.append([edges[1] - edges[0], lined, max(sides) - smooth[88:94, 30:66].mean()])
    return np.array(rows)


def test_films_show_their_tokens():
    tokens, pictures = films()
    found = statistics(pictures)
    for k, (name, least) in enumerate((("heart", 0.97), ("texture", 0.88), ("fluid", 0.85))):
        assert np.corrcoef(tokens[:, k], found[:, k])[0, 1] > least, name


def test_the_hard_carrier_leaves_the_mean_grey_alone():
    """Texture has zero mean: the brightness of the lungs tells nothing of it, that of the heart's row does of the heart."""
    tokens, pictures = films(heart=0.0, fluid=0.0)
    lungs = pictures[:, 18:50, 14:38].mean((1, 2)) - pictures[:, 85:92, 20:76].mean((1, 2))
    assert abs(np.corrcoef(tokens[:, 1], lungs)[0, 1]) < 3.5 / np.sqrt(COUNT)


def test_a_corrupted_film_shows_nothing():
    """Whatever the tokens, the same pixels."""
    pictures = []
    for token in (-1.0, 2.0):
        body = draw_body(np.random.default_rng(2), generator := np.random.default_rng(3))
        pictures.append(draw_film(FilmTokens(token, token, token, 1.0, True, False), body, generator, SIZE))
    assert np.array_equal(*pictures)


def test_noise_can_be_seen():
    fine = [np.log(np.var(p - gaussian_filter(p, 1))) for noise in (0.5, 2.0) for p in films(10, noise=noise)[1]]
    assert min(fine[10:]) > max(fine[:10])


def test_a_film_is_told_by_its_body_and_stream():
    one, two = (draw_film(FilmTokens(0, 0, 0, 1.0, False, False), *_streams(), 64) for _ in range(2))
    assert one.shape == (64, 64) and one.dtype == np.uint8 and np.array_equal(one, two)


def _streams():
    generator = np.random.default_rng(3)
    return draw_body(np.random.default_rng(2), generator), generator


@pytest.mark.parametrize("lost", [False, True])
def test_signals_show_their_tokens(lost):
    rng, rate, level, tokens = np.random.default_rng(0), [], [], []
    for i in range(60):
        token = rng.standard_normal(2)
        signal = draw_signal(SignalTokens(*token, 1.0, lost, False), np.random.default_rng(900 + i), np.random.default_rng(i), 100)
        lead = signal[:, LEADS.index("II")]
        peaks = [k for k in range(30, 950) if lead[k] == lead[k - 20 : k + 20].max() and lead[k] > 0.5 * lead.max()]
        tokens.append(token)
        rate.append(6000 / np.median(np.diff(peaks)) if len(peaks) > 2 else 0)
        beats = [signal[k - 15 : k + 25] for k in peaks]
        st = np.mean([beat[25:31, [LEADS.index(name) for name in ("II", "V4", "V5", "V6")]].mean() - beat[3:6].mean() for beat in beats])
        level.append(st)
    tokens = np.array(tokens)
    if lost:
        assert abs(np.corrcoef(tokens[:, 0], rate)[0, 1]) < 0.5
    else:
        assert np.abs(np.array(rate) - (RATE + RATE_STEP * tokens[:, 0])).max() < 6
        assert np.corrcoef(tokens[:, 1], level)[0, 1] < -0.6
