"""How close a reconstructed object is to the true one.

Shapes: (H, W) object in pixels, complex. What a measurement cannot tell is removed first: the
amplitude's scale, the global phase and, by choice, a linear phase ramp. Each quality is a pair
[amplitude, phase]; null (None) where it has no meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Real = NDArray[np.floating]
Complex = NDArray[np.complexfloating]

QUALITIES = ("ssim", "ms_ssim", "mae", "mse", "psnr", "frc50", "frc1over7")
PHASE_ALIGNMENTS = ("plane", "mean")

_SMALLEST_SSIM_SIDE = 7
_SMALLEST_MS_SSIM_SIDE = 176
_CONSTANT_RANGE = 1e-5
"""A target whose values span less than this (phase in radians, amplitude relative to its mean)
is constant: ten times and more what complex64 rounding leaves of a constant."""


@dataclass(frozen=True)
class Aligned:
    """Prediction and target without what a measurement leaves open. Each map is (H, W)."""

    amplitude: Real
    target_amplitude: Real
    phase_rad: Real
    target_phase_rad: Real

    @property
    def phase_error_rad(self) -> Real:
        """Prediction minus target on the circle, in [-pi, pi)."""
        return (self.phase_rad - self.target_phase_rad + np.pi) % (2 * np.pi) - np.pi


def compare(prediction: Complex, target: Complex, *, phase_alignment: str = "plane") -> dict[str, Any]:
    """The qualities of ``prediction`` against ``target``, both complex (H, W).

    Returns:
        ``ssim``: structural similarity (Wang et al. 2004), scikit-image's 7 px uniform window;
        range: the target's for the amplitude, 1 for the phase as (phi + pi) / 2 pi.
        ``ms_ssim``: its five-scale form (Wang, Simoncelli and Bovik 2003), torchmetrics' with
        negative factors set to 0; null when a side is below 176 px, where the coarsest scale
        no longer holds the window. ``mae``, ``mse``: errors in the target's amplitude units and
        in radians. ``psnr``: dB relative to the target's range. ``frc50``, ``frc1over7``:
        ``resolved_frequency`` at 0.5 and at 1/7, cycles per pixel. Each [amplitude, phase].
        ``phase_mae_rad``: mean absolute phase error. ``phase_vacuous``: the target's phase is
        constant, so all phase entries are null. An amplitude without contrast has only errors:
        its other entries are null. ``psnr`` is null for a perfect match.

    Raises:
        ValueError: for shapes that differ, are not (H, W) or below 7 px, non-finite pixels,
            or an unknown ``phase_alignment``.
    """
    aligned = align(prediction, target, phase_alignment=phase_alignment)
    amplitude_error = aligned.amplitude - aligned.target_amplitude
    amplitude_range = float(np.ptp(aligned.target_amplitude))
    amplitude = _errors(amplitude_error)
    if amplitude_range > _CONSTANT_RANGE * float(aligned.target_amplitude.mean()):
        amplitude |= _likeness(aligned.amplitude, aligned.target_amplitude, amplitude_range)
        amplitude["psnr"] = _psnr(amplitude["mse"], amplitude_range)

    phase_range = float(np.ptp(aligned.target_phase_rad))
    vacuous = phase_range <= _CONSTANT_RANGE
    phase: dict[str, float | None] = {}
    if not vacuous:
        phase = _errors(aligned.phase_error_rad)
        phase |= _likeness(_unit_phase(aligned.phase_rad), _unit_phase(aligned.target_phase_rad), 1.0)
        phase["psnr"] = _psnr(phase["mse"], phase_range)

    pairs: dict[str, Any] = {name: [amplitude.get(name), phase.get(name)] for name in QUALITIES}
    return pairs | {"phase_mae_rad": phase.get("mae"), "phase_vacuous": vacuous}


def align(prediction: Complex, target: Complex, *, phase_alignment: str = "plane") -> Aligned:
    """Bring ``prediction`` onto ``target``, both complex (H, W), in scale, phase and phase ramp.

    The amplitude is scaled by mean(target) / mean(prediction); one that is zero everywhere stays
    zero. The phase loses the best global factor arg<prediction, target>, found on the complex
    values so that wrapping does not matter; the target is first turned so that the widest gap
    in its phases lies at pi, where angles are cut. Then both angles, in (-pi, pi], lose their
    mean or their least-squares plane. With a plane, the ramp between the two is removed before,
    as phase differences of neighbouring pixels show it, for a steep one would wrap in any fit.

    Raises ValueError as ``compare`` does.
    """
    prediction, target = _checked(prediction, target, phase_alignment)
    amplitude, target_amplitude = np.abs(prediction), np.abs(target)
    mean = amplitude.mean()
    if mean > 0:
        amplitude = amplitude * (target_amplitude.mean() / mean)

    target = target * _uncut(np.angle(target))
    if phase_alignment == "plane":
        slopes = phase_slopes(prediction * np.conj(target))
        prediction = prediction * np.conj(phase_ramp(slopes, prediction.shape))
    prediction = prediction * np.exp(1j * np.angle(np.vdot(prediction, target)))
    flatten = remove_plane if phase_alignment == "plane" else _remove_mean
    return Aligned(amplitude, target_amplitude, flatten(np.angle(prediction)), flatten(np.angle(target)))


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


def fourier_ring_correlation(image: Real, reference: Real) -> tuple[Real, Real]:
    """Correlation of two images (H, W) per ring of spatial frequency.

    Re sum F conj(G) / sqrt(sum |F|^2 sum |G|^2) over each ring (Saxton and Baumeister 1982;
    van Heel and Schatz 2005). The mean is removed and a Hann window applied before the
    transform, as the jump between opposite edges would correlate at every frequency. Rings are
    one frequency step of the shorter side wide, from the first above 0 to 0.5 cycles/pixel.
    An image without contrast correlates with nothing: 0 in every ring.

    Returns:
        Ring frequencies in cycles/pixel and correlations, each (rings,).
    """
    height, width = image.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    transforms = [np.fft.rfft2(window * (one - one.mean())) for one in (image, reference)]
    steps = min(height, width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    ring = np.rint(frequency * steps).astype(np.int64)
    # The half spectrum holds columns 0 and Nyquist once and stands for the others twice.
    copies = np.full(width // 2 + 1, 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0

    def per_ring(value: Real) -> Real:
        sums = np.bincount(ring.ravel(), (value * copies).ravel())
        return np.asarray(sums[1 : steps // 2 + 1], dtype=np.float64)

    cross = per_ring((transforms[0] * np.conj(transforms[1])).real)
    powers = [per_ring(np.abs(transform) ** 2) for transform in transforms]
    # Below this the power is rounding of a constant, whose correlation would be a coin toss.
    floors = [1e-13 * one.size * np.square(one).sum() for one in (image, reference)]
    contrast = all(power.sum() > floor for power, floor in zip(powers, floors, strict=True))
    norm = np.sqrt(powers[0] * powers[1]) * contrast
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    return np.arange(1, steps // 2 + 1) / steps, correlation


def resolved_frequency(frequency: Real, correlation: Real, threshold: float) -> float:
    """Where the ring correlation first falls below ``threshold``, cycles/pixel.

    Linear between rings; 0 when already the first ring is below, 0.5 (Nyquist) when none is.
    A threshold of 1/7 is the usual 0.143 (Rosenthal and Henderson 2003).
    """
    below = np.flatnonzero(correlation < threshold)
    if below.size == 0:
        return 0.5
    end = int(below[0])
    if end == 0:
        return 0.0
    start = end - 1
    fraction = (correlation[start] - threshold) / (correlation[start] - correlation[end])
    return float(frequency[start] + fraction * (frequency[end] - frequency[start]))


def _checked(prediction: Complex, target: Complex, phase_alignment: str) -> tuple[Complex, Complex]:
    if phase_alignment not in PHASE_ALIGNMENTS:
        raise ValueError(f"phase_alignment={phase_alignment!r}: choose one of {', '.join(PHASE_ALIGNMENTS)}")
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must both be (H, W)")
    if min(prediction.shape) < _SMALLEST_SSIM_SIDE:
        raise ValueError(f"an object of {prediction.shape} px is too small to compare: 7 px a side at least")
    for name, value in (("prediction", prediction), ("target", target)):
        count = value.size - int(np.isfinite(value).sum())
        if count:
            raise ValueError(f"{name} is not finite in {count} of {value.size} pixels: nothing to compare")
    return prediction.astype(np.complex128), target.astype(np.complex128)


def _uncut(phase_rad: Real) -> complex:
    """The turn, of modulus 1, that brings the widest gap between phases (H, W) to +-pi."""
    around = np.sort(phase_rad, axis=None)
    gaps = np.diff(around, append=around[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    return complex(np.exp(1j * (np.pi - around[widest] - gaps[widest] / 2)))


def _remove_mean(image: Real) -> Real:
    return np.asarray(image - image.mean())


def _unit_phase(phase_rad: Real) -> Real:
    return (phase_rad + np.pi) / (2 * np.pi)


def _errors(error: Real) -> dict[str, Any]:
    return {"mae": float(np.abs(error).mean()), "mse": float(np.square(error).mean())}


def _psnr(mean_square: float | None, data_range: float) -> float | None:
    return 10 * math.log10(data_range**2 / mean_square) if mean_square else None


def _likeness(image: Real, reference: Real, data_range: float) -> dict[str, Any]:
    frequency, correlation = fourier_ring_correlation(image, reference)
    return {
        "ssim": float(structural_similarity(reference, image, data_range=data_range)),
        "ms_ssim": _multi_scale_similarity(image, reference, data_range),
        "frc50": resolved_frequency(frequency, correlation, 0.5),
        "frc1over7": resolved_frequency(frequency, correlation, 1 / 7),
    }


def _multi_scale_similarity(image: Real, reference: Real, data_range: float) -> float | None:
    if min(image.shape) < _SMALLEST_MS_SSIM_SIDE:
        return None
    # Here, not above: they take seconds to import and a small image needs neither.
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    # Single precision: torch's convolution is an order of magnitude slower in double.
    ours, theirs = (torch.from_numpy(one.astype(np.float32))[None, None] for one in (image, reference))
    return float(multiscale_structural_similarity_index_measure(ours, theirs, data_range=data_range))
