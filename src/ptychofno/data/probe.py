"""The illumination: analytic (an aperture or a Gaussian beam, with defocus), or an array from a file."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ptychofno.config.schema import ApertureProbe, DatasetProbe, GaussianProbe, NpzProbe, RefinedProbe
from ptychofno.data.readers.files import open_source
from ptychofno.data.readers.keys import modes
from ptychofno.data.readers.scan import Modes
from ptychofno.data.sampling import check_probe

GivenProbe = ApertureProbe | GaussianProbe | NpzProbe
"""The settings of a probe that does not come with a scan."""

ScanProbe = DatasetProbe | RefinedProbe
"""The settings of a probe that comes with a scan, as it is or refined."""

_NEARLY_ALL = 0.9
"""Share of the light from which on one mode stands for all."""

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
            found = read_probe(probe)
            if found.values.shape[-1] != N:
                raise ValueError(
                    f"{found.where} has shape {found.values.shape[-2:]}; expected ({N}, {N}), the size of the"
                    " patterns"
                )
            check_probe(found.values, found.where)
            return single_mode(found.values, found.where)[0]
        case DatasetProbe() | RefinedProbe():
            raise ValueError(NO_SCAN)


def read_probe(probe: NpzProbe) -> Modes:
    """The probe of a file, as it is there. Raises ValueError naming file and key where it is none."""
    with open_source(probe.path, "probe.path") as source:
        return modes(source, probe.key, "probe.key")


def single_mode(found: np.ndarray, where: str) -> tuple[np.ndarray, str | None]:
    """The strongest mode of (m, N, N), complex64 (N, N), and a line that says what is left out.

    Modes are made orthogonal first, which leaves the light they make together. Raises ValueError where one
    of them is not nearly all.
    """
    if len(found) == 1:
        return found[0], None
    _, power, orthogonal = np.linalg.svd(found.reshape(len(found), -1), full_matrices=False)
    share = float(power[0] ** 2 / np.square(power).sum())
    if share < _NEARLY_ALL:
        raise ValueError(
            f"{where} holds {len(found)} modes, of which the strongest has {share:.0%} of the light; one mode"
            f" of {_NEARLY_ALL:.0%} or more is supported: name it alone in data.layout.probe_key"
        )
    strongest = (power[0] * orthogonal[0]).reshape(found.shape[1:])
    turned = np.exp(-1j * np.angle(np.vdot(found[0], strongest)))
    note = f"of {len(found)} modes of the probe the strongest is taken, {share:.1%} of the light"
    return (strongest * turned).astype(np.complex64), note


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
