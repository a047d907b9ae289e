"""From predicted patches to one object.

Shapes: n patches, N patch size in pixels, (H, W) object. A diffraction pattern does not fix the
global phase of its patch, so patches are brought to a common phase before they are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychofno.evaluation.growth import growth_order
from ptychofno.evaluation.illumination import add_patches, summed_intensity
from ptychofno.evaluation.infer import PATCHES_AT_ONCE
from ptychofno.physics import shift, split_positions

# Sweeps converge fastest here: under-relaxed they creep over long distances, near 2 they ring.
_RELAXATION = 1.6
SETTLED_RAD = 1e-4
NEARLY_SETTLED_RAD = 5e-3
"""Enough for the start of rounds of overlap, in a tenth of the sweeps (experiments/seconds)."""
# Of a patch's own weight; less agreement with the others is rounding of complex64.
_NO_OVERLAP = 1e-5

Real = NDArray[np.floating]
Complex = NDArray[np.complexfloating]


@dataclass(frozen=True)
class Stitched:
    """An object put together from patches."""

    object: Complex
    """(H, W) complex64; 0 where nothing was scanned."""
    illumination: Real
    """(H, W) float32, the summed weight of the patches: sum |P|^2."""
    patch_phases: Real
    """(n,) float64, radians: what was taken out of each patch."""


def stitch(
    patches: Tensor,
    positions_px: Any,
    probe: Any,
    *,
    shape: tuple[int, int] | None = None,
    sync_rounds: int = 60,
    settled_rad: float = SETTLED_RAD,
) -> Stitched:
    """The average of overlapping patches, weighted by |P|^2, after phase synchronisation.

    Object and patch phases theta minimise sum_i sum |P|^2 |exp(-i theta_i) patch_i - O[patch i]|^2
    over theta, with O the weighted average. At a fractional position it is the exit wave P patch that is
    shifted, and the probe, so that nothing is smoothed and both have the same support. The overall phase
    stays free: it is chosen so that the patches turn by 0 in the mean.

    Args:
        patches: complex64 (n, N, N); samples of several channels are flattened before.
        positions_px: (n, 2), (row, col) of the top-left pixels.
        probe: complex (N, N).
        shape: (H, W) of the object; the smallest that holds all patches when None.
        sync_rounds: at most this many sweeps over the patches; 0 leaves their phases alone.
        settled_rad: sweeps end when none turns a patch by more.

    Raises:
        ValueError: when counts or sizes disagree, or a patch leaves the object.
    """
    positions = torch.from_numpy(np.asarray(positions_px).astype(np.float64))
    weight = torch.from_numpy(np.square(np.abs(np.asarray(probe))).astype(np.float32))
    patches = patches.detach().cpu()
    _check(patches, positions)
    if weight.shape != patches.shape[1:]:
        raise ValueError(f"probe {tuple(weight.shape)} and patches {tuple(patches.shape[1:])} differ in size")
    shape = shape or _enclosing_shape(positions, patches.shape[-1])

    corners, fractions = split_positions(positions, patches.shape[-1], shape)
    illumination = summed_intensity(corners, fractions, probe, shape)
    lit = illumination > np.finfo(np.float32).eps * illumination.max()

    tiles = _weighted(patches, weight, probe, fractions)
    turns = np.ones(len(tiles), dtype=np.complex64)
    if sync_rounds > 0:
        turns = _synchronise(tiles, corners, np.where(lit, illumination, np.inf), sync_rounds, settled_rad)
    total = np.zeros(shape, dtype=np.complex64)
    add_patches(total, (turn * tile for turn, tile in zip(turns, tiles, strict=True)), corners)
    stitched = np.divide(total, illumination, out=np.zeros_like(total), where=lit)
    return Stitched(stitched, illumination, np.angle(turns.conj().astype(np.complex128)))


def _check(patches: Tensor, positions: Tensor) -> None:
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or not patches.is_complex():
        raise ValueError(f"patches must be complex (n, N, N), not {patches.dtype} {tuple(patches.shape)}")
    if positions.shape != (len(patches), 2) or len(patches) == 0:
        raise ValueError(f"{len(patches)} patches cannot have positions of shape {tuple(positions.shape)}")


def _enclosing_shape(positions: Tensor, size: int) -> tuple[int, int]:
    height, width = (torch.ceil(positions.amax(dim=0)).to(torch.int64) + size).tolist()
    return height, width


def _weighted(patches: Tensor, weight: Tensor, probe: Any, fractions: Tensor | None) -> Complex:
    """What each patch adds at its corner, complex64 (n, N, N): |P|^2 patch, shifted by its fraction."""
    if fractions is None:
        return (patches * weight).to(torch.complex64).numpy()
    illumination = torch.tensor(np.asarray(probe), dtype=torch.complex64)
    tiles = np.empty(tuple(patches.shape), dtype=np.complex64)
    for chunk in torch.arange(len(patches)).split(PATCHES_AT_ONCE):
        waves = shift(illumination * patches[chunk], fractions[chunk])
        tiles[chunk] = (shift(illumination, fractions[chunk]).conj() * waves).numpy()
    return tiles


def _synchronise(
    tiles: Complex, corners: Tensor, illumination: Real, rounds: int, settled_rad: float
) -> Complex:
    """Turns u_i of modulus 1, complex64 (n,), that maximise sum |sum_i u_i tile_i|^2 / illumination.

    That is the least-squares problem of ``stitch`` with the object eliminated. One patch at a
    time has the closed-form best turn arg<tile_i, sum of the others>; the first pass adds the
    patch that overlaps most with those already laid, so that no seam is left to heal, and
    over-relaxed sweeps back and forth settle the rest. As the objective is a cosine in each
    turn, a relaxation below 2 never lowers it.
    """
    size = tiles.shape[-1]
    scale = (1 / np.sqrt(illumination)).astype(np.float32)
    canvas = np.zeros(scale.shape, dtype=np.complex64)
    places = [np.s_[row : row + size, col : col + size] for row, col in corners.tolist()]
    windows = [canvas[place] for place in places]
    scaled = np.empty_like(tiles)
    for i, place in enumerate(places):
        np.multiply(tiles[i], scale[place], out=scaled[i])
    power = np.square(np.linalg.norm(scaled.reshape(len(tiles), -1), axis=1))
    turns = np.zeros(len(tiles), dtype=np.complex128)
    order = growth_order(corners.numpy(), size)
    for i in order:
        turns[i] = _phasor(np.vdot(scaled[i], windows[i]))
        windows[i] += np.complex64(turns[i]) * scaled[i]
    for sweep in range(rounds):
        largest = 0.0
        for i in order[:: 1 if sweep % 2 else -1]:
            others = np.vdot(scaled[i], windows[i]) - power[i] * turns[i]
            if abs(others) < _NO_OVERLAP * power[i]:
                continue
            angle = np.angle(_phasor(others * np.conj(turns[i])))
            new = turns[i] * np.exp(1j * _RELAXATION * angle)
            windows[i] += np.complex64(new - turns[i]) * scaled[i]
            turns[i] = new
            largest = max(largest, abs(angle))
        if largest < settled_rad:
            break
    return (turns * np.conj(_phasor(turns.sum()))).astype(np.complex64)


def _phasor(value: complex) -> complex:
    """value / |value|; 1 where there is nothing to agree with."""
    modulus = abs(value)
    return value / modulus if modulus > 0 else 1.0
