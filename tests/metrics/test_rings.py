import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptychofno import metrics


@pytest.mark.parametrize("shape", [(128, 128), (127, 127), (128, 190)])
@pytest.mark.parametrize("cut_off", [0.1, 0.3])
def test_ring_correlation_ends_where_the_common_band_ends(shape, cut_off):
    rng = np.random.default_rng(3)
    reference, other = rng.normal(size=(2, *shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    band = frequency <= cut_off
    image = np.fft.ifft2(np.where(band, np.fft.fft2(reference), np.fft.fft2(other))).real
    rings, correlation = metrics.fourier_ring_correlation(image, reference)
    assert rings[-1] <= 0.5 < rings[-1] + 1 / min(shape)
    two_rings = 2 / min(shape)
    for threshold in (0.5, 1 / 7):
        assert metrics.resolved_frequency(rings, correlation, threshold) == pytest.approx(
            cut_off, abs=two_rings
        )


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_ring_correlation_of_white_noise_follows_the_signal_to_noise_ratio(noise):
    rng = np.random.default_rng(5)
    reference, disturbance = rng.normal(size=(2, 256, 256))
    rings, correlation = metrics.fourier_ring_correlation(reference + noise * disturbance, reference)
    outer = rings > 0.1
    assert correlation[outer].mean() == pytest.approx(1 / math.sqrt(1 + noise**2), abs=0.02)


def test_ring_correlation_sees_the_sign_and_not_the_scale():
    rng = np.random.default_rng(6)
    image, reference = rng.normal(size=(2, 64, 64))
    _, correlation = metrics.fourier_ring_correlation(image, reference)
    _, opposite = metrics.fourier_ring_correlation(5 - 3 * image, reference)
    np.testing.assert_allclose(opposite, -correlation, atol=1e-12)
    assert np.abs(correlation).max() <= 1


def test_the_threshold_is_interpolated_between_rings():
    rings = np.arange(1, 11) / 20
    falling = 1 - 2 * rings
    assert metrics.resolved_frequency(rings, falling, 0.5) == pytest.approx(0.25)
    assert metrics.resolved_frequency(rings, falling, 1 / 7) == pytest.approx(3 / 7)
    assert metrics.resolved_frequency(rings, np.ones(10), 0.5) == 0.5
    assert metrics.resolved_frequency(rings, np.zeros(10), 0.5) == 0.0


def test_the_jump_between_opposite_edges_does_not_correlate():
    rng = np.random.default_rng(8)
    ramp = 50 * np.mgrid[:128, :128].sum(axis=0) / 128
    image, reference = ramp + rng.normal(size=(2, 128, 128))
    rings, correlation = metrics.fourier_ring_correlation(image, reference)
    assert correlation[0] > 0.99
    assert abs(correlation[rings > 0.2].mean()) < 0.1


def test_found_shares_tell_what_is_there_and_at_which_height():
    image, other = (gaussian_filter(np.random.default_rng(seed).normal(size=(48, 48)), 2) for seed in (0, 5))
    bands = [(0.0, 0.05), (0.05, 0.2), (0.2, 0.7)]
    assert np.allclose(metrics.found_shares(image, image, bands), 1)
    assert np.allclose(metrics.found_shares(7 + 0.5 * image, image, bands), 0.5)
    slow, middle, fast = metrics.found_shares(gaussian_filter(image, 2), image, bands)
    assert slow > middle > 0.1 > fast > -0.1
    assert np.allclose(metrics.found_shares(other, image, [(0.0, 0.7)]), 0, atol=0.2)
    assert math.isnan(metrics.found_shares(image, image, [(0.8, 0.9)])[0])
