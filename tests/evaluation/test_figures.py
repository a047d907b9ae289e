import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.ndimage import gaussian_filter

from ptychofno.evaluation import Evaluation, draw_curves, draw_reconstruction
from ptychofno.metrics import compare

pytestmark = pytest.mark.filterwarnings("error")


def make_evaluation(scale=1.0, measured=False, flat=False, shape=(60, 80)):
    rng = np.random.default_rng(0)
    amplitude, phase = (gaussian_filter(rng.normal(size=shape), 3) for _ in range(2))
    target = scale * (1 + 3 * amplitude) * np.exp(2j * phase)
    prediction = (
        np.full(shape, scale, dtype=np.complex64) if flat else target * np.exp(0.1j * rng.normal(size=shape))
    )
    region = (slice(4, shape[0] - 4), slice(6, shape[1] - 2))
    illumination = np.zeros(shape, dtype=np.float32)
    illumination[region] = 1 + rng.random((shape[0] - 8, shape[1] - 8))
    metrics = compare(prediction[region], target[region])
    metrics |= {
        "diffraction_error": 0.123,
        "diffraction_error_validation": None,
        "diffraction_error_train": None,
    }
    if measured:
        metrics |= {"diffraction_error_stitched": 0.25, "flat": 0.5}
    return Evaluation(metrics, prediction, None if measured else target, illumination, region, "plane")


def make_history(epochs):
    index = np.arange(epochs)
    loss = 0.3 * np.exp(-index / 5) + 0.01
    history = {
        "epoch": index,
        "train_loss": loss,
        "val_loss": 1.1 * loss,
        "learning_rate": 1e-3 / (1 + index),
    }
    history |= {"grad_norm_median": loss, "grad_norm_max": 50 * loss, "grad_norm_clipped_max": loss * 0 + 1}
    return {key: values.tolist() for key, values in history.items()}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, kept for inspection."""
    kept = []
    save = Figure.savefig

    def save_and_keep(figure, *args, **kwargs):
        kept.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", save_and_keep)
    return kept


def assert_nothing_is_cut_off(figure):
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()


def text_of(figure):
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
    return " | ".join(text.get_text() for text in texts)


@pytest.mark.draws
@pytest.mark.parametrize(("measured", "scale"), [(False, 1e-3), (True, 1e4)])
def test_a_reconstruction_fits_its_page(tmp_path, drawn, measured, scale):
    path = tmp_path / "reconstruction.png"
    draw_reconstruction(path, make_evaluation(scale, measured), "stable_warmup, seed 1")
    picture = imread(path)
    assert picture.shape[1] >= 1600
    assert picture.std() > 0.1
    assert_nothing_is_cut_off(drawn[0])
    assert [file.name for file in tmp_path.iterdir()] == ["reconstruction.png"]


def test_prediction_and_target_share_a_scale_and_differences_are_symmetric(tmp_path, drawn):
    evaluation = make_evaluation()
    draw_reconstruction(tmp_path / "r.png", evaluation, "title")
    limits = [axes.images[0].get_clim() for axes in drawn[0].axes if axes.images]
    assert len(limits) == 6
    for prediction, target, difference in (limits[:3], limits[3:]):
        assert prediction == target
        assert difference[0] == -difference[1] < 0
    amplitude = np.abs(evaluation.target[evaluation.region])
    assert limits[0] == pytest.approx((amplitude.min(), amplitude.max()))
    # The metrics stand below their row.
    text = text_of(drawn[0])
    for part in (0, 1):
        assert f"SSIM {evaluation.metrics['ssim'][part]:.4f}" in text
    assert f"MAE {evaluation.metrics['phase_mae_rad']:.4g} rad" in text
    # Too small an image for it.
    assert "MS-SSIM" not in text


def test_a_measured_scan_shows_amplitude_phase_and_errors(tmp_path, drawn):
    draw_reconstruction(tmp_path / "r.png", make_evaluation(measured=True), "title")
    assert sum(bool(axes.images) for axes in drawn[0].axes) == 2
    assert (
        "from the object of all others: 0.25    flat object: 0.5    from their own patches: 0.123"
        in text_of(drawn[0])
    )


@pytest.mark.draws
def test_constant_images_can_be_drawn(tmp_path, drawn):
    shape = (80, 40)
    draw_reconstruction(tmp_path / "flat.png", make_evaluation(flat=True, shape=shape), "flat")
    flat = make_evaluation(flat=True, shape=shape)
    metrics = compare(flat.prediction, flat.prediction)
    both = Evaluation(metrics, flat.prediction, flat.prediction, flat.illumination, flat.region, "mean")
    draw_reconstruction(tmp_path / "both.png", both, "both flat")
    assert "phase metrics have no meaning" in text_of(drawn[1])
    dark = Evaluation({}, 0 * flat.prediction, None, flat.illumination, flat.region, "plane")
    draw_reconstruction(tmp_path / "dark.png", dark, "dark")
    for figure in drawn:
        assert_nothing_is_cut_off(figure)


@pytest.mark.draws
@pytest.mark.parametrize(("epochs", "flat_baseline"), [(0, None), (1, 0.31), (200, 0.31)])
def test_curves_of_any_length_fit_their_page(tmp_path, drawn, epochs, flat_baseline):
    path = tmp_path / "curves.png"
    draw_curves(path, make_history(epochs), flat_baseline, "control, seed 1")
    assert imread(path).std() > 0.05
    assert_nothing_is_cut_off(drawn[0])
    labels = [line.get_label() for line in drawn[0].axes[0].get_lines()]
    assert labels == ["training", "validation"] + ["flat object"] * (flat_baseline is not None)


def test_steps_lie_between_the_epochs_that_they_lead_to(tmp_path, drawn):
    steps = [
        [1, 1, 0.4, 2.0, 1.0],
        [1, 2, 0.3, 1.0, 1.0],
        [2, 3, float("nan"), 1.0, 1.0],
        [2, 4, 0.1, 1.0, 1.0],
    ]
    draw_curves(tmp_path / "curves.png", make_history(2), 0.3, "steps", steps=steps)
    line = drawn[0].axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(line.get_ydata(), [0.4, 0.3, float("nan"), 0.1])


def test_missing_entries_leave_gaps(tmp_path, drawn):
    history = make_history(6)
    history["val_loss"][2] = None
    history["train_loss"][3:5] = [float("nan"), float("inf")]
    history["grad_norm_max"] = [None] * 6
    draw_curves(tmp_path / "curves.png", history, float("nan"), "gaps")
    training, validation = drawn[0].axes[0].get_lines()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(training.get_ydata())), [3, 4])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(validation.get_ydata())), [2])


def test_a_wide_span_is_logarithmic_and_a_negative_loss_is_not(tmp_path, drawn):
    history = make_history(10)
    draw_curves(tmp_path / "curves.png", history, 0.3, "mae")
    history["train_loss"] = [-value for value in history["train_loss"]]
    draw_curves(tmp_path / "curves.png", history, None, "poisson")
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["log", "linear"]


@pytest.mark.draws
@pytest.mark.parametrize(
    "title", ["", r"a $x_ b$ \$ \frac{$" + "lr=1e-3$ 结晶 😀 undecodable \udcff tab\tand\nline"]
)
def test_titles_are_drawn_as_they_are(tmp_path, drawn, title):
    draw_curves(tmp_path / "curves.png", make_history(3), 0.3, title)
    draw_reconstruction(tmp_path / "r.png", make_evaluation(), title)
    for figure in drawn:
        assert figure.texts[0].get_text() == title.replace("\udcff", r"\udcff")


def test_dark_pixels_stay_empty_and_set_no_scale(tmp_path, drawn):
    clean, holed = make_evaluation(), make_evaluation()
    holed.illumination[20:30, 20:30] = 0
    holed.prediction[20:30, 20:30] = 1e3
    holed.target[20:30, 20:30] = 1e3
    draw_reconstruction(tmp_path / "r.png", clean, "title")
    draw_reconstruction(tmp_path / "r.png", holed, "title")
    images = [[axes.images[0] for axes in figure.axes if axes.images] for figure in drawn]
    empty = [np.ma.getmaskarray(one.get_array()).sum() for one in images[1]]
    assert empty == [100, 0, 100] * 2
    for before, after in zip(*images, strict=True):
        assert after.get_clim() == pytest.approx(before.get_clim(), rel=0.2)


@pytest.mark.draws
def test_drawing_leaves_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    backend = matplotlib.get_backend(auto_select=False)
    draw_curves(tmp_path / "curves.png", make_history(3), 0.3, "title")
    draw_reconstruction(tmp_path / "r.png", make_evaluation(), "title")
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend(auto_select=False) == backend
