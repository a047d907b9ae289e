"""One object for all patterns: operators, sweeps, slow phase, probe, mask."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ptychofno import physics
from ptychofno.physics import overlap

N, SIZE = 16, 64


def object_and_probe(seed: int = 0, spread: float = 12) -> tuple[Tensor, Tensor]:
    frequency = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    low_pass = torch.exp(-200 * (frequency[:, None] ** 2 + frequency**2))
    noise = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * low_pass).real
    smooth = smooth / smooth.std(dim=(1, 2), keepdim=True)
    obj = torch.polar(1 + 0.2 * smooth[0], smooth[1])
    square = (torch.arange(N) - N // 2).double() ** 2
    radius = square[:, None] + square
    probe = torch.polar(torch.exp(-radius / spread), radius / 20)
    return obj.to(torch.complex64), probe.to(torch.complex64)


def scan_of(obj: Tensor, probe: Tensor, positions: Tensor, valid: Tensor | None = None) -> overlap.Scan:
    """Patterns as the object gives them, by the probe that a fraction of a pixel shifts."""
    corners, fractions = physics.split_positions(positions, N, obj.shape)
    probes = probe if fractions is None else physics.shift(probe, fractions)
    patches = physics.extract_patches(obj, corners, N)
    return physics.make_scan(physics.far_field(probes * patches).abs(), positions, obj.shape, valid)


def raster(step: int = 4) -> Tensor:
    return physics.raster_positions(SIZE, N, step)


def error(found: Tensor, truth: Tensor, light: Tensor) -> float:
    """Relative distance where it is lit, but for a global phase."""
    lit = light > 0.2 * light.max()
    turned = found[lit] * torch.exp(-1j * torch.angle(torch.vdot(truth[lit], found[lit])))
    return float((turned - truth[lit]).norm() / truth[lit].norm())


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_the_true_object_is_a_fixed_point(fraction: float) -> None:
    obj, probe = object_and_probe(spread=4)  # dark at the border, over which a shift is periodic
    positions = raster().double()
    scan = scan_of(obj, probe, positions[(positions < SIZE - N).all(1)] + fraction)
    true = physics.Estimate(obj, probe)
    assert physics.misfit_and_tilt(scan, true)[0] < 1e-6
    swept = overlap.sweep(scan, true, 0.1, range(len(scan.blocks)), refine_probe=True)
    averaged = overlap.average(scan, true, refine_probe=True)
    for found in (swept, averaged):
        assert physics.misfit_and_tilt(scan, found)[0] < 2e-5


def test_patterns_of_a_block_do_not_overlap_and_each_is_in_one() -> None:
    corners = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (200, 2)))
    blocks = overlap.disjoint_blocks(corners, N)
    assert torch.equal(torch.cat(blocks).sort().values, torch.arange(200))
    for block in blocks:
        apart = (corners[block][:, None] - corners[block]).abs().amax(-1)
        assert int((apart < N).sum()) == len(block)


def test_a_block_at_once_is_one_pattern_after_another() -> None:
    obj, probe = object_and_probe()
    scan = scan_of(obj, probe, raster())
    start = physics.flat_estimate(scan, probe)
    single = [torch.tensor([int(i)]) for block in scan.blocks for i in block]
    one_by_one = overlap.replace(scan, blocks=single)
    together = overlap.sweep(scan, start, 0.5, range(len(scan.blocks)), refine_probe=False)
    apart = overlap.sweep(one_by_one, start, 0.5, range(len(single)), refine_probe=False)
    torch.testing.assert_close(together.object, apart.object)


def test_the_tilt_is_the_mean_phase_gradient() -> None:
    """A ramp of a rad per pixel moves every pattern by a N / 2 pi pixels: no more, no less."""
    obj, probe = object_and_probe()
    ramp = torch.exp(1j * (0.05 * torch.arange(SIZE)[:, None] - 0.02 * torch.arange(SIZE)))
    scan = scan_of(torch.ones_like(obj) * ramp, probe, raster())
    _, tilts = physics.misfit_and_tilt(scan, physics.flat_estimate(scan, probe))
    torch.testing.assert_close(tilts, torch.tensor([0.05, -0.02]).expand_as(tilts), atol=2e-4, rtol=0)


def test_the_slow_phase_is_found_at_once() -> None:
    _, probe = object_and_probe()
    along = torch.cos(torch.pi * (torch.arange(SIZE) + 0.5) / SIZE)
    phase = 0.3 * along[:, None] * along
    scan = scan_of(torch.polar(torch.ones_like(phase), phase), probe, raster(2))
    _, tilts = physics.misfit_and_tilt(scan, physics.flat_estimate(scan, probe))
    found = overlap.slow_phase(scan, probe, tilts)
    inner = slice(12, -12)
    difference = (found - phase)[inner, inner]
    assert float((difference - difference.mean()).abs().max()) < 0.05
    assert float(phase[inner, inner].abs().max()) > 0.15


@pytest.mark.parametrize("fraction", [0.0, 0.4])
def test_a_known_probe_gives_the_object_from_a_flat_start(fraction: float) -> None:
    obj, probe = object_and_probe()
    positions = raster(4).double()
    positions = positions[(positions < SIZE - N).all(1)] + fraction
    scan = scan_of(obj, probe, positions)
    found = physics.refine(scan, physics.flat_estimate(scan, probe), 60, tolerance=0)
    assert found.misfit[-1] < 2e-3 < found.misfit[0] and len(found.misfit) <= 61
    assert error(found.estimate.object, obj, overlap.illumination(scan, probe)) < 0.02


def test_a_wrong_probe_is_refined() -> None:
    obj, probe = object_and_probe()
    scan = scan_of(obj, probe, raster(3))
    wrong = physics.shift(probe, torch.tensor([0.0, 0.0])) * (1 + 0.4j * (probe.abs() > 0.3))
    kept = physics.refine(scan, physics.flat_estimate(scan, wrong), 20)
    found = physics.refine(scan, physics.flat_estimate(scan, wrong), 20, probe_from=2)
    assert found.misfit[-1] < 0.5 * kept.misfit[-1]
    torch.testing.assert_close(float(found.estimate.probe.norm()) ** 2, scan.energy, rtol=1e-3, atol=0)


def test_positions_move_to_where_the_patterns_were_taken() -> None:
    obj, probe = object_and_probe()
    true = raster(4).double()[(raster(4) < SIZE - N - 1).all(1)] + 1
    off = 0.4 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    off = (off - off.mean(0)).clamp(-0.9, 0.9)
    taken = scan_of(obj, probe, true + off)
    believed = physics.make_scan(torch.fft.fftshift(taken.amplitude, dim=(-2, -1)), true, obj.shape)
    start = physics.flat_estimate(believed, probe)
    fixed = physics.refine(believed, start, 30)
    found = physics.refine(believed, start, 30, positions=True)
    assert found.misfit[-1] < 0.5 * fixed.misfit[-1]
    left = found.scan.fractions - off
    assert float((left - left.mean(0)).std()) < 0.5 * float(off.std())


def test_what_a_mask_hides_does_not_matter() -> None:
    obj, probe = object_and_probe()
    valid = torch.ones(N, N)
    valid[6:9, 10:] = 0
    clean = scan_of(obj, probe, raster(), valid)
    amplitude = torch.fft.fftshift(clean.amplitude, dim=(-2, -1)).clone()
    amplitude[:, 6:9, 10:] = 1e6
    dirty = physics.make_scan(amplitude, raster(), obj.shape, valid)
    start = physics.flat_estimate(clean, probe)
    one, other = (physics.refine(scan, start, 5) for scan in (clean, dirty))
    assert torch.equal(one.estimate.object, other.estimate.object) and one.misfit == other.misfit


@pytest.mark.parametrize(
    "change", [(False, False, False), (True, False, False), (False, True, False), (True, False, True)]
)
def test_the_orientation_of_the_scan_is_found(change: tuple[bool, bool, bool]) -> None:
    obj, probe = object_and_probe()
    probe = probe * (1 + 0.5 * torch.linspace(-1, 1, N)[:, None])  # no symmetry that would hide a mirror
    scan = scan_of(obj, probe, raster(4))
    swap, rows, cols = change
    told = raster(4).double() * torch.tensor([-1.0 if rows else 1.0, -1.0 if cols else 1.0])
    told = told.flip(1) if swap else told
    wanted = change if not swap else (True, rows, cols)
    amplitude = torch.fft.fftshift(scan.amplitude, dim=(-2, -1))
    assert physics.orientation_that_fits(amplitude, told - told.amin(0), probe) == wanted
