"""The flat plateau: the loss of the best object of constant amplitude and phase."""

from __future__ import annotations

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from ptychofno.physics import complex_patches, diffraction_amplitude
from ptychofno.training.batches import Batch, compared, parts

_AT_ONCE = 64


def flat_baseline(
    loss: nn.Module,
    samples: Batch,
    probe: Tensor,
    output: nn.Module | None = None,
    valid: Tensor | None = None,
) -> tuple[float, float]:
    """The smallest loss that an object O = a can reach, and that amplitude a.

    Both losses are convex in a. The phase of O does not matter: the modulus removes it. With an ``output``
    the loss is that of the same flat patch after it: a network whose layers see nothing in the patterns is
    held against that, and not against what it would have without.

    Args:
        loss: of (predicted, measured) amplitudes, a mean.
        samples: all as one batch. probe: complex (N, N) or (M, N, N).
        output: of the generator; see ``models.outputs``.
        valid: see ``PhysicsSupervised``.
    """
    measured = compared(samples)
    bare = diffraction_amplitude(probe.new_ones(probe.shape[-2:]), probe)
    if valid is not None:
        bare = bare * valid
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
        chunks = (one.split(_AT_ONCE) for one in (measured, *parts(samples)))
        for part, seen, *where in zip(*chunks, strict=True):
            flat = torch.zeros(*part.movedim(1, -1).shape, 2)
            flat[..., 0] = best.x
            predicted = diffraction_amplitude(complex_patches(output(flat, seen, *where)), probe)
            if valid is not None:
                predicted = predicted * valid
            total += len(part) * float(loss(predicted, part))
    return total / len(measured), float(best.x)
