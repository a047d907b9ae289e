"""Rounds of overlap from any start: the iterative solver, which also refines a network's object."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ptychofno.physics.modes import orthogonal_modes
from ptychofno.physics.overlap import (
    Estimate,
    Scan,
    average,
    flat_estimate,
    illumination,
    make_scan,
    misfit_and_tilt,
    moved,
    slow_phase,
    sweep,
)

_LEAST, _PER_MISFIT = 0.05, 3.0
"""A sweep's regularisation is so many times the misfit, and at least this: bold steps follow noise."""
_SAMPLE = 128
"""Patterns by which a turned object is judged."""
_PATIENCE = 3
"""Sweeps whose misfit may fail to fall before they end: noise makes it rise and fall."""
_POSITIONS_FROM = 4
"""The first round that moves positions: before, the object is not sharp enough to tell."""
_CLEARLY = 0.9
"""Share of the misfit that another orientation must stay below to be named."""
_DIM = 0.02
"""Share of the brightest illumination where momentum is halved: it diverges where little light falls."""


@dataclass(frozen=True)
class Refined:
    """What rounds of overlap came to."""

    estimate: Estimate
    misfit: list[float]
    """sum | |F| - X | / sum X of all patterns: of the start, then after each round."""
    scan: Scan
    """With the positions that were found."""


def refine(
    scan: Scan,
    start: Estimate,
    rounds: int,
    *,
    probe_from: int | None = None,
    positions: bool = False,
    tolerance: float = 1e-3,
    seed: int = 0,
    each_round: Callable[[int, float], None] = lambda number, misfit: None,
) -> Refined:
    """Let all patterns of a scan agree on one object, and on a probe.

    Two thirds of the rounds are sweeps. After each the slow phase is set from the patterns' centres of mass
    where this lowers the misfit, and the object goes on in the direction of its last step (Nesterov's
    momentum, anew when the misfit rises). The others are averages, which take out noise. Sweeps end early
    when three (for each mode) have not lowered the misfit by ``tolerance`` of itself, averages when one has.

    Args:
        start: a network's object, or ``overlap.flat_estimate``.
        probe_from: the first round that refines the probe, its modes orthogonal in the end; None for none.
        positions: whether positions move as well (``overlap.moved``), from the fourth round on.
        seed: of the order of blocks. each_round: is told the number of every round and the misfit after it.
    """
    misfit = [misfit_and_tilt(scan, start)[0]]
    estimate = best = last = start
    speed, generator = 0, torch.Generator().manual_seed(seed)
    with_probe = math.inf if probe_from is None else probe_from
    # Modes trade light with one another more slowly than an object becomes sharp.
    patience = _PATIENCE if probe_from is None else _PATIENCE * len(start.modes)

    def stalled(left: float, patience: int) -> bool:
        misfit.append(left)
        each_round(len(misfit) - 1, left)
        earlier, lately = misfit[:-patience], misfit[-patience:]
        return bool(earlier) and min(earlier) - min(lately) < tolerance * left

    while len(misfit) <= rounds - rounds // 3:
        regularisation = min(max(_PER_MISFIT * misfit[-1], _LEAST), 1.0)
        order = torch.randperm(len(scan.blocks), generator=generator).tolist()
        swept = sweep(scan, estimate, regularisation, order, refine_probe=len(misfit) >= with_probe)
        if positions and len(misfit) >= _POSITIONS_FROM:
            scan = moved(scan, swept)
        best, left = _with_slow_phase(scan, swept)
        speed = 0 if left > misfit[-1] else speed + 1
        if stalled(left, patience):
            break
        estimate = _ahead(scan, best, last, speed / (speed + 3)) if speed else best
        last = best
    while len(misfit) <= rounds:
        averaged = average(scan, best, refine_probe=len(misfit) >= with_probe)
        if positions:
            scan = moved(scan, averaged)
        left, _ = misfit_and_tilt(scan, averaged)
        best = averaged if left < misfit[-1] else best
        if stalled(left, 1):
            break
    if probe_from is not None:
        best = Estimate(best.object, orthogonal_modes(best.probe))
    return Refined(best, misfit, scan)


def _with_slow_phase(scan: Scan, estimate: Estimate) -> tuple[Estimate, float]:
    """The estimate, its slow phase set where a sample of patterns agrees, and its misfit."""
    misfit, tilts = misfit_and_tilt(scan, estimate)
    phase = slow_phase(scan, estimate.probe, tilts)
    changed = Estimate(estimate.object * torch.polar(torch.ones_like(phase), phase), estimate.probe)
    count = len(scan.amplitude)
    sample = torch.arange(0, count, max(1, count // _SAMPLE), device=phase.device)
    was, now = (misfit_and_tilt(scan, each, sample)[0] for each in (estimate, changed))
    return (changed, misfit * now / was) if now < was else (estimate, misfit)


def _ahead(scan: Scan, found: Estimate, before: Estimate, by: float) -> Estimate:
    """``found`` plus the share ``by`` of the step from ``before``, less where little light falls."""
    light = illumination(scan, found.probe)
    share = by * light / (light + _DIM * light.max())
    return Estimate(found.object + share * (found.object - before.object), found.probe)


def orientation_that_fits(
    amplitude: Tensor,
    positions_px: Tensor,
    probe: Tensor,
    valid: Tensor | None = None,
    *,
    patterns: int = 64,
    rounds: int = 6,
) -> tuple[bool, bool, bool]:
    """How scan axes have to be changed for an object to come out: (swap axes, negate rows, negate columns).

    Of the eight orientations the one in which a few rounds explain the ``patterns`` nearest to the middle of
    the scan best; none is changed unless another leaves less than nine tenths of the misfit. A transposed or
    mirrored detector asks for the same changes.

    Args: ``amplitude`` (n, N, N), ``positions_px`` (n, 2), ``probe`` (N, N) or (M, N, N), as given;
    ``valid`` (N, N).
    """
    middle = positions_px.median(dim=0).values
    near = (positions_px - middle).square().sum(1).argsort()[:patterns]
    left = {}
    for swap, rows, cols in product((False, True), repeat=3):
        places = positions_px[near].flip(1) if swap else positions_px[near]
        places = places * torch.tensor([-1.0 if rows else 1.0, -1.0 if cols else 1.0])
        places = places - places.amin(dim=0)
        height, width = (places.amax(dim=0).ceil().int() + probe.shape[-1]).tolist()
        scan = make_scan(amplitude[near], places, (height, width), valid)
        found = refine(scan, flat_estimate(scan, probe), rounds, probe_from=2, tolerance=-1.0)
        left[swap, rows, cols] = found.misfit[-1]
    best = min(left, key=lambda one: left[one])
    return best if left[best] < _CLEARLY * left[False, False, False] else (False, False, False)
