from dataclasses import replace

import numpy as np
import pytest
import torch

from ptychofno import physics
from ptychofno.config.schema import ApertureProbe, GridLinesData
from ptychofno.data import PtychoDataset, Split, grid_lines, make_probe

SMALL = GridLinesData(
    name="small",
    cache_dir="unused",
    batch_size=8,
    drop_last=False,
    gridsize=1,
    N=32,
    offset_px=4,
    size=96,
    nlines=100,
    set_phi=True,
    nimgs_train=1,
    nimgs_test=1,
    train_step_px=8,
    validation_step_px=16,
    test_step_px=8,
    nphotons=1e9,
    seed=3,
)
PROBE = make_probe(ApertureProbe(diameter=0.4, edge_width=0.4, defocus_rad=2.0), 32)
TRAIN, VALIDATION, TEST = (
    grid_lines._Stream.TRAIN_OBJECT,
    grid_lines._Stream.VALIDATION_OBJECT,
    grid_lines._Stream.TEST_OBJECT,
)


def simulate(**changes: object) -> PtychoDataset:
    return grid_lines.simulate_grid_lines(replace(SMALL, **changes), PROBE, "key")


def exit_waves(dataset: PtychoDataset) -> torch.Tensor:
    """P O of every test patch, complex128 (n, C, N, N), from the published truth alone."""
    assert dataset.test_objects is not None
    samples = []
    for index, positions_px in zip(dataset.test.object_index, dataset.test.positions_px, strict=True):
        obj = torch.from_numpy(dataset.test_objects[index]).to(torch.complex128)
        samples.append(physics.extract_patches(obj, torch.from_numpy(positions_px), dataset.N))
    return torch.stack(samples) * torch.from_numpy(dataset.probe).to(torch.complex128)


def test_validation_patterns_are_of_the_validation_object():
    dataset = simulate(nphotons=1e12)
    split, truth = dataset.validation, dataset.validation_objects
    assert truth is not None
    waves = physics.extract_patches(
        torch.from_numpy(truth[0]), torch.from_numpy(split.positions_px[:, 0]), 32
    )
    expected = physics.far_field(waves * torch.from_numpy(dataset.probe)).abs().numpy()
    error = np.abs(split.amplitude[:, 0] - expected).sum() / expected.sum()
    assert error < 1e-3


def arrays(split: Split) -> tuple[np.ndarray, ...]:
    return split.amplitude, split.positions_px, split.object_index


def assert_same(first: Split, second: Split) -> None:
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(one, other)


# --- diffraction and photons -----------------------------------------------------------------


@pytest.mark.parametrize(("gridsize", "objects"), [(1, 1), (2, 2)])
def test_high_dose_gives_the_amplitude_of_the_true_object(gridsize, objects):
    dataset = simulate(gridsize=gridsize, nimgs_test=objects, nphotons=1e15)
    waves = exit_waves(dataset)
    measured = dataset.test.amplitude.astype(np.float64)
    assert measured.shape == waves.shape
    assert measured.shape[1] == gridsize**2 == dataset.channels and dataset.gridsize == gridsize
    truth = physics.far_field(waves).abs().numpy()
    np.testing.assert_allclose(measured, truth, atol=1e-5 * truth.max())
    parseval = waves.abs().square().sum(dim=(-2, -1)).numpy()
    np.testing.assert_allclose(np.square(measured).sum(axis=(-2, -1)), parseval, rtol=1e-5)


def test_every_split_scans_its_own_object_on_its_own_raster():
    data = replace(SMALL, nphotons=1e15, validation_step_px=16, test_step_px=12)
    dataset = simulate(nphotons=1e15, validation_step_px=16, test_step_px=12)
    assert dataset.test_objects is not None
    divisor = grid_lines._lines_image(data, TEST, 0).max() / np.abs(dataset.test_objects).max()
    for split, stream, step_px in (
        (dataset.train, TRAIN, 8),
        (dataset.validation, VALIDATION, 16),
        (dataset.test, TEST, 12),
    ):
        positions = physics.raster_positions(data.size, data.N, step_px)
        np.testing.assert_array_equal(split.positions_px[:, 0], positions.numpy())
        obj = grid_lines._object_from(grid_lines._lines_image(data, stream, 0), divisor, True)
        patches = physics.extract_patches(torch.from_numpy(obj), positions, data.N)
        truth = physics.diffraction_amplitude(patches, torch.from_numpy(PROBE)).numpy()
        np.testing.assert_allclose(split.amplitude[:, 0], truth, atol=1e-5 * truth.max())


@pytest.mark.parametrize("nphotons", [1e4, 1e9])
@pytest.mark.parametrize("gridsize", [1, 2])
def test_training_patterns_hold_the_photons_asked_for(nphotons, gridsize):
    dataset = simulate(nphotons=nphotons, gridsize=gridsize, nimgs_train=2)
    counts = np.square(dataset.photon_scale * dataset.train.amplitude.astype(np.float64))
    photons = counts.sum(axis=(-2, -1))
    # The total is a Poisson number of mean (number of patterns) * nphotons.
    allowed = 6 / np.sqrt(photons.size * nphotons) + 1e-6
    assert photons.mean() == pytest.approx(nphotons, rel=allowed)


def test_low_dose_counts_are_integers():
    dataset = simulate(nphotons=1e4)
    counts = np.square(dataset.photon_scale * dataset.train.amplitude.astype(np.float64))
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)


def test_noise_of_the_amplitude_is_half_a_root_count_in_every_split():
    # The square root of a Poisson number of large mean has variance 1/4, whatever the mean; with
    # another s than the training split's the test split would miss it.
    dataset = simulate(nphotons=1e7, nimgs_test=2)
    truth = physics.far_field(exit_waves(dataset)).abs().numpy()
    noise = dataset.photon_scale * (dataset.test.amplitude - truth)
    bright = noise[dataset.photon_scale * truth > 10]
    assert bright.size > 10_000
    assert bright.std() == pytest.approx(0.5, rel=0.03)


def test_moments_are_those_of_the_training_split():
    dataset = simulate()
    amplitude = dataset.train.amplitude.astype(np.float64)
    assert dataset.mean_amplitude == pytest.approx(amplitude.mean(), rel=1e-12)
    assert dataset.rms_amplitude == pytest.approx(np.sqrt(np.square(amplitude).mean()), rel=1e-12)


def test_types_and_order_of_the_splits():
    dataset = simulate(nimgs_train=2)
    raster = 9**2
    assert dataset.train.amplitude.shape == (2 * raster, 1, 32, 32)
    assert dataset.train.object_index.tolist() == [0] * raster + [1] * raster
    np.testing.assert_array_equal(dataset.train.positions_px[:raster], dataset.train.positions_px[raster:])
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [array.dtype for array in arrays(split)] == [np.float32, np.float64, np.int64]
    for truth in (dataset.validation_objects, dataset.test_objects):
        assert truth is not None and truth.dtype == np.complex64 and truth.shape[0] == 1
    assert dataset.scan() is dataset.test


# --- determinism and streams -----------------------------------------------------------------


def test_bits_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(simulate(train_step_px=2))  # 1,089 patterns, three chunks
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    first = results[0]
    for other in results[1:]:
        for split in ("train", "validation", "test"):
            assert_same(getattr(first, split), getattr(other, split))
        assert (first.photon_scale, first.mean_amplitude, first.rms_amplitude) == (
            other.photon_scale,
            other.mean_amplitude,
            other.rms_amplitude,
        )


def test_chunks_have_noise_of_their_own(monkeypatch):
    # Equal objects everywhere: identical patterns could only come from a reused stream.
    def flat(*_: object) -> np.ndarray:
        return np.ones((96, 96))

    monkeypatch.setattr(grid_lines, "_lines_image", flat)
    dataset = simulate(train_step_px=2, nimgs_train=2)
    patterns = [
        *dataset.train.amplitude[[0, 512, 1024, 1089]],
        dataset.validation.amplitude[0],
        dataset.test.amplitude[0],
    ]
    for index, one in enumerate(patterns):
        for other in patterns[:index]:
            assert not np.array_equal(one, other)


def test_number_of_test_objects_leaves_the_other_splits_alone():
    few, many = simulate(), simulate(nimgs_test=2)
    assert_same(few.train, many.train)
    assert_same(few.validation, many.validation)
    np.testing.assert_array_equal(few.test.amplitude, many.test.amplitude[: len(few.test)])


def test_number_of_training_objects_only_rescales_the_others():
    few, many = simulate(), simulate(nimgs_train=2)
    assert few.test_objects is not None and many.test_objects is not None
    ratio = np.abs(few.test_objects) / np.abs(many.test_objects)
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(np.angle(few.test_objects), np.angle(many.test_objects), atol=1e-5)


def test_every_object_is_another():
    images = [grid_lines._lines_image(SMALL, *which) for which in ((TRAIN, 0), (TRAIN, 1), (TEST, 0))]
    images.append(grid_lines._lines_image(SMALL, VALIDATION, 0))
    images.append(grid_lines._lines_image(replace(SMALL, seed=4), TRAIN, 0))
    for index, one in enumerate(images):
        for other in images[:index]:
            assert not np.allclose(one, other)


# --- objects ---------------------------------------------------------------------------------


def test_blur_of_a_single_point_is_the_sum_of_three_gaussians(monkeypatch):
    size = SMALL.size
    monkeypatch.setattr(grid_lines, "line", lambda *_: (np.array([size]), np.array([size])))
    image = grid_lines._lines_image(SMALL, TRAIN, 0)
    axis = np.arange(size) - size // 2
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    expected = sum(
        weight / (2 * np.pi * sigma**2) * np.exp(-square / (2 * sigma**2))
        for weight, sigma in ((1, 1), (2, 5), (5, 10))
    )
    np.testing.assert_allclose(image, expected, atol=1e-3 * expected.max())


def test_lines_may_end_anywhere_on_the_canvas(monkeypatch):
    ends = []
    drawn = grid_lines.line
    monkeypatch.setattr(grid_lines, "line", lambda *args: ends.append(args) or drawn(*args))
    grid_lines._lines_image(replace(SMALL, nlines=2000), TRAIN, 0)
    assert len(ends) == 2000
    coordinates = np.array(ends)
    assert coordinates.min() >= 0 and coordinates.max() < 2 * SMALL.size
    # Uniform on 0 … 191: mean 95.5, standard deviation 192 / sqrt(12).
    np.testing.assert_allclose(coordinates.mean(axis=0), 95.5, atol=6 * 55.4 / np.sqrt(2000))
    np.testing.assert_allclose(coordinates.std(axis=0), 192 / np.sqrt(12), rtol=0.05)


def test_phase_follows_from_the_amplitude():
    dataset = simulate(nimgs_test=2)
    assert dataset.test_objects is not None
    for obj in dataset.test_objects:
        # The formula does not see the amplitude's divisor.
        a = np.abs(obj).astype(np.float64)
        expected = np.pi * np.tanh((a - a.max() / 2) / (3 * a.mean()))
        np.testing.assert_allclose(np.angle(obj), expected, atol=1e-5)
        assert np.ptp(expected) > 0.5


def test_without_phase_the_object_is_its_amplitude():
    plain, phased = simulate(set_phi=False).test_objects, simulate().test_objects
    assert plain is not None and phased is not None
    assert not plain.imag.any() and (plain.real >= 0).all()
    np.testing.assert_allclose(plain.real, np.abs(phased), rtol=1e-5)


def test_amplitude_is_divided_by_the_mean_patch_maximum_of_the_training_objects():
    data = replace(SMALL, gridsize=2, nimgs_train=2)
    images = [torch.from_numpy(grid_lines._lines_image(data, TRAIN, index)) for index in range(2)]
    positions = torch.from_numpy(grid_lines._sample_positions(data, data.train_step_px)).reshape(-1, 2)
    maxima = [physics.extract_patches(image, positions, data.N).amax(dim=(1, 2)) for image in images]
    divisor = float(torch.stack(maxima).mean())
    truth = simulate(gridsize=2, nimgs_train=2).test_objects
    assert truth is not None
    np.testing.assert_allclose(np.abs(truth[0]) * divisor, grid_lines._lines_image(data, TEST, 0), rtol=1e-5)


# --- scan ------------------------------------------------------------------------------------


def test_full_size_scans_have_the_published_number_of_patterns():
    full = replace(SMALL, N=64, size=392)
    assert len(grid_lines._sample_positions(full, 4)) == 83**2 == 6889
    assert len(grid_lines._sample_positions(full, 10)) == 33**2 == 1089


def test_patches_of_a_sample_are_neighbours():
    positions = grid_lines._sample_positions(replace(SMALL, gridsize=2, offset_px=5), 8)
    np.testing.assert_array_equal(
        positions - positions[:, :1], np.broadcast_to([[0, 0], [0, 5], [5, 0], [5, 5]], positions.shape)
    )
    assert positions.min() == 0 and positions.max() + SMALL.N <= SMALL.size
    assert len(positions) == 8**2  # first patches at 0, 8, …, 56 <= 96 - 32 - 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 31}, r"data\.size=31 cannot hold patches of data\.N=32 px; choose data\.size >= 32"),
        (
            {"size": 40, "gridsize": 3, "offset_px": 5},
            r"data\.size=40 .* data\.gridsize=3, data\.offset_px=5; choose data\.size >= 42",
        ),
        ({"nphotons": 1e-9}, r"data\.nphotons=1e-09 leaves no photon"),
    ],
)
def test_settings_without_a_dataset_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate(**changes)


def test_smallest_object_is_one_pattern():
    dataset = simulate(size=32)
    assert len(dataset.train) == len(dataset.validation) == len(dataset.test) == 1


def test_object_without_a_line_is_refused(monkeypatch):
    monkeypatch.setattr(grid_lines, "line", lambda *_: (np.array([0]), np.array([0])))
    with pytest.raises(ValueError, match=r"data\.nlines=100 with data\.seed=3"):
        grid_lines._lines_image(replace(SMALL, size=128), TRAIN, 0)
