from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import skimage.data
from scipy import stats
from small_scans import CLASSES, FIELDS, IMAGES, LINES, MIXED

from ptychofno.data import objects
from ptychofno.data.objects import Purpose, SimulatedData, Transmission

independent = pytest.mark.parametrize("data", [IMAGES, FIELDS], ids=lambda data: data.kind)


def draw(
    data: SimulatedData, purpose: Purpose = Purpose.TRAIN, index: int = 0, seed: int = 0
) -> Transmission:
    return data.draw(purpose, index, np.random.default_rng(seed))


@pytest.mark.parametrize("data", CLASSES, ids=lambda data: data.kind)
@pytest.mark.parametrize("size", [32, 97])
def test_objects_have_their_size_and_follow_their_stream(data, size):
    data = replace(data, size=size)
    one, again, other = draw(data), draw(data), draw(data, seed=1)
    for image, same, another in zip(one, again, other, strict=True):
        assert image.shape == (size, size) and image.dtype == np.float64
        np.testing.assert_array_equal(image, same)
        assert not np.allclose(image, another)
    assert one.amplitude.min() >= 0


# --- lines -----------------------------------------------------------------------------------


def test_blur_of_a_single_point_is_the_sum_of_three_gaussians(monkeypatch):
    size = LINES.size
    monkeypatch.setattr(objects, "line", lambda *_: (np.array([size]), np.array([size])))
    image = draw(LINES).amplitude
    axis = np.arange(size) - size // 2
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    expected = sum(
        weight / (2 * np.pi * sigma**2) * np.exp(-square / (2 * sigma**2))
        for weight, sigma in ((1, 1), (2, 5), (5, 10))
    )
    np.testing.assert_allclose(image, expected, atol=1e-3 * expected.max())


def test_lines_may_end_anywhere_on_the_canvas(monkeypatch):
    ends = []
    drawn = objects.line
    monkeypatch.setattr(objects, "line", lambda *args: ends.append(args) or drawn(*args))
    draw(replace(LINES, nlines=2000))
    assert len(ends) == 2000
    coordinates = np.array(ends)
    assert coordinates.min() >= 0 and coordinates.max() < 2 * LINES.size
    # Uniform on 0 … 191: mean 95.5, standard deviation 192 / sqrt(12).
    np.testing.assert_allclose(coordinates.mean(axis=0), 95.5, atol=6 * 55.4 / np.sqrt(2000))
    np.testing.assert_allclose(coordinates.std(axis=0), 192 / np.sqrt(12), rtol=0.05)


def test_phase_of_lines_follows_from_their_amplitude():
    a, phase_rad = draw(LINES)
    np.testing.assert_allclose(phase_rad, np.pi * np.tanh((a - a.max() / 2) / (3 * a.mean())), rtol=1e-12)
    assert np.ptp(phase_rad) > 0.5


def test_lines_without_phase_keep_their_amplitude():
    plain, phased = draw(replace(LINES, set_phi=False)), draw(LINES)
    assert not plain.phase_rad.any()
    np.testing.assert_array_equal(plain.amplitude, phased.amplitude)


def test_object_without_a_line_is_refused(monkeypatch):
    monkeypatch.setattr(objects, "line", lambda *_: (np.array([0]), np.array([0])))
    with pytest.raises(ValueError, match=r"data\.nlines=100 with data\.seed=3"):
        draw(replace(LINES, size=128))


# --- amplitude and phase of their own --------------------------------------------------------


@independent
@pytest.mark.parametrize(("least", "span"), [(0.3, 3.14), (0.0, 6.28), (0.9, 0.0)])
def test_amplitude_and_phase_fill_the_ranges_asked_for(data, least, span):
    amplitude, phase_rad = draw(replace(data, min_amplitude=least, phase_range_rad=span))
    for image, low, high in ((amplitude, least, 1), (phase_rad, -span / 2, span / 2)):
        assert low - 1e-12 <= image.min() <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= image.max() <= high + 1e-12


@independent
def test_amplitude_says_little_of_the_phase(data):
    # Over several large objects: two photographs may be alike by chance.
    data = replace(data, size=256)
    correlations = [
        np.corrcoef(amplitude.ravel(), phase_rad.ravel())[0, 1]
        for amplitude, phase_rad in (draw(data, index=index, seed=index) for index in range(8))
    ]
    assert abs(np.mean(correlations)) < 0.15 and np.abs(correlations).max() < 0.5


def test_no_two_purposes_share_a_photograph():
    for one, other in combinations(Purpose, 2):
        assert not set(objects._IMAGES[one]) & set(objects._IMAGES[other])


def test_photographs_take_turns_in_all_pairs(monkeypatch):
    used = []
    monkeypatch.setattr(objects, "_view", lambda name, size, rng: used.append(name) or np.zeros((size, size)))
    for purpose, names in objects._IMAGES.items():
        used.clear()
        pairs = list(permutations(names, 2))
        for index in range(len(pairs)):
            draw(IMAGES, purpose, index)
        drawn = list(zip(used[::2], used[1::2], strict=True))
        assert sorted(drawn) == sorted(pairs)
        assert {first for first, _ in drawn[: len(names)]} == set(names)


def test_photographs_need_no_network(monkeypatch):
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a bundled image needs no network")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in (name for names in objects._IMAGES.values() for name in names):
        image = getattr(skimage.data, name)()
        assert image.dtype == np.uint8 and min(image.shape[:2]) >= 300


def test_a_view_is_a_piece_of_its_photograph_in_one_of_eight_positions(monkeypatch):
    # Twice as steep down as to the right: every turn and mirror image of it is another.
    plane = np.add.outer(2.0 * np.arange(320), np.arange(400)) / 5
    monkeypatch.setattr(objects.bundled, "camera", lambda: plane)
    found = set()
    for seed in range(80):
        slopes = np.array(np.gradient(objects._view("camera", 64, np.random.default_rng(seed))))
        middle = slopes[:, 24:40, 24:40]
        np.testing.assert_allclose(middle, middle[:, :1, :1] + 0 * middle, rtol=1e-3)
        down, right = middle[:, 0, 0]
        assert max(abs(down / right), abs(right / down)) == pytest.approx(2, rel=1e-3)
        found.add((bool(down > 0), bool(right > 0), bool(abs(down) > abs(right))))
    assert len(found) == 8


def test_a_view_uses_all_grey_values():
    for name in (name for names in objects._IMAGES.values() for name in names):
        view = objects._view(name, 96, np.random.default_rng(1))
        for share in (np.mean(view == 0), np.mean(view == 1)):
            # A hundredth at either end, and more where the photograph itself is at its limit.
            assert 0.009 < share < 0.05


def test_random_fields_have_the_correlation_asked_for():
    size, length = 256, 6.0
    power = np.zeros((size, size))
    for seed in range(20):
        field = objects._gaussian_field(size, length, np.random.default_rng(seed))
        power += np.abs(np.fft.fft2(field)) ** 2 / 20
    # Wiener-Khinchin: the mean product of a periodic field with itself, moved.
    correlation = np.fft.ifft2(power).real / size**2
    row, col = np.arange(16)[:, None], np.arange(16)
    # 20 fields of some (256 / 6)^2 / pi patches that know nothing of each other.
    np.testing.assert_allclose(correlation[:16, :16], np.exp(-(row**2 + col**2) / length**2), atol=0.04)


def test_values_of_random_fields_are_evenly_distributed():
    amplitude, phase_rad = draw(replace(FIELDS, size=512, correlation_px=1.0))
    for image, low, high in ((amplitude, 0.3, 1.0), (phase_rad, -1.57, 1.57)):
        apart = ((image[::4, ::4] - low) / (high - low)).ravel()
        assert stats.kstest(apart, "uniform").pvalue > 1e-3


def test_fields_without_structure_are_refused():
    draw(replace(FIELDS, size=96, correlation_px=24))
    with pytest.raises(ValueError, match=r"data\.correlation_px=25 leaves .*data\.size=96 px.* at most 24$"):
        draw(replace(FIELDS, size=96, correlation_px=25))


# --- many classes ----------------------------------------------------------------------------


def test_classes_take_turns_and_the_validation_object_is_of_dead_leaves():
    """Only leaves and photographs have values that many pixels share; leaves have them in whole areas."""

    def equal_neighbours(transmission):
        return (np.diff(transmission.amplitude) == 0).mean()

    data = replace(MIXED, size=128, classes=["random_fields", "dead_leaves"])
    found = [equal_neighbours(draw(data, index=index)) for index in range(4)]
    assert max(found[::2]) == 0 and min(found[1::2]) > 0.5
    assert equal_neighbours(draw(data, Purpose.VALIDATION)) > 0.5
    with pytest.raises(ValueError, match=r"data\.classes=\[\]: choose one class"):
        draw(replace(MIXED, classes=[]))


def test_leaves_of_every_size_cover_as_much():
    """With r^-3, areas between radii r and 2 r are as large for every r: the structure has no scale."""
    image = draw(replace(MIXED, size=512, classes=["dead_leaves"])).amplitude
    values, counts = np.unique(image, return_counts=True)
    assert len(values) > 300 and counts.max() > 100 * np.median(counts)
    assert image.min() < 0.35 and image.max() > 0.95
