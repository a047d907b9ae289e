"""How close a reconstructed object is to the true one.

Shapes: (H, W) object in pixels, complex. What a measurement cannot tell is removed first: the
amplitude's scale, the global phase and, by choice, a linear phase ramp. Pixels that were not lit
are not judged. Each quality is a pair [amplitude, phase]; null (None) where it has no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.metrics import structural_similarity

Real = NDArray[np.floating]
Complex = NDArray[np.complexfloating]
Mask = NDArray[np.bool_]

QUALITIES = ("ssim", "ms_ssim", "mae", "mse", "psnr", "frc50", "frc1over7")
PHASE_ALIGNMENTS = ("plane", "mean")

SMALLEST_SIDE_PX = 7
"""The window of the structural similarity: no smaller object can be compared."""
_SMALLEST_MS_SSIM_SIDE = 176
_SOFT_EDGE_PX = 5
_CONSTANT_RANGE = 1e-5
"""A target whose values span less than this (phase in radians, amplitude relative to its mean)
is constant: ten times and more what complex64 rounding leaves of a constant."""

_ROUNDING = 1e-12


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


def compare(
    prediction: Complex, target: Complex, *, phase_alignment: str = "plane", mask: Mask | None = None
) -> dict[str, Any]:
    """The qualities of ``prediction`` against ``target``, both complex (H, W).

    Args:
        phase_alignment: ``plane`` or ``mean``, see ``align``.
        mask: bool (H, W), the lit pixels; all when None. Alignment, errors and ranges know no
            others, and SSIM is the mean over windows centred on them. What looks beyond a
            pixel sees no difference in the dark: SSIM and MS-SSIM find the target's values
            there, which MS-SSIM counts as a match; ring correlation finds a constant, into
            which both images fade over 5 px, as common values and sharp rims would correlate.

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
        ValueError: for shapes that differ, are not (H, W) or below 7 px, non-finite pixels, a
            mask without pixels, or an unknown ``phase_alignment``.
    """
    lit = np.ones(target.shape, dtype=np.bool_) if mask is None else mask
    aligned = align(prediction, target, phase_alignment=phase_alignment, mask=lit)
    amplitude_error = aligned.amplitude - aligned.target_amplitude
    amplitude_range = float(np.ptp(aligned.target_amplitude[lit]))
    amplitude = _errors(amplitude_error[lit])
    if amplitude_range > _CONSTANT_RANGE * float(aligned.target_amplitude[lit].mean()):
        amplitude |= _likeness(aligned.amplitude, aligned.target_amplitude, amplitude_range, lit)
        amplitude["psnr"] = _psnr(amplitude["mse"], amplitude_range)

    phase_range = float(np.ptp(aligned.target_phase_rad[lit]))
    vacuous = phase_range <= _CONSTANT_RANGE
    phase: dict[str, float | None] = {}
    if not vacuous:
        phase = _errors(aligned.phase_error_rad[lit])
        phase |= _likeness(_unit_phase(aligned.phase_rad), _unit_phase(aligned.target_phase_rad), 1.0, lit)
        phase["psnr"] = _psnr(phase["mse"], phase_range)

    pairs: dict[str, Any] = {name: [amplitude.get(name), phase.get(name)] for name in QUALITIES}
    return pairs | {"phase_mae_rad": phase.get("mae"), "phase_vacuous": vacuous}


def amplitude_similarity(prediction: Complex, target: Complex, mask: Mask) -> float | None:
    """The amplitude's ``ssim`` of ``compare`` alone, which takes a tenth of its time.

    Null for a target whose amplitude has no contrast. Raises ValueError as ``compare`` does.
    """
    prediction, target = _checked(prediction, target, PHASE_ALIGNMENTS[0], mask)
    amplitude, target_amplitude = _scaled_amplitude(prediction, target, mask)
    data_range = float(np.ptp(target_amplitude[mask]))
    if data_range <= _CONSTANT_RANGE * float(target_amplitude[mask].mean()):
        return None
    return _similarity(np.where(mask, amplitude, target_amplitude), target_amplitude, data_range, mask)


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

    Raises ValueError as ``compare`` does.
    """
    lit = np.ones(target.shape, dtype=np.bool_) if mask is None else mask
    prediction, target = _checked(prediction, target, phase_alignment, lit)
    amplitude, target_amplitude = _scaled_amplitude(prediction, target, lit)

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


def found_shares(image: Real, reference: Real, bands: Sequence[tuple[float, float]]) -> list[float]:
    """How much of ``reference`` is in ``image``, both (H, W), in bands of spatial frequency.

    Re sum F conj(G) / sum |G|^2 over each band above its lower and up to its upper end, in cycles/pixel,
    after a Hann window: 1 where all of it is there, 0 where nothing, 0.5 also where it is there at half its
    height. Ring correlation, which normalises both, does not see that. NaN for a band that holds no frequency
    or nothing of the reference.
    """
    window = np.outer(*(np.hanning(side) for side in reference.shape))
    found, true = (np.fft.fft2(window * (one - one.mean())) for one in (image, reference))
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in reference.shape), indexing="ij"))
    shares = []
    for low, high in bands:
        band = (frequency > low) & (frequency <= high)
        power = float(np.square(np.abs(true[band])).sum())
        shares.append(float((found * np.conj(true))[band].real.sum()) / power if power > 0 else math.nan)
    return shares


def _checked(
    prediction: Complex, target: Complex, phase_alignment: str, lit: Mask
) -> tuple[Complex, Complex]:
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


def _scaled_amplitude(prediction: Complex, target: Complex, lit: Mask) -> tuple[Real, Real]:
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


def _unit_phase(phase_rad: Real) -> Real:
    return (phase_rad + np.pi) / (2 * np.pi)


def _errors(error: Real) -> dict[str, Any]:
    return {"mae": float(np.abs(error).mean()), "mse": float(np.square(error).mean())}


def _psnr(mean_square: float | None, data_range: float) -> float | None:
    return 10 * math.log10(data_range**2 / mean_square) if mean_square else None


def _likeness(image: Real, reference: Real, data_range: float, lit: Mask) -> dict[str, Any]:
    level = reference[lit].mean()
    if np.ptp(image[lit]) <= _ROUNDING * data_range:
        image = np.full_like(image, image[lit].mean())  # rounding of a constant correlates by chance
    share = _soft_edged(lit)
    frequency, correlation = fourier_ring_correlation(share * (image - level), share * (reference - level))
    return {
        "ssim": _similarity(image, reference, data_range, lit),
        "ms_ssim": _multi_scale_similarity(image, reference, data_range),
        "frc50": resolved_frequency(frequency, correlation, 0.5),
        "frc1over7": resolved_frequency(frequency, correlation, 1 / 7),
    }


def _soft_edged(lit: Mask) -> Real:
    """1 within the lit area, falling as sin^2 to 0 over its last pixels before a dark one."""
    if lit.all():
        return np.ones(lit.shape)
    return np.asarray(np.sin(np.pi / 2 * np.minimum(distance_transform_edt(lit) / _SOFT_EDGE_PX, 1)) ** 2)


def _similarity(image: Real, reference: Real, data_range: float, lit: Mask) -> float | None:
    """The mean over lit pixels whose window lies inside the image; null where there is none."""
    _, similarity = structural_similarity(reference, image, data_range=data_range, full=True)
    inside = (slice(SMALLEST_SIDE_PX // 2, -(SMALLEST_SIDE_PX // 2)),) * 2
    judged = similarity[inside][lit[inside]]
    return float(judged.mean()) if judged.size else None


def _multi_scale_similarity(image: Real, reference: Real, data_range: float) -> float | None:
    if min(image.shape) < _SMALLEST_MS_SSIM_SIDE:
        return None
    # Here, not above: they take seconds to import and a small image needs neither.
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    # Single precision: torch's convolution is an order of magnitude slower in double.
    ours, theirs = (torch.from_numpy(one.astype(np.float32))[None, None] for one in (image, reference))
    return float(multiscale_structural_similarity_index_measure(ours, theirs, data_range=data_range))
