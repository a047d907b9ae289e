"""Rounds of overlap from any start: the iterative solver, which also refines a network's object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ptychofno.physics.overlap import (
    Estimate,
    Scan,
    average,
    illumination,
    misfit_and_tilt,
    slow_phase,
    sweep,
)

_LEAST, _PER_MISFIT = 0.1, 5.0
"""A sweep's regularisation is so many times the misfit, and at least this: bold steps follow noise."""
_SAMPLE = 128
"""Patterns by which a turned object is judged."""
_DIM = 0.05
"""Share of the brightest illumination where momentum is halved: it diverges where little light falls."""


@dataclass(frozen=True)
class Refined:
    """What rounds of overlap came to."""

    estimate: Estimate
    misfit: list[float]
    """sum | |F| - X | / sum X of all patterns: of the start, then after each round."""


def refine(
    scan: Scan,
    start: Estimate,
    rounds: int,
    *,
    probe_from: int | None = None,
    tolerance: float = 1e-3,
    seed: int = 0,
    each_round: Callable[[int, float], None] = lambda number, misfit: None,
) -> Refined:
    """Let all patterns of a scan agree on one object, and on a probe.

    Two thirds of the rounds are sweeps (``overlap.sweep``). After each the slow phase is set from the
    patterns' centres of mass where this lowers the misfit, and the object goes on in the direction of its
    last step (Nesterov's momentum, which starts anew when the misfit rises). The others are averages
    (``overlap.average``), which take out the noise that sweeps follow. Either part ends early once the
    misfit falls by less than ``tolerance`` of itself.

    Args:
        start: a network's object, or ``overlap.flat_estimate``.
        probe_from: the first round that refines the probe as well; None keeps the probe.
        seed: of the order of blocks.
        each_round: is told the number of every round and the misfit after it.
    """
    misfit = [misfit_and_tilt(scan, start)[0]]
    estimate = best = start
    generator = torch.Generator().manual_seed(seed)

    def refines_probe() -> bool:
        return probe_from is not None and len(misfit) >= probe_from

    def stalled(left: float) -> bool:
        misfit.append(left)
        each_round(len(misfit) - 1, left)
        return misfit[-2] - left < tolerance * left

    last, speed = start, 0
    while len(misfit) <= rounds - rounds // 3:
        regularisation = min(max(_PER_MISFIT * misfit[-1], _LEAST), 1.0)
        order = torch.randperm(len(scan.blocks), generator=generator).tolist()
        swept = sweep(scan, estimate, regularisation, order, refine_probe=refines_probe())
        best, left = _with_slow_phase(scan, swept)
        speed = 0 if left > misfit[-1] else speed + 1
        if stalled(left) and (probe_from is None or len(misfit) > probe_from + 1):
            break
        estimate = _ahead(scan, best, last, speed / (speed + 3)) if speed else best
        last = best
    while len(misfit) <= rounds:
        averaged = average(scan, best, refine_probe=refines_probe())
        left, _ = misfit_and_tilt(scan, averaged)
        if left < misfit[-1]:
            best = averaged
        if stalled(left):
            break
    return Refined(best, misfit)


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
