"""What a few rounds of overlap tell of a measured scan: its probe, and whether its axes stand right.

Shapes: n patterns of (N, N), a probe (N, N) or (M, N, N), ``valid`` (N, N) or None.
"""

from __future__ import annotations

import numpy as np
import torch

from ptychofno import physics
from ptychofno.data.dataset import Split
from ptychofno.data.sampling import fitted, resampled

_BEGUN_PATTERNS, _BEGUN_ROUNDS = 64, 8
_SPREADS = (0.0, 0.1, -0.1, 0.2, -0.2, 0.35, -0.35)
"""Defocus that is tried: a quadratic phase that spreads the beam over such a share of the field."""

_TURNS = ("swap_axes", "negate_rows", "negate_cols")
_TURNED_SIDE_PX, _TURNED_PATTERNS, _TURNED_ROUNDS = 64, 36, 5


def refined_probe(
    train: Split, given: np.ndarray, valid: np.ndarray | None, rounds: int, farthest_px: np.ndarray
) -> np.ndarray:
    """What rounds of overlap on the training patterns make of a probe, complex64 and of its shape.

    Args: ``farthest_px`` is the largest (row, col) of all patterns of the scan.
    """
    height, width = (np.ceil(farthest_px).astype(int) + given.shape[-1]).tolist()
    amplitude, positions = _first_of(train)
    scan = physics.make_scan(amplitude, positions, (height, width), _tensor(valid))
    start = physics.flat_estimate(scan, torch.from_numpy(given))
    return physics.refine(scan, start, rounds, probe_from=2).estimate.probe.numpy()


def probe_from_patterns(train: Split, mean_amplitude: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """A probe whose far field has the mean pattern's modulus, complex64 (N, N).

    The mean pattern is about the far field of the probe, whose phase is unknown. A beam out of focus has a
    quadratic one: several are tried, and the one is taken from which a few rounds explain the patterns in
    the middle of the scan best.
    """
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
    """The settings of the layout with which a few rounds explain the patterns clearly better; None for none.

    At low resolution, of large patterns only the middle; with the probe as it is before any refinement.
    """
    N = probe.shape[-1]
    side = min(N, _TURNED_SIDE_PX)
    amplitude, positions = _first_of(train)
    found = physics.orientation_that_fits(
        torch.from_numpy(fitted(amplitude.numpy(), side).copy()),
        positions * (side / N),
        torch.from_numpy(resampled(probe, side)),
        _tensor(None if valid is None else fitted(valid, side).copy()),
        patterns=_TURNED_PATTERNS,
        rounds=_TURNED_ROUNDS,
    )
    wanted = [f"data.layout.{name}=true" for name, change in zip(_TURNS, found, strict=True) if change]
    return f"the patterns fit one another clearly better with {' '.join(wanted)}" if wanted else None


def _first_of(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Amplitudes (n, N, N) and positions (n, 2) of the first patch of each sample."""
    return torch.from_numpy(split.amplitude[:, 0]), torch.from_numpy(split.positions_px[:, 0])


def _tensor(valid: np.ndarray | None) -> torch.Tensor | None:
    return None if valid is None else torch.from_numpy(valid)
