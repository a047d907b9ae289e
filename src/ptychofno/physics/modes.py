"""Partially coherent light: a probe of several modes that do not interfere, so that their intensities add.

Shapes: M modes, N pattern size, ``…`` any leading axes. A probe is complex64 (N, N), or (M, N, N) where it
has modes; fields of modes are (…, M, N, N). A unitary matrix that mixes modes changes no intensity, so that
only the space they span, and how the power is spread over it, can be measured (Thibault and Menzel 2013).
"""

from __future__ import annotations

import math
from itertools import count, islice

import torch
from torch import Tensor

_AXIS = -3


def modes_of(probe: Tensor) -> Tensor:
    """The modes (M, N, N) of a probe, one where it is (N, N)."""
    return probe.reshape(-1, *probe.shape[-2:])


def for_modes(fields: Tensor) -> Tensor:
    """Fields (…, N, N) with an axis of length 1 for modes, (…, 1, N, N)."""
    # Not unsqueeze: the exporter to ONNX does not know it for complex numbers.
    return fields.reshape(*fields.shape[:-2], 1, *fields.shape[-2:])


def over_modes(fields: Tensor) -> Tensor:
    """The sum over modes, (…, M, N, N) to (…, N, N)."""
    return fields.squeeze(_AXIS) if fields.shape[_AXIS] == 1 else fields.sum(_AXIS)


def intensity(fields: Tensor) -> Tensor:
    """|F|^2 of complex fields. On a CPU ``abs`` takes three times as long."""
    squares = torch.view_as_real(fields).square()
    return squares[..., 0] + squares[..., 1]


def light_of(probe: Tensor) -> Tensor:
    """sum |P|^2 over the modes of a probe, (N, N)."""
    return over_modes(modes_of(probe).abs().square())


def incoherent_modulus(fields: Tensor) -> Tensor:
    """The root of the summed intensities of complex fields, (…, M, N, N) to real (…, N, N)."""
    if fields.shape[_AXIS] == 1:
        return fields.abs().squeeze(_AXIS)
    return over_modes(intensity(fields)).sqrt()


def orthogonal_modes(probe: Tensor) -> Tensor:
    """The same light by orthogonal modes, the strongest first, of the shape of ``probe``.

    The strongest is turned to the phase of the first mode.
    """
    modes = modes_of(probe)
    if len(modes) == 1:
        return probe
    _, size, directions = torch.linalg.svd(modes.flatten(1), full_matrices=False)
    found = size[:, None] * directions
    turn = torch.vdot(modes[0].flatten(), found[0])
    found[0] *= torch.exp(-1j * turn.angle())
    return found.reshape(probe.shape)


def mode_shares(probe: Tensor) -> list[float]:
    """The share of the light of each mode."""
    power = modes_of(probe).abs().square().sum((-2, -1)).double()
    shares: list[float] = (power / power.sum()).tolist()
    return shares


def further_modes(probe: Tensor, total: int, share: float) -> Tensor:
    """``probe`` with as many further modes as make ``total``, (M, N, N).

    The first mode times products of powers of the two diagonal distances from its middle, each made
    orthogonal to those before: Hermite functions where it is Gaussian, the modes of a partially coherent
    Gaussian beam (Starikov and Wolf 1982). Rounds of overlap find their shapes, and turn them: sources are
    wide along a row or a column, and of one diagonal mode either can be made.

    Args:
        share: of the power of the given modes, for each further one.
    """
    modes = list(modes_of(probe))
    light = modes[0].abs().square()
    row, col = (_from_middle(light, axis) / math.sqrt(2) for axis in (-2, -1))
    down, up = col + row, col - row
    power = math.sqrt(share * float(modes_of(probe).abs().square().sum()))
    orders = ((order - j, j) for order in count(1) for j in range(order + 1))
    for i, j in islice(orders, total - len(modes)):
        found = down**i * up**j * modes[0]
        for mode in modes:
            found = found - mode * (torch.vdot(mode.flatten(), found.flatten()) / mode.abs().square().sum())
        modes.append(found * (power / found.norm()))
    return torch.stack(modes)


def _from_middle(light: Tensor, axis: int) -> Tensor:
    """Distance along an axis from the centre of mass, in units of the width of ``light`` (N, N)."""
    N = light.shape[-1]
    along = torch.arange(N, dtype=light.dtype, device=light.device)
    profile = light.sum(-1 if axis == -2 else -2)
    profile = profile / profile.sum()
    middle = (along * profile).sum()
    width = ((along - middle).square() * profile).sum().sqrt().clamp_min(1e-3)
    away = (along - middle) / width
    return away[:, None] if axis == -2 else away
