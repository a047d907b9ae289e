"""Measured scans: from files of any known format to the three splits of a dataset.

Shapes: n patterns of (N, N) pixels, C patterns of a sample, M modes of the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from ptychofno import physics
from ptychofno.data.dataset import PtychoDataset, Split, amplitude_moments, ordered, split_of
from ptychofno.data.detector import amplitudes
from ptychofno.data.preparation import Prepared, prepare
from ptychofno.data.probe import NpzProbe, Probe, RefinedProbe, ScanProbe, taken_modes, told_modes
from ptychofno.data.readers import open_scan
from ptychofno.data.sampling import fitted, resampled
from ptychofno.data.settings import MeasuredData, turned_by

_NAMED = 12  # so many dark patterns are told by their numbers
_BEGUN_PATTERNS, _BEGUN_ROUNDS = 64, 8
# Defocus that is tried: a quadratic phase that spreads the beam over such a share of the field.
_SPREADS = (0.0, 0.1, -0.1, 0.2, -0.2, 0.35, -0.35)

_TURNED_SIDE_PX, _TURNED_PATTERNS, _TURNED_ROUNDS = 64, 36, 5


def read_measured(
    data: MeasuredData,
    probe: Probe,
    key: str,
    each_block: Callable[[int, int], None] = lambda done, count: None,
) -> PtychoDataset:
    """Read a scan and hold out patterns for validation and test.

    Pattern i validates when i % h == 0 and tests when i % h == h // 2, h = ``held_out_every``;
    the others train. X is sqrt(counts), or the file's amplitudes as they are; the photon scale
    is 1 in both cases, which for amplitudes assumes that X**2 are counts. The probe is scaled
    to sum |P|^2 = mean sum X^2 of the training patterns. Dark frames are left out; the others keep their
    splits. A sample is a pattern, its first, and the gridsize**2 - 1 nearest to it of the same split.
    ``each_block`` is told how many of how many patterns are read.

    Raises ValueError with one line naming file, array and index of whatever is unusable.
    """
    with open_scan(data.path, data.also, data.layout) as raw:
        if not isinstance(probe, ScanProbe):
            raw = replace(raw, probe=probe.read() if isinstance(probe, NpzProbe) else None)
        prepared = prepare(raw, data)
        order = ordered(len(prepared.positions_px), data.held_out_every)
        place = np.argsort(order)
        amplitude, valid, dark = amplitudes(prepared.look, prepared.window, place, each_block)
    notes = list(prepared.notes)
    if dark.size:
        numbers = ", ".join(map(str, dark[:_NAMED])) + (" and more" if dark.size > _NAMED else "")
        told = f"{dark.size} of {len(order)} patterns are dark and left out with their positions"
        notes.append(f"{told}: number {numbers}")
    lit = order[~np.isin(order, dark)]
    positions = prepared.positions_px[lit]
    positions = positions - positions.min(axis=0)
    train, validation, test = _splits(amplitude, positions, lit, data, prepared.look.patterns.where)
    mean, mean_square = amplitude_moments(amplitude[: len(train)])
    illumination = _illumination(prepared, probe, train, valid, notes)
    power, N = float(np.sum(np.abs(illumination.astype(np.complex128)) ** 2)), amplitude.shape[-1]
    scaled = given = (illumination * np.sqrt(mean_square * N * N / power)).astype(np.complex64)
    if isinstance(probe, RefinedProbe) and probe.rounds:
        scaled = _refined_probe(train, given, valid, probe.rounds, positions.max(axis=0))
        notes += [f"refined, {told_modes(scaled)}"] if scaled.ndim > 2 else []
    notes += filter(None, [orientation_note(train, given, valid)])
    return PtychoDataset(
        name=data.name,
        key=key,
        probe=scaled,
        given_probe=None if scaled is given else given,
        valid=valid,
        photon_scale=1.0,
        mean_amplitude=mean,
        rms_amplitude=mean_square**0.5,
        object_pixel_m=prepared.object_pixel_m,
        energy_ev=prepared.geometry.energy_ev,
        distance_m=prepared.geometry.distance_m,
        counts=prepared.look.quantity == "counts",
        dropped=tuple(dark.tolist()),
        notes=tuple(notes),
        train=train,
        validation=validation,
        test=test,
    )


def _splits(
    amplitude: np.ndarray, positions_px: np.ndarray, lit: np.ndarray, data: MeasuredData, where: str
) -> list[Split]:
    """Training, validation and test; ``lit`` numbers the patterns. Raises ValueError for too few of one."""
    C = data.gridsize**2
    counts = np.bincount(split_of(int(lit.max()) + 1, data.held_out_every)[lit], minlength=3)
    if counts.min() < C:
        raise ValueError(
            f"{where}: without its dark patterns {counts.tolist()} are left for training, validation and test"
            f" with data.held_out_every={data.held_out_every}; expected {C} or more of each"
        )
    found = []
    for end, count in zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True):
        patterns, places = amplitude[end - count : end], positions_px[end - count : end]
        if C == 1:
            samples, corners = patterns[:, None], places[:, None]
        else:
            near = _neighbours(places, C)
            samples, corners = patterns[near], places[near]
        found.append(Split(samples, corners, np.zeros(count, np.int64)))
    return found


def _neighbours(positions_px: np.ndarray, C: int) -> np.ndarray:
    """Indices (n, C) of each position of (n, 2), first, and of the C - 1 nearest to it."""
    own = np.arange(len(positions_px))[:, None]
    near = cKDTree(positions_px).query(positions_px, k=C)[1]
    # Of patterns at one position any may be the first, and with many of them none the pattern itself.
    order = np.argsort(near != own, axis=1, kind="stable")
    found = np.take_along_axis(near, order, axis=1)
    lost = found[:, 0] != own[:, 0]
    found[lost] = np.concatenate((own[lost], found[lost, :-1]), axis=1)
    return found


def _illumination(
    prepared: Prepared, probe: Probe, train: Split, valid: np.ndarray | None, notes: list[str]
) -> np.ndarray:
    """The probe before any refinement, complex64 (N, N) or (M, N, N), in any unit."""
    found = prepared.modes
    if found is None and not isinstance(probe, ScanProbe):
        return probe.make(prepared.window.N)
    if found is None:
        found = _probe_from_patterns(train, prepared.mean_amplitude, valid)[None]
        notes.append("the files have no probe: begun from the mean pattern, to be refined with the object")
    taken, told = taken_modes(found, probe.modes if isinstance(probe, RefinedProbe) else None)
    notes += [told] if told else []
    return taken


def _refined_probe(
    train: Split, given: np.ndarray, valid: np.ndarray | None, rounds: int, farthest_px: np.ndarray
) -> np.ndarray:
    """What rounds on the training patterns make of it; ``farthest_px`` is the scan's largest (row, col)."""
    height, width = (np.ceil(farthest_px).astype(int) + given.shape[-1]).tolist()
    amplitude, positions = _first_of(train)
    scan = physics.make_scan(amplitude, positions, (height, width), _tensor(valid))
    start = physics.flat_estimate(scan, torch.from_numpy(given))
    return physics.refine(scan, start, rounds, probe_from=2).estimate.probe.numpy()


def _probe_from_patterns(train: Split, mean_amplitude: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """A probe, complex64 (N, N), whose far field has the mean pattern's modulus and a quadratic phase, as a
    beam out of focus has: the one from which a few rounds explain the middle of the scan best."""
    amplitude, positions = _first_of(train)
    middle = positions.median(dim=0).values
    near = (positions - middle).square().sum(1).argsort()[:_BEGUN_PATTERNS]
    places = positions[near] - positions[near].amin(dim=0)
    height, width = (places.amax(dim=0).ceil().int() + mean_amplitude.shape[-1]).tolist()
    scan = physics.make_scan(amplitude[near], places, (height, width), _tensor(valid))

    def misfit(probe: np.ndarray) -> float:
        estimate = physics.flat_estimate(scan, torch.from_numpy(probe))
        return physics.refine(scan, estimate, _BEGUN_ROUNDS, probe_from=1, tolerance=-1.0).misfit[-1]

    return min((_defocused(mean_amplitude, spread) for spread in _SPREADS), key=misfit)


def _defocused(far_amplitude: np.ndarray, spread: float) -> np.ndarray:
    """The inverse transform of a far field with a quadratic phase, complex64 (N, N)."""
    N = far_amplitude.shape[-1]
    q = np.arange(N) - N // 2
    square = q[:, None] ** 2 + q[None, :] ** 2
    width = np.sqrt(np.average(square, weights=np.square(far_amplitude)) + 1e-9)
    # The slope of the phase, in rad per frequency, times N / 2 pi is how far the light goes in the beam.
    far = far_amplitude * np.exp(1j * (np.pi * spread * square / max(width, 1.0)))
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(far))).astype(np.complex64)


def orientation_note(train: Split, probe: np.ndarray, valid: np.ndarray | None) -> str | None:
    """The settings of the layout with which a few coarse rounds explain patterns clearly better, or None."""
    N = probe.shape[-1]
    side = min(N, _TURNED_SIDE_PX)
    amplitude, positions = _first_of(train)
    changes = physics.orientation_that_fits(
        torch.from_numpy(fitted(amplitude.numpy(), side).copy()),
        positions * (side / N),
        torch.from_numpy(resampled(probe, side)),
        _tensor(None if valid is None else fitted(valid, side).copy()),
        patterns=_TURNED_PATTERNS,
        rounds=_TURNED_ROUNDS,
    )
    return f"the patterns fit one another clearly better with {turned_by(changes)}" if any(changes) else None


def _first_of(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Amplitudes (n, N, N) and positions (n, 2) of the first patch of each sample."""
    return torch.from_numpy(split.amplitude[:, 0]), torch.from_numpy(split.positions_px[:, 0])


def _tensor(valid: np.ndarray | None) -> torch.Tensor | None:
    return None if valid is None else torch.from_numpy(valid)
