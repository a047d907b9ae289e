"""Pixels of the object: how large they are, where positions lie on them, and the probe on them.

The far field of an object pixel d on a detector of side s at distance z is d = lambda z / s.
Shapes: n positions, probe modes (m, M, M) or (m, N, N).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ptychofno.data.detector import Window, cut
from ptychofno.data.look import CONTRADICTION, centredness
from ptychofno.data.readers.scan import HC_EV_M, UNITS, Modes, Positions
from ptychofno.data.readers.source import require_scale

_CLOSEST_PX = 0.5  # smallest believable distance of neighbouring positions; below it the unit is not px
# The same of positions in metres; below it they and the geometry belong to different scans.
_CLOSEST_BY_GEOMETRY_PX = 1.0
_CLEARLY = 0.02  # by so much one probe must agree better with the patterns than another, as a cosine
LARGEST_OBJECT_MI_PX = 64
_FAR = 10  # so many times as far as nine tenths of the others, a position belongs to no scan


@dataclass(frozen=True)
class Geometry:
    """What tells the object pixel; None for what is not known."""

    energy_ev: float | None
    distance_m: float | None
    detector_pixel_m: float | None

    @property
    def field_m(self) -> float | None:
        """lambda z / p, the field of view that one detector pixel resolves; None where it is not known."""
        if self.energy_ev is None or self.distance_m is None or self.detector_pixel_m is None:
            return None
        return HC_EV_M / self.energy_ev * self.distance_m / self.detector_pixel_m

    def missing(self) -> str:
        """The settings that would complete it."""
        return ", ".join(f"data.geometry.{name}" for name, value in vars(self).items() if value is None)


def in_pixels(
    positions: Positions, known: Geometry, pixel_m: float | None, scale: float, N: int, notes: list[str]
) -> np.ndarray:
    """(row, col) of every pattern in object pixels, float64 (n, 2), the smallest 0.

    ``pixel_m`` is the size of an object pixel, ``scale`` how many of them a pixel of the file has. Raises
    ValueError where the unit is not px and the size of a pixel not known, or the result is no scan.
    """
    unit = positions.unit or _unit_of(positions, pixel_m, scale, N, notes)
    factor = scale
    if unit != "px":
        if pixel_m is None:
            raise ValueError(
                f"{positions.where} are in {unit}; expected {known.missing()} to turn them into object pixels"
            )
        factor = UNITS[unit] / pixel_m
        spacing = _spacings(positions.values)[0] * factor
        if spacing < _CLOSEST_BY_GEOMETRY_PX:
            raise ValueError(
                f"{positions.where} lie {spacing:.2g} object pixels of {pixel_m * 1e9:.3g} nm apart, expected"
                " more: energy, distance or detector pixel are not theirs; type the right ones in"
                " data.geometry (energy_ev, distance_m, detector_pixel_m), or data.layout.positions_unit"
            )
    found = positions.values * factor
    found = found - found.min(axis=0)
    _check_spacing(found, N, positions.where)
    _check_extent(found, positions, N)
    return found


def _unit_of(positions: Positions, pixel_m: float | None, scale: float, N: int, notes: list[str]) -> str:
    """px where neighbours are as far apart as a scan's are, else the unit in which they would be."""
    spacing, _ = _spacings(positions.values)
    if _CLOSEST_PX <= spacing * scale < N or pixel_m is None:
        return "px"
    for unit in ("m", "um", "nm", "mm"):
        if _CLOSEST_BY_GEOMETRY_PX / 2 <= (apart := spacing * UNITS[unit] / pixel_m) < N:
            notes.append(
                f"positions are taken for {unit}: {spacing:.3g} apart, {apart:.1f}"
                f" object pixels of {pixel_m * 1e9:.3g} nm (data.layout.positions_unit chooses another)"
            )
            return unit
    return "px"


def _spacings(positions: np.ndarray) -> tuple[float, float]:
    """How far positions lie apart, by their number on the area if that is more; the nearest neighbour."""
    places = np.unique(positions, axis=0)
    nearest = cKDTree(places).query(places, k=2, p=np.inf)[0][:, 1] if len(places) > 1 else np.zeros(1)
    neighbour = float(np.median(nearest))
    # One axis may be sampled finely, or every place about twice: only then is the area large for it.
    return max(neighbour, float(np.prod(np.ptp(places, axis=0)) / len(places)) ** 0.5), neighbour


def _check_spacing(positions_px: np.ndarray, N: int, where: str) -> None:
    """Raise ValueError where the positions can hardly be object pixels: too close, or without overlap."""
    spacing, neighbour = _spacings(positions_px)
    if spacing >= _CLOSEST_PX and neighbour < N:
        return
    unit = "micrometres" if spacing > 1e-3 else "metres or millimetres"
    if spacing >= _CLOSEST_PX:
        unit, spacing = "nanometres or detector pixels", neighbour
    raise ValueError(
        f"{where} lie {spacing:.3g} apart, patches have {N} px; expected object pixels and patches that"
        f" overlap; these may be {unit}: type data.layout.positions_unit and data.geometry"
    )


def _check_extent(positions_px: np.ndarray, positions: Positions, N: int) -> None:
    """Raise ValueError for an object that is too large, or one position far from all the others."""
    height, width = (positions_px.max(axis=0) + N).tolist()
    away = np.abs(positions_px - np.median(positions_px, axis=0)).max(axis=1)
    far = int(away.argmax())
    lost = away[far] > _FAR * (np.quantile(away, 0.9) + N)
    if lost or height * width > LARGEST_OBJECT_MI_PX * 2**20:
        row, col = positions.values[far].tolist()
        raise ValueError(
            f"{positions.where}[{far}] is ({row:g}, {col:g}), for which the object is {height:.6g} x"
            f" {width:.6g} px; expected positions near one another, {LARGEST_OBJECT_MI_PX} Mi pixels at most"
        )


def natural_size(probe: Modes | None, mean: np.ndarray, centre: tuple[int, int]) -> int:
    """The size of patterns where none is asked: the detector's, or the probe's if all light is in there."""
    side = min(mean.shape)
    M = side if probe is None else probe.values.shape[-1]
    inner = mean[max(0, centre[0] - M // 2) :, max(0, centre[1] - M // 2) :][:M, :M]
    return M if side > M and inner.sum() > 0.98 * mean.sum() else side


def placed_probe(
    probe: Modes, window: Window, detector: int, mean: np.ndarray, field_m: float | None, notes: list[str]
) -> tuple[np.ndarray, float]:
    """A probe of M pixels on the N pixels of the patches, complex64 (m, N, N).

    Of M and the detector's side unequal, either the probe fills the field of view of the detector, on M other
    pixels; or its pixels are those of the whole detector, and its array larger or smaller. The one whose far
    field agrees better with the mean pattern's amplitude is taken; ValueError where both agree as well.
    Also gives the side of the detector, in its pixels, that the file's own object pixels belong to.
    """
    M, N = probe.values.shape[-1], window.N
    filling = fitted(resampled(probe.values, window.side), N)
    if detector == M:
        if M != N:
            notes.append(f"the probe of {M} px is resampled to {N} px")
        return filling, M
    same_pixels = fitted(resampled(fitted(probe.values, detector), window.side), N)
    better = _agreement(filling, mean) - _agreement(same_pixels, mean)
    if probe.pixel_m is not None and field_m is not None:
        field = np.log(probe.pixel_m / field_m)
        better = 1.0 if abs(field + np.log(M)) < abs(field + np.log(detector)) else -1.0
    if abs(better) < _CLEARLY:
        raise ValueError(
            f"{probe.where} has {M} x {M} pixels, the patterns {detector}: as its pixels are not known, it"
            f" fits neither way better; expected a probe of {detector} x {detector}"
        )
    if better > 0:
        notes.append(f"the probe of {M} px is taken to fill the field of view of {N} px")
        return filling, M
    notes.append(f"the probe of {M} px is cut to {N} px, its pixels being those of the patterns")
    return same_pixels, detector


def check_probe(found: np.ndarray, where: str) -> None:
    """Raise ValueError for modes (m, N, N) too large for single precision, or centred at the corner."""
    amplitude = np.sqrt(np.square(np.abs(found.astype(np.complex128))).sum(axis=0))
    require_scale(float(amplitude.max()), where)
    if centredness(amplitude) < -CONTRADICTION:
        raise ValueError(
            f"{where} is brightest around the corner; expected it at the centre: np.fft.fftshift"
        )


def _agreement(modes: np.ndarray, mean: np.ndarray) -> float:
    """Cosine between the far field of a probe and the mean pattern, both amplitudes."""
    far = np.fft.fftshift(np.fft.fft2(modes), axes=(-2, -1))
    modulus = np.sqrt(np.square(np.abs(far)).sum(axis=0))
    return float((modulus * mean).sum() / (np.linalg.norm(modulus) * np.linalg.norm(mean) + 1e-30))


def resampled(modes: np.ndarray, size: int) -> np.ndarray:
    """The same field of view on ``size`` pixels: the far field cropped or padded."""
    if modes.shape[-1] == size:
        return modes.astype(np.complex64)
    axes = (-2, -1)
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(modes, axes=axes)), axes=axes)
    near = np.fft.ifft2(np.fft.ifftshift(fitted(far, size), axes=axes))
    return np.fft.fftshift(near, axes=axes).astype(np.complex64)


def fitted(modes: np.ndarray, size: int) -> np.ndarray:
    """Cropped to, or padded by zeros to, ``size`` around the centre."""
    start = modes.shape[-1] // 2 - size // 2
    return cut(modes, start, start, size)
