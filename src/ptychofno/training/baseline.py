"""The flat plateau: the loss of the best object of constant amplitude and phase."""

from __future__ import annotations

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from ptychofno.physics import complex_patches, diffraction_amplitude

_AT_ONCE = 64


def flat_baseline(
    loss: nn.Module, measured: Tensor, probe: Tensor, output: nn.Module | None = None
) -> tuple[float, float]:
    """The smallest loss that an object O = a can reach, and that amplitude a.

    Both losses are convex in a. The phase of O does not matter: the modulus removes it. With an ``output``
    the loss is that of the same flat patch after it: a network whose layers see nothing in the patterns is
    held against that, and not against what it would have without.

    Args:
        loss: of (predicted, measured) amplitudes, a mean.
        measured: (n, C, N, N). probe: complex (N, N).
        output: of the generator; see ``models.outputs``.
    """
    bare = diffraction_amplitude(torch.ones_like(probe), probe)
    brightest = float((measured.square().sum((-2, -1)).max() / bare.square().sum()).sqrt())
    best = minimize_scalar(
        lambda a: float(loss((a * bare).expand_as(measured), measured)),
        bounds=(0.0, 2.0 * brightest),
        method="bounded",
        options={"xatol": 1e-4 * brightest},
    )
    if output is None:
        return float(best.fun), float(best.x)
    total = 0.0
    with torch.no_grad():
        for part in measured.split(_AT_ONCE):
            flat = torch.zeros(*part.movedim(1, -1).shape, 2)
            flat[..., 0] = best.x
            predicted = diffraction_amplitude(complex_patches(output(flat, part)), probe)
            total += len(part) * float(loss(predicted, part))
    return total / len(measured), float(best.x)
