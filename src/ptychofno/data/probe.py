"""The illumination: an analytic aperture with defocus, or an array from a file."""

from __future__ import annotations

import math

import numpy as np
import torch

from ptychofno.config.schema import ApertureProbe, NpzProbe
from ptychofno.data.npz import NpzArchive, require_finite, require_scale


def make_probe(probe: ApertureProbe | NpzProbe, N: int) -> np.ndarray:
    """The probe P, complex64 (N, N), centred in the array.

    An aperture is normalised to max |P| = 1; a probe from a file keeps the units of the file.
    Raises ValueError naming file and key where the file has no usable probe of size N.
    """
    if isinstance(probe, NpzProbe):
        with NpzArchive(probe.path, "probe.path") as archive:
            return read_probe(archive, probe.key, "probe.key", N)
    if isinstance(probe, ApertureProbe):
        return _aperture_probe(probe, N)
    raise ValueError(f"probe={probe.name} comes with measured data; choose probe=aperture or probe=npz")


def read_probe(archive: NpzArchive, key: str, setting: str, N: int) -> np.ndarray:
    """The single-mode probe under ``key`` of an open file, complex64 (N, N).

    Axes of length 1 before the last two are dropped; several modes are refused.
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
    return array.reshape(N, N).astype(np.complex64)


def _aperture_probe(probe: ApertureProbe, N: int) -> np.ndarray:
    """An aperture imaged onto the object: t(r) exp(i defocus r^2), r = 1 at the rim.

    t falls from 1 to 0 as a raised cosine over the outermost ``edge_width`` of the radius, so
    that nothing outside the rim is lit. The quadratic phase is that of a spherical wave.
    """
    axis = torch.arange(N, dtype=torch.float64) - N // 2
    radius = torch.hypot(axis[:, None], axis[None, :]) / (probe.diameter * N / 2)
    into_edge = ((radius - (1 - probe.edge_width)) / probe.edge_width).clamp(0, 1)
    transmission = (1 + torch.cos(torch.pi * into_edge)) / 2
    return torch.polar(transmission, probe.defocus_rad * radius.square()).to(torch.complex64).numpy()
