"""What a generator sees of the measurement.

Shapes: B batch, C patterns per sample, N pattern size. An input module maps measured amplitudes
(B, C, N, N) to features (B, C · channels_per_pattern, N, N) of order 1. What belongs to the dataset
(probe, amplitude scale) is held in buffers, so that saved weights are complete; the mask of valid pixels is
not among them, as most data have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from typing_extensions import Doc

# (amplitude, probe, epsilon, valid) to a complex first guess of the patch.
BackProjector = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]


class AmplitudeInput(nn.Module):
    """The measured amplitude in units of its root mean square, as in the published arms."""

    channels_per_pattern = 1
    rms_amplitude: Tensor

    def __init__(self, rms_amplitude: float) -> None:
        super().__init__()
        self.register_buffer("rms_amplitude", torch.tensor(rms_amplitude))

    def forward(self, amplitude: Tensor) -> Tensor:
        return amplitude / self.rms_amplitude


class BackprojectionInput(nn.Module):
    """The amplitude, and real and imaginary part of a real-space first guess of the patch.

    Args:
        probe: complex (N, N), or (M, N, N) of M incoherent modes.
        rms_amplitude: of the training patterns.
        back_project: the physics of the guess; see ``physics.back_projection``.
        epsilon: regularisation relative to the largest probe intensity. Smaller shows more of the
            dim rim of the probe, and its noise.
        valid: 1 where a detector pixel is valid, else 0, (N, N); None where all are.
    """

    channels_per_pattern = 3
    probe: Tensor
    rms_amplitude: Tensor
    valid: Tensor | None

    def __init__(
        self,
        probe: Tensor,
        rms_amplitude: float,
        back_project: BackProjector,
        epsilon: Annotated[
            float, Gt(0), Doc("regularisation of the division by |P|^2, relative to its maximum")
        ] = 1e-3,
        valid: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("probe", probe)
        self.register_buffer("valid", valid, persistent=False)
        self.register_buffer("rms_amplitude", torch.tensor(rms_amplitude))
        self.back_project, self.epsilon = back_project, epsilon

    def forward(self, amplitude: Tensor) -> Tensor:
        guess = self.back_project(amplitude, self.probe, self.epsilon, self.valid)
        return torch.cat((amplitude / self.rms_amplitude, guess.real, guess.imag), dim=1)
