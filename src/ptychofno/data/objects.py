"""The objects of the simulated datasets, as they are before scanning.

A class of objects is a dataclass of its settings with a method ``draw``, and a YAML file that names it.
H = ``data.size``; grey values of an image run from 0 to 1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from scipy import ndimage
from scipy.special import ndtr
from skimage import data as bundled
from skimage.color import rgb2gray
from skimage.draw import disk, line
from skimage.transform import resize
from typing_extensions import Doc

from ptychofno.data.settings import DataBase

_BLURS = ((1.0, 1.0), (2.0, 5.0), (5.0, 10.0))  # (weight, sigma in pixels) of what turns lines into an object
_LEAF_PX = (4.0, 100.0)  # least and largest radius of a leaf
_LAYERS = 6  # leaves that lie on one another in the mean
_CORRELATIONS_PX = (3.0, 24.0)  # of random fields of a mixture, least and largest


class Purpose(IntEnum):
    """What an object is for; the number is part of the data and must not change."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Transmission(NamedTuple):
    """What an object does to the light, up to a factor that is common to all objects of a dataset."""

    amplitude: np.ndarray  # float64 (H, H), not negative
    phase_rad: np.ndarray  # float64 (H, H)


@dataclass(kw_only=True)
class SimulatedData(DataBase):
    """The scan and the dose; a class of objects adds what its objects look like, and draws them."""

    N: Annotated[int, Ge(8), Le(1024), Doc("pattern and patch size in pixels")] = 64
    offset_px: Annotated[int, Ge(1), Doc("distance of neighbouring patches within a sample")] = 4
    size: Annotated[int, Ge(16), Le(16384), Doc("object size in pixels")] = 392
    nimgs_train: Annotated[int, Ge(1), Le(1000), Doc("training objects")] = 1
    nimgs_test: Annotated[int, Ge(1), Le(1000), Doc("test objects")] = 1
    train_step_px: Annotated[int, Ge(1), Doc("raster step of the training scan")] = 4
    validation_step_px: Annotated[int, Ge(1), Doc("raster step on the validation object")] = 20
    test_step_px: Annotated[int, Ge(1), Doc("raster step of the test scan")] = 10
    nphotons: Annotated[float, Gt(0), Le(1e15), Doc("photons per pattern, mean of the training split")] = 1e9
    seed: Annotated[int, Ge(0), Le(2**63 - 1), Doc("seed of objects and photon noise")] = 20260128

    @abstractmethod
    def draw(self, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
        """The object number ``index`` of those for ``purpose``; ``rng`` is its own.

        Raises ValueError, naming the setting, where the settings give no such object.
        """


@dataclass(kw_only=True)
class GridLinesData(SimulatedData):
    """Blurred random lines."""

    kind: ClassVar[str] = "grid_lines"

    nlines: Annotated[int, Ge(1), Le(1_000_000), Doc("random lines on a canvas of twice the size")] = 400
    set_phi: Annotated[bool, Doc("give the object a phase; false leaves it zero")] = True

    def draw(self, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
        """Blurred random lines a, and the phase pi tanh((a - max a / 2) / (3 mean a)), 0 without ``set_phi``.

        Cut from a canvas of twice the size: as dense at the border as in the middle.
        """
        canvas = np.zeros((2 * self.size, 2 * self.size))
        for ends in rng.integers(0, 2 * self.size, size=(self.nlines, 4)).tolist():
            canvas[line(*ends)] = 1
        centre = slice(self.size // 2, self.size // 2 + self.size)
        image = np.zeros((self.size, self.size))
        for weight, sigma in _BLURS:
            image += weight * ndimage.gaussian_filter(canvas, sigma)[centre, centre]
        if not image.any():
            raise ValueError(
                f"data.nlines={self.nlines} with data.seed={self.seed} leaves an object without any line;"
                " choose more lines"
            )
        if not self.set_phi:
            return Transmission(image, np.zeros_like(image))
        return Transmission(image, np.pi * np.tanh((image - image.max() / 2) / (3 * image.mean())))


@dataclass(kw_only=True)
class IndependentPhaseData(SimulatedData):
    """Objects whose amplitude and phase come from two images that know nothing of each other."""

    min_amplitude: Annotated[float, Ge(0), Lt(1), Doc("smallest amplitude, relative to the largest")] = 0.3
    phase_range_rad: Annotated[float, Ge(0), Le(6.28), Doc("between the least and the largest phase")] = 3.14

    def transmission(self, first: np.ndarray, second: np.ndarray) -> Transmission:
        """Amplitude from one image of values 0 to 1, phase from another."""
        return Transmission(
            amplitude=self.min_amplitude + (1 - self.min_amplitude) * first,
            phase_rad=self.phase_range_rad * (second - 0.5),
        )


_IMAGES = {
    Purpose.TRAIN: ("astronaut", "immunohistochemistry", "coffee", "grass"),
    Purpose.VALIDATION: ("coins", "brick"),
    Purpose.TEST: ("camera", "chelsea", "gravel"),
}
"""Functions of skimage.data. Only images that stand in its wheel, as the others are fetched from the
network, and only PNG, as decoders of JPEG differ in the last bit."""

_SCENE = 1.25  # shorter side of an image, in sizes of the object that is cut out of it


@dataclass(kw_only=True)
class NaturalImagesData(IndependentPhaseData):
    """Photographs as amplitude and, others, as phase."""

    kind: ClassVar[str] = "natural_images"

    def draw(self, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
        """Amplitude and phase from two photographs; all ordered pairs of a purpose take turns."""
        names = _IMAGES[purpose]
        turn, amplitude = divmod(index, len(names))
        phase = (amplitude + 1 + turn % (len(names) - 1)) % len(names)
        return self.transmission(_view(names[amplitude], self.size, rng), _view(names[phase], self.size, rng))


def _view(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A bundled image, scaled, cut, turned and mirrored at random; its percentiles 1 and 99 are 0 and 1."""
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


@dataclass(kw_only=True)
class RandomFieldsData(IndependentPhaseData):
    """Smooth random fields: nothing to recognise, no edges."""

    kind: ClassVar[str] = "random_fields"

    correlation_px: Annotated[float, Ge(1), Le(4096), Doc("distance at which the correlation is 1/e")] = 8.0

    def draw(self, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
        """Amplitude and phase from two independent smooth random fields, values evenly distributed."""
        longest = self.size / 4
        if self.correlation_px > longest:
            raise ValueError(
                f"data.correlation_px={self.correlation_px:g} leaves objects of data.size={self.size} px"
                f" hardly any structure; choose at most {longest:g}"
            )
        first, second = (ndtr(_gaussian_field(self.size, self.correlation_px, rng)) for _ in range(2))
        return self.transmission(first, second)


def _gaussian_field(size: int, correlation_px: float, rng: np.random.Generator) -> np.ndarray:
    """A periodic Gaussian random field, mean 0, variance 1, correlation exp(-(r / correlation_px)^2)."""
    frequency = np.fft.fftfreq(size)
    power = np.exp(-((math.pi * correlation_px) ** 2) * (frequency[:, None] ** 2 + frequency**2))
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) * np.sqrt(power / power.mean())
    return np.fft.ifft2(spectrum).real


@dataclass(kw_only=True)
class MixedData(IndependentPhaseData):
    """Objects of several classes in turn, for a network that is to serve many."""

    kind: ClassVar[str] = "mixed"

    classes: Annotated[
        list[Literal["grid_lines", "random_fields", "natural_images", "dead_leaves"]],
        Doc("of the training objects, in turn; the validation object is of dead leaves"),
    ] = field(default_factory=lambda: ["grid_lines", "random_fields", "natural_images", "dead_leaves"])

    def draw(self, purpose: Purpose, index: int, rng: np.random.Generator) -> Transmission:
        """Of the class whose turn it is; random fields are smooth over 3 to 24 px, evenly in the log."""
        if not self.classes:
            raise ValueError("data.classes=[]: choose one class at least")
        turn, which = divmod(index, len(self.classes))
        kind = "dead_leaves" if purpose is Purpose.VALIDATION else self.classes[which]
        alike: dict[str, Any] = {"name": "", "size": self.size, "seed": self.seed}
        ranges: dict[str, Any] = {
            "min_amplitude": self.min_amplitude,
            "phase_range_rad": self.phase_range_rad,
        }
        if kind == "dead_leaves":
            return self.transmission(_dead_leaves(self.size, rng), _dead_leaves(self.size, rng))
        if kind == "grid_lines":
            drawn = GridLinesData(**alike).draw(purpose, index, rng)
            return Transmission(drawn.amplitude / drawn.amplitude.max(), drawn.phase_rad)
        if kind == "natural_images":
            return NaturalImagesData(**alike, **ranges).draw(purpose, turn, rng)
        least, largest = _CORRELATIONS_PX
        smooth = min(least * (largest / least) ** rng.random(), self.size / 4)
        return RandomFieldsData(correlation_px=smooth, **alike, **ranges).draw(purpose, turn, rng)


def _dead_leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    """Discs of one grey value that hide one another, their radii r as r^-3 (Lee, Mumford and Huang 2001)."""
    image = np.full((size, size), rng.random())
    least, largest = _LEAF_PX
    mean_area = 2 * math.pi * math.log(largest / least) / (least**-2 - largest**-2)
    for _ in range(math.ceil(_LAYERS * size**2 / mean_area)):
        radius = (least**-2 - rng.random() * (least**-2 - largest**-2)) ** -0.5
        image[disk(rng.uniform(0, size, 2), radius, shape=image.shape)] = rng.random()
    return image
