"""The flat plateau: the loss of the best object of constant amplitude and phase."""

from __future__ import annotations

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from ptychofno.physics import diffraction_amplitude


def flat_baseline(loss: nn.Module, measured: Tensor, probe: Tensor) -> tuple[float, float]:
    """The smallest loss that an object O = a can reach, and that amplitude a.

    Both losses are convex in a. The phase of O does not matter: the modulus removes it.

    Args:
        loss: of (predicted, measured) amplitudes.
        measured: (n, C, N, N). probe: complex (N, N).
    """
    bare = diffraction_amplitude(torch.ones_like(probe), probe)
    brightest = float((measured.square().sum((-2, -1)).max() / bare.square().sum()).sqrt())
    best = minimize_scalar(
        lambda a: float(loss((a * bare).expand_as(measured), measured)),
        bounds=(0.0, 2.0 * brightest),
        method="bounded",
        options={"xatol": 1e-4 * brightest},
    )
    return float(best.fun), float(best.x)
