"""Measured scans: from files of any known format to the three splits of a dataset.

Shapes: n patterns of (N, N) pixels, C patterns of a sample, M modes of the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from ptychofno.data.dataset import PtychoDataset, Split, amplitude_moments, ordered, split_of
from ptychofno.data.detector import amplitudes
from ptychofno.data.first_rounds import orientation_note, probe_from_patterns, refined_probe
from ptychofno.data.preparation import Prepared, prepare
from ptychofno.data.probe import GivenProbe, NpzProbe, RefinedProbe, ScanProbe, taken_modes, told_modes
from ptychofno.data.readers import open_scan
from ptychofno.data.settings import MeasuredData

_NAMED = 12
"""So many dark patterns are told by their numbers."""


def read_measured(
    data: MeasuredData,
    probe: GivenProbe | ScanProbe,
    key: str,
    each_block: Callable[[int, int], None] = lambda done, count: None,
) -> PtychoDataset:
    """Read a scan and hold out patterns for validation and test.

    Pattern i validates when i % h == 0 and tests when i % h == h // 2, h = ``held_out_every``;
    the others train. X is sqrt(counts), or the file's amplitudes as they are; the photon scale
    is 1 in both cases, which for amplitudes assumes that X**2 are counts. The probe is scaled
    to sum |P|^2 = mean sum X^2 of the training patterns, so that an object of modulus 1
    explains the mean intensity. Dark frames are left out; the others keep their numbers and so their splits.
    A sample is a pattern, its first, and the gridsize**2 - 1 nearest to it of the same split.

    Args:
        probe: ``DatasetProbe`` takes the probe of the files, ``RefinedProbe`` what rounds of overlap make of
            it on the training patterns. Where the files have none, it is begun from the mean pattern.
        key: identifies the result. each_block: is told how many of how many patterns are read.

    Raises ValueError with one line naming file, array and index of whatever is unusable.
    """
    with open_scan(data.path, data.also, data.layout) as raw:
        if not isinstance(probe, ScanProbe):
            raw = replace(raw, probe=probe.read() if isinstance(probe, NpzProbe) else None)
        prepared = prepare(raw, data)
        order = ordered(len(prepared.positions_px), data.held_out_every)
        amplitude, valid, dark = amplitudes(
            *(prepared.patterns, prepared.look, prepared.window, data.detector, np.argsort(order), each_block)
        )
    notes = [*prepared.notes, *_told_dark(dark, len(order))]
    lit = order[~np.isin(order, dark)]
    positions = prepared.positions_px[lit]
    positions = positions - positions.min(axis=0)
    train, validation, test = _splits(amplitude, positions, lit, data, prepared.patterns.where)
    mean, mean_square = amplitude_moments(amplitude[: len(train)])
    illumination = _illumination(prepared, probe, train, valid, notes)
    power, N = float(np.sum(np.abs(illumination.astype(np.complex128)) ** 2)), amplitude.shape[-1]
    scaled = given = (illumination * np.sqrt(mean_square * N * N / power)).astype(np.complex64)
    if isinstance(probe, RefinedProbe) and probe.rounds:
        scaled = refined_probe(train, given, valid, probe.rounds, positions.max(axis=0))
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


def _told_dark(dark: np.ndarray, count: int) -> list[str]:
    """The line about dark frames, where there are some."""
    if not dark.size:
        return []
    numbers = ", ".join(map(str, dark[:_NAMED])) + (" and more" if dark.size > _NAMED else "")
    return [f"{dark.size} of {count} patterns are dark and left out with their positions: number {numbers}"]


def _splits(
    amplitude: np.ndarray, positions_px: np.ndarray, lit: np.ndarray, data: MeasuredData, where: str
) -> list[Split]:
    """Training, validation and test of patterns in this order; ``lit`` are their numbers in the file.

    Raises ValueError where too few are left of one.
    """
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
    prepared: Prepared,
    probe: GivenProbe | ScanProbe,
    train: Split,
    valid: np.ndarray | None,
    notes: list[str],
) -> np.ndarray:
    """The probe before any refinement, complex64 (N, N) or (M, N, N), in any unit."""
    found = prepared.modes
    if found is None and not isinstance(probe, ScanProbe):
        return probe.make(prepared.window.N)
    if found is None:
        found = probe_from_patterns(train, prepared.mean_amplitude, valid)[None]
        notes.append("the files have no probe: begun from the mean pattern, to be refined with the object")
    taken, told = taken_modes(found, probe.modes if isinstance(probe, RefinedProbe) else None)
    notes += [told] if told else []
    return taken
