"""How far a predicted diffraction amplitude is from the measured one, and what a flat object makes of that.

Shapes: A predicted and X measured amplitude, real (…, N, N), in the same units. Both losses are means over
all pixels divided by a constant of the training split: they do not change with batch size, photon number or
the unit of the amplitudes, and are 0 for the true object at infinite dose. A loss takes what it needs of the
training split: ``mean_amplitude``, ``rms_amplitude``, ``photon_scale``, whether it has ``counts``.
"""

from __future__ import annotations

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from ptychofno.physics import complex_patches, diffraction_amplitude
from ptychofno.training.batches import Batch, compared, parts

_AT_ONCE = 64


class MAELoss(nn.Module):
    """mean |A - X| / mean X, the mean of X taken over the training split."""

    def __init__(self, mean_amplitude: float) -> None:
        super().__init__()
        self.mean_amplitude = mean_amplitude

    def forward(self, predicted: Tensor, measured: Tensor) -> Tensor:
        return (predicted - measured).abs().mean() / self.mean_amplitude


class PoissonLoss(nn.Module):
    """Negative log-likelihood of the counts n = s² X² at the rate r = s² A², per expected photon.

    mean(r - n - n log(r / n)) / mean n: the likelihood (Thibault and Guizar-Sicairos 2012, eq. 2) less its
    value at r = n. ``dark_counts``, added to both, keep the logarithm finite and leave the minimum at r = n.
    """

    dark_counts = 1.0

    def __init__(self, rms_amplitude: float, photon_scale: float, counts: bool = True) -> None:
        super().__init__()
        if not counts:
            raise ValueError("needs counts, and the file holds amplitudes; expected loss=mae")
        self.mean_intensity = rms_amplitude**2
        self.dark_intensity = self.dark_counts / photon_scale**2

    def forward(self, predicted: Tensor, measured: Tensor) -> Tensor:
        rate = predicted.square() + self.dark_intensity
        counts = measured.square() + self.dark_intensity
        excess = rate - counts - counts * torch.log(rate / counts)
        return excess.mean() / self.mean_intensity


@torch.no_grad()
def flat_baseline(
    loss: nn.Module,
    samples: Batch,
    probe: Tensor,
    output: nn.Module | None = None,
    valid: Tensor | None = None,
) -> tuple[float, float]:
    """The flat plateau: the smallest loss that an object O = a can reach, and that amplitude a.

    ``samples`` are all as one batch; ``probe`` is complex (N, N) or (M, N, N); ``valid`` see
    ``PhysicsSupervised``. With the ``output`` of a generator the loss is that of the same flat patch after
    it: a network whose layers see nothing in the patterns is held against that.
    """
    measured = compared(samples)
    seen_pixels = 1.0 if valid is None else valid
    bare = diffraction_amplitude(probe.new_ones(probe.shape[-2:]), probe) * seen_pixels
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
    chunks = (one.split(_AT_ONCE) for one in (measured, *parts(samples)))
    for part, seen, *where in zip(*chunks, strict=True):
        flat = torch.zeros(*part.movedim(1, -1).shape, 2)
        flat[..., 0] = best.x
        predicted = diffraction_amplitude(complex_patches(output(flat, seen, *where)), probe) * seen_pixels
        total += len(part) * float(loss(predicted, part))
    return total / len(measured), float(best.x)
