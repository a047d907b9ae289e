"""The illumination: analytic (an aperture or a Gaussian beam, with defocus), or an array from a file."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from typing_extensions import Doc

from ptychofno.data.npz import NpzArchive, require_finite, require_scale

CONTRADICTION = 0.05
"""How clearly something must be brighter around the corner, or the centre, to be refused for it."""

NO_SCAN = "probe=dataset comes with measured data; choose another probe, such as probe=aperture"


class GivenProbe:
    """A probe that does not come with a scan."""

    @abstractmethod
    def make(self, N: int) -> np.ndarray:
        """The probe P, complex64 (N, N), centred in the array.

        An analytic one is normalised to max |P| = 1; a probe from a file keeps the units of the file.
        Raises ValueError naming file and key where the file has no usable probe of size N.
        """


@dataclass
class ApertureProbe(GivenProbe):
    """An aperture imaged onto the object: t(r) exp(i defocus r^2), r = 1 at the rim.

    t falls from 1 to 0 as a raised cosine over the outermost ``edge_width`` of the radius, so
    that nothing outside the rim is lit.
    """

    name: ClassVar[str] = "aperture"

    diameter: Annotated[
        float, Gt(0), Le(1), Doc("diameter of the aperture as a fraction of the patch size")
    ] = 0.65
    edge_width: Annotated[
        float, Gt(0), Le(1), Doc("width of the aperture's smooth edge, relative to its radius")
    ] = 0.3
    defocus_rad: Annotated[float, Doc("quadratic phase at the rim of the aperture, radians")] = 5.0

    def make(self, N: int) -> np.ndarray:
        radius = _radius(N, self.diameter * N / 2)
        into_edge = ((radius - (1 - self.edge_width)) / self.edge_width).clamp(0, 1)
        return _defocused((1 + torch.cos(torch.pi * into_edge)) / 2, radius, self.defocus_rad)


@dataclass
class GaussianProbe(GivenProbe):
    """A Gaussian beam near its waist: 2^(-r^2 / 2) exp(i defocus r^2), r = 1 at half the intensity.

    Without defocus P is real and even, and a patch O(r) gives the same pattern as O*(-r): no network
    that sees one pattern can tell them apart.
    """

    name: ClassVar[str] = "gaussian"

    # Wider, and the border of the patch would cut off a beam of notable amplitude (6 % at 0.35).
    fwhm: Annotated[
        float,
        Gt(0),
        Le(0.35),
        Doc("full width at half maximum of the intensity as a fraction of the patch size"),
    ] = 0.25
    defocus_rad: Annotated[float, Doc("quadratic phase at half maximum, radians")] = 2.0

    def make(self, N: int) -> np.ndarray:
        radius = _radius(N, self.fwhm * N / 2)
        return _defocused(torch.exp2(-radius.square() / 2), radius, self.defocus_rad)


@dataclass
class NpzProbe(GivenProbe):
    """A probe in a file of its own."""

    name: ClassVar[str] = "npz"

    path: Annotated[str, Doc("NPZ file with a complex probe")]
    key: Annotated[str, Doc("name of the array in that file")] = "probe"

    def make(self, N: int) -> np.ndarray:
        with NpzArchive(self.path, "probe.path") as archive:
            return read_probe(archive, self.key, "probe.key", N)


class ScanProbe:
    """A probe that comes with a scan."""


@dataclass
class DatasetProbe(ScanProbe):
    """The probe in the file of the scan, as it is."""

    name: ClassVar[str] = "dataset"


@dataclass
class RefinedProbe(ScanProbe):
    """The probe in the file of the scan, refined together with the object on the training patterns."""

    name: ClassVar[str] = "refined"

    rounds: Annotated[int, Ge(2), Le(10_000), Doc("rounds of overlap on the training patterns, at most")] = 15


def read_probe(archive: NpzArchive, key: str, setting: str, N: int) -> np.ndarray:
    """The single-mode probe under ``key`` of an open file, complex64 (N, N).

    Axes of length 1 before the last two are dropped; several modes are refused, as is a probe that is
    centred at the corner.
    """
    array = archive.array(key, setting)
    where = f"{archive.source}: probe '{key}'"
    if not np.iscomplexobj(array):
        raise ValueError(f"{where} is {array.dtype}; expected complex values")
    if array.ndim < 2 or array.shape[-2:] != (N, N):
        raise ValueError(f"{where} has shape {array.shape}; expected ({N}, {N}), the size of the patterns")
    modes = math.prod(array.shape[:-2])
    if modes != 1:
        raise ValueError(f"{where} of shape {array.shape} holds {modes} modes; one mode is supported")
    require_finite(array, archive.source, key)
    if not array.any():
        raise ValueError(f"{where} is zero everywhere; expected an illumination")
    require_scale(float(np.abs(array).max()), where)
    if centredness(np.abs(array.reshape(N, N))) < -CONTRADICTION:
        raise ValueError(
            f"{where} is brightest around the corner; expected it at the centre: np.fft.fftshift"
        )
    return array.reshape(N, N).astype(np.complex64)


def centredness(image: np.ndarray) -> float:
    """How far the light of ``image`` (N, N), not negative, gathers around its centre, 1, or a corner, -1.

    From its mean city-block distance: half the size for an even illumination, less for light around the
    centre (a disc, or a ring as well), more for light around the corner.
    """
    N = image.shape[0]
    from_centre = np.abs(np.arange(N) - N // 2)
    distance = np.average(from_centre[:, None] + from_centre, weights=image)
    return 1 - float(distance) / (N / 2)


def _radius(N: int, unit_px: float) -> Tensor:
    """Distance of each pixel from the centre pixel, float64 (N, N)."""
    axis = torch.arange(N, dtype=torch.float64) - N // 2
    return torch.hypot(axis[:, None], axis[None, :]) / unit_px


def _defocused(amplitude: Tensor, radius: Tensor, defocus_rad: float) -> np.ndarray:
    """``amplitude`` with the quadratic phase of a spherical wave, complex64 (N, N)."""
    return torch.polar(amplitude, defocus_rad * radius.square()).to(torch.complex64).numpy()
