"""What becomes of the patch that a generator's layers put out.

Shapes: B batch, C patterns per sample, N pattern size. An output module maps the patch, real and imaginary
part (B, N, N, C, 2), and the measured amplitude (B, C, N, N) to the generator's answer, (B, N, N, C, 2). What
belongs to the dataset is held in buffers, as in ``models.inputs``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# (patch, amplitude, probe, epsilon, rounds) to a patch that explains the amplitude better, complex.
Projector = Callable[[Tensor, Tensor, Tensor, float, int], Tensor]


class PatchOutput(nn.Module):
    """The layers' patch as it is."""

    def __init__(self, probe: Tensor | None = None, project: Projector | None = None) -> None:
        super().__init__()

    def forward(self, patch: Tensor, amplitude: Tensor) -> Tensor:
        return patch


class ProjectedOutput(nn.Module):
    """The patch after rounds towards the measured amplitude, in training as in use.

    The rounds bring out what a single pattern tells quickly, the fine lines; what they leave as it is, the
    slow phase, is what remains in the loss for the layers to learn. Data consistency of this kind is known
    from networks for MR images (Schlemper et al. 2018).

    Args:
        probe: complex (N, N).
        project: the physics of a round; see ``physics.error_reduction``.
        rounds: how many. More of them fit the noise of dim patterns.
        epsilon: regularisation of the division by the probe, as in ``inputs.BackprojectionInput``.
    """

    probe: Tensor

    def __init__(self, probe: Tensor, project: Projector, rounds: int, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("probe", probe)
        self.project, self.rounds, self.epsilon = project, rounds, epsilon

    @torch.compiler.disable  # inductor has no code for complex numbers, and trips over their strides
    def forward(self, patch: Tensor, amplitude: Tensor) -> Tensor:
        start = torch.view_as_complex(patch.to(amplitude.dtype).contiguous()).movedim(-1, 1)
        found = self.project(start, amplitude, self.probe, self.epsilon, self.rounds)
        return torch.view_as_real(found.movedim(1, -1).contiguous())
