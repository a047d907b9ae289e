from dataclasses import replace

import numpy as np
import pytest
import torch
from small_scans import CLASSES, LINES

from ptychofno import physics
from ptychofno.data import PtychoDataset, Split, simulation
from ptychofno.data.objects import Purpose, SimulatedData, Transmission
from ptychofno.data.probe import ApertureProbe
from ptychofno.training.losses import MAELoss

PROBE = ApertureProbe(diameter=0.4, edge_width=0.4, defocus_rad=2.0).make(32)
every_class = pytest.mark.parametrize("data", CLASSES, ids=lambda data: data.kind)


def simulate(data: SimulatedData = LINES, **changes: object) -> PtychoDataset:
    return simulation.simulate(replace(data, **changes), PROBE, "key")


def drawn(data: SimulatedData, purpose: Purpose, index: int = 0) -> Transmission:
    """An object as it is before normalisation."""
    return simulation._draw(data, purpose, index + 1)[index]


def sampled(data: SimulatedData, step_px: int) -> np.ndarray:
    """Positions of the patches of every sample (n, C, 2)."""
    raster = simulation._raster(data, step_px)
    return raster.positions_px[raster.samples]


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


@every_class
@pytest.mark.parametrize(("gridsize", "objects"), [(1, 1), (2, 2)])
def test_high_dose_gives_the_amplitude_of_the_true_object(data, gridsize, objects):
    dataset = simulate(data, gridsize=gridsize, nimgs_test=objects, nphotons=1e15)
    waves = exit_waves(dataset)
    measured = dataset.test.amplitude.astype(np.float64)
    assert measured.shape == waves.shape
    assert measured.shape[1] == gridsize**2 == dataset.channels and dataset.gridsize == gridsize
    truth = physics.far_field(waves).abs().numpy()
    np.testing.assert_allclose(measured, truth, atol=1e-5 * truth.max())
    parseval = waves.abs().square().sum(dim=(-2, -1)).numpy()
    np.testing.assert_allclose(np.square(measured).sum(axis=(-2, -1)), parseval, rtol=1e-5)
    loss = MAELoss(dataset.mean_amplitude)
    assert float(loss(torch.from_numpy(truth), torch.from_numpy(measured))) < 1e-4


@every_class
def test_every_split_scans_its_own_object_on_its_own_raster(data):
    dataset = simulate(data, nphotons=1e15, validation_step_px=16, test_step_px=12)
    assert dataset.test_objects is not None
    divisor = drawn(data, Purpose.TEST).amplitude.max() / np.abs(dataset.test_objects).max()
    for split, purpose, step_px in (
        (dataset.train, Purpose.TRAIN, 8),
        (dataset.validation, Purpose.VALIDATION, 16),
        (dataset.test, Purpose.TEST, 12),
    ):
        positions = physics.raster_positions(data.size, data.N, step_px)
        np.testing.assert_array_equal(split.positions_px[:, 0], positions.numpy())
        amplitude, phase_rad = drawn(data, purpose)
        obj = (amplitude / divisor * np.exp(1j * phase_rad)).astype(np.complex64)
        patches = physics.extract_patches(torch.from_numpy(obj), positions, data.N)
        truth = physics.diffraction_amplitude(patches, torch.from_numpy(PROBE)).numpy()
        np.testing.assert_allclose(split.amplitude[:, 0], truth, atol=1e-5 * truth.max())


@every_class
@pytest.mark.parametrize("nphotons", [1e4, 1e9])
@pytest.mark.parametrize("gridsize", [1, 2])
def test_training_patterns_hold_the_photons_asked_for(data, nphotons, gridsize):
    dataset = simulate(data, nphotons=nphotons, gridsize=gridsize, nimgs_train=2)
    counts = np.square(dataset.photon_scale * dataset.train.amplitude.astype(np.float64))
    photons = counts.sum(axis=(-2, -1))
    # The total is a Poisson number of mean (number of patterns) * nphotons.
    allowed = 6 / np.sqrt(photons.size * nphotons) + 1e-6
    assert photons.mean() == pytest.approx(nphotons, rel=allowed)


def test_a_position_is_measured_once_and_shared_by_samples():
    dataset = simulate(gridsize=2, train_step_px=4, nimgs_train=2, nphotons=1e5)
    split = dataset.train
    assert split.amplitude.shape == (2 * 16**2, 4, 32, 32)
    # 16 first patches and one neighbour along each axis.
    measured: dict[tuple[float, ...], np.ndarray] = {}
    for index, positions, patterns in zip(
        split.object_index, split.positions_px, split.amplitude, strict=True
    ):
        for position, pattern in zip(positions, patterns, strict=True):
            first = measured.setdefault((index, *position), pattern)
            np.testing.assert_array_equal(first, pattern)
    assert len(measured) == 2 * 17**2
    photons = sum(np.square(dataset.photon_scale * one.astype(np.float64)).sum() for one in measured.values())
    assert photons == pytest.approx(2 * 17**2 * 1e5, abs=6 * (2 * 17**2 * 1e5) ** 0.5)


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
    def flat(*_: object) -> Transmission:
        return Transmission(np.ones((96, 96)), np.zeros((96, 96)))

    monkeypatch.setattr(type(LINES), "draw", flat)
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


@every_class
def test_number_of_training_objects_only_rescales_the_others(data):
    few, many = simulate(data), simulate(data, nimgs_train=2)
    assert few.test_objects is not None and many.test_objects is not None
    ratio = np.abs(few.test_objects) / np.abs(many.test_objects)
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(np.angle(few.test_objects), np.angle(many.test_objects), atol=1e-5)


@every_class
def test_every_object_is_another(data):
    which = [(Purpose.TRAIN, 0), (Purpose.TRAIN, 1), (Purpose.TEST, 0), (Purpose.VALIDATION, 0)]
    objects = [drawn(data, *each) for each in which]
    objects.append(drawn(replace(data, seed=4), Purpose.TRAIN))
    for index, one in enumerate(objects):
        for other in objects[:index]:
            for image, another in zip(one, other, strict=True):
                assert abs(np.corrcoef(image.ravel(), another.ravel())[0, 1]) < 0.8


@every_class
def test_amplitude_is_divided_by_the_mean_patch_maximum_of_the_training_objects(data):
    data = replace(data, gridsize=2, nimgs_train=2)
    images = [torch.from_numpy(drawn(data, Purpose.TRAIN, index).amplitude) for index in range(2)]
    positions = torch.from_numpy(sampled(data, data.train_step_px)).reshape(-1, 2)
    maxima = [physics.extract_patches(image, positions, data.N).amax(dim=(1, 2)) for image in images]
    divisor = float(torch.stack(maxima).mean())
    truth = simulate(data).test_objects
    assert truth is not None
    np.testing.assert_allclose(
        np.abs(truth[0]) * divisor, drawn(data, Purpose.TEST).amplitude, rtol=1e-5, atol=1e-7
    )


# --- scan ------------------------------------------------------------------------------------


def test_full_size_scans_have_the_published_number_of_patterns():
    full = replace(LINES, N=64, size=392)
    assert len(sampled(full, 4)) == 83**2 == 6889
    assert len(sampled(full, 10)) == 33**2 == 1089


def test_patches_of_a_sample_are_neighbours():
    positions = sampled(replace(LINES, gridsize=2, offset_px=5), 8)
    np.testing.assert_array_equal(
        positions - positions[:, :1], np.broadcast_to([[0, 0], [0, 5], [5, 0], [5, 5]], positions.shape)
    )
    assert positions.min() == 0 and positions.max() + LINES.N <= LINES.size
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
