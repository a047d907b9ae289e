"""The illumination: analytic (an aperture or a Gaussian beam, with defocus), or an array from a file."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ptychofno.config.schema import ApertureProbe, DatasetProbe, GaussianProbe, NpzProbe, RefinedProbe
from ptychofno.data.npz import NpzArchive, require_finite, require_scale

GivenProbe = ApertureProbe | GaussianProbe | NpzProbe
"""The settings of a probe that does not come with a scan."""

ScanProbe = DatasetProbe | RefinedProbe
"""The settings of a probe that comes with a scan, as it is or refined."""

CONTRADICTION = 0.05
"""How clearly something must be brighter around the corner, or the centre, to be refused for it."""

NO_SCAN = "probe=dataset comes with measured data; choose another probe, such as probe=aperture"


def make_probe(probe: GivenProbe | ScanProbe, N: int) -> np.ndarray:
    """The probe P, complex64 (N, N), centred in the array.

    An analytic one is normalised to max |P| = 1; a probe from a file keeps the units of the file.
    Raises ValueError naming file and key where the file has no usable probe of size N.
    """
    match probe:
        case ApertureProbe():
            return _aperture(probe, N)
        case GaussianProbe():
            return _gaussian(probe, N)
        case NpzProbe():
            with NpzArchive(probe.path, "probe.path") as archive:
                return read_probe(archive, probe.key, "probe.key", N)
        case DatasetProbe() | RefinedProbe():
            raise ValueError(NO_SCAN)


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


def _aperture(probe: ApertureProbe, N: int) -> np.ndarray:
    """An aperture imaged onto the object: t(r) exp(i defocus r^2), r = 1 at the rim.

    t falls from 1 to 0 as a raised cosine over the outermost ``edge_width`` of the radius, so
    that nothing outside the rim is lit.
    """
    radius = _radius(N, probe.diameter * N / 2)
    into_edge = ((radius - (1 - probe.edge_width)) / probe.edge_width).clamp(0, 1)
    return _defocused((1 + torch.cos(torch.pi * into_edge)) / 2, radius, probe.defocus_rad)


def _gaussian(probe: GaussianProbe, N: int) -> np.ndarray:
    """A Gaussian beam near its waist: 2^(-r^2 / 2) exp(i defocus r^2), r = 1 at half the intensity.

    Without defocus P is real and even, and a patch O(r) gives the same pattern as O*(-r): no network
    that sees one pattern can tell them apart.
    """
    radius = _radius(N, probe.fwhm * N / 2)
    return _defocused(torch.exp2(-radius.square() / 2), radius, probe.defocus_rad)


def _radius(N: int, unit_px: float) -> Tensor:
    """Distance of each pixel from the centre pixel, float64 (N, N)."""
    axis = torch.arange(N, dtype=torch.float64) - N // 2
    return torch.hypot(axis[:, None], axis[None, :]) / unit_px


def _defocused(amplitude: Tensor, radius: Tensor, defocus_rad: float) -> np.ndarray:
    """``amplitude`` with the quadratic phase of a spherical wave, complex64 (N, N)."""
    return torch.polar(amplitude, defocus_rad * radius.square()).to(torch.complex64).numpy()
