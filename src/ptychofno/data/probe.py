"""The illumination: analytic (an aperture or a Gaussian beam, with defocus), or an array from a file."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from typing_extensions import Doc

from ptychofno import physics
from ptychofno.data.readers.files import open_source
from ptychofno.data.readers.reading import modes
from ptychofno.data.readers.scan import Modes
from ptychofno.data.sampling import check_probe

_BEGINNING = 0.1  # share of the light with which a further mode begins


class GivenProbe:
    """A probe that does not come with a scan."""

    @abstractmethod
    def make(self, N: int) -> np.ndarray:
        """The probe P, complex64 (N, N), or (M, N, N) of M incoherent modes, centred; analytic max |P| = 1.

        Raises ValueError naming file and key where the file has no usable probe of size N.
        """


@dataclass
class ApertureProbe(GivenProbe):
    """An aperture imaged onto the object: t(r) exp(i defocus r^2), r = 1 at the rim.

    t falls from 1 to 0 as a raised cosine over the outermost ``edge_width`` of the radius, so
    that nothing outside the rim is lit.
    """

    name: ClassVar[str] = "aperture"

    diameter: Annotated[float, Gt(0), Le(1), Doc("of the aperture, as a fraction of the patch size")] = 0.65
    edge_width: Annotated[float, Gt(0), Le(1), Doc("of its smooth edge, relative to its radius")] = 0.3
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
        float, Gt(0), Le(0.35), Doc("full width of the intensity at half maximum, of the patch size")
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
        found = self.read()
        if found.values.shape[-1] != N:
            raise ValueError(
                f"{found.where} has shape {found.values.shape[-2:]}; expected ({N}, {N}), the size of the"
                " patterns"
            )
        check_probe(found.values, found.where)
        return taken_modes(found.values)[0]

    def read(self) -> Modes:
        """The probe of the file, as it is there. Raises ValueError naming file and key where it is none."""
        with open_source(self.path, "probe.path") as source:
            if self.key not in source.arrays:
                raise source.missing([self.key], "probe.key")
            return modes(source, self.key)


class ScanProbe:
    """A probe that comes with a scan."""


@dataclass
class DatasetProbe(ScanProbe):
    """The probe in the files of the scan, as it is, with all its modes."""

    name: ClassVar[str] = "dataset"


@dataclass
class RefinedProbe(ScanProbe):
    """The probe in the files of the scan, refined together with the object on the training patterns."""

    name: ClassVar[str] = "refined"

    rounds: Annotated[int, Ge(0), Le(10_000), Doc("of overlap on the training patterns, at most")] = 15
    modes: Annotated[
        int | None,
        Ge(1),
        Le(32),
        Doc("incoherent ones; beyond the file's they begin small; null takes these"),
    ] = None


Probe = GivenProbe | ScanProbe


def taken_modes(found: np.ndarray, count: int | None = None) -> tuple[np.ndarray, str | None]:
    """The strongest ``count`` orthogonal modes of (m, N, N), or all, and a line about several.

    Further ones than there are begin small. Gives complex64 (N, N), or (count, N, N) of several.
    """
    modes = physics.orthogonal_modes(torch.from_numpy(found.astype(np.complex64)))
    have = len(modes)
    count = count or have
    if count == have == 1:
        return found[0], None
    if count > have:
        note = f"the probe has {count} modes, {count - have} of which begin small, to be refined"
        return physics.further_modes(modes, count, _BEGINNING).numpy(), note
    if count == have:
        return modes.numpy(), told_modes(modes.numpy())
    light = sum(physics.mode_shares(modes)[:count])
    taken, verb = (modes[0], "is") if count == 1 else (modes[:count], "are")
    return taken.numpy(), f"of {have} modes of the probe {count} {verb} taken, {light:.1%} of the light"


def told_modes(probe: np.ndarray) -> str:
    """How the light is spread over the modes of a probe (M, N, N), in words."""
    shares = [f"{share:.1%}" for share in physics.mode_shares(torch.tensor(probe))]
    return f"the {len(shares)} modes of the probe have {', '.join(shares)} of the light"


def _radius(N: int, unit_px: float) -> Tensor:
    """Distance of each pixel from the centre pixel, float64 (N, N)."""
    axis = torch.arange(N, dtype=torch.float64) - N // 2
    return torch.hypot(axis[:, None], axis[None, :]) / unit_px


def _defocused(amplitude: Tensor, radius: Tensor, defocus_rad: float) -> np.ndarray:
    """``amplitude`` with the quadratic phase of a spherical wave, complex64 (N, N)."""
    return torch.polar(amplitude, defocus_rad * radius.square()).to(torch.complex64).numpy()
