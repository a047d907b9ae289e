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
@pytest.mark.parametrize("stitch", ["overlap", "centre_crop"])
def test_a_raster_can_be_judged_either_way(make_dataset, stitch):
    check_evaluable(make_dataset(raster(8, 4)), stitch=stitch)


@pytest.mark.parametrize("make_dataset", [simulated, measured])
@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        (raster(20, 3), "step of at most the patch's 16 px, not 20 px"),
        (raster(8, 3, fraction=0.5), "full square raster of integer positions"),
        (raster(8, 4)[:-1], "these 15 positions are not"),
    ],
    ids=["gaps", "fractional", "one missing"],
)
def test_centre_crop_is_refused_where_it_cannot_tile(make_dataset, positions, reason):
    check_evaluable(make_dataset(positions), stitch="overlap")
    with pytest.raises(
        ValueError, match=r"^evaluation\.stitch=centre_crop.*evaluation\.stitch=overlap$"
    ) as e:
        check_evaluable(make_dataset(positions), stitch="centre_crop")
    assert reason in str(e.value)


def test_centre_crop_of_neighbouring_patches_names_the_gridsize():
    neighbours = raster(8, 4) + np.array([[0, 0], [0, 4], [4, 0], [4, 4]])
    check_evaluable(simulated(neighbours[:, :1]), stitch="centre_crop")
    overlapping = raster(6, 4) + np.array([[0, 0], [0, 4], [4, 0], [4, 4]])
    with pytest.raises(ValueError, match=r"centre_crop with data\.gridsize=2.*data\.gridsize=1$"):
        check_evaluable(simulated(overlapping), stitch="centre_crop")
    # These neighbours fill up the raster of their samples: nothing is wrong with them.
    check_evaluable(simulated(neighbours), stitch="centre_crop")


def test_a_region_too_small_to_compare_names_the_sizes():
    with pytest.raises(ValueError, match=r"^data\.size=17 with data\.N=16: .* 4 x 4 px") as e:
        check_evaluable(simulated(raster(8, 1), radius=2.0, size=17), stitch="overlap")
    assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match=r"data\.size=20 with data\.N=16: .* 6 x 6 px"):
        check_evaluable(simulated(raster(2, 3), size=20), stitch="centre_crop")
    # Without a truth nothing is compared.
    check_evaluable(measured(raster(2, 3)), stitch="centre_crop")


@pytest.mark.parametrize("far", [1e6, 1e300])
@pytest.mark.filterwarnings("error")
def test_positions_that_no_memory_holds_are_named(far):
    positions = raster(8, 4)
    positions[5] = [[3.0, far]]
    positions[6] = [[far / 2, 0.0]]
    check_evaluable(measured(raster(8, 4)), stitch="overlap")
    with pytest.raises(ValueError, match=r"^data\.path: the position \(row 3, col 1e\+") as e:
        check_evaluable(measured(positions), stitch="overlap")
    assert "64 Mi pixels" in str(e.value)


def test_an_unknown_choice_is_named():
    with pytest.raises(
        ValueError, match=r"evaluation\.stitch='overlapp': choose one of overlap, centre_crop"
    ):
        check_evaluable(simulated(raster(8, 4)), stitch="overlapp")
