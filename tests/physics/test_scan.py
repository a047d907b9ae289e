"""Cutting and laying back patches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptychofno.physics import extract_patches, lay, raster_positions, shift, split_positions


def random_object(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 999), size=st.integers(1, 9))
def test_laying_is_the_adjoint_of_extracting(seed: int, size: int) -> None:
    obj, patches = random_object(13, 17, seed=seed), random_object(6, size, size, seed=seed + 1)
    room = torch.tensor([13 - size, 17 - size])
    positions = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * room
    positions[0] = room
    there = (extract_patches(obj, positions, size).conj() * patches).sum()
    corners, fractions = split_positions(positions, size, (13, 17))
    assert fractions is not None
    back = (obj.conj() * lay(shift(patches, fractions), corners, (13, 17))).sum()
    torch.testing.assert_close(there, back)


def test_integer_positions_slice() -> None:
    obj = random_object(10, 12)
    patch = extract_patches(obj, torch.tensor([[3, 5], [6, 8]]), 4)
    assert torch.equal(patch[0], obj[3:7, 5:9]) and torch.equal(patch[1], obj[6:10, 8:12])


@pytest.mark.parametrize("cycles", [6, 13])
def test_fractional_positions_are_sharp(cycles: int) -> None:
    """A wave that is periodic over the patch, 0.41 cycles per pixel at most, keeps its contrast and place."""
    wave = torch.polar(
        torch.ones(40, dtype=torch.float64), 2 * torch.pi * cycles / 32 * torch.arange(40.0).double()
    )
    obj = wave[:, None] * wave
    patch = extract_patches(obj, torch.tensor([[1.25, 2.5]], dtype=torch.float64), 32)[0]
    exact = obj[:32, :32] * torch.exp(torch.tensor(2j * torch.pi * cycles / 32 * (1.25 + 2.5)))
    torch.testing.assert_close(patch, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("position", [[-0.5, 0], [0, 5], [4.5, 0]])
def test_a_patch_outside_is_named(position: list[float]) -> None:
    with pytest.raises(ValueError, match=r"patch 1 at \(row .* leaves the object \(8, 8\)"):
        extract_patches(random_object(8, 8), torch.tensor([[0.0, 0.0], position]), 4)


@pytest.mark.parametrize(("step", "per_axis"), [(4, 83), (10, 33)])
def test_raster_of_the_published_benchmark(step: int, per_axis: int) -> None:
    positions = raster_positions(392, 64, step)
    assert len(positions) == per_axis**2
    assert positions[1].tolist() == [0, step]
    assert int(positions.max()) + 64 <= 392


def test_raster_leaves_room_for_neighbours() -> None:
    assert int(raster_positions(40, 32, 2, extent_px=4).max()) == 4
    with pytest.raises(ValueError, match="cannot hold"):
        raster_positions(32, 32, 2, extent_px=4)
