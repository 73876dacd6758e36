"""A chest film as grey pixels: body, lungs, ribs, heart, fluid at the base and a fine texture, drawn from the tokens of an exam.

| token | drawn as | carrier |
|---|---|---|
| heart | width of the heart against the chest | easy: a large, smooth shape |
| texture | share of the lung fields that fine lines fill, their strength alike and their mean grey that of the lung | hard |
| fluid | height of the fluid at the base of one lung | easy |

Anatomy, position, exposure, ribs, tubes and pixel noise vary without meaning; noise and blur grow with the patient's quality, so that
poor quality can be seen. A corrupted film is smeared by motion and shows none of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

HEART_WIDTH, HEART_STEP = 0.155, 0.022  # half width at token 0 and change per unit, in widths of the film
EXTENT_SCALE, EXTENT_MIDDLE = 0.7, 0.8  # share of the lungs with texture = ndtr(scale * (token - middle))
FLUID_STEP, FLUID_LEAST = 0.055, -1.0  # height of the fluid per unit of token over the least that is seen, in heights of the film
TEXTURE_GREY, NOISE_GREY = 20.0, 4.0


@dataclass(frozen=True)
class FilmTokens:
    heart: float
    texture: float
    fluid: float
    noise: float  # the patient's quality; 1 is the usual one
    blurred: bool
    mark: bool


@dataclass(frozen=True)
class Body:
    """What differs from patient to patient or from film to film and means nothing."""

    centre: float
    width: float
    top: float
    base: float
    tilt: float
    exposure: float
    contrast: float
    ribs: float
    phase: float
    left: bool  # the side of the fluid
    tube: bool


def draw_body(patient: np.random.Generator, film: np.random.Generator) -> Body:
    own, now = patient.standard_normal(3), film.standard_normal(6)
    return Body(
        centre=0.5 + 0.012 * now[0],
        width=0.40 + 0.010 * own[0] + 0.005 * now[1],
        top=0.12 + 0.015 * now[2],
        base=0.80 + 0.015 * own[1],
        tilt=0.02 * now[3],
        exposure=12 * now[4],
        contrast=1 + 0.08 * now[5],
        ribs=9 + own[2],
        phase=float(patient.random()),
        left=bool(patient.random() < 0.5),
        tube=bool(film.random() < 0.5),
    )


def draw_film(tokens: FilmTokens, body: Body, generator: np.random.Generator, size: int, lateral: bool = False) -> np.ndarray:
    """[size, size] uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    x = (x - body.centre + body.tilt * (y - 0.5)) * (1.25 if lateral else 1.0)
    lungs = _lungs(x, y, body, lateral)
    picture = _body(x, y, body, lateral) - 95 * lungs
    picture += 9 * lungs * np.sin(2 * np.pi * (body.ribs * (y + 0.35 * np.abs(x)) + body.phase))
    if not tokens.blurred:
        picture += TEXTURE_GREY * lungs * _texture(generator, size, tokens.texture, lungs)
        picture = _fluid(picture, x, y, body, tokens.fluid)
        picture = _heart(picture, x, y, tokens.heart, lateral)
    else:
        generator.standard_normal((2, size, size))
        picture = gaussian_filter(picture, (size * 0.01, size * 0.09))  # moved sideways
    if body.tube:
        picture += 35 * np.exp(-(((x - 0.02) / 0.008) ** 2)) * (y < 0.4)
    picture = gaussian_filter(picture, 0.25 * tokens.noise * size / 96)
    picture = 128 + body.contrast * (picture - 128) + body.exposure
    picture += NOISE_GREY * tokens.noise * generator.standard_normal((size, size))
    corner = slice(round(0.03 * size), round(0.09 * size))
    picture[corner, corner if tokens.mark else slice(-corner.stop, -corner.start)] = 235  # a marker in one corner or the other
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _soft(distance: np.ndarray, edge: float = 0.012) -> np.ndarray:
    """1 inside (negative distance), 0 outside, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(distance / edge, -30, 30)))


def _body(x: np.ndarray, y: np.ndarray, body: Body, lateral: bool) -> np.ndarray:
    trunk = _soft(np.abs(x) - body.width - 0.05 - 0.04 * y)
    spine = 28 * np.exp(-(((x + (0.22 if lateral else 0)) / 0.045) ** 2))
    return 18 + trunk * (150 + spine)


def _lungs(x: np.ndarray, y: np.ndarray, body: Body, lateral: bool) -> np.ndarray:
    """[size, size] in 0..1; two fields, or one in a lateral view."""
    middle, half = 0.5 * (body.top + body.base), 0.5 * (body.base - body.top)
    aside = 0.0 if lateral else 0.5 * body.width + 0.02
    wide = 0.42 * body.width * (1.6 if lateral else 1.0)
    across = (np.abs(x) - aside) if not lateral else x
    ellipse = np.sqrt((across / wide) ** 2 + ((y - middle) / half) ** 2) - 1
    return _soft(ellipse * wide)


def _texture(generator: np.random.Generator, size: int, token: float, lungs: np.ndarray) -> np.ndarray:
    """Fine lines of zero mean in a share of the lungs that the token tells; where, is chance."""
    scale = size / 96
    fine = gaussian_filter(generator.standard_normal((size, size)), 1.1 * scale)
    fine = fine - gaussian_filter(fine, 2.2 * scale)
    place = gaussian_filter(generator.standard_normal((size, size)), 3 * scale)
    above = np.arange(size)[:, None] < 0.6 * size  # neither heart nor fluid hide the upper lungs
    inside = place[(lungs > 0.5) & above]
    extent = ndtr(EXTENT_SCALE * (token - EXTENT_MIDDLE))
    limit = np.quantile(inside, 1 - extent)
    return fine / fine.std() * _soft(limit - place, 0.02 * inside.std() + 1e-9)


def _fluid(picture: np.ndarray, x: np.ndarray, y: np.ndarray, body: Body, token: float) -> np.ndarray:
    """Grey of soft tissue below a line that rises to the side (the meniscus)."""
    side = x > 0 if body.left else x < 0
    height = max(0.0, FLUID_STEP * (token - FLUID_LEAST))
    level = body.base - height - 0.12 * np.abs(x) * (height > 0)
    wet = _soft(level - y) * side * (np.abs(x) < body.width)
    return picture * (1 - wet) + 165 * wet


def _heart(picture: np.ndarray, x: np.ndarray, y: np.ndarray, token: float, lateral: bool) -> np.ndarray:
    half = max(0.06, HEART_WIDTH + HEART_STEP * token)
    aside = -0.06 if lateral else 0.03
    ellipse = np.sqrt(((x - aside) / half) ** 2 + ((y - 0.62) / 0.17) ** 2) - 1
    shape = _soft(ellipse * half)
    return picture * (1 - shape) + 185 * shape
