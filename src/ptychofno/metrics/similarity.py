"""One object against another: errors, structural similarity, ring correlation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.metrics import structural_similarity

from ptychofno.metrics.alignment import (
    PHASE_ALIGNMENTS,
    SMALLEST_SIDE_PX,
    Complex,
    Mask,
    Real,
    align,
    checked,
    scaled_amplitude,
)
from ptychofno.metrics.rings import fourier_ring_correlation, resolved_frequency

QUALITIES = ("ssim", "ms_ssim", "mae", "mse", "psnr", "frc50", "frc1over7")

_SMALLEST_MS_SSIM_SIDE = 176
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's factors, from the finest scale on (Wang, Simoncelli and Bovik 2003)."""
_NO_LUMINANCE = 1e6
"""With so large a K1 the term of the means is 1: what is left of SSIM are contrast and structure."""
_SOFT_EDGE_PX = 5
_CONSTANT_RANGE = 1e-5
"""A target whose values span less than this (phase in radians, amplitude relative to its mean)
is constant: ten times and more what complex64 rounding leaves of a constant."""

_ROUNDING = 1e-12


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
        ``ssim``: structural similarity (Wang et al. 2004), scikit-image's 7 px uniform window,
        within the target's range; phases count from the target's smallest, as SSIM is made for
        values that are not negative. ``ms_ssim``: its five-scale form (Wang, Simoncelli and Bovik
        2003), windows within the image, negative factors set to 0; null when a side is below 176 px,
        where the coarsest scale no longer holds the window. ``mae``, ``mse``: errors in the target's
        amplitude units and in radians. ``psnr``: dB relative to the target's range. ``frc50``,
        ``frc1over7``: ``resolved_frequency`` at 0.5 and at 1/7, cycles per pixel. Each
        [amplitude, phase].
        ``phase_mae_rad``: mean absolute phase error. ``ssim_phase_2pi``: the phase's SSIM as it is
        mostly published, of (phi + pi) / 2 pi in a range of 1: it calls a flat phase good where the
        target's phase spans little. ``phase_vacuous``: the target's phase is constant, so all phase
        entries are null. An amplitude without contrast has only errors: its other entries are null.
        ``psnr`` is null for a perfect match.

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
        image, reference = aligned.phase_rad, aligned.target_phase_rad
        lowest = reference[lit].min()
        phase |= _likeness(image - lowest, reference - lowest, phase_range, lit)
        phase["psnr"] = _psnr(phase["mse"], phase_range)
        phase["ssim_2pi"] = _similarity(image + np.pi, reference + np.pi, 2 * np.pi, lit)

    pairs: dict[str, Any] = {name: [amplitude.get(name), phase.get(name)] for name in QUALITIES}
    known = {"phase_mae_rad": phase.get("mae"), "ssim_phase_2pi": phase.get("ssim_2pi")}
    return pairs | known | {"phase_vacuous": vacuous}


def amplitude_similarity(prediction: Complex, target: Complex, mask: Mask) -> float | None:
    """The amplitude's ``ssim`` of ``compare`` alone, which takes a tenth of its time.

    Null for a target whose amplitude has no contrast. Raises ValueError as ``compare`` does.
    """
    prediction, target = checked(prediction, target, PHASE_ALIGNMENTS[0], mask)
    amplitude, target_amplitude = scaled_amplitude(prediction, target, mask)
    data_range = float(np.ptp(target_amplitude[mask]))
    if data_range <= _CONSTANT_RANGE * float(target_amplitude[mask].mean()):
        return None
    return _similarity(np.where(mask, amplitude, target_amplitude), target_amplitude, data_range, mask)


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
    windows = similarity[inside][lit[inside]]
    return float(windows.mean()) if windows.size else None


def _multi_scale_similarity(image: Real, reference: Real, data_range: float) -> float | None:
    if min(image.shape) < _SMALLEST_MS_SSIM_SIDE:
        return None
    similarity = 1.0
    for weight in _SCALES:
        coarsest = weight == _SCALES[-1]
        factor = structural_similarity(
            reference,
            image,
            data_range=data_range,
            gaussian_weights=True,
            use_sample_covariance=False,
            K1=0.01 if coarsest else _NO_LUMINANCE,
        )
        similarity *= max(float(factor), 0.0) ** weight
        image, reference = _halved(image), _halved(reference)
    return similarity


def _halved(image: Real) -> Real:
    """The mean of every square of four pixels."""
    rows, cols = (side // 2 for side in image.shape)
    return np.asarray(image[: 2 * rows, : 2 * cols].reshape(rows, 2, cols, 2).mean(axis=(1, 3)))
