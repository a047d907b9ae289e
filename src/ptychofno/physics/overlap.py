"""The overlap of a scan: one object, and a probe, that explain all patterns together.

Shapes: n patterns of N × N pixels, b of a block, M modes of the probe, (H, W) object. Pattern i lights the
object at its corner c_i, whole pixels; what is left of its position shifts the probe, P_i. Its exit wave
psi_i = P_i O[c_i], one for each mode, is so sharp at any position. Patterns have their zero frequency at the
corner here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.fft import dctn, idctn
from scipy.spatial import cKDTree
from torch import Tensor

from ptychofno.physics.modes import intensity, light_of, modes_of, over_modes
from ptychofno.physics.scan import lit_indices, put_, shift, shift_ramps, split_positions, windows

_DARK = 1e-12
_AXES = (-2, -1)
_CHUNK_PX = 2**18
_FAINT = 1e-3
"""Share of the brightest pixel's illumination around which an average hardly changes what is there."""


@dataclass(frozen=True)
class Scan:
    """Patterns of one object, arranged for rounds of overlap."""

    amplitude: Tensor
    """Measured X, float32 (n, N, N); 0 where a pixel is not valid."""
    corners: Tensor
    """int64 (n, 2)"""
    fractions: Tensor | None
    """float32 (n, 2), px; None where all positions are whole."""
    shape: tuple[int, int]
    """(H, W) of the object."""
    valid: Tensor | None
    """1 where a detector pixel is valid, else 0, float32 (N, N); None where all are."""
    blocks: list[Tensor]
    """Indices of patterns that do not overlap one another; each pattern is in one block."""

    @cached_property
    def sums(self) -> Tensor:
        """sum X and sum X^2 of each pattern, float32 (2, n)."""
        parts = (self.amplitude[chunk] for chunk in self.chunks())
        return torch.cat([torch.stack((part.sum(_AXES), part.square().sum(_AXES))) for part in parts], 1)

    @property
    def energy(self) -> float:
        """sum X^2 of a pattern in the mean."""
        return float(self.sums[1].double().mean())

    def seen(self, obj: Tensor, members: Tensor) -> Tensor:
        """What ``members`` see of an object (H, W), (b, 1, N, N)."""
        return windows(obj, self.amplitude.shape[-1])[self.corners[members].unbind(-1)][:, None]

    def probes(self, modes: Tensor, members: Tensor) -> Tensor:
        """The probe as each of ``members`` has it, (b, M, N, N), or (M, N, N) where all have the same."""
        return modes if self.fractions is None else shift(modes, self.fractions[members][:, None])

    def in_probe(self, fields: Tensor, members: Tensor) -> Tensor:
        """The sum of ``fields`` (b, M, N, N), each moved to where the unshifted probe is."""
        if self.fractions is None:
            return fields.sum(0)
        ramps = shift_ramps(self.fractions[members][:, None], fields.shape[-1])
        return torch.fft.ifft2((torch.fft.fft2(fields) * ramps.conj()).sum(0))

    def lacking(self, field: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """X - |F| of far fields (b, M, N, N), (b, N, N), 0 where a pixel is not valid; |F| of all modes."""
        modulus = over_modes(intensity(field)).sqrt_()
        lacking = self.amplitude.index_select(0, members).sub_(modulus)
        return lacking if self.valid is None else lacking.mul_(self.valid), modulus

    def change(self, waves: Tensor, members: Tensor) -> Tensor:
        """What exit waves (b, M, N, N) lack to have the measured moduli together."""
        field = torch.fft.fft2(waves, norm="ortho")
        lacking, modulus = self.lacking(field, members)
        return torch.fft.ifft2(field * (lacking / modulus.clamp_min_(_DARK))[:, None], norm="ortho")

    def chunks(self, members: Tensor | None = None) -> tuple[Tensor, ...]:
        """All patterns, or ``members``, so many at a time as fit into a cache."""
        if members is None:
            members = torch.arange(len(self.amplitude), device=self.amplitude.device)
        return members.split(max(1, _CHUNK_PX // self.amplitude.shape[-1] ** 2))


@dataclass(frozen=True)
class Estimate:
    """What explains a scan."""

    object: Tensor
    """complex64 (H, W)"""
    probe: Tensor
    """complex64 (N, N) or, with modes, (M, N, N), in the middle of its array."""

    @property
    def modes(self) -> Tensor:
        """(M, N, N)"""
        return modes_of(self.probe)


def make_scan(
    amplitude: Tensor, positions_px: Tensor, shape: tuple[int, int], valid: Tensor | None = None
) -> Scan:
    """The scan of patterns (n, N, N), zero frequency at the centre, at (row, col) ``positions_px`` (n, 2).

    ``valid`` (N, N) is 0 where a detector pixel says nothing. All tensors live where ``amplitude`` does.
    Raises ValueError naming the first patch that leaves the object of ``shape``.
    """
    size, device = amplitude.shape[-1], amplitude.device
    corners, fractions = split_positions(positions_px, size, shape)
    if valid is not None:
        valid = torch.fft.ifftshift(valid.to(device, torch.float32), dim=_AXES)
    amplitude = torch.fft.ifftshift(amplitude.float(), dim=_AXES)
    return Scan(
        amplitude if valid is None else amplitude * valid,
        corners.to(device),
        None if fractions is None else fractions.to(device),
        shape,
        valid,
        [block.to(device) for block in disjoint_blocks(corners, size)],
    )


def disjoint_blocks(corners: Tensor, size: int) -> list[Tensor]:
    """Indices of patches at ``corners`` (n, 2) in blocks within which no two overlap: a greedy colouring."""
    points = corners.cpu().numpy()
    near = cKDTree(points)
    colours = np.full(len(points), -1)
    for chunk in np.array_split(np.arange(len(points)), max(1, len(points) // 1024)):
        neighbours: Sequence[list[int]] = near.query_ball_point(points[chunk], size - 0.5, p=np.inf)
        for i, others in zip(chunk, neighbours, strict=True):
            taken = np.unique(colours[others])
            taken = taken[taken >= 0]
            free = np.flatnonzero(taken != np.arange(len(taken)))
            colours[i] = free[0] if len(free) else len(taken)
    return [torch.from_numpy(np.flatnonzero(colours == colour)) for colour in range(colours.max() + 1)]


def illumination(scan: Scan, probe: Tensor) -> Tensor:
    """sum |P_i|^2 on the object, float32 (H, W); fractions of positions are left out."""
    return _spread(scan, torch.ones(len(scan.corners), 1, device=probe.device), probe)[0]


def flat_estimate(scan: Scan, probe: Tensor) -> Estimate:
    """The object of constant amplitude and phase 0 that explains the mean intensity."""
    level = (scan.energy / float(probe.abs().square().sum())) ** 0.5
    return Estimate(torch.full(scan.shape, level, dtype=torch.complex64, device=probe.device), probe)


def sweep(
    scan: Scan, start: Estimate, regularisation: float, order: Sequence[int], *, refine_probe: bool
) -> Estimate:
    """One round over all patterns, block by block: rPIE (Maiden, Johnson and Li 2017, eqs. 21 and 25).

    As the patterns of a block do not overlap, it is the sequential algorithm at the speed of batches. Each
    exit wave takes the measured modulus, and O += conj(P) (psi' - psi) / ((1 - a) |P|^2 + a max |P|^2);
    likewise the probe, all patterns of a block together, which keeps the power of the measured patterns. Of
    several modes both parts of the fraction are sums (Thibault and Menzel 2013).

    Args:
        regularisation: a, from 0 (bold where the probe is dim) to 1 (ePIE).
        order: of the blocks.
    """
    obj, modes, a = start.object.clone(), start.modes, regularisation
    for number in order:
        towards, weight = torch.zeros_like(modes), torch.zeros_like(modes[:1].real)
        for members in scan.chunks(scan.blocks[number]):
            probes, patches = scan.probes(modes, members), scan.seen(obj, members)
            change = scan.change(probes * patches, members)
            power = over_modes(intensity(probes)).unsqueeze(-3)
            step = probes.conj() / ((1 - a) * power + a * power.amax(_AXES, keepdim=True))
            put_(obj, patches[:, 0] + over_modes(step * change), scan.corners[members])
            if refine_probe:
                towards += scan.in_probe(patches.conj() * change, members)
                weight += intensity(patches).sum(0)
        if refine_probe:
            modes = modes + towards / ((1 - a) * weight + a * weight.max())
    swept = Estimate(obj, modes.reshape(start.probe.shape))
    return _of_measured_power(scan, swept) if refine_probe else swept


def average(scan: Scan, start: Estimate, *, refine_probe: bool) -> Estimate:
    """What all patterns ask for in the mean, the least-squares object of their corrected exit waves.

    A sweep follows the noise of whichever pattern it saw last; here it averages out.
    """
    modes, asked = start.modes, torch.zeros_like(start.object).reshape(-1)
    weight = torch.zeros_like(asked.real)
    probe_asked, probe_weight = torch.zeros_like(modes), torch.zeros_like(modes[:1].real)
    for members in scan.chunks():
        index = lit_indices(scan.corners[members], modes.shape[-1], scan.shape[1])
        probes, patches = scan.probes(modes, members), scan.seen(start.object, members)
        change = scan.change(probes * patches, members)
        light = over_modes(intensity(probes))
        asked.index_add_(0, index.flatten(), over_modes(probes.conj() * change).flatten())
        weight.index_add_(0, index.flatten(), light.expand(index.shape).flatten())
        if refine_probe:
            probe_asked += scan.in_probe(patches.conj() * change, members)
            probe_weight += intensity(patches).sum(0)
    found = start.object + (asked / (weight + _FAINT * weight.max())).reshape(scan.shape)
    if not refine_probe:
        return Estimate(found, start.probe)
    modes = modes + probe_asked / (probe_weight + _FAINT * probe_weight.max())
    return _of_measured_power(scan, Estimate(found, modes.reshape(start.probe.shape)))


def moved(scan: Scan, estimate: Estimate) -> Scan:
    """The scan, its positions each moved as its pattern asks for, by half a pixel at most.

    To first order a pattern that moves by d sees P grad(O) d more; d is the least-squares fit of that to
    what its exit wave lacks (Odstrčil et al. 2018, eq. 30). A shift of all positions together is left out.
    """
    steps = []
    for members in scan.chunks():
        probes = scan.probes(estimate.modes, members)
        patches = scan.seen(estimate.object, members)
        change = scan.change(probes * patches, members)
        fits = []
        for axis in _AXES:
            more = probes * (patches.roll(-1, axis) - patches.roll(1, axis)) / 2
            fit = (more.conj() * change).real.sum((-3, *_AXES))
            fits.append(fit / intensity(more).sum((-3, *_AXES)).clamp_min(_DARK))
        steps.append(torch.stack(fits, -1))
    step = torch.cat(steps)
    fractions = torch.zeros_like(step) if scan.fractions is None else scan.fractions
    return replace(scan, fractions=fractions + (step - step.mean(0)).clamp(-0.5, 0.5))


def misfit_and_tilt(scan: Scan, estimate: Estimate, members: Tensor | None = None) -> tuple[float, Tensor]:
    """How far an estimate is from the patterns, sum | |F| - X | / sum X, and where they lie.

    The second is the centre of mass of each measured pattern less that of the predicted one, as a phase
    gradient in rad/px, float32 (b, 2): the mean over its exit wave of what the phase's gradient lacks.
    """
    frequency = 2 * torch.pi * torch.fft.fftfreq(estimate.probe.shape[-1], device=estimate.probe.device)
    rows_cols = torch.stack(torch.meshgrid(frequency, frequency, indexing="ij"), -1).flatten(0, 1)
    misfit, total, tilts = 0.0, 0.0, []
    for chunk in scan.chunks(members):
        waves = scan.probes(estimate.modes, chunk) * scan.seen(estimate.object, chunk)
        lacking, modulus = scan.lacking(torch.fft.fft2(waves, norm="ortho"), chunk)
        amplitude, energy = scan.sums[:, chunk]
        misfit += float(lacking.abs().sum(_AXES).double().sum())
        total += float(amplitude.double().sum())
        moments = (lacking * lacking.add(modulus, alpha=2)).flatten(1) @ rows_cols  # of X^2 - |F|^2
        tilts.append(moments / energy.clamp_min(_DARK)[:, None])
    return misfit / total, torch.cat(tilts)


def slow_phase(scan: Scan, probe: Tensor, tilts: Tensor) -> Tensor:
    """The phase, float32 (H, W), whose gradient averages to ``tilts`` (n, 2) over the patterns.

    Sweeps crawl towards what varies slowly over the object, as they see a patch at a time. But the centre of
    mass of a pattern tells the mean phase gradient of its exit wave (differential phase contrast, Dekkers
    and de Lang 1974): averaged where patterns overlap and integrated, it is the slow phase at once.
    """
    *gradient, light = _spread(scan, torch.cat((tilts, torch.ones_like(tilts[:, :1])), 1), probe)
    rows, cols = (each / (light + _FAINT * light.max()) for each in gradient)
    return _integrated(rows.double().cpu().numpy(), cols.double().cpu().numpy()).to(probe.device)


def _spread(scan: Scan, values: Tensor, probe: Tensor) -> Tensor:
    """sum_i v_i |P|^2 laid at corner i for each column of ``values`` (n, k), (k, H, W): one convolution."""
    height, width = scan.shape
    size = probe.shape[-1]
    points = values.new_zeros(values.shape[1], height * width)
    points.index_add_(1, scan.corners[:, 0] * width + scan.corners[:, 1], values.T)
    padded = (height + size, width + size)
    kernel = torch.fft.rfft2(light_of(probe), s=padded)
    spread = torch.fft.irfft2(torch.fft.rfft2(points.reshape(-1, height, width), s=padded) * kernel, s=padded)
    return spread[:, :height, :width]


def _integrated(rows: np.ndarray, cols: np.ndarray) -> Tensor:
    """The least-squares image, mean 0, of a gradient given at pixels (H, W), by cosine transforms."""
    height, width = rows.shape
    down, right = (rows[1:] + rows[:-1]) / 2, (cols[:, 1:] + cols[:, :-1]) / 2
    divergence = np.zeros((height, width))
    divergence[:-1] += down
    divergence[1:] -= down
    divergence[:, :-1] += right
    divergence[:, 1:] -= right
    waves = [2 * np.cos(np.pi * np.arange(side) / side) - 2 for side in (height, width)]
    laplacian = waves[0][:, None] + waves[1]
    laplacian[0, 0] = 1.0
    spectrum = dctn(divergence) / laplacian
    spectrum[0, 0] = 0.0
    return torch.from_numpy(idctn(spectrum)).float()


def _of_measured_power(scan: Scan, estimate: Estimate) -> Estimate:
    """The same exit waves from a probe with the power of the mean pattern: its scale is the object's else."""
    factor = (scan.energy / float(estimate.probe.abs().square().sum())) ** 0.5
    return Estimate(estimate.object / factor, estimate.probe * factor)
