"""Far-field diffraction.

Shapes: N pattern and patch size in pixels; ``…`` any leading axes. Probe P, patch O and exit
wave psi are complex64 (…, N, N) in real space; the far field F has its zero frequency at the
centre, index (N // 2, N // 2). The transform is orthonormal, so sum |F|^2 = sum |psi|^2.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

from ptychofno.physics.modes import for_modes, incoherent_modulus, light_of, modes_of, over_modes

_AXES = (-2, -1)


def far_field(exit_wave: Tensor) -> Tensor:
    """F = fftshift(fft2(psi, ortho)), complex (…, N, N)."""
    return torch.fft.fftshift(torch.fft.fft2(exit_wave, norm="ortho"), dim=_AXES)


def inverse_far_field(field: Tensor) -> Tensor:
    """The exit wave whose far field is ``field``, complex (…, N, N)."""
    return torch.fft.ifft2(torch.fft.ifftshift(field, dim=_AXES), norm="ortho")


def modulus(field: Tensor) -> Tensor:
    """|F|, exact everywhere, with the subgradient 1 (that is, phase 0) where F = 0.

    The modulus is not differentiable at 0: every complex number of modulus up to 1 is a
    subgradient there. Smoothing it as sqrt(|F|^2 + eps^2) would bias dark pixels and still
    has gradient 0 at 0, where a dark prediction would then stay; phase 0 lets it leave.
    """
    smallest = torch.finfo(field.real.dtype).tiny
    # alpha, not a product: a truth value times the smallest double is a single, and 0.
    return torch.add(field, field == 0, alpha=smallest).abs()


def complex_patches(parts: Tensor) -> Tensor:
    """What a generator answers, (B, N, N, C, 2), as complex64 (B, C, N, N), whatever its precision."""
    return torch.view_as_complex(parts.float().contiguous()).permute(0, 3, 1, 2)


def diffraction_amplitude(patch: Tensor, probe: Tensor) -> Tensor:
    """A = sqrt(sum |F(P O)|^2) over the modes of a probe, real (…, N, N), for a patch (…, N, N)."""
    if probe.ndim == 2:
        return modulus(far_field(probe * patch))
    # Unlike the root of a sum, hypot keeps the gradient of ``modulus`` where all modes are 0.
    return reduce(torch.hypot, modulus(far_field(probe * for_modes(patch))).unbind(-3))


def back_projection(amplitude: Tensor, probe: Tensor, epsilon: float, valid: Tensor | None = None) -> Tensor:
    """A first guess of the patch: conj(P) psi0 / (|P|^2 + epsilon max |P|^2), complex (…, N, N); with modes
    the sum of all conj(P) psi0 over that of all |P|^2.

    psi0 is the exit wave with the measured ``amplitude`` and the phase of the far field of
    the bare probe: what the first modulus constraint of the ptychographic iterative engine
    (Rodenburg and Faulkner 2004) makes of a flat object, here divided by the probe with a
    Wiener regularisation, so that the guess is 0 where the probe is dark. ``epsilon`` is
    relative: a probe in other units gives the same guess. Where a detector pixel is not ``valid``
    (1 or 0, (N, N); None where all are) the bare probe keeps its own modulus.
    """
    modes = modes_of(probe)
    field = far_field(modes)
    size = incoherent_modulus(field)
    dark = (size == 0).to(size.dtype)
    phase_factor = (field + dark / len(modes) ** 0.5) / (size + dark)
    seen = for_modes(amplitude) * phase_factor
    if valid is not None:
        seen = torch.where(valid > 0, seen, field)
    return over_modes(divided_by(modes, epsilon) * inverse_far_field(seen))


def divided_by(probe: Tensor, epsilon: float) -> Tensor:
    """What to multiply exit waves with to divide them by the probe, with a Wiener regularisation.

    Its modes, (M, N, N), are divided by together: by the sum of their intensities.
    """
    intensity = light_of(probe)
    return probe.conj() / (intensity + epsilon * intensity.max())


def photon_scale(exit_intensity: float, nphotons: float) -> float:
    """s = sqrt(nphotons / mean sum |psi|^2); expected counts are s^2 A^2.

    Args:
        exit_intensity: sum |psi|^2 per pattern, averaged over the training split.
        nphotons: expected photons per pattern in the same average.
    """
    return math.sqrt(nphotons / exit_intensity)
