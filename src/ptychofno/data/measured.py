"""Measured scans: diffraction patterns, probe and positions from an NPZ file.

Shapes: n patterns of (N, N) pixels. The file says nothing about its conventions, so the layout
(names, counts or amplitudes, place of the zero frequency) is declared, and what can be checked
against the data is.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from ptychofno import physics
from ptychofno.data.dataset import PtychoDataset, Split, amplitude_moments
from ptychofno.data.npz import NpzArchive, first_index, require_finite, require_scale
from ptychofno.data.probe import (
    CONTRADICTION,
    GivenProbe,
    RefinedProbe,
    ScanProbe,
    centredness,
    read_probe,
)
from ptychofno.data.settings import MeasuredData, MeasuredLayout

_DARK = 1e-5
"""The share of the median pattern's light up to which a pattern counts as dark: a few stray photons."""

_CLOSEST_PX = 0.5
"""Smallest believable distance of neighbouring positions; below it the unit is not px."""


def read_measured(data: MeasuredData, probe: GivenProbe | ScanProbe, key: str) -> PtychoDataset:
    """Read a scan and hold out patterns for validation and test.

    Pattern i validates when i % h == 0 and tests when i % h == h // 2, h = ``held_out_every``;
    the others train. X is sqrt(counts), or the file's amplitudes as they are; the photon scale
    is 1 in both cases, which for amplitudes assumes that X**2 are counts. The probe is scaled
    to sum |P|^2 = mean sum X^2 of the training patterns, so that an object of modulus 1
    explains the mean intensity. Positions are shifted to start at 0. A sample is a pattern, its first, and
    the gridsize**2 - 1 nearest to it of the same split.

    Args:
        data: the file and its layout.
        probe: ``DatasetProbe`` takes the probe of the file, ``RefinedProbe`` what rounds of overlap make of
            it on the training patterns.
        key: identifies the result, see ``dataset_key``.

    Raises ValueError with one line naming file, array and index of whatever is unusable.
    """
    layout = data.layout
    with NpzArchive(data.path, "data.path") as archive:
        patterns, valid = _read_patterns(archive, layout, data)
        count, N, _ = patterns.shape
        positions_px = _read_positions(archive, layout, count, N)
        if isinstance(probe, ScanProbe):
            illumination = read_probe(archive, layout.probe_key, "data.layout.probe_key", N)
        else:
            illumination = probe.make(N)

    C = data.gridsize**2
    index = np.arange(count)
    every = data.held_out_every
    validates, tests = index % every == 0, index % every == every // 2

    def split(members: np.ndarray) -> Split:
        found = np.flatnonzero(members)
        samples = found[_neighbours(positions_px[found], C)]
        return Split(patterns[samples], positions_px[samples], np.zeros(len(found), np.int64))

    train, validation, test = split(~(validates | tests)), split(validates), split(tests)
    mean, mean_square = amplitude_moments(train.amplitude[:, 0])
    energy = float(np.sum(np.abs(illumination.astype(np.complex128)) ** 2))
    scaled = given = (illumination * np.sqrt(mean_square * N * N / energy)).astype(np.complex64)
    if isinstance(probe, RefinedProbe):
        scaled = _refined_probe(train, given, valid, probe.rounds, positions_px)
    return PtychoDataset(
        name=data.name,
        key=key,
        probe=scaled,
        given_probe=None if scaled is given else given,
        valid=valid,
        photon_scale=1.0,
        mean_amplitude=mean,
        rms_amplitude=mean_square**0.5,
        train=train,
        validation=validation,
        test=test,
        validation_objects=None,
        test_objects=None,
    )


def _refined_probe(
    train: Split, given: np.ndarray, valid: np.ndarray | None, rounds: int, positions_px: np.ndarray
) -> np.ndarray:
    """What rounds of overlap on the training patterns make of a probe, complex64 (N, N)."""
    height, width = (np.ceil(positions_px.max(axis=0)).astype(int) + given.shape[-1]).tolist()
    scan = physics.make_scan(
        torch.from_numpy(train.amplitude[:, 0]),
        torch.from_numpy(train.positions_px[:, 0]),
        (height, width),
        None if valid is None else torch.from_numpy(valid),
    )
    start = physics.flat_estimate(scan, torch.from_numpy(given))
    return physics.refine(scan, start, rounds, probe_from=2).estimate.probe.numpy()


def _neighbours(positions_px: np.ndarray, C: int) -> np.ndarray:
    """Indices (n, C) of each position of (n, 2), first, and of the C - 1 nearest to it."""
    own = np.arange(len(positions_px))[:, None]
    if C == 1:
        return own
    near = cKDTree(positions_px).query(positions_px, k=C)[1]
    # Of patterns at one position any may be the first, and with many of them none the pattern itself.
    order = np.argsort(near != own, axis=1, kind="stable")
    found = np.take_along_axis(near, order, axis=1)
    lost = found[:, 0] != own[:, 0]
    found[lost] = np.concatenate((own[lost], found[lost, :-1]), axis=1)
    return found


# --- patterns --------------------------------------------------------------------------------


def _read_patterns(
    archive: NpzArchive, layout: MeasuredLayout, data: MeasuredData
) -> tuple[np.ndarray, np.ndarray | None]:
    """Amplitudes X, float32 (n, N, N), 0 where not valid, and the mask, float32 (N, N) or None.

    Both have their zero frequency at the centre.
    """
    key = next((name for name in layout.patterns_keys if name in archive.keys), None)
    if key is None:
        raise archive.missing(list(layout.patterns_keys), "data.layout.patterns_keys")
    patterns = archive.array(key, "data.layout.patterns_keys")
    while patterns.ndim > 3 and patterns.shape[0] == 1:
        patterns = patterns[0]
    _check_pattern_shape(patterns.shape, f"{archive.source}: patterns '{key}'", data)
    if np.iscomplexobj(patterns):
        raise ValueError(f"{archive.source}: '{key}' is {patterns.dtype}; expected real {layout.quantity}")
    valid = _read_mask(archive, layout, patterns.shape[1:])
    where = f"{archive.source}: '{key}'"
    check_pixels(patterns, None if valid is None else valid > 0, layout.quantity, where)
    if valid is not None:
        patterns = np.where(valid > 0, patterns, patterns.dtype.type(0))
    peak = float(patterns.max())
    require_scale(peak**0.5 if layout.quantity == "counts" else peak, f"{archive.source}: '{key}'")
    if layout.quantity == "counts":
        # numpy takes the root of small integers, and of half floats, in half precision.
        patterns = np.sqrt(patterns, dtype=np.result_type(patterns, np.float32))
    amplitude = patterns.astype(np.float32)
    _check_zero_frequency(amplitude, layout.zero_frequency, f"{archive.source}: '{key}'")
    _check_light(amplitude, f"{archive.source}: '{key}'")
    if layout.zero_frequency == "corner":
        amplitude = np.fft.fftshift(amplitude, axes=(1, 2))
        valid = None if valid is None else np.fft.fftshift(valid)
    return amplitude, valid


def _read_mask(archive: NpzArchive, layout: MeasuredLayout, shape: tuple[int, ...]) -> np.ndarray | None:
    """1 where a detector pixel is valid, else 0, float32 (N, N), as it stands in the file; None without."""
    if layout.mask_key is None:
        return None
    mask = archive.array(layout.mask_key, "data.layout.mask_key")
    where = f"{archive.source}: mask '{layout.mask_key}'"
    if mask.shape[-2:] != shape or mask.size != shape[0] * shape[1]:
        raise ValueError(f"{where} has shape {mask.shape}; expected {shape}, the size of the patterns")
    valid = (mask.reshape(shape) != 0).astype(np.float32)
    if not valid.any():
        raise ValueError(f"{where} is 0 everywhere; expected 1 where a pixel is valid")
    return None if valid.all() else valid


def check_pixels(patterns: np.ndarray, valid: np.ndarray | None, quantity: str, where: str) -> None:
    """Raise ValueError for a valid pixel whose value is no measurement but marks it as dead.

    Such marks are NaN, infinite and negative values, the largest of the integer type, and that of 32 or 64
    bits in a wider or floating type (of amplitudes also its root).

    Args:
        patterns: real (n, N, N). valid: bool, broadcastable to them; None where all pixels are.
        quantity: counts or amplitude. where: file and key, for the message.
    """
    kind = patterns.dtype
    marks: set[float] = {2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
    if kind.kind in "iu":
        limit: float = np.iinfo(kind).max
        marks.add(limit)
    else:
        limit = float(np.finfo(kind).max)
        marks |= {mark**0.5 for mark in marks if quantity == "amplitude"}
    dead = ~np.isfinite(patterns) | (patterns < 0)
    for mark in marks:
        if mark <= limit:
            dead |= patterns == kind.type(mark)
    if valid is not None:
        dead &= valid
    if dead.any():
        raise ValueError(
            f"{where}{first_index(dead)} is {patterns[dead][0]}; expected finite {quantity} >= 0"
            f" ({int(dead.sum())} of {dead.size} are not, or mark dead pixels: name an array of the valid"
            " ones in data.layout.mask_key)"
        )


def _check_pattern_shape(shape: tuple[int, ...], where: str, data: MeasuredData) -> None:
    if len(shape) != 3 or shape[1] != shape[2]:
        hint = ""
        if len(shape) == 3 and shape[0] == shape[1]:
            hint = "; move the last axis to the front"
        raise ValueError(f"{where} have shape {shape}; expected (n, N, N){hint}")
    count, N, _ = shape
    if N % 2:
        raise ValueError(f"{where} have {N} x {N} pixels; expected an even number, such as {N - 1}")
    if data.N is not None and data.N != N:
        raise ValueError(f"data.N={data.N}, but {where} have {N} x {N} pixels; choose data.N={N} or null")
    every, C = data.held_out_every, data.gridsize**2
    needed = max(3, every // 2 + 1) + (C - 1) * every
    if count < needed:
        more = f" with data.gridsize={data.gridsize}" if C > 1 else ""
        raise ValueError(f"{where} are {count}; data.held_out_every={every}{more} needs {needed} or more")


def _check_light(amplitude: np.ndarray, where: str) -> None:
    """Raise ValueError for frames without light, as of a closed shutter; amplitudes (n, N, N)."""
    energy = np.einsum("nij,nij->n", amplitude, amplitude, dtype=np.float64)
    dark = np.flatnonzero(energy <= _DARK * np.median(energy))
    if dark.size:
        raise ValueError(
            f"{where}: {dark.size} of {energy.size} patterns are dark, the first at index {dark[0]}; expected"
            " diffraction in each: leave them out, and their positions"
        )


def _check_zero_frequency(amplitude: np.ndarray, declared: str, where: str) -> None:
    """Raise ValueError when the patterns are clearly brighter around the other place.

    Amplitudes, because one hot pixel could outweigh all counts.
    """
    mean_pattern = amplitude.mean(axis=0, dtype=np.float64)
    if not mean_pattern.any():
        raise ValueError(f"{where} is dark everywhere; expected diffraction")
    evidence = centredness(mean_pattern) * (1 if declared == "centre" else -1)
    if evidence < -CONTRADICTION:
        other = "corner" if declared == "centre" else "centre"
        raise ValueError(
            f"data.layout.zero_frequency={declared} contradicts the data: {where} is brightest around"
            f" the {other}; choose {other}"
        )


# --- positions -------------------------------------------------------------------------------


def _read_positions(archive: NpzArchive, layout: MeasuredLayout, count: int, N: int) -> np.ndarray:
    """(row, col) of every patch, float64 (n, 2), smallest row and col 0; fractions are kept."""
    keys = list(layout.positions_keys)
    if len(keys) == 1:
        positions_px = _read_coordinates(archive, keys[0], (count, 2))
    elif len(keys) == 2:
        positions_px = np.stack([_read_coordinates(archive, key, (count,)) for key in keys], axis=1)
    else:
        raise ValueError(
            f"data.layout.positions_keys={keys} has {len(keys)} entries;"
            " expected one key of (row, col) pairs, or the keys of rows and of columns"
        )
    if layout.swap_axes:
        positions_px = positions_px[:, ::-1].copy()
    positions_px *= np.where([layout.negate_rows, layout.negate_cols], -1, 1)
    positions_px -= positions_px.min(axis=0)
    _check_unit(positions_px, N, f"{archive.source}: positions {', '.join(repr(key) for key in keys)}")
    return positions_px


def _read_coordinates(archive: NpzArchive, key: str, shape: tuple[int, ...]) -> np.ndarray:
    array = archive.array(key, "data.layout.positions_keys")
    if np.iscomplexobj(array):
        raise ValueError(f"{archive.source}: '{key}' is {array.dtype}; expected real positions in pixels")
    trimmed = array
    while trimmed.ndim > len(shape) and trimmed.shape[0] == 1:
        trimmed = trimmed[0]
    if trimmed.ndim == 2 and len(shape) == 1 and trimmed.shape[1] == 1:
        trimmed = trimmed[:, 0]
    if trimmed.shape != shape:
        raise ValueError(
            f"{archive.source}: '{key}' has shape {array.shape}; expected {shape}, one entry per pattern"
        )
    require_finite(trimmed, archive.source, key)
    return trimmed.astype(np.float64)


def _check_unit(positions_px: np.ndarray, N: int, where: str) -> None:
    """Raise ValueError where the positions can hardly be object pixels: too close, or without overlap."""
    places = np.unique(positions_px, axis=0)
    nearest = cKDTree(places).query(places, k=2, p=np.inf)[0][:, 1] if len(places) > 1 else np.zeros(1)
    neighbour = float(np.median(nearest))
    # One axis may be sampled finely, or every place about twice: only then is the area large for it.
    spacing = max(neighbour, float(np.prod(np.ptp(places, axis=0)) / len(places)) ** 0.5)
    unit = ""
    if spacing < _CLOSEST_PX:
        unit = "micrometres" if spacing > 1e-3 else "metres or millimetres"
    elif neighbour >= N:
        unit, spacing = "nanometres or detector pixels", neighbour
    if unit:
        raise ValueError(
            f"{where} lie {spacing:.3g} apart, patches have {N} px; expected object pixels and patches that"
            f" overlap; these may be {unit}: divide by the size of an object pixel"
        )
