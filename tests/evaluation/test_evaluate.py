import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ptychofno import metrics as quality
from ptychofno.evaluation import Refinement, evaluate, lit_pixels, save_reconstruction, scanned_region
from ptychofno.evaluation.infer import spread_out
from ptychofno.physics import diffraction_amplitude, extract_patches

SETTINGS = {
    "infer_batch_size": 32,
    "phase_alignment": "plane",
    "device": "cpu",
}


class Oracle(nn.Module):
    """Looks a pattern up, whatever its scale, and answers with the patches it stands for."""

    def __init__(self, amplitude, patches) -> None:
        super().__init__()
        self.known = self.direction(torch.as_tensor(amplitude))
        self.patches = patches
        self.seen = 0

    @staticmethod
    def direction(x):
        return nn.functional.normalize(x.flatten(1), dim=1)

    def forward(self, x, positions_px=None):
        self.seen += len(x)
        which = (self.direction(x) @ self.known.T).argmax(dim=1)
        return torch.view_as_real(self.patches[which].permute(0, 2, 3, 1).contiguous())


def make_split(amplitude, positions, object_index=None):
    index = np.zeros(len(amplitude), dtype=np.int64) if object_index is None else object_index
    return SimpleNamespace(amplitude=amplitude, positions_px=positions, object_index=index)


def simulated(probe, test, objects):
    return SimpleNamespace(
        probe=probe.numpy(),
        train=test,
        validation=test,
        test=test,
        test_objects=objects,
        valid=None,
        given_probe=None,
        object_pixel_m=None,
        scan=lambda: test,
    )


@pytest.fixture
def single(scan, make):
    """A simulated dataset of one object, and an oracle that errs in every patch's global phase."""
    amplitude = scan.amplitude[:, None]
    test = make_split(amplitude, scan.positions.numpy()[:, None])
    patches = make.turned(scan.patches, make.phases(len(scan.patches)))[:, None]
    return SimpleNamespace(
        dataset=simulated(scan.probe, test, scan.object.numpy()[None]), oracle=Oracle(amplitude, patches)
    )


@pytest.fixture
def measured(scan, make):
    """The same scan as if measured: three splits, the last two recorded at other intensities."""
    strength = np.repeat([1, 2, 4], [81, 20, 20]).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(len(scan.amplitude))
    positions = scan.positions.numpy()[shuffled][:, None]
    amplitude = (scan.amplitude[shuffled] * strength[:, None, None])[:, None]
    parts = [make_split(amplitude[one], positions[one]) for one in np.split(np.arange(121), [81, 101])]
    patches = make.turned(scan.patches, make.phases(len(scan.patches)))[:, None]
    dataset = SimpleNamespace(
        probe=scan.probe.numpy(),
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        test_objects=None,
        valid=None,
        given_probe=None,
        object_pixel_m=None,
        scan=lambda: make_split(amplitude, positions),
    )
    return SimpleNamespace(dataset=dataset, oracle=Oracle(scan.amplitude[:, None], patches))


def test_an_oracle_without_phases_is_perfect(single):
    result = evaluate(single.oracle, single.dataset, **SETTINGS)
    assert result.metrics["ssim"] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert result.metrics["phase_mae_rad"] < 1e-4
    assert result.metrics["diffraction_error"] < 1e-5
    assert result.metrics["diffraction_error_train"] is None
    assert result.metrics["diffraction_error_validation"] is None
    assert result.region == scanned_region(result.illumination)
    np.testing.assert_allclose(result.prediction, result.target, atol=1e-4)
    json.dumps(result.metrics, allow_nan=False)


def test_every_pattern_is_predicted_once(single, measured):
    for case in (single, measured):
        evaluate(case.oracle, case.dataset, **SETTINGS)
        assert case.oracle.seen == 121


def test_the_diffraction_error_is_relative_to_the_measurement(single):
    single.oracle.patches = 1.25 * single.oracle.patches
    result = evaluate(single.oracle, single.dataset, **SETTINGS)
    assert result.metrics["diffraction_error"] == pytest.approx(0.25, abs=1e-5)
    # The scale of the amplitude is not held against the object.
    assert result.metrics["ssim"][0] == pytest.approx(1.0, abs=1e-6)


def test_measured_data_have_errors_for_each_split_and_no_truth(measured, scan, make):
    result = evaluate(measured.oracle, measured.dataset, **SETTINGS)
    assert result.target is None
    # |A - f A| / (f A) for a pattern recorded f times stronger than it should be.
    assert result.metrics["diffraction_error_train"] < 1e-5
    assert result.metrics["diffraction_error_validation"] == pytest.approx(1 / 2, abs=1e-5)
    assert result.metrics["diffraction_error"] == pytest.approx(3 / 4, abs=1e-5)
    assert result.metrics["diffraction_error_stitched"] == pytest.approx(3 / 4, abs=1e-3)
    assert all(result.metrics[name] == [None, None] for name in quality.QUALITIES)
    assert result.metrics["phase_mae_rad"] is result.metrics["ssim_phase_2pi"] is None
    assert result.metrics["phase_vacuous"] is None
    # The picture shows every pattern, in whatever order: the whole object, but for phase and ramp.
    compared = quality.compare(result.prediction[result.region], scan.object.numpy()[result.region])
    assert compared["phase_mae_rad"] < 1e-4
    json.dumps(result.metrics, allow_nan=False)


def test_patches_that_contradict_each_other_show_in_the_stitched_error_only(measured):
    """Each pattern explained by itself is not yet an object: here the positions are wrong."""
    right = evaluate(measured.oracle, measured.dataset, **SETTINGS).metrics
    whole = measured.dataset.scan()
    whole = make_split(whole.amplitude, np.random.default_rng(1).permutation(whole.positions_px))
    measured.dataset.scan = lambda: whole
    wrong = evaluate(measured.oracle, measured.dataset, **SETTINGS).metrics
    assert wrong["diffraction_error_train"] == right["diffraction_error_train"] < 1e-5
    oracle_error = right["diffraction_error"]  # the test patterns were recorded four times too strong
    assert right["diffraction_error_stitched"] == pytest.approx(oracle_error, abs=1e-3)
    assert abs(wrong["diffraction_error_stitched"] - oracle_error) > 0.01


def test_measured_phases_come_out_without_offset_and_ramp(measured, make, scan):
    ramp = torch.from_numpy(quality.phase_ramp((0.3, -0.2), scan.shape).astype(np.complex64))
    measured.oracle.patches = measured.oracle.patches * extract_patches(ramp, scan.positions, 16)[:, None]
    result = evaluate(measured.oracle, measured.dataset, **SETTINGS)
    assert np.angle(result.prediction.sum()) == pytest.approx(0, abs=0.1)
    assert quality.phase_slopes(result.prediction) == pytest.approx((0, 0), abs=0.01)


def test_metrics_are_the_mean_over_objects_and_pictures_show_the_first(scan, make):
    objects = [make.object(seed) for seed in (0, 1)]
    patches = [extract_patches(obj, scan.positions, 16) for obj in objects]
    amplitude = [diffraction_amplitude(one, scan.probe)[:, None] for one in patches]
    noise = torch.randn(patches[1].shape, generator=torch.Generator().manual_seed(0))
    answers = torch.cat([patches[0], patches[1] * torch.exp(0.3j * noise)])[:, None]
    oracle = Oracle(torch.cat(amplitude), answers)
    positions = scan.positions.numpy()[:, None]
    truth = np.stack([obj.numpy() for obj in objects])

    alone = []
    for k in (0, 1):
        dataset = simulated(scan.probe, make_split(amplitude[k].numpy(), positions), truth[k : k + 1])
        alone.append(evaluate(oracle, dataset, **SETTINGS))
    # Interleaved, so that the object index has to be read.
    order = np.arange(242).reshape(2, 121).T.ravel()
    both = make_split(
        torch.cat(amplitude).numpy()[order],
        np.concatenate([positions] * 2)[order],
        np.repeat([0, 1], 121)[order],
    )
    result = evaluate(oracle, simulated(scan.probe, both, truth), **SETTINGS)
    for name in ("ssim", "mae", "mse", "psnr", "frc50"):
        mean = np.mean([one.metrics[name] for one in alone], axis=0)
        assert result.metrics[name] == pytest.approx(mean, rel=1e-3, abs=1e-6)
    assert alone[0].metrics["mae"][1] < 0.1 * alone[1].metrics["mae"][1]
    np.testing.assert_allclose(result.prediction, alone[0].prediction, atol=1e-4)
    np.testing.assert_array_equal(result.target, truth[0])


def test_channels_are_patches_at_their_own_positions(scan, make):
    axis = np.arange(0, 37, 4)
    corners = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    positions = (corners + np.array([[0, 0], [0, 4], [4, 0], [4, 4]])).astype(np.float64)
    flat = torch.from_numpy(positions.reshape(-1, 2))
    patches = extract_patches(scan.object, flat, 16).reshape(len(positions), 4, 16, 16)
    amplitude = diffraction_amplitude(patches, scan.probe).numpy()
    oracle = Oracle(amplitude, make.turned(patches, make.phases(len(patches))))
    dataset = simulated(scan.probe, make_split(amplitude, positions), scan.object.numpy()[None])
    result = evaluate(oracle, dataset, **SETTINGS)
    assert result.metrics["ssim"] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert result.metrics["diffraction_error"] < 1e-5


@pytest.fixture
def sparse(make):
    """A raster whose round probe leaves dark gaps between its positions, and the true patches."""
    axis = torch.arange(0, 73, 12, dtype=torch.float64)
    positions = torch.cartesian_prod(axis, axis)
    offset = torch.arange(16) - 7.5
    radius = torch.hypot(offset[:, None], offset[None, :])
    probe = (make.probe() * torch.clamp(7 - radius, 0, 1)).to(torch.complex64)
    field = make.object(size=96)
    patches = extract_patches(field, positions, 16)
    amplitude = diffraction_amplitude(patches, probe).numpy()[:, None]
    test = make_split(amplitude, positions.numpy()[:, None])
    return SimpleNamespace(
        dataset=simulated(probe, test, field.numpy()[None]), amplitude=amplitude, patches=patches
    )


@pytest.mark.parametrize("phase_alignment", ["plane", "mean"])
@pytest.mark.parametrize("phase", [0.0, 1.0, np.pi / 2, 2.0, np.pi, -2.5])
def test_dark_gaps_are_not_judged(sparse, phase, phase_alignment):
    oracle = Oracle(sparse.amplitude, sparse.patches[:, None] * complex(np.exp(1j * phase)))
    result = evaluate(oracle, sparse.dataset, **SETTINGS | {"phase_alignment": phase_alignment})
    dark = ~lit_pixels(result.illumination)[result.region]
    assert 0.05 < dark.mean() < 0.5
    assert result.metrics["ssim"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert result.metrics["mae"] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert result.metrics["frc50"] == [0.5, 0.5]


def test_the_reconstruction_can_be_read_back(single, measured, tmp_path):
    for case, keys in ((single, {"target"}), (measured, set())):
        result = evaluate(case.oracle, case.dataset, **SETTINGS)
        save_reconstruction(tmp_path / "run" / "reconstruction.npz", result)
        with np.load(tmp_path / "run" / "reconstruction.npz", allow_pickle=False) as stored:
            assert set(stored) == {"prediction", "illumination", "region", "probe"} | keys
            assert stored["prediction"].dtype == np.complex64
            np.testing.assert_array_equal(stored["prediction"], result.prediction)
            (top, bottom), (left, right) = stored["region"]
            assert (slice(top, bottom), slice(left, right)) == result.region
        assert [file.name for file in (tmp_path / "run").iterdir()] == ["reconstruction.npz"]


def test_unknown_choices_are_named(single):
    with pytest.raises(ValueError, match=r"evaluation\.phase_alignment='ramp': choose one of plane, mean"):
        evaluate(single.oracle, single.dataset, **SETTINGS | {"phase_alignment": "ramp"})


REFINED = SETTINGS | {"refinement": Refinement(rounds=12, tolerance=0.0, probe_from=None)}


def in_one_strength(dataset):
    """The splits of ``measured``, all recorded at the same intensity."""
    for split, strength in ((dataset.validation, 2), (dataset.test, 4)):
        split.amplitude = split.amplitude / strength
    splits = (dataset.train, dataset.validation, dataset.test)

    def scan():
        return make_split(
            *(
                np.concatenate([getattr(split, name) for split in splits])
                for name in ("amplitude", "positions_px")
            )
        )

    dataset.scan = scan
    return splits


def test_a_measured_object_is_held_against_a_flat_one(measured):
    """Patterns at their own positions make an object; at positions of others they make none."""
    dataset, splits, told = measured.dataset, in_one_strength(measured.dataset), []
    right = evaluate(None, dataset, **REFINED, each_round=lambda number, error: told.append(number)).metrics
    assert right["diffraction_error_stitched"] < 0.5 * right["flat"] and not right["no_better_than_flat"]
    assert right["diffraction_error"] is right["unrefined"] is right["hint"] is None
    assert told[:12] == list(range(1, 13))
    order = np.random.default_rng(0)
    for split in splits:
        split.positions_px = order.permutation(split.positions_px)
    wrong = evaluate(None, dataset, **REFINED).metrics
    assert wrong["no_better_than_flat"] and wrong["diffraction_error_stitched"] > 0.9 * wrong["flat"]


def test_swapped_axes_of_a_measured_scan_are_named(measured):
    for split in in_one_strength(measured.dataset):
        split.positions_px = split.positions_px[..., ::-1].copy()
    metrics = evaluate(None, measured.dataset, **REFINED).metrics
    assert metrics["no_better_than_flat"] and "data.layout.swap_axes=true" in metrics["hint"]


def test_an_object_is_refined_and_both_are_judged(single):
    """Patches that err in more than their phase: the overlap of their patterns mends the object."""
    noise = torch.randn(single.oracle.patches.shape, generator=torch.Generator().manual_seed(0))
    single.oracle.patches = single.oracle.patches * torch.exp(0.5j * noise)
    result = evaluate(single.oracle, single.dataset, **REFINED)
    before, after = result.metrics["unrefined"], result.metrics
    assert after["phase_mae_rad"] < 0.3 * before["phase_mae_rad"] and after["ssim"][0] > before["ssim"][0]
    assert len(result.rounds[0]) == 13 and result.rounds[0][-1] < 0.3 * result.rounds[0][0]
    alone = evaluate(single.oracle, single.dataset, **SETTINGS).metrics
    assert before["ssim"] == pytest.approx(alone["ssim"], abs=1e-3)


def test_rounds_may_begin_from_the_patches_of_fewer_patterns(single, measured):
    """The network's patches are perfect here: what they bring must not be lost."""
    in_one_strength(measured.dataset)
    for case, name, share in (
        (single, "phase_mae_rad", 0.8),
        (measured, "diffraction_error_stitched", 1.01),
    ):
        flat = evaluate(None, case.dataset, **REFINED).metrics
        found = evaluate(case.oracle, case.dataset, **REFINED, sparse=True).metrics
        assert 0 < case.oracle.seen < 121 and found[name] < share * flat[name]
    case.oracle.seen = 0
    evaluate(case.oracle, case.dataset, **SETTINGS, sparse=True)  # no rounds bring in the others
    assert case.oracle.seen == 121


def test_every_square_of_the_object_keeps_its_first_pattern():
    probe = np.zeros((16, 16))
    probe[3:13, 3:13] = 1  # 10 px wide: squares of 6.4 px
    positions = np.array([[0, 0], [5, 5], [7, 5], [0, 0], [8, 4]])
    found = spread_out(positions, np.array([0, 0, 0, 1, 0]), probe)
    assert found.tolist() == [0, 2, 3]
