"""The objects of the simulated datasets, one class of them per ``data.kind``, as they are before scanning.

A class of objects is its settings in ``config.schema`` and one function here, registered with
``draw_object`` for them. H = ``data.size``; grey values of an image run from 0 to 1.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import singledispatch
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import ndtr
from skimage import data as bundled
from skimage.color import rgb2gray
from skimage.draw import line
from skimage.transform import resize

from ptychofno.config.schema import (
    GridLinesData,
    IndependentPhaseData,
    NaturalImagesData,
    RandomFieldsData,
    SimulatedData,
)


class Purpose(IntEnum):
    """What an object is for; the number is part of the data and must not change."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Transmission(NamedTuple):
    """What an object does to the light, up to a factor that is common to all objects of a dataset."""

    amplitude: np.ndarray
    """float64 (H, H), not negative"""
    phase_rad: np.ndarray
    """float64 (H, H)"""


@singledispatch
def draw_object(data: SimulatedData, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
    """The object number ``index`` of those for ``purpose``.

    ``rng`` is of its own: what is drawn from it changes no other object. Raises ValueError, naming
    the setting, where the settings give no such object.
    """
    raise TypeError(f"no objects are known for {type(data).__name__}")


# --- lines -----------------------------------------------------------------------------------

_BLURS = ((1.0, 1.0), (2.0, 5.0), (5.0, 10.0))
"""(weight, sigma in pixels) of the Gaussians that turn lines into an object."""


@draw_object.register
def _lines(data: GridLinesData, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
    """Blurred random lines a, and the phase pi tanh((a - max a / 2) / (3 mean a)), 0 without ``set_phi``.

    Lines are drawn and blurred on a canvas of twice the size, so that the object, cut from its
    centre, is as dense at its border as in its middle.
    """
    canvas_size = 2 * data.size
    canvas = np.zeros((canvas_size, canvas_size))
    for row0, col0, row1, col1 in rng.integers(0, canvas_size, size=(data.nlines, 4)).tolist():
        canvas[line(row0, col0, row1, col1)] = 1
    margin = data.size // 2
    centre = slice(margin, margin + data.size)
    image = sum(weight * ndimage.gaussian_filter(canvas, sigma)[centre, centre] for weight, sigma in _BLURS)
    assert isinstance(image, np.ndarray)
    if not image.any():
        raise ValueError(
            f"data.nlines={data.nlines} with data.seed={data.seed} leaves an object without any line;"
            " choose more lines"
        )
    if not data.set_phi:
        return Transmission(image, np.zeros_like(image))
    return Transmission(image, np.pi * np.tanh((image - image.max() / 2) / (3 * image.mean())))


# --- amplitude and phase of their own --------------------------------------------------------


def _independent(data: IndependentPhaseData, first: np.ndarray, second: np.ndarray) -> Transmission:
    """Amplitude from one image of values 0 to 1, phase from another."""
    return Transmission(
        amplitude=data.min_amplitude + (1 - data.min_amplitude) * first,
        phase_rad=data.phase_range_rad * (second - 0.5),
    )


_IMAGES = {
    Purpose.TRAIN: ("astronaut", "immunohistochemistry", "coffee", "grass"),
    Purpose.VALIDATION: ("coins", "brick"),
    Purpose.TEST: ("camera", "chelsea", "gravel"),
}
"""Functions of skimage.data. Only images that stand in its wheel, as the others are fetched from the
network, and only PNG, as decoders of JPEG differ in the last bit."""

_SCENE = 1.25
"""Shorter side of an image, in sizes of the object that is cut out of it."""


@draw_object.register
def _natural_images(
    data: NaturalImagesData, purpose: Purpose, index: int, rng: np.random.Generator
) -> Transmission:
    """Amplitude and phase from two different photographs; no purpose shares one with another.

    ``_IMAGES`` says which are whose; the first training object has the amplitude of the astronaut
    and the phase of the tissue, the first test object those of the photographer and the cat. Pairs
    take turns until all ordered pairs of a purpose were used; from then on they come again, cut and
    turned in another way.
    """
    names = _IMAGES[purpose]
    turn, amplitude = divmod(index, len(names))
    phase = (amplitude + 1 + turn % (len(names) - 1)) % len(names)
    return _independent(data, _view(names[amplitude], data.size, rng), _view(names[phase], data.size, rng))


def _view(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A bundled image, scaled, cut to (size, size) at random, turned and mirrored at random; 0 to 1.

    Its percentiles 1 and 99 become 0 and 1, so that no image is darker or flatter than another.
    """
    image = getattr(bundled, name)()
    grey = rgb2gray(image) if image.ndim == 3 else image / 255
    scale = _SCENE * size / min(grey.shape)
    scene = resize(grey, [math.ceil(scale * extent) for extent in grey.shape], order=3, anti_aliasing=True)
    row, col = (int(rng.integers(extent - size + 1)) for extent in scene.shape)
    view = np.rot90(scene[row : row + size, col : col + size], int(rng.integers(4)))
    if rng.integers(2):
        view = view.T
    low, high = np.percentile(view, (1, 99))
    return np.clip((view - low) / (high - low), 0, 1)


@draw_object.register
def _random_fields(
    data: RandomFieldsData, purpose: Purpose, index: int, rng: np.random.Generator
) -> Transmission:
    """Amplitude and phase from two independent smooth random fields, values evenly distributed."""
    longest = data.size / 4
    if data.correlation_px > longest:
        raise ValueError(
            f"data.correlation_px={data.correlation_px:g} leaves objects of data.size={data.size} px hardly"
            f" any structure; choose at most {longest:g}"
        )
    first, second = (ndtr(_gaussian_field(data.size, data.correlation_px, rng)) for _ in range(2))
    return _independent(data, first, second)


def _gaussian_field(size: int, correlation_px: float, rng: np.random.Generator) -> np.ndarray:
    """A periodic Gaussian random field, mean 0, variance 1, correlation exp(-(r / correlation_px)^2)."""
    frequency = np.fft.fftfreq(size)
    power = np.exp(-((math.pi * correlation_px) ** 2) * (frequency[:, None] ** 2 + frequency**2))
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) * np.sqrt(power / power.mean())
    return np.fft.ifft2(spectrum).real
