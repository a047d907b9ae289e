import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from ptychofno import metrics

SIZE = 48
PAIRS = metrics.QUALITIES


def smooth_object(size: int = SIZE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amplitude, phase = (gaussian_filter(rng.normal(size=(size, size)), 2) for _ in range(2))
    return (1 + 0.3 * amplitude / amplitude.std()) * np.exp(0.5j * phase / phase.std())


def noisy(target: np.ndarray, seed: int = 1, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return target + level * (rng.normal(size=target.shape) + 1j * rng.normal(size=target.shape))


def checkerboard(size: int) -> np.ndarray:
    return (-1.0) ** np.add.outer(np.arange(size), np.arange(size))


def pairs_close(one: dict, other: dict, tolerance: float) -> bool:
    return all(
        np.allclose(one[name], other[name], rtol=tolerance, atol=tolerance)
        for name in PAIRS
        if name != "ms_ssim"
    )


def test_the_truth_itself_is_perfect():
    target = smooth_object(192)
    result = metrics.compare(target, target)
    for name in ("ssim", "ms_ssim"):
        assert result[name] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert result["mae"] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert result["frc50"] == result["frc1over7"] == [0.5, 0.5]
    assert result["phase_vacuous"] is False


def test_the_result_is_plain_json():
    target = smooth_object()
    for prediction in (target, noisy(target), np.zeros_like(target), np.ones_like(target)):
        json.dumps(metrics.compare(prediction, target), allow_nan=False)


@settings(max_examples=25)
@given(st.floats(1e-4, 1e4), st.floats(-np.pi, np.pi))
def test_a_complex_constant_on_the_prediction_changes_nothing(modulus, phase):
    target = smooth_object()
    prediction = noisy(target)
    turned = prediction * modulus * np.exp(1j * phase)
    assert pairs_close(metrics.compare(turned, target), metrics.compare(prediction, target), 1e-7)


@settings(max_examples=25)
@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_a_plane_takes_out_any_ramp_also_one_that_wraps(row_slope, col_slope):
    target = smooth_object()
    ramped = target * metrics.phase_ramp((row_slope, col_slope), target.shape)
    assert metrics.compare(ramped, target)["phase_mae_rad"] < 1e-9


def holes(shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """True on a raster of discs: about half of the pixels, with dark gaps between."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows % 16 - 7.5, cols % 16 - 7.5) < 6.5


@settings(max_examples=25)
@given(st.floats(-np.pi, np.pi), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_with_holes_neither_phase_nor_ramp_nor_the_dark_matter(phase, row_slope, col_slope):
    target, mask = smooth_object(), holes()
    prediction = np.where(mask, noisy(target), 0)
    before = metrics.compare(prediction, target, mask=mask)
    turned = prediction * np.exp(1j * phase) * metrics.phase_ramp((row_slope, col_slope), target.shape)
    assert pairs_close(metrics.compare(turned, target, mask=mask), before, 1e-6)
    filled = np.where(mask, prediction, 1e3 * metrics.phase_ramp((1.7, -0.9), target.shape))
    assert pairs_close(metrics.compare(filled, target, mask=mask), before, 1e-6)


@pytest.mark.parametrize("phase_alignment", metrics.PHASE_ALIGNMENTS)
@pytest.mark.parametrize("phase", [0.0, 1.0, np.pi / 2, np.pi, -2.5])
def test_the_truth_with_holes_is_perfect(phase, phase_alignment):
    target, mask = smooth_object(192), holes((192, 192))
    prediction = np.where(mask, target, 0) * np.exp(1j * phase)
    result = metrics.compare(prediction, target, phase_alignment=phase_alignment, mask=mask)
    for name in ("ssim", "ms_ssim"):
        assert result[name] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert result["mae"] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert result["frc50"] == [0.5, 0.5]


def test_errors_are_means_over_lit_pixels():
    target, mask = smooth_object(), holes()
    prediction = np.where(mask, target * (1 + 0.1 * checkerboard(SIZE)), 0)
    scale = np.abs(target)[mask].mean() / np.abs(prediction)[mask].mean()
    error = (scale * np.abs(prediction) - np.abs(target))[mask]
    result = metrics.compare(prediction, target, mask=mask)
    assert result["mae"][0] == pytest.approx(np.abs(error).mean())
    span = np.ptp(np.abs(target)[mask])
    assert result["psnr"][0] == pytest.approx(10 * math.log10(span**2 / np.square(error).mean()))


def test_similarity_is_the_mean_over_windows_around_lit_pixels():
    target, mask = smooth_object(), np.zeros((SIZE, SIZE), dtype=np.bool_)
    mask[8:40, 8:24] = True
    prediction = noisy(target)
    masked = metrics.compare(prediction, target, mask=mask)
    aligned = metrics.align(prediction, target, mask=mask)
    windows = [
        sliding_window_view(image[5:43, 5:27], (7, 7)).reshape(-1, 49)
        for image in (aligned.amplitude, aligned.target_amplitude)
    ]
    means, variances = [one.mean(1) for one in windows], [one.var(1, ddof=1) for one in windows]
    covariance = ((windows[0] - means[0][:, None]) * (windows[1] - means[1][:, None])).sum(1) / 48
    span = np.ptp(aligned.target_amplitude[mask])
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    expected = (luminance * (2 * covariance + c2) / (variances[0] + variances[1] + c2)).mean()
    assert masked["ssim"][0] == pytest.approx(expected, rel=1e-9)


def test_noise_between_dark_gaps_resolves_nothing():
    target, mask = smooth_object(192), holes((192, 192))
    rng = np.random.default_rng(4)
    amplitude, phase = rng.normal(size=(2, *target.shape))
    noise = np.exp(0.3 * amplitude + 0.5j * phase)
    result = metrics.compare(noise, target, mask=mask)
    # A few rings at the lowest frequencies hold a handful of values each.
    assert max(result["frc50"] + result["frc1over7"]) < 0.05


def test_a_zero_has_the_angle_zero_whatever_its_sign():
    target = smooth_object()
    prediction = noisy(target)
    prediction[10:20, 10:20] = 0
    results = [metrics.compare(prediction * np.exp(1j * phase), target) for phase in (0.0, 1.0, 2.0, np.pi)]
    for result in results[1:]:
        assert pairs_close(result, results[0], 1e-7)


def test_the_mean_keeps_a_ramp():
    target = smooth_object()
    slope = 0.01
    ramped = target * metrics.phase_ramp((slope, 0.0), target.shape)
    # The mean distance of SIZE equally spaced values from their centre is SIZE / 4 spacings.
    expected = slope * SIZE / 4
    assert metrics.compare(ramped, target, phase_alignment="mean")["phase_mae_rad"] == pytest.approx(
        expected, rel=0.02
    )


def test_the_phase_error_is_measured_on_the_circle():
    error = 0.1 * checkerboard(SIZE)
    target = np.exp(1j * (np.pi - 0.05 + 0.04 * checkerboard(SIZE)[::-1]))
    for constant in (0.0, 1.0, 3.0, np.pi):
        result = metrics.compare(target * np.exp(1j * (error + constant)), target, phase_alignment="mean")
        assert result["phase_mae_rad"] == pytest.approx(0.1, rel=1e-6)
        assert result["mse"][1] == pytest.approx(0.01, rel=1e-6)


def test_a_flat_object_has_the_values_of_the_formulas():
    target = smooth_object()
    result = metrics.compare(np.full_like(target, 0.3 + 0.1j), target)
    amplitude = np.abs(target)
    mean, span = amplitude.mean(), np.ptp(amplitude)
    error = amplitude - mean
    assert result["mae"][0] == pytest.approx(np.abs(error).mean())
    assert result["mse"][0] == pytest.approx(amplitude.var())
    assert result["psnr"][0] == pytest.approx(10 * math.log10(span**2 / amplitude.var()))
    assert result["frc50"] == result["frc1over7"] == [0.0, 0.0]
    # Wang et al. 2004, equation 13, with no variance in one image.
    windows = sliding_window_view(amplitude, (7, 7))
    local, variance = windows.mean(axis=(2, 3)), windows.var(axis=(2, 3), ddof=1)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    ssim = ((2 * local * mean + c1) / (local**2 + mean**2 + c1) * c2 / (variance + c2)).mean()
    assert result["ssim"][0] == pytest.approx(ssim, rel=1e-6)


def test_the_phase_is_judged_within_the_targets_range_and_beside_it_within_2_pi():
    target = smooth_object()
    prediction = target * np.exp(0.05j * checkerboard(SIZE))
    aligned = metrics.align(prediction, target)
    result = metrics.compare(prediction, target)
    lowest, span = aligned.target_phase_rad.min(), np.ptp(aligned.target_phase_rad)
    for found, low, extent in (
        (result["ssim"][1], lowest, span),
        (result["ssim_phase_2pi"], -np.pi, 2 * np.pi),
    ):
        images = [
            sliding_window_view((phase - low) / extent, (7, 7)).reshape(-1, 49)
            for phase in (aligned.phase_rad, aligned.target_phase_rad)
        ]
        means, variances = [one.mean(1) for one in images], [one.var(1, ddof=1) for one in images]
        covariance = ((images[0] - means[0][:, None]) * (images[1] - means[1][:, None])).sum(1) / 48
        c1, c2 = 0.01**2, 0.03**2
        luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
        expected = (luminance * (2 * covariance + c2) / (variances[0] + variances[1] + c2)).mean()
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("span_rad", [0.1, 1.5])
def test_a_flat_phase_and_the_opposite_one_score_low_however_little_the_target_spans(span_rad):
    phase = np.angle(smooth_object(192))
    phase *= span_rad / np.ptp(phase)
    flat, opposite = (metrics.compare(np.exp(1j * sign * phase), np.exp(1j * phase)) for sign in (0, -1))
    assert 0 < flat["ssim"][1] < 0.3 and 0 < flat["ms_ssim"][1] < 0.3
    assert opposite["ssim"][1] < 0 and opposite["ms_ssim"][1] == 0
    assert flat["ssim_phase_2pi"] > 0.5


def test_phase_similarity_does_not_depend_on_how_much_the_target_spans():
    rng = np.random.default_rng(0)
    target, error = gaussian_filter(rng.normal(size=(2, 192, 192)), (0, 2, 2))
    pairs = [np.exp(1j * scale * np.stack([target + 0.3 * error, target])) for scale in (0.2, 2.0)]
    small, large = (metrics.compare(*pair) for pair in pairs)
    for name in ("ssim", "ms_ssim", "psnr", "frc50"):
        assert small[name][1] == pytest.approx(large[name][1], rel=1e-5)
    assert small["ssim_phase_2pi"] > large["ssim_phase_2pi"] + 0.01


@pytest.mark.parametrize("ramp", [(0.0, 0.0), (0.003, -0.01)])
def test_a_target_without_phase_has_no_phase_metrics(ramp):
    target = (np.abs(smooth_object()) * np.exp(0.7j) * metrics.phase_ramp(ramp, (SIZE, SIZE))).astype(
        np.complex64
    )
    result = metrics.compare(noisy(target), target)
    assert result["phase_vacuous"] is True
    assert result["phase_mae_rad"] is result["ssim_phase_2pi"] is None
    assert all(result[name][1] is None for name in PAIRS)
    assert result["ssim"][0] is not None


def test_a_target_without_amplitude_contrast_has_only_errors():
    target = np.exp(1j * np.angle(smooth_object())).astype(np.complex64)
    result = metrics.compare(noisy(target), target)
    assert result["mae"][0] > 0
    assert all(result[name][0] is None for name in PAIRS if name not in ("mae", "mse"))
    assert result["ssim"][1] is not None


def test_more_noise_is_worse_in_every_quality():
    target = smooth_object(192)
    results = [metrics.compare(noisy(target, level=level), target) for level in (0.02, 0.1, 0.4)]
    for part in (0, 1):
        for name in ("ssim", "ms_ssim", "psnr"):
            assert results[0][name][part] > results[1][name][part] > results[2][name][part]
        for name in ("mae", "mse"):
            assert results[0][name][part] < results[1][name][part] < results[2][name][part]
        assert results[0]["frc50"][part] > results[2]["frc50"][part]


def test_multi_scale_similarity_is_the_published_product_over_five_scales():
    """Wang, Simoncelli and Bovik 2003, eq. 7, written out: windows of 11 px within the image."""
    target = np.abs(smooth_object(200))
    image = np.abs(noisy(target.astype(complex), level=0.2))
    image *= target.mean() / image.mean()
    found = metrics.compare(image.astype(complex), target.astype(complex))["ms_ssim"][0]
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    c1, c2 = (0.01 * np.ptp(target)) ** 2, (0.03 * np.ptp(target)) ** 2

    def mean(values):
        return np.einsum("ijkl,kl->ij", sliding_window_view(values, (11, 11)), window)

    expected, exponents = 1.0, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, exponent in enumerate(exponents):
        x, y = mean(image), mean(target)
        covariance = mean(image * target) - x * y
        spread = mean(image**2) - x**2 + mean(target**2) - y**2
        factor = (2 * covariance + c2) / (spread + c2)
        if scale == len(exponents) - 1:
            factor = factor * (2 * x * y + c1) / (x**2 + y**2 + c1)
        expected *= factor.mean() ** exponent
        image, target = (one[: one.shape[0] // 2 * 2, : one.shape[1] // 2 * 2] for one in (image, target))
        image, target = (
            (one[::2, ::2] + one[1::2, ::2] + one[::2, 1::2] + one[1::2, 1::2]) / 4 for one in (image, target)
        )
    assert found == pytest.approx(expected, rel=1e-9)


def test_multi_scale_similarity_needs_176_pixels():
    for size, present in ((175, False), (176, True)):
        target = smooth_object(size)
        assert (metrics.compare(noisy(target), target)["ms_ssim"][0] is not None) is present


def test_a_weighted_plane_ignores_what_has_no_weight():
    rows, cols = np.mgrid[:20, :30]
    image = 0.3 + 0.02 * rows - 0.01 * cols
    weight = np.ones(image.shape)
    broken = image.copy()
    broken[:5, :5], weight[:5, :5] = 9.0, 0.0
    np.testing.assert_allclose(metrics.remove_plane(broken, weight)[weight > 0], 0, atol=1e-10)
    np.testing.assert_allclose(metrics.remove_plane(image), 0, atol=1e-12)
    np.testing.assert_allclose(metrics.remove_plane(image[:1]), 0, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_refused(value):
    target = smooth_object()
    prediction = target.copy()
    prediction[3, 4] = value
    with pytest.raises(ValueError, match="prediction is not finite in 1 of 2304"):
        metrics.compare(prediction, target)


def test_bad_arguments_are_named():
    target = smooth_object()
    with pytest.raises(ValueError, match=r"prediction \(40, 48\) and target \(48, 48\)"):
        metrics.compare(target[:40], target)
    with pytest.raises(ValueError, match="'plan': choose one of plane, mean"):
        metrics.compare(target, target, phase_alignment="plan")
    with pytest.raises(ValueError, match="7 px"):
        metrics.compare(target[:6], target[:6])
    with pytest.raises(ValueError, match=r"mask must be bool \(48, 48\), not float64 \(48, 48\)"):
        metrics.compare(target, target, mask=np.ones(target.shape))
    with pytest.raises(ValueError, match="mask holds no pixel"):
        metrics.compare(target, target, mask=np.zeros(target.shape, dtype=np.bool_))


@settings(max_examples=25)
@given(st.floats(-np.pi, np.pi))
def test_the_targets_own_global_phase_does_not_matter(phase):
    target = smooth_object()
    prediction = noisy(target)
    turned = metrics.compare(prediction, target * np.exp(1j * phase))
    assert pairs_close(turned, metrics.compare(prediction, target), 1e-7)
