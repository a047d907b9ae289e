"""Patches that explain measured amplitudes: one for each pattern, or one object for all patterns of a sample.

Shapes: B samples, C patterns of a sample, N pattern size, M modes of the probe, p pixels of a sample's
canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptychofno.physics.diffraction import divided_by, far_field, inverse_far_field
from ptychofno.physics.modes import for_modes, modes_of, over_modes
from ptychofno.physics.scan import lit_indices, shift

_FLOOR = 0.1
_DARK = 1e-36
"""An intensity whose root and its gradient are finite in single precision."""
_UNLIT = 1e-8
"""Share of the brightest pixel's illumination below which an average fades to 0."""
_TURNS = 32
_ALONE = 1e-3
"""Share of its agreement with itself that a patch's phase goes by where it overlaps with no other."""
_UNDECIDED = 0.01
"""Share of the clearest agreement below which a patch is not turned wholly."""


def error_reduction(
    patch: Tensor,
    amplitude: Tensor,
    probe: Tensor,
    epsilon: float,
    rounds: int,
    valid: Tensor | None = None,
    positions_px: Tensor | None = None,
) -> Tensor:
    """The patch after rounds of error reduction with a known probe (Fienup 1982), complex (…, N, N).

    Each of ``rounds`` gives the far field F of the patch the measured ``amplitude`` and adds what that
    changes of the exit wave, divided by the probe as in ``back_projection``. Lines sharpen within a few;
    what varies slowly over the patch hardly moves in a hundred.

    The measured amplitude A with the phase of F has no limit at F = 0 and a gradient of A / |F| near it:
    pixels that a network predicts too dark would rule its gradient (experiments/projection has what comes
    of it). So it is A F / max(|F|, A / 10), and such a pixel, and its gradient, grows tenfold a round.

    With ``positions_px`` the patches (B, C, N, N) of a sample are those of one object: brought to a common
    phase and averaged with weight |P|^2, also where there are no rounds; what a round changes is averaged in
    the same way over all patterns at once.

    Args:
        valid: 1 where a detector pixel is valid, else 0, (N, N): there F keeps its own modulus. None where
            all are.
        positions_px: (row, col) of the patches of each sample, (B, C, 2), from any origin.
    """
    modes = modes_of(probe)
    if positions_px is not None:
        return _together(patch, amplitude, modes, epsilon, rounds, valid, positions_px)
    divided = divided_by(modes, epsilon)
    for _ in range(rounds):
        patch = patch + over_modes(divided * _change(modes * for_modes(patch), amplitude, valid))
    return patch


def _change(waves: Tensor, amplitude: Tensor, valid: Tensor | None) -> Tensor:
    """What exit waves (…, M, N, N) lack to have the measured moduli together."""
    field = far_field(waves)
    intensity = over_modes(field.real.square() + field.imag.square())
    floor = (_FLOOR * amplitude).square() + _DARK
    ratio = amplitude / torch.maximum(intensity, floor).sqrt()
    if valid is not None:
        ratio = torch.where(valid > 0, ratio, 1.0)
    return inverse_far_field(for_modes(ratio) * field) - waves


def _together(
    patch: Tensor,
    amplitude: Tensor,
    modes: Tensor,
    epsilon: float,
    rounds: int,
    valid: Tensor | None,
    positions_px: Tensor,
) -> Tensor:
    """``error_reduction`` of patches that share an object, with a probe (M, N, N)."""
    canvas = _Canvas(positions_px, modes)
    tiles = canvas.lay(canvas.to_corners(modes * for_modes(patch)))
    brightest = canvas.light.amax(-1, keepdim=True)
    light = canvas.light.clamp_min(_UNLIT * brightest + _DARK)
    turns = _turns((tiles.conj() / light[:, None]) @ tiles.mT)
    obj = (turns[..., None] * tiles).sum(1) / light
    for _ in range(rounds):
        changes = canvas.lay(_change(canvas.waves(obj), amplitude, valid))
        obj = obj + changes.sum(1) / (canvas.light + epsilon * brightest + _DARK)
    if canvas.fractions is None:
        return canvas.cut(obj)
    # Not the object but the exit wave is shifted: it is dark at the border of its array.
    waves = shift(canvas.waves(obj), -canvas.fractions[:, :, None])
    return over_modes(divided_by(modes, _UNLIT) * waves)


class _Canvas:
    """Where the patches of each sample lie on a canvas of its own.

    As in ``overlap.Scan`` a patch lies at whole pixels, its corner, and what is left of its position shifts
    its probe. Fields (B, C, M, N, N) are those at corners.
    """

    def __init__(self, positions_px: Tensor, modes: Tensor) -> None:
        relative = positions_px - positions_px.amin(1, keepdim=True)
        corners = torch.round(relative)
        fractions = (relative - corners).to(modes.real.dtype)
        self.fractions = fractions if bool(fractions.any()) else None
        height, width = (int(last) + modes.shape[-1] for last in corners.amax((0, 1)))
        self.pixels = height * width
        self.index = lit_indices(corners.long(), modes.shape[-1], width).flatten(2)
        self.probes = self.to_corners(modes).expand(*positions_px.shape[:2], -1, -1, -1)
        self.light = self.lay(self.probes).real.sum(1)
        """sum |P|^2, (B, p)"""

    def to_corners(self, fields: Tensor) -> Tensor:
        return fields if self.fractions is None else shift(fields, self.fractions[:, :, None])

    def lay(self, waves: Tensor) -> Tensor:
        """conj(P) times exit waves, each on a canvas, (B, C, p)."""
        fields = over_modes(self.probes.conj() * waves).flatten(2)
        return fields.new_zeros(*fields.shape[:2], self.pixels).scatter(-1, self.index, fields)

    def cut(self, obj: Tensor) -> Tensor:
        """What each patch shows of objects (B, p)."""
        C, N = self.index.shape[1], self.probes.shape[-1]
        return obj[:, None].expand(-1, C, -1).gather(-1, self.index).unflatten(-1, (N, N))

    def waves(self, obj: Tensor) -> Tensor:
        """Exit waves of objects (B, p)."""
        return self.probes * self.cut(obj)[:, :, None]


def _turns(agreement: Tensor) -> Tensor:
    """Phase factors u (B, C) of patches whose average agrees best, from <patch i, patch j> (B, C, C).

    The eigenvector method of angular synchronisation (Singer 2011): rounds of v_i = sum_j <patch_i, patch_j>
    v_j, each weighted by what it could be at most, and the phases of what that leaves. For patches of one
    object all |v_i| are alike in the end. A patch's agreement with itself only slows this down: as much of
    it is kept as makes it converge. Patches that others pull apart have no best phase, and a gradient
    without bounds: near that they are not turned wholly. The start prefers some, lest opposite ones cancel.
    """
    C = agreement.shape[-1]
    alone = agreement.diagonal(dim1=1, dim2=2).real
    others = agreement * (1 - torch.eye(C, device=agreement.device))
    reach = others.abs().sum(-1)
    own = reach + _ALONE * alone + _DARK
    step = (others + torch.diag_embed(own)) / (reach + own)[..., None]
    start = (1 / torch.arange(1.0, C + 1, device=own.device)).to(step.dtype)
    found = torch.linalg.matrix_power(step, _TURNS) @ start
    size = found.abs()
    return found / torch.maximum(size, _UNDECIDED * size.amax(-1, keepdim=True))
