"""Objects refined by the overlap of their patterns, and how well they predict patterns that they never saw.

Shapes: n samples, C channels, N pattern size, (H, W) object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ptychofno.data.dataset import Array
from ptychofno.evaluation.illumination import lit_pixels, summed_intensity
from ptychofno.evaluation.stitch import Stitched
from ptychofno.physics import Estimate, Scan, flat_estimate, make_scan, misfit_and_tilt, refine


@dataclass(frozen=True)
class Refinement:
    """How an object is refined; see ``physics.refine``."""

    rounds: int
    tolerance: float
    probe_from: int | None
    """The first round that refines the probe, too; None keeps it."""
    positions: bool = False


@dataclass(frozen=True)
class Samples:
    """Some of a dataset's samples: amplitudes (n, C, N, N) and positions (n, C, 2) in pixels."""

    amplitude: Array
    positions_px: Array


@dataclass(frozen=True)
class Reconstruction:
    """An object, and what it took to come to it."""

    stitched: Stitched
    probe: Array
    """Complex64 (N, N) or (M, N, N): as given, or refined with the object."""
    misfit: list[float]
    """Relative error of the amplitudes of its patterns, at the start and after every round."""


def measurements(parts: Sequence[Any]) -> tuple[Array, Array]:
    """Patterns (m, N, N) and positions (m, 2) of ``parts``, one of each position that samples share."""
    amplitude = np.concatenate([part.amplitude for part in parts])
    positions = np.concatenate([part.positions_px for part in parts])
    several = amplitude.shape[1] > 1
    amplitude = amplitude.reshape(-1, *amplitude.shape[2:])
    positions = positions.reshape(-1, 2)
    if several:
        once = np.sort(np.unique(positions, axis=0, return_index=True)[1])
        amplitude, positions = amplitude[once], positions[once]
    return amplitude, positions


@dataclass(frozen=True)
class Refiner:
    """What follows stitching, for the objects of one dataset.

    Args:
        probe: complex64 (N, N) or (M, N, N). valid: of the detector's pixels (N, N); None where all are.
        device: where rounds compute. how: None for no rounds.
        each_round: called with the number and the error of every round.
    """

    probe: Array
    valid: Array | None
    device: torch.device | str
    how: Refinement | None
    each_round: Callable[[int, float], None]

    def scan(self, parts: Sequence[Any], shape: tuple[int, int]) -> Scan:
        """All patterns of ``parts``, such as a dataset's splits, over an object of ``shape``."""
        amplitude, positions = measurements(parts)
        valid = None if self.valid is None else torch.from_numpy(np.array(self.valid))
        return make_scan(
            torch.from_numpy(amplitude).to(self.device), torch.from_numpy(positions), shape, valid
        )

    def refined(self, scan: Scan, start: Stitched | None) -> Reconstruction:
        """What the patterns of ``scan`` make of a stitched object, or of a flat one where it is None."""
        if start is not None and self.how is None:
            return Reconstruction(start, self.probe, [])
        estimate = flat_estimate(scan, self._on_device(self.probe))
        if start is not None:
            # What no patch lit is 0, where the rim of a pattern could not begin: it gets the mean phase.
            lit = torch.from_numpy(lit_pixels(start.illumination)).to(self.device)
            turn = complex(np.exp(1j * np.angle((start.object * start.illumination).sum())))
            estimate = replace(
                estimate, object=torch.where(lit, self._on_device(start.object), estimate.object * turn)
            )
        misfit: list[float] = []
        if self.how is not None:
            done = refine(
                scan,
                estimate,
                self.how.rounds,
                probe_from=self.how.probe_from,
                positions=self.how.positions,
                tolerance=self.how.tolerance,
                each_round=self.each_round,
            )
            estimate, misfit = done.estimate, done.misfit
        probe = estimate.probe.cpu().numpy()
        fractions = None if scan.fractions is None else scan.fractions.cpu()
        illumination = summed_intensity(scan.corners.cpu(), fractions, probe, scan.shape)
        stitched = Stitched(estimate.object.cpu().numpy(), illumination, np.zeros(len(scan.corners)))
        return Reconstruction(stitched, probe, misfit)

    def error(self, scan: Scan, found: Reconstruction) -> float:
        """sum |A_pred - X| / sum X of ``scan`` as an object predicts it that was made without it."""
        known = Estimate(self._on_device(found.stitched.object), self._on_device(found.probe))
        return misfit_and_tilt(scan, known)[0]

    def flat_error(self, seen: Scan, scan: Scan, found: Reconstruction) -> float:
        """The same of an object of constant amplitude, as bright as ``seen`` asks for, with its probe."""
        return misfit_and_tilt(scan, flat_estimate(seen, self._on_device(found.probe)))[0]

    def _on_device(self, array: Array) -> torch.Tensor:
        return torch.tensor(array, device=self.device)
