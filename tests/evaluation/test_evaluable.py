from types import SimpleNamespace

import numpy as np
import pytest

from ptychofno.evaluation import check_evaluable

N = 16


class Unread:
    """Patterns that must not be looked at before training."""

    def __getattr__(self, name):
        raise AssertionError(f"the patterns were read: {name}")


def raster(step, count, fraction=0.0):
    axis = np.arange(count) * step + fraction
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2).astype(np.float64)


def split(positions):
    index = np.zeros(len(positions), dtype=np.int64)
    return SimpleNamespace(amplitude=Unread(), positions_px=positions, object_index=index)


def disc(radius):
    offset = np.arange(N) - (N - 1) / 2
    return (np.hypot(offset[:, None], offset[None, :]) < radius).astype(np.complex64)


def simulated(positions, radius=8.0, size=None):
    side = int(np.ceil(positions.max())) + N if size is None else size
    test = split(positions)
    objects = np.ones((1, side, side), dtype=np.complex64)
    return SimpleNamespace(probe=disc(radius), train=test, validation=test, test=test, test_objects=objects)


def measured(positions):
    parts = [split(part) for part in np.split(positions, [len(positions) // 2, len(positions) - 1])]
    return SimpleNamespace(
        probe=disc(8.0), train=parts[0], validation=parts[1], test=parts[2], test_objects=None
    )


@pytest.mark.parametrize("make_dataset", [simulated, measured])
def test_a_raster_can_be_judged(make_dataset):
    check_evaluable(make_dataset(raster(8, 4)))


def test_a_region_too_small_to_compare_names_the_sizes():
    with pytest.raises(ValueError, match=r"^data\.size=17 with data\.N=16: .* 4 x 4 px") as e:
        check_evaluable(simulated(raster(8, 1), radius=2.0, size=17))
    assert "\n" not in str(e.value)
    # Without a truth nothing is compared.
    check_evaluable(measured(raster(2, 3)))


@pytest.mark.parametrize("far", [1e6, 1e300])
@pytest.mark.filterwarnings("error")
def test_positions_that_no_memory_holds_are_named(far):
    positions = raster(8, 4)
    positions[5] = [[3.0, far]]
    positions[6] = [[far / 2, 0.0]]
    check_evaluable(measured(raster(8, 4)))
    with pytest.raises(ValueError, match=r"^data\.path: the position \(row 3, col 1e\+") as e:
        check_evaluable(measured(positions))
    assert "64 Mi pixels" in str(e.value)
