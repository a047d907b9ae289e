"""What a measurement cannot tell is removed: the amplitude's scale, the global phase and a phase ramp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating]
Complex = NDArray[np.complexfloating]
Mask = NDArray[np.bool_]

PHASE_ALIGNMENTS = ("plane", "mean")

SMALLEST_SIDE_PX = 7
"""The window of the structural similarity: no smaller object can be compared."""


@dataclass(frozen=True)
class Aligned:
    """Prediction and target without what a measurement leaves open. Each map is (H, W).

    Dark pixels of the prediction hold the target's values.
    """

    amplitude: Real
    target_amplitude: Real
    phase_rad: Real
    target_phase_rad: Real

    @property
    def phase_error_rad(self) -> Real:
        """Prediction minus target on the circle, in [-pi, pi)."""
        return (self.phase_rad - self.target_phase_rad + np.pi) % (2 * np.pi) - np.pi


def align(
    prediction: Complex, target: Complex, *, phase_alignment: str = "plane", mask: Mask | None = None
) -> Aligned:
    """Bring ``prediction`` onto ``target``, both complex (H, W), in scale, phase and phase ramp.

    The amplitude is scaled by mean(target) / mean(prediction); one that is zero everywhere stays
    zero. The phase loses the best global factor arg<prediction, target>, found on the complex
    values so that wrapping does not matter; the target is first turned so that the widest gap
    in its phases lies at pi, where angles are cut. Then both angles, in (-pi, pi], lose their
    mean or their least-squares plane. With a plane, the ramp between the two is removed before,
    as phase differences of neighbouring pixels show it, for a steep one would wrap in any fit.
    With a ``mask``, bool (H, W), all of this looks at its pixels alone.

    Raises ValueError as ``ptychofno.metrics.compare`` does.
    """
    lit = np.ones(target.shape, dtype=np.bool_) if mask is None else mask
    prediction, target = checked(prediction, target, phase_alignment, lit)
    amplitude, target_amplitude = scaled_amplitude(prediction, target, lit)

    target = target * _uncut(np.angle(target[lit]))
    if phase_alignment == "plane":
        slopes = phase_slopes(lit * prediction * np.conj(target))
        prediction = prediction * np.conj(phase_ramp(slopes, prediction.shape))
    prediction = prediction * np.exp(1j * np.angle(np.vdot(prediction[lit], target[lit])))
    flatten = remove_plane if phase_alignment == "plane" else _remove_mean
    phase, target_phase = (flatten(_angle(field), lit.astype(np.float64)) for field in (prediction, target))
    return Aligned(
        np.where(lit, amplitude, target_amplitude),
        target_amplitude,
        np.where(lit, phase, target_phase),
        target_phase,
    )


def phase_slopes(field: Complex) -> tuple[float, float]:
    """The linear phase ramp of a complex ``field`` (H, W), radians per pixel along rows and columns.

    The phase of the autocorrelation at one pixel, arg sum conj(f[r]) f[r + 1]: weighted by
    intensity and free of unwrapping.
    """
    row_slope = np.angle(np.vdot(field[:-1], field[1:]))
    col_slope = np.angle(np.vdot(field[:, :-1], field[:, 1:]))
    return float(row_slope), float(col_slope)


def phase_ramp(slopes: tuple[float, float], shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """exp(i (a row + b col)) of ``shape`` (H, W), for the slopes (a, b) in radians per pixel."""
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return np.asarray(np.exp(1j * (slopes[0] * rows + slopes[1] * cols)), dtype=np.complex128)


def remove_plane(image: Real, weight: Real | None = None) -> Real:
    """``image`` (H, W) minus its least-squares plane, under ``weight`` (H, W) where given."""
    height, width = image.shape
    rows = np.linspace(-1, 1, height)[:, None] + np.zeros(width)
    cols = np.linspace(-1, 1, width)[None, :] + np.zeros((height, 1))
    basis = np.stack([np.ones(image.shape), rows, cols]).reshape(3, -1)
    weighted = basis if weight is None else basis * weight.ravel()
    # lstsq, not solve: one row or column of pixels fixes no slope across it.
    coefficients = np.linalg.lstsq(weighted @ basis.T, weighted @ image.ravel(), rcond=None)[0]
    return np.asarray(image - (coefficients @ basis).reshape(image.shape))


def checked(prediction: Complex, target: Complex, phase_alignment: str, lit: Mask) -> tuple[Complex, Complex]:
    if phase_alignment not in PHASE_ALIGNMENTS:
        raise ValueError(f"phase_alignment={phase_alignment!r}: choose one of {', '.join(PHASE_ALIGNMENTS)}")
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must both be (H, W)")
    if min(prediction.shape) < SMALLEST_SIDE_PX:
        least = f"{SMALLEST_SIDE_PX} px a side at least"
        raise ValueError(f"an object of {prediction.shape} px is too small to compare: {least}")
    if lit.shape != target.shape or lit.dtype != np.bool_:
        raise ValueError(f"mask must be bool {target.shape}, not {lit.dtype} {lit.shape}")
    if not lit.any():
        raise ValueError("mask holds no pixel: nothing to compare")
    for name, value in (("prediction", prediction), ("target", target)):
        count = value.size - int(np.isfinite(value).sum())
        if count:
            raise ValueError(f"{name} is not finite in {count} of {value.size} pixels: nothing to compare")
    return prediction.astype(np.complex128), target.astype(np.complex128)


def scaled_amplitude(prediction: Complex, target: Complex, lit: Mask) -> tuple[Real, Real]:
    """Both amplitudes, the prediction's with the mean of the target's."""
    amplitude, target_amplitude = np.abs(prediction), np.abs(target)
    mean = amplitude[lit].mean()
    if mean > 0:
        amplitude = amplitude * (target_amplitude[lit].mean() / mean)
    return amplitude, target_amplitude


def _uncut(phase_rad: Real) -> complex:
    """The turn, of modulus 1, that brings the widest gap between phases to +-pi."""
    around = np.sort(phase_rad, axis=None)
    gaps = np.diff(around, append=around[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    return complex(np.exp(1j * (np.pi - around[widest] - gaps[widest] / 2)))


def _angle(field: Complex) -> Real:
    """Radians; 0 for a pixel that is exactly 0, whose signed zeros would make it 0 or +-pi."""
    return np.angle(field + 0)


def _remove_mean(image: Real, weight: Real) -> Real:
    return np.asarray(image - np.average(image, weights=weight))
