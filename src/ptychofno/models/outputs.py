"""What becomes of the patch that a generator's layers put out.

Shapes: B batch, C patterns per sample, N pattern size. An output module maps the patch, real and imaginary
part (B, N, N, C, 2), the measured amplitude (B, C, N, N) and, where a sample's patches share one object,
their positions (B, C, 2) in pixels to the generator's answer, (B, N, N, C, 2). What belongs to the dataset is
held in buffers, as in ``models.inputs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from typing_extensions import Doc

# (patch, amplitude, probe, epsilon, rounds, valid, positions) to patches that explain the amplitude better
# and, with positions, are those of one object; complex.
Projector = Callable[[Tensor, Tensor, Tensor, float, int, Tensor | None, Tensor | None], Tensor]


class PatchOutput(nn.Module):
    """The layers' patches as they are; those that share an object as they agree on it.

    Args:
        probe: complex (N, N), or (M, N, N) of M incoherent modes.
        project: see ``ProjectedOutput``; None leaves all patches as they are.
    """

    probe: Tensor

    def __init__(self, probe: Tensor | None = None, project: Projector | None = None) -> None:
        super().__init__()
        self.register_buffer("probe", probe, persistent=False)
        self.project = project

    def forward(self, patch: Tensor, amplitude: Tensor, positions_px: Tensor | None = None) -> Tensor:
        if positions_px is None or self.project is None:
            return patch
        return _projected(self.project, patch, amplitude, self.probe, 1.0, 0, None, positions_px)


class ProjectedOutput(nn.Module):
    """The patch after rounds towards the measured amplitude, in training as in use.

    The rounds bring out what a single pattern tells quickly, the fine lines; what they leave as it is, the
    slow phase, is what remains in the loss for the layers to learn. Data consistency of this kind is known
    from networks for MR images (Schlemper et al. 2018). Patches that share an object are brought to one
    phase and averaged before, and what a round changes is averaged as well.

    Args:
        probe: complex (N, N), or (M, N, N) of M incoherent modes.
        project: the physics of a round; see ``physics.error_reduction``.
        rounds: how many. More of them fit the noise of dim patterns.
        epsilon: regularisation of the division by the probe, as in ``inputs.BackprojectionInput``.
        valid: 1 where a detector pixel is valid, else 0, (N, N); None where all are.
    """

    probe: Tensor
    valid: Tensor | None

    def __init__(
        self,
        probe: Tensor,
        project: Projector,
        rounds: Annotated[
            int, Ge(1), Le(1000), Doc("rounds of error reduction of the patch, trained through")
        ] = 4,
        epsilon: Annotated[
            float, Gt(0), Doc("regularisation of the division by |P|^2, relative to its maximum")
        ] = 1e-3,
        valid: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("probe", probe)
        self.register_buffer("valid", valid, persistent=False)
        self.project, self.rounds, self.epsilon = project, rounds, epsilon

    def forward(self, patch: Tensor, amplitude: Tensor, positions_px: Tensor | None = None) -> Tensor:
        return _projected(
            self.project, patch, amplitude, self.probe, self.epsilon, self.rounds, self.valid, positions_px
        )


def _projected(project: Projector, patch: Tensor, amplitude: Tensor, *settings: Any) -> Tensor:
    start = torch.view_as_complex(patch.to(amplitude.dtype).contiguous()).movedim(-1, 1)
    found = project(start, amplitude, *settings)
    return torch.view_as_real(found.movedim(1, -1).contiguous())
